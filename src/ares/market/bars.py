"""Bars: a checked, frozen market, and the holdout that training code cannot accept.

A bar's timestamp is the open time of its interval; what the bar says is known at its close.
`check_bars` is the only door: behind it prices are finite and positive, times sorted and unique.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import DataError
from ares.core.identity import fingerprint
from ares.market.calendars import parse_calendar
from ares.market.checking.door import DoorRules, clean
from ares.market.raw import COLUMNS, RawBars
from ares.market.timeframe import timeframe_ns
from ares.store.codecs import register
from ares.store.scratch import relax

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import pandas as pd

    from ares.core.types import Float64Array, Int64Array
    from ares.market.checking.door import Adjusted, BadPrints
    from ares.market.quality import QualityReport

_NO_GAPS: Final = np.empty((0, 3), dtype=np.int64)


@register(schema=1)
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Bars:
    """Bars of one market, oldest first. Equal content has an equal `digest`.

    Attributes:
        timestamp: Open time of each bar, int64 ns UTC, strictly increasing.
        open: Open prices, float64, finite and positive; so are `high`, `low` and `close`.
        high: High prices.
        low: Low prices.
        close: Close prices.
        volume: Traded volume, float64, finite, not negative.
        symbol: What is traded.
        exchange: Where it is traded.
        timeframe: Name of the interval, "1m" to "1w".
        tick: Smallest decimal step of the prices (0.01); 0.0 where they share none.
        calendar: "24/7", "24/5" or "session:<IANA zone> hh:mm-hh:mm".
        gaps: int64 (k, 3): last bar before the gap, first bar after it, expected bars missing.
        adjusted: "none", "split" or "total".
        quality: What the check found; not part of the identity.
    """

    timestamp: Int64Array
    open: Float64Array
    high: Float64Array
    low: Float64Array
    close: Float64Array
    volume: Float64Array
    symbol: str
    exchange: str
    timeframe: str
    tick: float = 0.0
    calendar: str = "24/7"
    gaps: Int64Array = dataclasses.field(default_factory=_NO_GAPS.copy)
    adjusted: Adjusted = "none"
    quality: QualityReport | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        n = len(self.timestamp)
        for name in (*COLUMNS, "gaps"):
            dtype = np.int64 if name in {"timestamp", "gaps"} else np.float64
            array = np.ascontiguousarray(getattr(self, name), dtype=dtype).view()
            if name == "gaps":
                array = array.reshape(-1, 3)
            elif array.shape != (n,):
                raise DataError(
                    "all columns must have one value per bar",
                    value=array.shape,
                    where=f"column {name}",
                )
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.timestamp)

    def __getitem__(self, key: slice) -> Bars:
        """Contiguous bars `[a:b]` as views; gaps are re-indexed, the quality report stays behind.

        Raises:
            DataError: the key is not a slice, or its step is not 1.
        """
        if getattr(key, "step", 0) not in {None, 1}:
            raise DataError(
                "bars are cut in contiguous slices", value=key, remedy="Write bars[a:b]."
            )
        start, stop, _ = key.indices(len(self))
        if (start, stop) == (0, len(self)):
            return self
        inside = (self.gaps[:, 0] >= start) & (self.gaps[:, 1] < stop)
        columns = {name: getattr(self, name)[start:stop] for name in COLUMNS}
        gaps = self.gaps[inside] - np.array([start, start, 0])
        return dataclasses.replace(self, **columns, gaps=gaps, quality=None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bars) and (self is other or self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        span = "no bars"
        if len(self):
            first, last = self.timestamp[[0, -1]].astype("datetime64[ns]").astype("datetime64[s]")
            span = f"{first}Z to {last}Z"
        return (
            f"Bars({self.symbol} {self.exchange} {self.timeframe}, {len(self)} bars, {span},"
            f" {self.calendar}, {len(self.gaps)} gaps)"
        )

    def __reduce__(self) -> tuple[object, ...]:
        # Through the constructor, so that arrays are read-only in another process, too.
        return Bars, tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    @functools.cached_property
    def digest(self) -> str:
        """Fingerprint of the content: everything but the quality report."""
        found = fingerprint(self)
        relax()  # every page was read, and may not be needed soon
        return found

    @functools.cached_property
    def close_time(self) -> Int64Array:
        """When each bar is known: open time + interval, int64 ns UTC."""
        times = np.asarray(self.timestamp + self.interval_ns)
        times.flags.writeable = False
        return times

    @functools.cached_property
    def _kept(self) -> dict[Hashable, Any]:
        return {}

    def derived(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` computes of these bars, once, kept as long as they live; not the bars."""
        return self._kept[key] if key in self._kept else self._kept.setdefault(key, make())

    def afresh(self) -> Bars:
        """The same bars without what was derived of them, so that it goes when these go."""
        return dataclasses.replace(self)

    @property
    def interval_ns(self) -> int:
        """Length of one bar in nanoseconds."""
        return timeframe_ns(self.timeframe)

    @property
    def days_per_year(self) -> int:
        """Trading days per year: 365 for 24/7, 260 for 24/5, 252 for sessions."""
        return parse_calendar(self.calendar).days_per_year

    def segments(self, max_gap: int | None) -> Int64Array:
        """Start indices of the stretches between gaps of more than `max_gap` expected bars.

        The first element is 0 (none where there are no bars); None means that no gap is too long.
        """
        long = self.gaps[:0] if max_gap is None else self.gaps[self.gaps[:, 2] > max_gap]
        head = np.zeros(min(len(self), 1), dtype=np.int64)
        return np.concatenate([head, long[:, 1]])

    def to_frame(self) -> pd.DataFrame:
        """A new frame of the columns; `timestamp` is datetime64[ns, UTC], the index 0 to n-1."""
        import pandas as pd

        columns = {name: getattr(self, name).copy() for name in COLUMNS}
        columns["timestamp"] = pd.DatetimeIndex(columns["timestamp"], tz="UTC")
        return pd.DataFrame(columns)

    @staticmethod
    def from_frame(
        df: pd.DataFrame,
        *,
        symbol: str,
        exchange: str,
        timeframe: str,
        calendar: str | None = None,
        adjusted: Adjusted = "none",
        bad_prints: BadPrints = "drop",
        max_print: float = 2.0,
    ) -> Bars:
        """Check the rows of a frame once and freeze them.

        Args:
            df: Columns open, high, low, close, volume (any case) and the open time as a column
                timestamp, date, datetime, time or open_time, or as the index. Times without a
                zone are UTC. float32 columns named in `df.attrs["decimals"]` get
                their exact float64 back, unless they were computed with since.
            symbol: What is traded.
            exchange: Where it is traded.
            timeframe: Interval of the rows, "1m" to "1w".
            calendar: "24/7", "24/5" or "session:<IANA zone> hh:mm-hh:mm"; None infers it.
            adjusted: How the prices were adjusted: "none", "split" or "total".
            bad_prints: Drop, keep or refuse bars beyond `max_print` of the recent median close.
            max_print: That factor, above 1.

        Raises:
            DataError: a row that cannot be a bar; the message names row, column, rule and value.
            ConfigError: an unknown timeframe, calendar or choice.
        """
        from ares.market.reading.frames import raw_from_frame

        bars, _ = check_bars(
            raw_from_frame(df),
            symbol=symbol,
            exchange=exchange,
            timeframe=timeframe,
            calendar=calendar,
            adjusted=adjusted,
            bad_prints=bad_prints,
            max_print=max_print,
        )
        return bars


def check_bars(
    raw: RawBars,
    *,
    symbol: str,
    exchange: str,
    timeframe: str,
    calendar: str | None = None,
    adjusted: Adjusted = "none",
    bad_prints: BadPrints = "drop",
    max_print: float = 2.0,
    strict: bool = True,
) -> tuple[Bars, QualityReport]:
    """The door: sort, collapse duplicates, refuse or count impossible rows, find gaps.

    Nothing is dropped or repaired silently, and no bar is invented: the report has the counts,
    the first examples and what was done. It is also `bars.quality`.

    Args:
        raw: Rows in the order they were read.
        symbol: What is traded.
        exchange: Where it is traded.
        timeframe: Interval of the rows.
        calendar: Declared calendar; None infers it from the times.
        adjusted: "none", "split" or "total".
        bad_prints: "drop", "keep" or "error".
        max_print: Factor off the median of the recent accepted closes that makes a bad print.
        strict: Refuse impossible, NaN and non-positive rows. False counts them, leaves them out
            and goes on: for reports only.

    Raises:
        DataError: no rows, an impossible row (strict), a bad print (`bad_prints="error"`), or a
            timeframe that the distances of the rows contradict.
        ConfigError: an unknown timeframe, calendar or choice.
    """
    rules = DoorRules.parse(
        timeframe=timeframe,
        calendar=calendar,
        adjusted=adjusted,
        bad_prints=bad_prints,
        max_print=max_print,
        strict=strict,
    )
    refuse_nameless(symbol, exchange)
    cleaned, report = clean(raw, rules)
    bars = Bars(
        **cleaned.columns,
        symbol=symbol,
        exchange=exchange,
        timeframe=timeframe,
        tick=cleaned.tick,
        calendar=report.calendar,
        gaps=cleaned.gaps,
        adjusted=adjusted,
        quality=report,
    )
    return bars, report


def refuse_nameless(symbol: str, exchange: str) -> None:
    """Raise where a market has no name.

    Raises:
        DataError: the symbol or the exchange is empty.
    """
    for name, text in (("symbol", symbol), ("exchange", exchange)):
        if not str(text or "").strip():
            raise DataError(
                f"a market needs a name of its {name}",
                value=text,
                where=name,
                remedy="Name it, for example --symbol BTCUSD --exchange bitfinex.",
            )


@register(schema=1)
@dataclasses.dataclass(frozen=True, eq=False)
class OpenedHoldout:
    """All bars of a market and the index at which its holdout starts."""

    bars: Bars
    start: int


@register(schema=1)
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Holdout:
    """The last share of a market, sealed: it has no prices until `open()` is called."""

    _bars: Bars
    _start: int

    @property
    def digest(self) -> str:
        """Fingerprint of the sealed bars alone."""
        return self._bars[self._start :].digest

    @property
    def training(self) -> Bars:
        """The bars before the sealed ones, as views."""
        return self._bars[: self._start]

    @property
    def first_bar(self) -> int:
        """Number of bars before the sealed ones."""
        return self._start

    @property
    def n_bars(self) -> int:
        """Number of sealed bars."""
        return len(self._bars) - self._start

    @property
    def first_time(self) -> int:
        """Open time of the first sealed bar, int64 ns UTC."""
        return int(self._bars.timestamp[self._start])

    def __repr__(self) -> str:
        return f"Holdout({self.n_bars} bars, sealed)"

    def open(self) -> OpenedHoldout:
        """The training bars and the holdout as one market; only the final comparison calls this."""
        return OpenedHoldout(self._bars, self._start)


def split_holdout(bars: Bars, share: float) -> tuple[Bars, Holdout]:
    """Training bars, and the last `share` of the bars sealed away.

    Raises:
        DataError: `share` is not between 0 and 1, or one of the parts would be empty.
    """
    if not 0 < share < 1:
        raise DataError(
            "a holdout is a share between 0 and 1",
            value=share,
            where="holdout",
            remedy="For example 0.2: the last fifth is held back.",
        )
    start = len(bars) - max(1, round(len(bars) * share))
    if start < 1:
        raise DataError(
            "training and holdout need at least one bar each",
            value=len(bars),
            where=f"{bars.symbol} {bars.exchange} {bars.timeframe}",
            remedy="Load more data.",
        )
    return bars[:start], Holdout(bars, start)
