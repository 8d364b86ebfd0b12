"""What the tests of the two engines compare."""

from __future__ import annotations


def assert_same(a, b):
    """Two results, bit for bit."""
    for name in a.trades.columns:
        assert a.trades[name].equals(b.trades[name]), name
    assert a.equity.to_numpy().tobytes() == b.equity.to_numpy().tobytes()
    assert a.daily_returns.to_numpy().tobytes() == b.daily_returns.to_numpy().tobytes()
    assert repr(a.metrics) == repr(b.metrics)
    assert a.outcome is b.outcome
