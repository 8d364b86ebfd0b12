"""What a strategy is, and the prepared market that the built-in ones share."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

import numpy as np

from ares.backtest import indicators
from ares.backtest.indicators import decimals_of_tick
from ares.backtest.signals import IndexedScore
from ares.core.errors import ParameterError
from ares.core.types import Float64Array, Int64Array, readonly
from ares.store import memo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ares.backtest.signals import Signals
    from ares.backtest.space import ParameterSpace
    from ares.market.bars import Bars

SLOW_COLUMNS: Final = ("std",)
"""Indicators that take far longer to make than to read: on 366,710 bars 20 ms, and 3 ms."""
_CHANNELS: Final = ("highest", "lowest")
CACHE_BYTES: Final = 256 << 20


class Sized(Protocol):
    """What knows how many bytes it holds."""

    @property
    def nbytes(self) -> int:
        """Bytes held."""


_Column = TypeVar("_Column", bound=Sized)


class Strategy(Protocol):
    """A trading rule: parameters in, signals out.

    `prepare` does what does not depend on the parameters, `signals` the rest. A signal at bar t may
    use bars up to and including t only. A strategy may also have `lookback(params) -> int`, the
    bars that its slowest signal needs. Those that are built in have `signals_batch(prepared,
    points)` as well, the signals of many points at once; of others `signals` is called per point.
    """

    @property
    def name(self) -> str:
        """Name of the strategy."""

    @property
    def space(self) -> ParameterSpace:
        """Its parameters."""

    def prepare(self, bars: Bars, *, max_gap: int | None = None) -> Any:
        """What `signals` needs of the market, whatever the parameters are."""

    def signals(self, prepared: Any, params: Mapping[str, Any]) -> Signals:
        """Signals of one normalised point; all values are known at the close of their bar."""


class ColumnCache:
    """Arrays, or what holds arrays, by key; least recently used first out; safe in threads."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self._columns: OrderedDict[tuple[str, int], Sized] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        with self._lock:
            return sum(column.nbytes for column in self._columns.values())

    def get(self, key: tuple[str, int], make: Callable[[], _Column]) -> _Column:
        """What belongs to `key`; made where it is missing."""
        with self._lock:
            if key in self._columns:
                self._columns.move_to_end(key)
                return cast("_Column", self._columns[key])
        column = make()
        with self._lock:
            self._columns[key] = column
        self.shrink(self.max_bytes)
        return column

    def shrink(self, max_bytes: int) -> None:
        """Drop the columns used longest ago until at most `max_bytes` are held."""
        with self._lock:
            held = sum(column.nbytes for column in self._columns.values())
            while held > max_bytes and self._columns:
                held -= self._columns.popitem(last=False)[1].nbytes


@dataclass(frozen=True, eq=False)
class Prepared:
    """A market made ready: where its long gaps are, its decimals, its indicator columns.

    It has the columns of the bars and not the bars, which keep it: without a circle both go at once.

    Attributes:
        close: Closes of the bars.
        high: Their highs.
        low: Their lows.
        starts: First bars after gaps of more than `max_gap` expected bars; indicators start anew.
        decimals: Decimals of its prices, -1 where they share none.
        columns: What was already asked for.
        digest: Of the bars, where slow columns may have been kept; else empty.
    """

    close: Float64Array
    high: Float64Array
    low: Float64Array
    starts: Int64Array
    decimals: int
    columns: ColumnCache = field(default_factory=ColumnCache)
    digest: str = ""

    @staticmethod
    def of(bars: Bars, *, max_gap: int | None = None) -> Prepared:
        """`bars` made ready, once for all strategies."""
        made: Prepared = bars.derived(
            ("prepared", max_gap),
            lambda: Prepared(
                close=bars.close,
                high=bars.high,
                low=bars.low,
                starts=bars.segments(max_gap),
                decimals=decimals_of_tick(bars.tick, bars.close),
                digest=bars.digest if memo.active() is not None else "",
            ),
        )
        return made

    @functools.cached_property
    def sums(self) -> tuple[Int64Array, int] | None:
        """Running sums of the closes and the largest, in units; None where they share none."""
        if self.decimals < 0:
            return None
        return indicators.running_sums(self.close, self.decimals)

    def column(self, name: str, period: int) -> Float64Array:
        """Indicator `name` with `period` on the close (highest: the high; lowest: the low)."""
        return self.columns.get((name, period), lambda: self._recalled(name, period))

    def score(self, name: str, period: int) -> IndexedScore:
        """An indicator with its block extremes."""
        return self.columns.get(
            (f"indexed {name}", period), lambda: IndexedScore.of(self.column(name, period))
        )

    def beyond(self, name: str, period: int, side: int) -> Int64Array:
        """Bars whose close is above (side 1) or below (side -1) an indicator."""
        sign = "above" if side > 0 else "below"
        compare = np.greater if side > 0 else np.less
        return self.columns.get(
            (f"{sign} {name}", period),
            lambda: np.flatnonzero(compare(self.close, self._once(name, period))),
        )

    def _once(self, name: str, period: int) -> Float64Array:
        """A column that is kept only where others ask for it, too: a channel has one list."""
        return (self._recalled if name in _CHANNELS else self.column)(name, period)

    def keep_column(self, name: str, period: int) -> bool:
        """Keep a slow column for later searches of the same bars. True where it was made now.

        Raises:
            StoreError: the store cannot be written.
        """
        kept = memo.active()
        if kept is None or not self.digest:
            raise AssertionError("needs a memory that was in use when the market was prepared")
        if kept.get(*self._kept_under(name, period)) is not memo.MISS:
            return False
        kept.remember(self._make(name, period), *self._kept_under(name, period))
        return True

    def _kept_under(self, name: str, period: int) -> tuple[object, ...]:
        return "column", self.digest, self.starts, name, period

    def _recalled(self, name: str, period: int) -> Float64Array:
        """A slow column as `ares precompute` kept it; any other, or one not kept, is made."""
        kept = memo.active() if self.digest and name in SLOW_COLUMNS else None
        if kept is None:
            return self._make(name, period)
        found: Any = kept.get(*self._kept_under(name, period))
        usable = isinstance(found, np.ndarray) and found.shape == self.close.shape
        kept.count(found=usable)
        return found if usable else self._make(name, period)

    def _make(self, name: str, period: int) -> Float64Array:
        starts = self.starts
        match name:
            case "sma":
                return indicators.sma(self.close, period, starts=starts, decimals=self.decimals)
            case "std":
                return indicators.std(self.close, period, starts=starts, decimals=self.decimals)
            case "ema":
                return indicators.ema(self.close, period, starts=starts)
            case "minus_rsi":
                minus = -indicators.rsi(self.close, period, starts=starts)
                readonly(minus)
                return minus
            case "highest":
                return indicators.highest_before(self.high, period, starts=starts)
            case "lowest":
                return indicators.lowest_before(self.low, period, starts=starts)
            case _:
                raise ParameterError("this column is not known", value=name)
