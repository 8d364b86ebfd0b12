"""Binance's bulk dumps: a zip per month, and one per day where there is no month yet.

    data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2021-03.zip and .zip.CHECKSUM
    data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2021-04-01.zip and .zip.CHECKSUM

A file that is not there is a boundary: the market was not listed yet, or the file not made yet.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import re
import tempfile
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.core.errors import ConfigError, DataError
from ares.market.exchange.retry import TransientError
from ares.market.exchange.source import MS, Page
from ares.market.exchange.web import Web
from ares.market.exchange.zipped import read_klines
from ares.market.timeframe import DAY, TIMEFRAMES, timeframe_ns

if TYPE_CHECKING:
    from ares.core.types import Float64Array
    from ares.market.exchange.retry import Retry
    from ares.market.exchange.source import Market

ADDRESS: Final = "https://data.binance.vision"
EXCHANGE: Final = "binance"
MAX_ARCHIVE: Final = 1 << 26
_MAX_CHECKSUM: Final = 4096
_DAY_MS: Final = DAY // MS
_SYMBOL: Final = re.compile(r"[A-Z0-9]{2,30}")
_CHECKSUM: Final = re.compile(r"([0-9a-f]{64})[ \t]+\*?(\S+)\s*")
_IN_MEMORY: Final = 1 << 24


class DumpSource:
    """One spot market of Binance's dumps.

    Args:
        market: What to fetch; `BTC/USDT` and `BTCUSDT` name the same files.
        retry: How to ask again.

    Raises:
        ConfigError: Another exchange, or a symbol or timeframe that dumps do not have.
    """

    name: Final = "dumps"
    earliest: Final = 1_498_867_200_000
    """2017-07-01: Binance opened in that month."""

    def __init__(self, market: Market, retry: Retry) -> None:
        self._name = _file_symbol(market)
        self._timeframe = market.timeframe
        self._base = (market.base_url or ADDRESS).rstrip("/")
        self._retry = retry
        self._web = Web(market.timeout)
        self._months: dict[dt.date, str | None] = {}

    def closed(self, wanted: int) -> int:
        """Unix ms: the start of the server's day; a day's file is made when the day is over."""
        if self._web.now is None:  # any answer tells the time
            start = dt.datetime.fromtimestamp(max(wanted, self.earliest) / 1000, dt.UTC).date()
            month = start.replace(day=1)
            digest = self._checksum("monthly", f"{month:%Y-%m}")
            if digest is not None:
                self._months[month] = digest
        return self._today()

    def _today(self) -> int:
        now = time.time() if self._web.now is None else self._web.now
        return int(now * 1000) // _DAY_MS * _DAY_MS

    def older(self, first: int) -> None:
        """As `Source.older`: where a file is not there, nothing older is."""

    def page(self, cursor: int, end: int) -> Page:
        """As `Source.page`: a month, a day, or a stretch without files."""
        day = dt.datetime.fromtimestamp(cursor / 1000, dt.UTC).date()
        month, following = day.replace(day=1), _next_month(day)
        if self._monthly(month) is not None:
            rows = self._rows("monthly", f"{month:%Y-%m}", _ms(month), _ms(following))
            return Page(_ms(month), _ms(following), rows)
        if not self._may_have_days(month, end):
            return Page(cursor, _ms(following), np.empty((0, 6)))
        start = _ms(day)
        rows = self._rows("daily", f"{day:%Y-%m-%d}", start, start + _DAY_MS)
        return Page(start, start + _DAY_MS, rows)

    def _may_have_days(self, month: dt.date, end: int) -> bool:
        """Whether a month without a file may have days.

        Yes beside a month with a file, and at the end of what is asked for, where months are made
        late. Years before a listing need not be asked for day by day.
        """
        two_months = 62 * _DAY_MS
        return (
            _ms(month) + two_months >= min(end, self._today())
            or self._monthly(_next_month(month)) is not None
            or self._monthly((month - dt.timedelta(days=1)).replace(day=1)) is not None
        )

    def _monthly(self, month: dt.date) -> str | None:
        """SHA-256 of a month's file, or None where there is none."""
        if month not in self._months:
            over = _ms(_next_month(month)) <= self._today()
            digest = self._checksum("monthly", f"{month:%Y-%m}") if over else None
            self._months[month] = digest
        return self._months[month]

    def _rows(self, kind: str, period: str, start: int, stop: int) -> Float64Array:
        """Rows of one file; none where there is no file."""
        name = f"{self._name}-{self._timeframe}-{period}"
        rows = self._retry.call(lambda: self._fetch(kind, name), where=self._url(kind, name))
        if len(rows) and not (start <= rows[0, 0] and rows[-1, 0] < stop):
            raise DataError(
                f"the file must hold bars of {period} only",
                where=self._url(kind, name),
                value=[f"{np.datetime64(int(t), 'ms')}Z" for t in rows[[0, -1], 0]],
                remedy="Try again later, or use --source ccxt.",
            )
        return rows

    def _fetch(self, kind: str, name: str) -> Float64Array:
        """Checksum and archive anew: both change when Binance replaces a file."""
        url = self._url(kind, name)
        expected = self._checksum_of(kind, name)
        if expected is None:
            return np.empty((0, 6))
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as archive:
            if not self._web.fetch(url, archive, max_bytes=MAX_ARCHIVE):  # type: ignore[arg-type]
                raise TransientError("there is a checksum, but no file")
            archive.seek(0)
            digest = hashlib.sha256()
            while chunk := archive.read(1 << 16):
                digest.update(chunk)
            if digest.hexdigest() != expected:
                raise TransientError("the file does not have the SHA-256 of its .CHECKSUM")
            archive.seek(0)
            return read_klines(archive, f"{name}.csv", url)  # type: ignore[arg-type]

    def _checksum(self, kind: str, period: str) -> str | None:
        name = f"{self._name}-{self._timeframe}-{period}"
        return self._retry.call(
            lambda: self._checksum_of(kind, name), where=f"{self._url(kind, name)}.CHECKSUM"
        )

    def _checksum_of(self, kind: str, name: str) -> str | None:
        url = f"{self._url(kind, name)}.CHECKSUM"
        buffer = io.BytesIO()
        if not self._web.fetch(url, buffer, max_bytes=_MAX_CHECKSUM):
            return None
        match = _CHECKSUM.fullmatch(buffer.getvalue().decode("ascii", "replace"))
        if match is None or match[2] != f"{name}.zip":
            raise TransientError("the checksum must be a SHA-256 and the name of the file")
        return match[1]

    def _url(self, kind: str, name: str) -> str:
        return f"{self._base}/data/spot/{kind}/klines/{self._name}/{self._timeframe}/{name}.zip"


def _file_symbol(market: Market) -> str:
    if market.exchange != EXCHANGE:
        raise ConfigError(
            f"bulk dumps exist of {EXCHANGE} only",
            value=market.exchange,
            where="--exchange",
            remedy="Use --source ccxt for other exchanges.",
        )
    known = [name for name, length in TIMEFRAMES.items() if length <= DAY]
    if timeframe_ns(market.timeframe) > DAY:
        raise ConfigError(
            f"bulk dumps are read for {', '.join(known)}: longer bars straddle their files",
            value=market.timeframe,
            where="--timeframe",
            remedy="Use --source ccxt, or resample.",
        )
    name = market.symbol.replace("/", "").replace("-", "")
    if not _SYMBOL.fullmatch(name):
        raise ConfigError(
            "bulk dumps name spot markets in capitals",
            value=market.symbol,
            where="--symbol",
            remedy="For example BTCUSDT or BTC/USDT.",
        )
    return name


def _next_month(day: dt.date) -> dt.date:
    return (day.replace(day=1) + dt.timedelta(days=32)).replace(day=1)


def _ms(day: dt.date) -> int:
    return (day - dt.date(1970, 1, 1)).days * _DAY_MS
