"""Honesty: walk-forward, Monte Carlo, A/B tests, overfitting statistics and the leakage law.

Everything here takes plain arrays of daily returns, or functions; nothing knows the pipeline.
"""
