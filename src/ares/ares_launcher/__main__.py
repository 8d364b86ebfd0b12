"""`python -m ares.ares_launcher`."""

from ares.ares_launcher import main

main()
