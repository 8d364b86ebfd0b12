"""`TradingModel`: everything that a decision at a close needs, and the decision itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from ares.core.errors import InputError
from ares.learn.chain_fit import combine
from ares.learn.features import feature_pieces
from ares.learn.regime_chain import N_REGIMES, regime_states
from ares.market.resample import align, resample
from ares.store import scratch
from ares.store.codecs import register

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from ares.core.types import Float64Array, Int8Array
    from ares.learn.calibration import Calibrator
    from ares.learn.ensembles import Stacker
    from ares.learn.regimes import RegimeModel
    from ares.learn.specialists import Specialists
    from ares.market.bars import Bars

_log = logging.getLogger("ares.model")


@register(schema=1)
@dataclass(frozen=True)
class TrackModel:
    """The final models of one track.

    Attributes:
        timeframe: Timeframe of the bars on which the track decides.
        features: Market features, in the order of the models' columns.
        specialists: General model and one per regime.
        stacker: Combines them; None where gating by regime does.
        calibrator: Maps the ensemble's probability to a frequency.
    """

    timeframe: str
    features: tuple[str, ...]
    specialists: Specialists
    stacker: Stacker | None
    calibrator: Calibrator


@register(schema=1)
@dataclass(frozen=True)
class Signals:
    """What a model says at every close of some bars; NaN (side 0) where it says nothing.

    Attributes:
        p_up: float64 (n,), calibrated probability that the upper barrier is met first.
        confidence: float64 (n,), calibrated probability that entering on `side` now pays.
        side: int8 (n,), the analyst's side: 1 long, -1 short, 0 none.
        regimes: float64 (n, 3), filtered regime probabilities.
        score: float64 (n,), side x confidence in [-1, 1]: what thresholds are compared with.
    """

    p_up: Float64Array
    confidence: Float64Array
    side: Int8Array
    regimes: Float64Array
    score: Float64Array

    @staticmethod
    def empty(n: int) -> Signals:
        """Room for `n` bars, to be filled by `put`."""
        p_up, confidence, score = (scratch.full(n, np.nan) for _ in range(3))
        side = scratch.full(n, 0, np.int8)
        return Signals(p_up, confidence, side, scratch.full((n, N_REGIMES), np.nan), score)

    def put(self, start: int, part: Signals) -> None:
        """Write what is said of the bars from `start` on."""
        for field in fields(self):
            values = getattr(part, field.name)
            getattr(self, field.name)[start : start + len(values)] = values

    def since(self, row: int) -> Signals:
        """The rows from `row` on, as views."""
        return Signals(*(getattr(self, field.name)[row:] for field in fields(self)))


@register(schema=1)
@dataclass(frozen=True)
class TradingModel:
    """A trained model with its trading parameters.

    Attributes:
        symbol: Market that it was trained on; so are `exchange`, `timeframe` and `calendar`.
        regime_timeframe: Timeframe of the regime model.
        regimes: Regime model, used filtered only.
        analyst: Says the direction.
        tactician: Says whether entering now pays.
        params: Entry and exit thresholds, stops, holding time, cooldown, direction, size.
        max_gap: Longest gap, in expected bars, that features may span.
        valid_from: Close of the last bar it has seen, int64 ns UTC: predictions begin there.
    """

    symbol: str
    exchange: str
    timeframe: str
    calendar: str
    regime_timeframe: str
    regimes: RegimeModel
    analyst: TrackModel
    tactician: TrackModel
    params: dict[str, object]
    max_gap: int
    valid_from: int

    def __repr__(self) -> str:
        seen = np.datetime64(self.valid_from, "ns").astype("datetime64[s]")
        return f"TradingModel({self.symbol} {self.exchange} {self.timeframe}, valid from {seen}Z)"

    def predict(self, bars: Bars, *, in_sample: bool = False) -> pd.DataFrame:
        """Decisions at every close of `bars`.

        Args:
            bars: Bars of the model's timeframe, with enough history before the rows of interest.
            in_sample: Also answer for bars that the model was trained on.

        Returns:
            One row per bar: `timestamp` (open of the bar; the decision is made at its close),
            `p_up`, `confidence`, `regime` (name; missing in warm-up), `action` (1 enter long, -1
            enter short, 0 do not enter) and `size` (fraction of equity where action is not 0).
            Rows before `valid_from`, and rows with too little history, have NaN and action 0;
            where the analyst's side may not be traded, `confidence` is NaN.

        Raises:
            InputError: the bars are of another timeframe.
        """
        self._check(bars)
        return self.decisions(bars, self.signals(bars), in_sample=in_sample)

    def decisions(self, bars: Bars, signals: Signals, *, in_sample: bool = False) -> pd.DataFrame:
        """The table of `predict` for bars of which the signals are known."""
        import pandas as pd

        given = np.full(len(bars), in_sample) | (bars.timestamp >= self.valid_from)
        action = np.where(given, self.entries(signals), 0).astype(np.int8)
        named = given & np.isfinite(signals.regimes).all(axis=1)
        state = np.where(named, np.argmax(np.nan_to_num(signals.regimes), axis=1), -1)
        names = np.array([*self.regimes.names, None], dtype=object)
        return pd.DataFrame(
            {
                "timestamp": pd.DatetimeIndex(bars.timestamp, tz="UTC"),
                "p_up": np.where(given, signals.p_up, np.nan),
                "confidence": np.where(given, signals.confidence, np.nan),
                "regime": pd.Series(names[state], dtype="str"),
                "action": action,
                "size": np.where(action != 0, float(str(self.params.get("size", 1.0))), 0.0),
            }
        )

    def signals(self, bars: Bars, start: int = 0) -> Signals:
        """What the models say at every close from bar `start` on, also of bars of the training."""
        whole = Signals.empty(len(bars) - start)
        for begin, part in self._pieces(bars, start):
            whole.put(begin - start, part)
        return whole

    def score(self, bars: Bars, start: int = 0) -> Float64Array:
        """The score at every close from bar `start` on, float64 (n - start,)."""
        score: Float64Array = scratch.full(len(bars) - start, np.nan)
        for begin, part in self._pieces(bars, start):
            score[begin - start : begin - start + len(part.score)] = part.score
        return score

    def _pieces(self, bars: Bars, start: int) -> Iterator[tuple[int, Signals]]:
        """The signals from bar `start` on, piece by piece, each with the bar at which it begins."""
        direction = str(self.params.get("direction", "both"))
        states = regime_states(self.regimes, resample(bars, self.regime_timeframe))
        coarse = resample(bars, self.analyst.timeframe)
        raw, p = self._analyst(coarse)
        pieces = feature_pieces(bars, self.tactician.features, max_gap=self.max_gap)
        for begin, matrix in pieces:
            part = bars[begin : begin + len(matrix)]
            if begin + len(matrix) <= start:
                continue
            regimes, known = states.at(part), align(coarse, part)
            joined = join(raw, known)
            side = side_of(joined, direction)
            columns = np.hstack(
                [matrix, joined[:, None], side[:, None].astype(np.float64), regimes]
            )
            _, confidence = predict_track(self.tactician, columns, regimes)
            confidence = np.where(side == 0, np.nan, confidence)
            made = Signals(join(p, known), confidence, side, regimes, side * confidence)
            yield max(begin, start), made.since(max(start - begin, 0))

    def entries(self, signals: Signals) -> Int8Array:
        """The sides that the thresholds let in: 1, -1 or 0 per bar."""
        enter = float(str(self.params["enter"]))
        direction = str(self.params.get("direction", "both"))
        score = np.nan_to_num(signals.score)
        long = (score >= enter) & (direction != "short")
        short = (score <= -enter) & (direction != "long")
        return long.astype(np.int8) - short.astype(np.int8)

    def _analyst(self, coarse: Bars) -> tuple[Float64Array, Float64Array]:
        """The analyst's raw and calibrated probability at each close of its bars."""
        states = regime_states(self.regimes, resample(coarse, self.regime_timeframe))
        raw, p = np.empty(len(coarse)), np.empty(len(coarse))
        pieces = feature_pieces(coarse, self.analyst.features, max_gap=self.max_gap)
        for start, matrix in pieces:
            part = slice(start, start + len(matrix))
            known = states.at(coarse[part])
            raw[part], p[part] = predict_track(self.analyst, np.hstack([matrix, known]), known)
        return raw, p

    def _check(self, bars: Bars) -> None:
        if bars.timeframe != self.timeframe:
            raise InputError(
                f"this model decides on {self.timeframe} bars",
                value=bars.timeframe,
                remedy="Resample the bars, or train a model for their timeframe.",
            )
        other = tuple(
            f"{name} {getattr(bars, name)} instead of {getattr(self, name)}"
            for name in ("symbol", "exchange", "calendar")
            if getattr(self, name) != getattr(bars, name)
        )
        warned: set[tuple[str, ...]] = vars(self).setdefault("_warned", set())
        if other and other not in warned:
            warned.add(other)
            _log.warning("the model was trained on another market: %s", ", ".join(other))


def predict_track(
    model: TrackModel, columns: Float64Array, states: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Raw and calibrated probability of one track, row by row; NaN where a column is NaN."""
    raw = combine(model.stacker, model.specialists.predict(columns), states)
    return raw, model.calibrator.predict(raw)


def side_of(p: Float64Array, direction: str) -> Int8Array:
    """The analyst's side: the sign of p - 1/2 where `direction` allows it, else 0."""
    side = np.sign(np.nan_to_num(p, nan=0.5) - 0.5).astype(np.int8)
    if direction == "long":
        side = np.maximum(side, 0)
    elif direction == "short":
        side = np.minimum(side, 0)
    return side.astype(np.int8)


def join(values: Float64Array, known: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Float64Array:
    """Coarse values at base bars: `values[known]`, NaN where nothing is known yet."""
    joined = np.full(len(known), np.nan)
    joined[known >= 0] = values[known[known >= 0]]
    return joined
