"""Market data at the door of the tools: `Bars` as they are, frames leniently."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.backtest import indicators
from ares.core.errors import DataError
from ares.core.types import readonly
from ares.market.bars import Bars
from ares.market.reading.frames import TIME_NAMES, numbers_of, timestamps_of
from ares.market.timeframe import DAY, TIMEFRAMES
from ares.search.blocks import even_borders

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from ares.core.types import BoolArray, Float64Array, Int64Array

_log = logging.getLogger("ares.search")

_PRICES: Final = ("open", "high", "low", "close")
_FIRST_DAY: Final = 10_957  # 2000-01-01, where a frame says no times


def bars_from(market_data: pd.DataFrame | Bars | None) -> Bars:
    """`Bars` as they are; a frame with defaults for what it does not say, with one warning.

    Missing open, high and low are the close, missing volume is 0, rows without positive prices
    are left out, high and low are widened to hold open and close, and without times the rows are
    consecutive days from 2000-01-01.

    Raises:
        DataError: no market data, no close column, or no usable row.
    """
    if isinstance(market_data, Bars):
        return market_data
    if market_data is None:
        raise DataError("market data is needed", remedy="Give a frame of bars, or Bars.")
    columns = _columns(market_data)
    if "close" not in columns:
        raise DataError(
            "a market needs a column close",
            value=[str(c) for c in market_data.columns],
            where="market_data",
        )
    notes: list[str] = []
    values = _completed(columns, notes)
    times, timeframe = _times(market_data, notes)
    good = np.all([np.isfinite(v) & (v > 0) for k, v in values.items() if k != "volume"], axis=0)
    if not good.any():
        raise DataError("a market needs at least one row of positive prices", where="market_data")
    if not good.all():
        notes.append(f"{int((~good).sum())} rows without positive prices left out")
    if notes:
        _log.warning("market data completed: %s", "; ".join(notes))
    return _checked(times[good], {k: v[good] for k, v in values.items()}, timeframe)


def _checked(times: Int64Array, values: dict[str, Float64Array], timeframe: str) -> Bars:
    import pandas as pd

    frame = pd.DataFrame({"timestamp": pd.DatetimeIndex(times, tz="UTC"), **values})
    return Bars.from_frame(
        frame, symbol="UNKNOWN", exchange="unknown", timeframe=timeframe, bad_prints="keep"
    )


def _columns(frame: pd.DataFrame) -> dict[str, Float64Array]:
    """Numeric columns that indicators and backtests know, by lower-case name."""
    found: dict[str, Float64Array] = {}
    for position, label in enumerate(frame.columns):
        name = str(label).strip().lower()
        if name in {*_PRICES, "volume"} and name not in found:
            found[name] = numbers_of(frame.iloc[:, position])[0]
    return found


def _completed(columns: dict[str, Float64Array], notes: list[str]) -> dict[str, Float64Array]:
    close = columns["close"]
    lacking = [name for name in (*_PRICES, "volume") if name not in columns]
    if lacking:
        notes.append(f"no column {', '.join(lacking)}")
    values = {name: columns.get(name, close) for name in _PRICES}
    top = np.maximum(np.maximum(values["open"], close), values["high"])
    bottom = np.minimum(np.minimum(values["open"], close), values["low"])
    wide = int(((top != values["high"]) | (bottom != values["low"]))[np.isfinite(top)].sum())
    if wide:
        notes.append(f"high or low of {wide} rows widened to hold open and close")
    volume = columns.get("volume", np.zeros(len(close)))
    volume = np.where(np.isfinite(volume) & (volume > 0), volume, 0.0)
    return {**values, "high": top, "low": bottom, "volume": volume}


def _times(frame: pd.DataFrame, notes: list[str]) -> tuple[Int64Array, str]:
    """Open times and the longest timeframe that fits between neighbours."""
    series = _time_column(frame)
    if series is not None and len(series) > 1:
        times, unreadable = timestamps_of(series, where=lambda row: f"row {row + 1}")
        steps = np.diff(np.unique(times))
        if not unreadable and len(steps):
            step = float(np.median(steps))
            fitting = [name for name, length in TIMEFRAMES.items() if length <= step]
            if fitting:
                return times, fitting[-1]
    notes.append("no usable times: rows taken as consecutive days")
    days = np.arange(len(frame), dtype=np.int64) + _FIRST_DAY
    return days * DAY, "1d"


def _time_column(frame: pd.DataFrame) -> pd.Series[Any] | None:
    for position, label in enumerate(frame.columns):
        if str(label).strip().lower() in TIME_NAMES:
            return frame.iloc[:, position]
    return frame.index.to_series() if frame.index.dtype.kind == "M" else None


def technical_indicators(market_data: pd.DataFrame | Bars) -> dict[str, Float64Array]:
    """The core indicators, shape (rows,), NaN where undefined; see `CachedBacktester`."""
    if isinstance(market_data, Bars):
        columns = {name: getattr(market_data, name) for name in (*_PRICES, "volume")}
    else:
        columns = _columns(market_data)
    finite = columns.get("close", np.empty(0))
    decimals = indicators.decimals_of(finite[np.isfinite(finite)])
    plan: dict[str, tuple[tuple[str, ...], Callable[..., Float64Array]]] = {
        "sma_20": (("close",), lambda c: indicators.sma(c, 20, decimals=decimals)),
        "sma_50": (("close",), lambda c: indicators.sma(c, 50, decimals=decimals)),
        "ema_12": (("close",), lambda c: indicators.ema(c, 12)),
        "ema_26": (("close",), lambda c: indicators.ema(c, 26)),
        "rsi": (("close",), lambda c: indicators.rsi(c, 14)),
        "atr": (("high", "low", "close"), lambda h, low, c: indicators.atr(h, low, c, 14)),
        "volatility": (("close",), lambda c: indicators.volatility(c, 20)),
        "volume_sma": (("volume",), lambda v: indicators.volume_sma(v, 20)),
    }
    out: dict[str, Float64Array] = {}
    for name, (needed, function) in plan.items():
        if all(column in columns for column in needed):
            out[name] = _stretchwise(function, [columns[column] for column in needed], name)
    left_out = [name for name in plan if name not in out]
    if left_out:
        _log.warning("indicators left out, their columns are missing: %s", ", ".join(left_out))
    return out


def _stretchwise(
    function: Callable[..., Float64Array], columns: list[Float64Array], name: str
) -> Float64Array:
    """Run over each stretch of finite rows alone: NaN would poison what follows it."""
    good: BoolArray = np.all([np.isfinite(column) for column in columns], axis=0)
    if name == "volatility":
        good &= columns[0] > 0  # logarithms
    out = np.full(len(good), np.nan)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], good, [False])).astype(np.int8)))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        parts = [np.ascontiguousarray(column[first:last]) for column in columns]
        out[first:last] = function(*parts)
    readonly(out)
    return out


@dataclass(frozen=True)
class Subsets:
    """A frame that is handed out block by block."""

    frame: pd.DataFrame

    def borders(self, count: int) -> Int64Array:
        """Row borders of at most `count` contiguous blocks."""
        return even_borders(len(self.frame), count)

    def block(self, borders: Int64Array, index: int, warmup: int) -> pd.DataFrame:
        """Rows of one block and up to `warmup` rows before it (`attrs["warmup"]` says how many)."""
        first = int(borders[index])
        before = min(first, warmup)
        subset = self.frame.iloc[first - before : int(borders[index + 1])].copy()
        subset.attrs["warmup"] = before
        return subset


def reveal(market_data: pd.DataFrame | Bars) -> Subsets:
    """Subsets of a frame, or of the frame of `Bars`.

    Raises:
        DataError: there are no rows.
    """
    frame = market_data.to_frame() if isinstance(market_data, Bars) else market_data
    if not len(frame):
        raise DataError("market data needs at least one row", where="full_data")
    return Subsets(frame)
