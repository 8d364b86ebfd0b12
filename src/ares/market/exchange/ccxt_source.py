"""Klines of any exchange that ccxt knows, page by page, from its public endpoints."""

from __future__ import annotations

import difflib
import logging
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from ares.core.errors import ConfigError, DataError
from ares.core.secrets import redact
from ares.market.exchange.ccxt_client import ccxt_exchange, keys_for
from ares.market.exchange.retry import TransientError, http_time, retry_after, told_reset
from ares.market.exchange.source import MS, SETTLE_MS, Page, as_rows
from ares.market.timeframe import DAY, TIMEFRAMES, timeframe_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from ares.core.types import Float64Array
    from ares.market.exchange.retry import Retry
    from ares.market.exchange.source import Market

R = TypeVar("R")

_log = logging.getLogger("ares.market.exchange")

_EARLIEST: Final = 1_262_304_000_000
"""2010-01-01: no exchange that ccxt knows is older."""
_WINDOW: Final = 100
"""Bars that an empty answer is taken to speak of, unless a fuller one was seen before."""
_LONGEST: Final = 10_000
"""Bars that no answer is longer than, where ccxt does not say."""
_REPEATS: Final = 4
_SHRINKS: Final = 6
"""Answers to one question at most; two tell how long the answers of an exchange are."""
_SHOWN: Final = 160
_REFUSED: Final = frozenset({401, 403, 404, 405, 451})
_FORBIDDEN: Final = 403
_HASTE: Final = 10.0
_DAY_MS: Final = DAY // MS
# What ccxt raises where an answer is not what the exchange's documentation says.
_MALFORMED: Final = (TypeError, ValueError, KeyError, AttributeError, IndexError)


class CcxtSource:
    """One market of one exchange.

    An exchange answers a question for bars from a time on with the first ones after it, or with
    those of a window of time. So a page ends with its last bar; where there is none, days are
    asked for, to see where bars begin again.

    Args:
        market: What to fetch.
        retry: How to ask again.

    Raises:
        ConfigError: ccxt is not installed, or knows no such exchange, symbol or timeframe.
        DataError: The exchange refuses.
        OutageError: It does not answer.
    """

    name: Final = "ccxt"
    earliest: Final = _EARLIEST

    def __init__(self, market: Market, retry: Retry) -> None:
        self._market, self._retry = market, retry
        self._where = f"{market.exchange} {market.symbol}"
        self._interval = timeframe_ns(market.timeframe) // MS
        self._answer = _Answer()
        keys = keys_for(market)
        self._api = ccxt_exchange(market)
        self._api.session.hooks["response"].append(self._answered)
        self._ask(self._api.load_markets)  # with keys, some exchanges ask for private things here
        if keys is not None:
            self._api.apiKey = keys.key.get_secret_value()
            self._api.secret = keys.secret.get_secret_value()
        self._symbol = self._known_symbol(market.symbol)
        limit = self._api.feature_value(self._symbol, "fetchOHLCV", "limit", None)
        self._window = _WINDOW
        self._days: tuple[int, int, bool] | None = None
        self._limit = limit if isinstance(limit, int) and limit > 0 else None
        self._whole = 0  # an answer of so many bars had all there was: one of fewer does, too

    def closed(self, wanted: int) -> int:
        """Unix ms before which bars have closed; the server's clock decides where it can be had.

        Where an exchange tells no time at all, its newest bar counts as unfinished.
        """
        del wanted  # exchanges are asked for the time itself
        told: list[float] = []
        if self._api.has.get("fetchTime") and (now := self._ask(self._api.fetch_time)):
            told.append(now)
        if (date := http_time(self._answer.headers.get("date"))) is not None:
            told.append(1000 * date)  # says the same, unless one of the two clocks is wrong
        if told:
            off = time.time() - min(told) / 1000
            if abs(off) > 60:
                _log.info("the clocks of this machine and the exchange differ by %.0f s", off)
            return int(min(told)) - SETTLE_MS - self._interval + 1
        newest = self._ask(lambda: self._klines(self._market.timeframe, None))
        latest = int(1000 * time.time()) - SETTLE_MS - self._interval + 1
        return min(latest, int(newest[-1, 0])) if len(newest) else latest

    def page(self, cursor: int, end: int) -> Page:
        """As `Source.page`."""
        try:
            rows = self._ask(lambda: self._forward(cursor))
        except _RepeatedError:
            if cursor + self._window * self._interval < end:
                if self._is_over(cursor):
                    return Page(cursor, end, np.empty((0, 6)))
                raise DataError(
                    "the exchange answers with bars from before the time that it was asked for",
                    value=_utc(cursor),
                    where=self._where,
                    remedy="Try again later, or another --timeframe or --source.",
                ) from None
            rows = np.empty((0, 6))  # its newest bars once more: there is nothing after them
        self._window = max(self._window, len(rows))
        within = rows[:, 0] < end
        if not within.all():
            return Page(cursor, end, rows[within])
        if len(rows):
            return Page(cursor, min(int(rows[-1, 0]) + self._interval, end), rows)
        window = cursor + self._window * self._interval  # it may have shrunk meanwhile
        return Page(cursor, max(min(self._next_start(cursor, window), end), cursor + 1), rows)

    def _is_over(self, cursor: int) -> bool:
        """Whether nobody has traded from `cursor` on: the newest bars of two lengths say so.

        The newest bar of the shorter length lies in that of the longer one. An exchange that gives
        one answer to all questions says nothing.
        """
        other = "1d" if self._interval < _DAY_MS else self._below_a_day()
        if other is None or other not in self._api.timeframes:
            return False
        own = self._ask(lambda: self._klines(self._market.timeframe, None))[:, 0]
        others = self._ask(lambda: self._klines(other, None))[:, 0]
        if not len(own) or not len(others) or own[-1] >= cursor or np.array_equal(own, others):
            return False
        fine, coarse = (own, others) if self._interval < _DAY_MS else (others, own)
        length = max(self._interval, timeframe_ns(other) // MS)
        return bool(coarse[-1] <= fine[-1] < coarse[-1] + length)

    def _below_a_day(self) -> str | None:
        """The longest timeframe of the exchange that is shorter than a day."""
        known = [name for name in TIMEFRAMES if name in self._api.timeframes]
        return max((n for n in known if timeframe_ns(n) < DAY), key=timeframe_ns, default=None)

    def older(self, first: int) -> tuple[str, int] | None:
        """As `Source.older`: the bars of another length begin long before the first one."""
        longer = "1d" if self._interval < _DAY_MS else "1w"
        length = timeframe_ns(longer) // MS
        if length <= self._interval or longer not in self._api.timeframes:
            return None
        # All bars are there by now: whoever waits for them does not wait long for this.
        hasty = replace(self._retry, attempts=min(self._retry.attempts, 2), longest=_HASTE)
        ask = partial(self._translated, lambda: self._klines(longer, _EARLIEST))
        rows = hasty.call(ask, where=self._where)
        if not len(rows) or rows[0, 0] + length > first:
            return None
        return longer, int(rows[0, 0])

    def _forward(self, cursor: int) -> Float64Array:
        """Bars from `cursor` on, told apart from an answer that repeats earlier ones."""
        for _ in range(_REPEATS):
            rows = self._klines_from(self._market.timeframe, cursor)
            if len(rows) or not _holds_rows(self._api.last_json_response):
                return rows
            self._retry.sleep(self._retry.base)
        raise _RepeatedError

    def _next_start(self, cursor: int, window: int) -> int:
        """Where to ask next after an empty answer: at least `window`, else the next day with bars."""
        if self._interval >= _DAY_MS or "1d" not in self._api.timeframes:
            return window
        today = cursor - cursor % _DAY_MS
        if self._days is None or self._days[0] != today:
            rows = self._ask(lambda: self._klines_from("1d", today))
            days = rows[rows[:, 0] > today - _DAY_MS, 0]
            later = days[days > today]
            following = int(later[0]) if len(later) else today + self._window * _DAY_MS
            self._days = (today, following, len(days) > len(later))
        _, following, bars_today = self._days
        return max(window, cursor + 1 if bars_today else following)

    def _klines_from(self, timeframe: str, since: int) -> Float64Array:
        """Bars from `since` on, none left out before the last one.

        Some exchanges answer with the newest bars of a window, and with fewer than ccxt believes, or
        of a window that is one bar longer than their answers: what is older would look like a gap. So
        where bars begin late, those before are asked for. An exchange that begins late whatever it is
        asked for is taken at its shortest answer.
        """
        step = timeframe_ns(timeframe) // MS
        before = np.empty((0, 6))
        for _ in range(_SHRINKS):
            rows = self._klines(timeframe, since)
            late = int(rows[0, 0] - since) // step if len(rows) else 0
            limit = _LONGEST if self._limit is None else self._limit
            apart = len(rows) > 0 and rows[-1, 0] > since + limit * step  # no part of a window
            if 0 < late < limit and self._whole <= len(rows) and not apart:
                before = self._klines(timeframe, since, late)
                if len(before) and before[0, 0] < rows[0, 0]:
                    self._limit = min(len(rows), limit - 1)
                    self._window = min(self._window, self._limit)
                    continue
            self._whole = max(self._whole, len(rows))
            return rows
        return before

    def _klines(self, timeframe: str, since: int | None, limit: int | None = None) -> Float64Array:
        self._api.last_json_response = None
        values = self._api.fetch_ohlcv(self._symbol, timeframe, since, limit or self._limit)
        if not isinstance(self._api.last_json_response, list | dict):
            raise TransientError("the answer is no JSON")
        if any(cell is None for row in values for cell in row[:6]):
            raise DataError(
                "a bar of the exchange lacks a number",
                where=self._where,
                remedy="Try again later; `ares data repair` fetches gaps.",
            )
        return as_rows([row[:6] for row in values], self._where)

    def _known_symbol(self, symbol: str) -> str:
        markets = self._api.markets
        if symbol in markets:
            return symbol
        if named := self._api.markets_by_id.get(symbol):
            spot = [str(market["symbol"]) for market in named if market["spot"]]
            if len(named) > 1 and len(spot) != 1:
                raise ConfigError(
                    "several markets have this name",
                    value=symbol,
                    where="--symbol",
                    remedy=f"Write {' or '.join(str(market['symbol']) for market in named)}.",
                )
            return spot[0] if spot else str(named[0]["symbol"])
        near = difflib.get_close_matches(symbol.upper(), [*markets, *self._api.markets_by_id], 1)
        raise ConfigError(
            f"{self._market.exchange} has no such market",
            value=symbol,
            where="--symbol",
            remedy=f"Did you mean {near[0]}?" if near else "Write it as the exchange does.",
        )

    def _answered(self, response: Any, *_: object, **__: object) -> None:
        headers = {name.lower(): value for name, value in response.headers.items()}
        self._answer = _Answer(response.status_code, headers)

    def _ask(self, call: Callable[[], R]) -> R:
        return self._retry.call(lambda: self._translated(call), where=self._where)

    def _translated(self, call: Callable[[], R]) -> R:
        """What `call` returns; ccxt's errors become transient ones or messages."""
        import ccxt

        self._answer = _Answer()
        try:
            return call()
        except ccxt.BaseError as error:
            reason, answer = _shown(error), self._answer
            if 300 <= answer.status < 400:
                raise self._redirected() from None
            if answer.status in _REFUSED or not _passes(error, answer.status):
                banned = " Some refuse for half an hour after too many questions."
                raise DataError(
                    f"the exchange refuses: {reason}",
                    where=self._where,
                    remedy="Check --symbol, --timeframe and whether you may use this exchange."
                    + (banned if answer.status == _FORBIDDEN else ""),
                ) from None
            wait = retry_after(answer.headers.get("retry-after"), answer.headers.get("date"))
            if wait is None and isinstance(error, ccxt.RateLimitExceeded | ccxt.DDoSProtection):
                wait = told_reset(answer.headers)
            raise TransientError(reason, wait) from None
        except (TransientError, DataError, _RepeatedError):
            raise
        except _MALFORMED as error:
            raise TransientError(f"the answer cannot be read ({type(error).__name__})") from None

    def _redirected(self) -> DataError:
        return DataError(
            "the exchange answers with a redirect, which is not followed",
            value=redact(self._answer.headers.get("location", ""))[:_SHOWN],
            where=self._where,
            remedy="If you trust that address, set data.base_url to it.",
        )


@dataclass(frozen=True)
class _Answer:
    """Status (0 before one) and headers, in small letters, of the last answer."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class _RepeatedError(Exception):
    """An answer held bars, but only from before the time that was asked for."""


def _passes(error: Exception, status: int) -> bool:
    """Whether an error of ccxt may pass by itself."""
    import ccxt
    import requests

    cut = (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError)
    return (
        isinstance(error, ccxt.OperationFailed) or isinstance(error.__cause__, cut) or status >= 500
    )


def _holds_rows(tree: object, depth: int = 0) -> bool:
    """Whether an answer holds a list of rows somewhere."""
    if depth > 4:
        return False
    if isinstance(tree, list):
        return any(isinstance(item, list | dict) and item for item in tree)
    return isinstance(tree, dict) and any(_holds_rows(item, depth + 1) for item in tree.values())


def _shown(error: Exception) -> str:
    text = " ".join(redact(str(error)).split())
    return f"{type(error).__name__}: {text[:_SHOWN]}" if text else type(error).__name__


def _utc(time_ms: int) -> str:
    return f"{np.datetime64(time_ms, 'ms')}Z"
