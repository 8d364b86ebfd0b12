"""What a strategy is, and the prepared market that the built-in ones share."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from ares.backtest import indicators
from ares.backtest.indicators import decimals_of_tick
from ares.core.errors import ParameterError
from ares.core.types import Float64Array, Int64Array, readonly

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ares.backtest.signals import Signals
    from ares.backtest.space import ParameterSpace
    from ares.market.bars import Bars

_CACHE_BYTES: Final = 256 << 20


class Strategy(Protocol):
    """A trading rule: parameters in, signals out.

    `prepare` does what does not depend on the parameters, `signals` the rest. A signal at bar t may
    use bars up to and including t only. A strategy may also have `lookback(params) -> int`, the
    bars that its slowest signal needs.
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
    """Indicator columns by (name, period), least recently used first out; safe in threads."""

    def __init__(self, max_bytes: int = _CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self._columns: OrderedDict[tuple[str, int], Float64Array] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        with self._lock:
            return sum(column.nbytes for column in self._columns.values())

    def get(self, key: tuple[str, int], make: Callable[[], Float64Array]) -> Float64Array:
        """The column of `key`; made where it is missing."""
        with self._lock:
            if key in self._columns:
                self._columns.move_to_end(key)
                return self._columns[key]
        column = make()
        readonly(column)
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

    Attributes:
        bars: The market.
        starts: First bars after gaps of more than `max_gap` expected bars; indicators start anew.
        decimals: Decimals of its prices, -1 where they share none.
        columns: Indicator columns that were already asked for.
    """

    bars: Bars
    starts: Int64Array
    decimals: int
    columns: ColumnCache = field(default_factory=ColumnCache)

    @staticmethod
    def of(bars: Bars, *, max_gap: int | None = None) -> Prepared:
        """Prepare `bars`."""
        starts = bars.segments(max_gap)
        return Prepared(bars, starts, decimals_of_tick(bars.tick, bars.close))

    def column(self, name: str, period: int) -> Float64Array:
        """Indicator `name` with `period` on the close (highest: the high; lowest: the low)."""
        return self.columns.get((name, period), lambda: self._make(name, period))

    def _make(self, name: str, period: int) -> Float64Array:
        bars, starts = self.bars, self.starts
        match name:
            case "sma":
                return indicators.sma(bars.close, period, starts=starts, decimals=self.decimals)
            case "std":
                return indicators.std(bars.close, period, starts=starts, decimals=self.decimals)
            case "ema":
                return indicators.ema(bars.close, period, starts=starts)
            case "minus_rsi":
                return -indicators.rsi(bars.close, period, starts=starts)
            case "highest":
                return indicators.highest_before(bars.high, period, starts=starts)
            case "lowest":
                return indicators.lowest_before(bars.low, period, starts=starts)
            case _:
                raise ParameterError("this column is not known", value=name)
