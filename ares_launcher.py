"""`python ares_launcher.py train` from the project's root: the console script `ares`, by another name."""

from ares.ares_launcher import main

if __name__ == "__main__":
    main()
