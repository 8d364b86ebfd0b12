"""Pages of exchanges of all habits, put together: the bars that there are, whatever is absent."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ares.market.exchange.ccxt_source import CcxtSource
from ares.market.exchange.retry import Retry
from ares.market.exchange.source import Market
from exchange_server import DAY, MINUTE, synthetic_bars
from more_exchanges import Bybit, Coinbase, Kucoin, Okx, Other

START = 1_609_286_400_000
BARS = 500
EXAMPLES = 200 if os.environ.get("HYPOTHESIS_PROFILE") == "laws" else 8
QUICK = Retry(base=0.001, cap=0.002)

ccxt = pytest.importorskip("ccxt")


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccxt.Exchange, "throttle", lambda *_: None)  # these servers have no limits


@st.composite
def markets(draw: st.DrawFn) -> np.ndarray:
    """Minutes, some of them and some long runs of them without a trade."""
    kept = np.ones(BARS, dtype=np.bool_)
    for start, length in draw(
        st.lists(
            st.tuples(st.integers(0, BARS - 2), st.sampled_from([1, 2, 9, 60, 200])), max_size=8
        )
    ):
        kept[start : start + length] = False
    if draw(st.booleans()):
        kept &= np.random.default_rng(draw(st.integers(0, 99))).random(BARS) < 0.3
    kept[-1] = True
    return synthetic_bars(BARS, START)[kept]


def pages(server: Other, start: int, end: int) -> np.ndarray:
    source = CcxtSource(Market(server.symbol, server.exchange, "1m", server.url, 5.0), QUICK)
    found, cursor = [np.empty((0, 6))], start
    while cursor < end:
        page = source.page(cursor, end)
        assert page.start <= cursor < page.stop <= end
        found.append(page.rows)
        cursor = page.stop
    return np.concatenate(found)


@pytest.mark.laws
@pytest.mark.parametrize("kind", [Coinbase, Okx, Bybit, Kucoin])
@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # each example asks a server
)
@given(
    bars=markets(),
    page=st.sampled_from([7, 60, 300]),
    inclusive=st.booleans(),
    start=st.integers(-900, BARS - 1),
    length=st.integers(1, 1500),
    later=st.sampled_from([30_000, 5 * MINUTE, 2 * DAY]),
)
def test_pages_hold_every_bar_that_there_is(
    kind: type[Other],
    bars: np.ndarray,
    page: int,
    inclusive: bool,
    start: int,
    length: int,
    later: int,
) -> None:
    options: dict[str, Any] = (
        {} if kind is Coinbase else {"page": page}
    )  # it refuses larger windows
    if kind is Kucoin:
        options["inclusive"] = inclusive
    first = START + start * MINUTE
    now = int(bars[-1, 0]) + later
    end = min(first + length * MINUTE, now - now % MINUTE)
    with kind({(kind.market_id, "1m"): bars}, now=now, **options) as server:
        wanted = bars[(bars[:, 0] >= first) & (bars[:, 0] < end)]
        np.testing.assert_array_equal(pages(server, first, end), wanted)


class _Late(Kucoin):
    """The first bar of every window is left out, unless it is the only one."""

    def opened(self, name: str) -> tuple[np.ndarray, int]:
        rows, step = super().opened(name)
        asked = parse_qs(urlsplit(self.requests[-1]).query)
        start, end = 1000 * int(asked["startAt"][0]), 1000 * int(asked["endAt"][0])
        return rows[rows[:, 0] >= start + step] if end - start > step else rows, step


def test_an_exchange_that_begins_late_whatever_it_is_asked_ends_no_page_late() -> None:
    bars = synthetic_bars(300, START)
    end = START + 300 * MINUTE
    with _Late({("BTC-USDT", "1m"): bars}, now=int(bars[-1, 0]) + DAY) as server:
        source = CcxtSource(Market(server.symbol, server.exchange, "1m", server.url, 5.0), QUICK)
        before = len(server.requests)
        page = source.page(START, end)
        assert len(server.requests) - before < 14
        np.testing.assert_array_equal(page.rows, bars[:1])
        assert page.stop == START + MINUTE
        np.testing.assert_array_equal(pages(server, end - 12 * MINUTE, end), bars[-12:])
