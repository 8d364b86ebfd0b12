"""One track, the analyst or the tactician: its bars, labels and feature matrix.

Both tracks are this one code path. They differ in timeframe, horizon and one thing: the analyst
labels the direction, the tactician labels whether entering on the analyst's side paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.core.errors import ConfigError, DataError
from ares.core.types import readonly
from ares.learn.features import compute_features, feature_names
from ares.learn.labels import barrier_width, triple_barrier
from ares.learn.splits import thin, uniqueness
from ares.market.resample import resample
from ares.market.timeframe import coarser, default_horizons, timeframe_ns
from ares.store.codecs import register

if TYPE_CHECKING:
    from ares.backtest.costs import Costs
    from ares.core.config import TrackConfig
    from ares.core.types import BoolArray, Fill, Float64Array, Int8Array, Int64Array
    from ares.learn.labels import Labels
    from ares.market.bars import Bars


ANALYST_HORIZON: Final = 16
TACTICIAN_HORIZON: Final = 30
"""Bars to the vertical barrier where neither configuration nor timeframe says otherwise."""


@dataclass(frozen=True)
class Track:
    """What a track is, resolved for one base timeframe.

    Attributes:
        name: "analyst" or "tactician".
        timeframe: Timeframe of the bars on which the track decides.
        horizon: Bars of that timeframe to the vertical barrier.
        config: Its section of the configuration.
        max_gap: Longest gap, in expected bars, that features and labels may span.
    """

    name: str
    timeframe: str
    horizon: int
    config: TrackConfig
    max_gap: int

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the market features that its models see, in the order of the matrix."""
        return feature_names(timeframe_ns(self.timeframe))


def analyst_track(base: str, config: TrackConfig, max_gap: int) -> Track:
    """The analyst on bars of `base`: a coarser timeframe."""
    timeframe = config.timeframe or coarser(base)[0]
    horizon = config.horizon or default_horizons(base)[0] or ANALYST_HORIZON
    return Track("analyst", timeframe, horizon, config, max_gap)


def tactician_track(base: str, config: TrackConfig, max_gap: int) -> Track:
    """The tactician on bars of `base`: the base timeframe itself.

    Raises:
        ConfigError: another timeframe is asked for.
    """
    if config.timeframe not in {None, base}:
        raise ConfigError(
            "the tactician decides on the base timeframe",
            value=config.timeframe,
            where="tactician.timeframe",
            remedy="Leave it out, or change data.timeframe.",
        )
    horizon = config.horizon or default_horizons(base)[1] or TACTICIAN_HORIZON
    return Track("tactician", base, horizon, config, max_gap)


@dataclass(frozen=True)
class TrackView:
    """A track's bars, and where in the base bars each of them is known.

    Attributes:
        bars: Bars of the track's timeframe.
        base_row: int64 (n,), last base bar that closes no later than each of them.
    """

    bars: Bars
    base_row: Int64Array


def view_track(bars: Bars, track: Track) -> TrackView:
    """Resample base bars to a track's timeframe."""
    coarse = resample(bars, track.timeframe)
    row = np.searchsorted(bars.close_time, coarse.close_time, side="right") - 1
    return TrackView(coarse, row.astype(np.int64))


@register(schema=1)
@dataclass(frozen=True)
class Dataset:
    """Labelled decisions of one track, oldest first.

    Attributes:
        track: Name of the track.
        names: Columns of `X`.
        rows: int64 (m,), the decision's bar in the track's timeframe.
        t0: int64 (m,), base bar at whose close the decision is made.
        t1: int64 (m,), base bar by whose close the outcome is known.
        X: float64 (m, k), features known at t0; finite.
        y: int8 (m,), 1 where it paid (analyst: where the upper side won), else 0.
        weight: float64 (m,), average uniqueness.
        net_return: float64 (m,), return after costs of the trade that the label stands for.
        n_candidates: Decisions that had a label before thinning.
    """

    track: str
    names: tuple[str, ...]
    rows: Int64Array
    t0: Int64Array
    t1: Int64Array
    X: Float64Array
    y: Int8Array
    weight: Float64Array
    net_return: Float64Array
    n_candidates: int

    def __post_init__(self) -> None:
        for name in ("rows", "t0", "t1", "X", "y", "weight", "net_return"):
            readonly(getattr(self, name))


def make_dataset(
    bars: Bars,
    track: Track,
    *,
    costs: Costs,
    fill: Fill,
    first: int = 0,
    side: Int8Array | None = None,
    extra: Float64Array | None = None,
    extra_names: tuple[str, ...] = (),
) -> Dataset:
    """Label decisions by the triple barrier and attach the features known at them.

    Args:
        bars: Base bars of the training range.
        track: The track.
        costs: Costs per side of the labelled trades.
        fill: Where a decision is filled.
        first: First base row that may be a decision.
        side: int8 per track bar, the side to enter on; None: long everywhere (the analyst).
        extra: float64 (track bars, e), further columns; rows with NaN are left out.
        extra_names: Their names.

    Raises:
        DataError: no decision has features and a label.
    """
    view = view_track(bars, track)
    matrix = track_matrix(view.bars, track, extra)
    usable = np.isfinite(matrix).all(axis=1) & (view.base_row >= first)
    sides = np.ones(len(view.bars), dtype=np.int8) if side is None else side
    labels = _labels(view.bars, track, usable & (sides != 0), sides, costs, fill)
    if not len(labels.t0):
        raise DataError(
            f"no decision of the {track.name} has features and a label",
            value=len(bars),
            where=f"{bars.symbol} {bars.exchange} {bars.timeframe}",
            remedy="Load more data, or shorten the horizon.",
        )
    kept = _thinned(labels.t0, len(view.bars), track.config.max_rows)
    kept = kept[
        _unbroken(bars, track, view.base_row[labels.t0[kept]], view.base_row[labels.t1[kept]])
    ]
    t0, t1 = view.base_row[labels.t0[kept]], view.base_row[labels.t1[kept]]
    return Dataset(
        track=track.name,
        names=track.features + extra_names,
        rows=labels.t0[kept],
        t0=t0,
        t1=t1,
        X=np.ascontiguousarray(matrix[labels.t0[kept]]),
        y=np.asarray(labels.y if side is None else labels.paid, dtype=np.int8)[kept],
        weight=uniqueness(t0, t1),
        net_return=labels.net_return[kept],
        n_candidates=len(labels.t0),
    )


def _labels(
    bars: Bars, track: Track, usable: BoolArray, sides: Int8Array, costs: Costs, fill: Fill
) -> Labels:
    """Triple-barrier labels of the usable decisions whose barriers have a width."""
    width = barrier_width(bars, track.config.volatility_window, track.horizon, track.max_gap)
    rows = np.flatnonzero(usable & np.isfinite(width))
    return triple_barrier(
        bars,
        rows,
        sides[rows],
        up=width[rows] * track.config.upper,
        down=width[rows] * track.config.lower,
        horizon=track.horizon,
        costs=costs,
        fill=fill,
        max_gap=track.max_gap,
    )


def _unbroken(bars: Bars, track: Track, t0: Int64Array, t1: Int64Array) -> BoolArray:
    """Labels between whose ends no long gap of the base bars lies, however short on coarse bars."""
    stretch = bars.segments(track.max_gap)
    begins = np.searchsorted(stretch, t0, side="right")
    same: BoolArray = begins == np.searchsorted(stretch, t1, side="right")
    return same


def _thinned(rows: Int64Array, n: int, max_rows: int) -> Int64Array:
    """Positions of the rows that lie on an even grid of at most `max_rows` of the `n` bars.

    The grid must not depend on how many decisions have a label: that is known only at the end.
    """
    grid = np.zeros(n, dtype=np.bool_)
    grid[thin(np.arange(n, dtype=np.int64), max_rows)] = True
    return np.flatnonzero(grid[rows]).astype(np.int64)


def track_matrix(bars: Bars, track: Track, extra: Float64Array | None = None) -> Float64Array:
    """Features at every close of the track's bars, float64 (n, k); NaN while they warm up."""
    matrix = compute_features(bars, track.features, max_gap=track.max_gap).matrix
    return matrix if extra is None else np.hstack([matrix, extra])
