"""Regimes along the forward chain: what classifies a chunk was fitted before it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ares.core.errors import DataError
from ares.core.identity import seed_for
from ares.learn.regimes import RegimeModel, fit_regimes
from ares.market.resample import resample
from ares.market.timeframe import coarser
from ares.store.codecs import register

if TYPE_CHECKING:
    from ares.core.config import RegimeConfig
    from ares.core.types import Float64Array, Int64Array
    from ares.learn.splits import Chain
    from ares.market.bars import Bars

N_REGIMES = 3
_MIN_BARS = 100


@register(schema=1)
@dataclass(frozen=True)
class RegimeChain:
    """One regime model per chunk of the forward chain; the last one is the final model.

    Attributes:
        timeframe: Timeframe of the bars that the models see.
        models: Per chunk, fitted on bars that closed before the chunk began.
    """

    timeframe: str
    models: tuple[RegimeModel, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the final model's states, in the order of the probabilities."""
        return tuple(self.models[-1].names)


def regime_timeframe(base: str, config: RegimeConfig) -> str:
    """Timeframe of the regime model for bars of `base`."""
    return config.timeframe or coarser(base)[1]


def fit_regime_chain(
    bars: Bars, config: RegimeConfig, chain: Chain, seed: int, *, max_gap: int
) -> RegimeChain:
    """Fit one model per chunk on the bars that closed before it.

    Raises:
        DataError: too few bars lie before the first chunk.
    """
    timeframe = regime_timeframe(bars.timeframe, config)
    coarse = resample(bars, timeframe)
    models: list[RegimeModel] = []
    _refuse_few(bars, coarse, _known_before(coarse, bars.timestamp[chain.borders[0]]))
    for chunk, border in enumerate(chain.borders[:-1]):
        known = _known_before(coarse, bars.timestamp[border])
        stream = seed_for(seed, f"regimes {chunk}")
        model = fit_regimes(coarse[:known], config, stream, max_gap=max_gap)
        models.append(model.match_to(models[-1]) if models else model)
    return RegimeChain(timeframe, tuple(models))


def refuse_short(bars: Bars, config: RegimeConfig, chain: Chain, total: int, account: str) -> None:
    """Raise where `fit_regime_chain` would for want of bars, without fitting anything.

    Args:
        bars: What a refit trains on.
        config: Names the timeframe.
        chain: Its chunks.
        total: Bars of the market of which `bars` are a part.
        account: How those before the first chunk come from the whole, as a sentence without its end.

    Raises:
        DataError: too few bars lie before the first chunk.
    """
    coarse = resample(bars, regime_timeframe(bars.timeframe, config))
    known = _known_before(coarse, bars.timestamp[chain.borders[0]])
    needed = ""
    if 0 < known < _MIN_BARS:  # two more, as each share is cut to whole bars
        needed = f" (about {_rounded_up(total * (_MIN_BARS + 2) / known):,} bars in all)"
    account = f"{account}: {known} of {coarse.timeframe}. "
    _refuse_few(bars, coarse, known, f"{total:,} bars are too few", account, needed)


def _refuse_few(
    bars: Bars,
    coarse: Bars,
    known: int,
    few: str = "too few bars",
    account: str = "",
    needed: str = "",
) -> None:
    if known < _MIN_BARS:
        raise DataError(
            f"{few} to train on: the regime model needs {_MIN_BARS} bars of {coarse.timeframe} before"
            " the first chunk",
            value=known,
            where=f"{bars.symbol} {bars.exchange} {bars.timeframe}",
            remedy=f"{account}Load more data{needed}, or set regimes.timeframe to a shorter one, and"
            " analyst.timeframe, too, where it is longer than that.",
        )


def _rounded_up(count: float) -> int:
    """The next number with three digits and zeros after them."""
    unit: int = 10 ** max(len(str(math.ceil(count))) - 3, 0)
    return math.ceil(count / unit) * unit


def _known_before(coarse: Bars, time: int) -> int:
    """How many coarse bars have closed at `time`."""
    return int(np.searchsorted(coarse.close_time, time, side="right"))


@dataclass(frozen=True, eq=False)
class RegimeStates:
    """Filtered regime probabilities of coarse bars, to be read at the closes of finer ones.

    Attributes:
        probabilities: float64 (m, 3), at each coarse close; NaN while the model warms up.
        known_at: int64 (m,), these closes, ns UTC.
    """

    probabilities: Float64Array
    known_at: Int64Array

    def at(self, bars: Bars) -> Float64Array:
        """What is known at each close of `bars`, float64 (n, 3); NaN where nothing is."""
        return self._known(bars.timestamp + bars.interval_ns)

    def of_rows(self, bars: Bars, rows: Int64Array) -> Float64Array:
        """The same for the closes of `rows` alone, float64 (len(rows), 3)."""
        return self._known(bars.timestamp[rows] + bars.interval_ns)

    def _known(self, closes: Int64Array) -> Float64Array:
        known = np.searchsorted(self.known_at, closes, side="right") - 1
        out = np.full((len(closes), N_REGIMES), np.nan)
        seen = known >= 0
        out[seen] = self.probabilities[known[seen]]
        return out


def regime_states(model: RegimeModel, coarse: Bars) -> RegimeStates:
    """The states of bars of the model's timeframe."""
    return RegimeStates(model.filter(coarse), coarse.close_time)


def regime_probabilities(model: RegimeModel, timeframe: str, target: Bars) -> Float64Array:
    """Filtered regime probabilities known at each close of `target`, shape (n, 3).

    NaN while the model warms up. `target` may be of any timeframe up to that of the model.
    """
    return regime_states(model, resample(target, timeframe)).at(target)
