from __future__ import annotations

import pytest

from ares.core.errors import ConfigError
from ares.market.timeframe import (
    TIMEFRAMES,
    coarser,
    default_horizons,
    timeframe_name,
    timeframe_ns,
)

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@pytest.mark.parametrize("name", TIMEFRAMES)
def test_a_name_is_a_number_and_a_unit(name):
    assert timeframe_ns(name) == int(name[:-1]) * SECONDS[name[-1]] * 10**9
    assert timeframe_name(timeframe_ns(name)) == name


@pytest.mark.parametrize("name", ["", "1M", "60", "1min", 60, None])
def test_other_names_are_refused_with_the_nearest(name):
    with pytest.raises(ConfigError, match="1m, 3m, 5m"):
        timeframe_ns(name)
    with pytest.raises(ConfigError, match="timeframe"):
        coarser(name)


def test_the_nearest_name_is_offered():
    with pytest.raises(ConfigError, match="Did you mean 1h"):
        timeframe_ns("1hr")


@pytest.mark.parametrize(
    ("base", "others"),
    [("1m", ("15m", "4h")), ("5m", ("1h", "4h")), ("15m", ("4h", "1d")), ("1h", ("1d", "1d")),
     ("4h", ("1d", "1d")), ("1d", ("1d", "1d"))],
)  # fmt: skip
def test_analyst_and_regimes_work_on_coarser_timeframes(base, others):
    assert coarser(base) == others


@pytest.mark.parametrize("base", TIMEFRAMES)
def test_every_timeframe_has_multiples_to_work_with(base):
    for other in coarser(base):
        assert timeframe_ns(other) % timeframe_ns(base) == 0
    shared = coarser(base)[0] == base
    assert default_horizons(base) == ((10, 3) if shared else (None, None))


def test_odd_lengths_are_named_in_plain_words():
    minute = 60 * 10**9
    assert [timeframe_name(k * minute) for k in (7, 90, 180, 2880)] == ["7m", "90m", "3h", "2d"]
    assert timeframe_name(30 * 10**9) == "30s"
