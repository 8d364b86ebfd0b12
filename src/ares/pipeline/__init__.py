"""The pipeline: the step mechanism, the sixteen steps, and the program that calls them."""
