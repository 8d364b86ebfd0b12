"""One track, the analyst or the tactician: its bars, labels and feature matrix.

Both tracks are this one code path. They differ in timeframe, horizon and one thing: the analyst
labels the direction, the tactician labels whether entering on the analyst's side paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from ares.core.errors import ConfigError, DataError
from ares.core.types import readonly
from ares.learn.features import compute_features, feature_names, feature_pieces, in_pieces
from ares.learn.labels import Labels, barrier_width, triple_barrier
from ares.learn.splits import uniqueness
from ares.market.resample import resample
from ares.market.timeframe import coarser, default_horizons, timeframe_ns
from ares.store.codecs import register

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ares.backtest.costs import Costs
    from ares.core.config import TrackConfig
    from ares.core.types import BoolArray, Fill, Float64Array, Int8Array, Int64Array
    from ares.market.bars import Bars

ExtraColumns: TypeAlias = "Callable[[int, int], Float64Array]"

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
        known: int64 (n,), last base bar that closes no later than each of them; None: they are the
            base bars.
    """

    bars: Bars
    known: Int64Array | None

    def base(self, rows: Int64Array) -> Int64Array:
        """The base bar at whose close each of `rows` is known."""
        return rows if self.known is None else self.known[rows]

    def within(self, start: int, stop: int) -> slice:
        """The track's bars that are known in base bars [start, stop)."""
        if self.known is None:
            return slice(start, stop)
        first, last = np.searchsorted(self.known, [start, stop]).tolist()
        return slice(first, last)


def view_track(bars: Bars, track: Track) -> TrackView:
    """Resample base bars to a track's timeframe."""
    coarse = resample(bars, track.timeframe)
    if coarse is bars:
        return TrackView(bars, None)
    opens = coarse.close_time - bars.interval_ns
    row = np.searchsorted(bars.timestamp, opens, side="right")
    row -= 1
    return TrackView(coarse, row)


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
    extra: ExtraColumns | None = None,
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
        extra: Further columns at track bars [start, stop); rows with NaN are left out.
        extra_names: Their names.

    Raises:
        DataError: no decision has features and a label.
    """
    view = view_track(bars, track)
    n = len(view.bars)
    # The grid must not depend on how many decisions have a label: that is known only at the end.
    grid = _grid(n, track.config.max_rows)
    usable = np.zeros(n, dtype=np.bool_)
    on_grid: list[Float64Array] = []
    for start, piece in track_pieces(view.bars, track, extra):
        stop = start + len(piece)
        usable[start:stop] = np.isfinite(piece).all(axis=1)
        on_grid.append(piece[_between(grid, start, stop) - start])
    usable[: view.within(0, first).stop] = False
    if side is not None:
        usable &= side != 0
    labels, candidates = _labels(view.bars, track, usable, side, grid, costs, fill)
    if not candidates:
        raise _no_decision(bars, track)
    t0, t1 = view.base(labels.t0), view.base(labels.t1)
    kept = np.flatnonzero(_unbroken(bars, track, t0, t1))
    t0, t1 = t0[kept], t1[kept]
    rows = labels.t0[kept]
    return Dataset(
        track=track.name,
        names=track.features + extra_names,
        rows=rows,
        t0=t0,
        t1=t1,
        X=np.concatenate(on_grid)[np.searchsorted(grid, rows)],
        y=np.asarray(labels.y if side is None else labels.paid, dtype=np.int8)[kept],
        weight=uniqueness(t0, t1),
        net_return=labels.net_return[kept],
        n_candidates=candidates,
    )


def _no_decision(bars: Bars, track: Track) -> DataError:
    return DataError(
        f"no decision of the {track.name} has features and a label",
        value=len(bars),
        where=f"{bars.symbol} {bars.exchange} {bars.timeframe}",
        remedy="Load more data, or shorten the horizon.",
    )


def _grid(n: int, most: int) -> Int64Array:
    """At most `most` of the bars 0 to n - 1, evenly spaced."""
    return np.arange(min(n, most), dtype=np.int64) * n // max(min(n, most), 1)


def _between(rows: Int64Array, start: int, stop: int) -> Int64Array:
    """Those of the sorted `rows` that lie in [start, stop)."""
    first, last = np.searchsorted(rows, [start, stop])
    return rows[first:last]


def _labels(
    bars: Bars,
    track: Track,
    usable: BoolArray,
    side: Int8Array | None,
    grid: Int64Array,
    costs: Costs,
    fill: Fill,
) -> tuple[Labels, int]:
    """Triple-barrier labels of the usable decisions on the grid, and how many there are off it, too.

    Decisions whose barriers have no width have none.
    """
    width = barrier_width(bars, track.config.volatility_window, track.horizon, track.max_gap)
    usable = usable & np.isfinite(width)
    candidates = 0
    parts: list[Labels] = []
    for part in in_pieces(0, max(len(bars), 1)):
        rows = part.start + np.flatnonzero(usable[part]).astype(np.int64)
        labels = triple_barrier(
            bars,
            rows,
            1 if side is None else side[rows],
            up=width[rows] * track.config.upper,
            down=width[rows] * track.config.lower,
            horizon=track.horizon,
            costs=costs,
            fill=fill,
            max_gap=track.max_gap,
        )
        candidates += len(labels)
        parts.append(labels.take(np.isin(labels.t0, _between(grid, part.start, part.stop))))
    return Labels.join(parts), candidates


def _unbroken(bars: Bars, track: Track, t0: Int64Array, t1: Int64Array) -> BoolArray:
    """Labels between whose ends no long gap of the base bars lies, however short on coarse bars."""
    stretch = bars.segments(track.max_gap)
    begins = np.searchsorted(stretch, t0, side="right")
    same: BoolArray = begins == np.searchsorted(stretch, t1, side="right")
    return same


def track_matrix(bars: Bars, track: Track) -> Float64Array:
    """Features at every close of the track's bars, float64 (n, k); NaN while they warm up."""
    return compute_features(bars, track.features, max_gap=track.max_gap).matrix


def track_pieces(
    bars: Bars, track: Track, extra: ExtraColumns | None = None
) -> Iterator[tuple[int, Float64Array]]:
    """The same piece by piece, each with the row at which it begins; `extra` columns behind."""
    for start, piece in feature_pieces(bars, track.features, max_gap=track.max_gap):
        if extra is None:
            yield start, piece
        else:
            yield start, np.hstack([piece, extra(start, start + len(piece))])
