"""The bars of returns per trade: every trade is in one of them, and none is on both sides of 0."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ares.report.plots import returns_histogram


@given(st.lists(st.floats(-1.0, 12.0), max_size=300))
def test_every_trade_is_in_a_bar_of_its_sign(values):
    plot = returns_histogram(np.array(values), name="trades")
    (bars,) = plot.traces
    middles, counts = np.array(bars["x"]), np.array(bars["y"])
    assert counts.sum() == len(values)
    assert counts[middles < 0].sum() == sum(value < 0 for value in values)


def test_the_axis_covers_what_there_is_and_says_what_lies_beyond():
    values = np.concatenate([np.linspace(-0.2, 0.3, 400), [6.95]])
    plot = returns_histogram(values, name="trades")
    middles = np.array(plot.traces[0]["x"])
    assert middles.min() > -0.25
    assert middles.max() < 0.35
    assert "3 beyond" in plot.layout["xaxis"]["title"]["text"]
