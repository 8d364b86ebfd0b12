from __future__ import annotations

import html
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.report import plots
from ares.report.tables import monthly_table, range_bar, table
from ares.report.text import (
    DASH,
    clean,
    cut,
    day,
    esc,
    num,
    p_value,
    pct,
    plain,
    plural,
    seconds,
    short,
    size,
    tag,
    whole,
)
from report_cases import Elements

UNDEFINED = [None, math.nan, math.inf, -math.inf, np.float64("nan")]


@pytest.mark.parametrize("value", UNDEFINED)
def test_undefined_is_a_dash(value: float | None) -> None:
    for shown in (num, pct, short, whole, p_value, size, seconds, cut):
        assert shown(value) == DASH
    assert plural(value, "day") == f"{DASH} days"


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (num(-1234.567), "\N{MINUS SIGN}1,234.57"),
        (num(-0.001), "0.00"),
        (num(-0.0), "0.00"),
        (num(2.5e48), "2.5e+48"),
        (short(-1e-20), "\N{MINUS SIGN}1e-20"),
        (short(820.42, 6), "820.42"),
        (short(820.42, 6, zeros=True), "820.420"),
        (short(123456.0, 6, zeros=True), "123456"),
        (short(0.0, 3, zeros=True), "0.00"),
        (pct(0.1234, sign=True), "+12.3 %"),
        (pct(-0.0001, sign=True), "0.0 %"),
        (pct(1e30), "1e+32 %"),
        (whole(4025), "4,025"),
        (p_value(0.0), "< 0.0001"),
        (p_value(0.0499), "0.0499"),
        (cut(0.94999), "0.949"),
        (cut(0.95), "0.950"),
        (size(1536), "2 KiB"),
        (size(5 << 30), "5.0 GiB"),
        (seconds(61.5), "61.5 s"),
        (seconds(3601), "1 h 00 min"),
        (seconds(150), "2 min 30 s"),
        (day("2001-02-03T04:05:06Z"), "2001-02-03"),
        (day(None), DASH),
        (plain(True), "yes"),
        (plain(3), "3"),
        (plain(0.5), "0.5"),
        (plain(None), DASH),
        (plural(1, "trade"), "1 trade"),
    ],
)
def test_numbers_read_well(shown: str, wanted: str) -> None:
    assert shown == wanted


@given(st.text())
def test_any_text_survives_as_text_and_only_as_text(value: str) -> None:
    element = tag("p", value, title=value)
    found = Elements(element)
    (((attributes, inner),)) = found.named("p")
    assert [name for name, *_ in found.found] == ["p"]
    assert inner == html.unescape(html.escape(clean(value)))
    assert attributes["title"] == clean(value)
    assert esc(esc(value)) == esc(value)


@given(st.recursive(st.text() | st.integers() | st.none(), st.lists, max_leaves=5))
def test_script_json_is_inert_and_exact(value: object) -> None:
    text = plots.script_json(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_script_json_refuses_what_is_no_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        plots.script_json([math.nan])
    assert plots.numbers([1.23456789, math.nan, math.inf]) == [1.23457, None, None]


def test_tables_escape_all_but_markup() -> None:
    found = Elements(table(("<a>", "b"), [("<i>", tag("b", "<u>"))]))
    assert [name for name, *_ in found.found] == [
        "div", "table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td", "b",
    ]  # fmt: skip
    assert "Nothing to show" in table(("a",), [])


def test_range_bars_need_all_their_numbers() -> None:
    assert "left:50.0%" in range_bar([0.0, 0.25, 0.5, 0.75, 1.0], 0.5)
    assert range_bar([0.0, 0.25, None, 0.75, 1.0], 0.5) == DASH
    assert range_bar([1.0] * 5, 1.0) == DASH
    assert range_bar([], 1.0) == DASH


def test_no_days_make_no_months() -> None:
    import pandas as pd

    assert "No daily returns" in monthly_table(pd.Series(dtype=float))


def test_bytes_of_times_do_not_depend_on_their_unit() -> None:
    import pandas as pd

    index = pd.DatetimeIndex(["2001-02-03 04:05:06"], tz="UTC")
    for unit in ("s", "ms", "us", "ns"):
        assert plots.minutes(index.as_unit(unit)) == ["2001-02-03 04:05"]
        assert plots.dates(index.as_unit(unit).tz_localize(None).to_numpy()) == ["2001-02-03"]
