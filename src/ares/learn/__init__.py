"""Learning: regimes, splits, labels, features, specialists, ensembles, calibration.

Everything here is causal: a value at bar t depends on bars up to and including t alone, bit for
bit, and a fit sees only rows whose labels ended before the rows it is used on.
"""
