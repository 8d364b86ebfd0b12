"""Adapters between the tracks: the analyst's chained answer at base bars, and the joint signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ares.learn.calibration import brier, expected_calibration_error, reliability_table
from ares.learn.features import in_pieces
from ares.learn.track import view_track
from ares.market.resample import align
from ares.model.trading_model import join, side_of
from ares.pipeline.values import Calibrated
from ares.store import scratch

if TYPE_CHECKING:
    import pandas as pd

    from ares.core.config import CalibrationConfig
    from ares.core.types import BoolArray, Float64Array, Int8Array
    from ares.learn.chain_fit import CalibrationChain, EnsembleChain
    from ares.learn.track import Dataset, ExtraColumns, Track
    from ares.market.bars import Bars
    from ares.pipeline.values import Splits

Pair = tuple["Dataset", "Dataset"]


def analyst_columns(
    bars: Bars, track: Track, analyst: Track, p: Float64Array, direction: str
) -> ExtraColumns:
    """What the tactician sees of the analyst at its bars [start, stop).

    Args:
        bars: Base bars.
        track: The tactician.
        analyst: The analyst.
        p: Chained raw probability per analyst bar.
        direction: Sides that may be traded.

    Returns:
        A function of start and stop to float64 (n, 2): raw probability and side; NaN where the
        analyst says nothing.
    """
    target = view_track(bars, track).bars
    coarse = view_track(bars, analyst).bars

    def columns(start: int, stop: int) -> Float64Array:
        joined = join(p, align(coarse, target[start:stop]))
        side = side_of(joined, direction)
        return np.column_stack([joined, np.where(np.isfinite(joined), side, np.nan)])

    return columns


def analyst_sides(columns: ExtraColumns, n: int) -> Int8Array:
    """The side at each of the tactician's `n` bars, int8 (n,); 0 where the analyst says nothing."""
    sides = np.zeros(n, dtype=np.int8)
    for part in in_pieces(0, n):
        sides[part] = np.nan_to_num(columns(part.start, part.stop)[:, 1])
    return sides


def calibrated_signals(
    bars: Bars,
    tracks: tuple[Track, Track],
    datasets: Pair,
    ensembles: tuple[EnsembleChain, EnsembleChain],
    chains: tuple[CalibrationChain, CalibrationChain],
    splits: Splits,
    config: CalibrationConfig,
    direction: str,
) -> Calibrated:
    """Join both tracks at the base bars and measure their calibration on chained predictions."""
    analyst, tactician = (view_track(bars, track).bars for track in tracks)
    p_up, confidence, score = (scratch.full(len(bars), np.nan) for _ in range(3))
    side = np.empty(len(bars), dtype=np.int8)
    for part in in_pieces(0, len(bars)):
        known = align(analyst, bars[part])
        side[part] = side_of(join(ensembles[0].p, known), direction)
        p_up[part] = join(chains[0].p, known)
        paid = join(chains[1].p, align(tactician, bars[part]))
        confidence[part] = np.where(side[part] == 0, np.nan, paid)
        score[part] = side[part] * confidence[part]
    quality, reliability = _measure(datasets, ensembles, chains, splits, config)
    return Calibrated(
        p_up=p_up,
        confidence=confidence,
        side=side,
        score=score,
        first_row=_first_row(score, chains, splits),
        quality=quality,
        reliability=reliability,
        notes=tuple(
            f"{track.name} {note}"
            for track, chain in zip(tracks, chains, strict=True)
            for note in chain.notes
        ),
    )


def _first_row(
    score: Float64Array, chains: tuple[CalibrationChain, CalibrationChain], splits: Splits
) -> int:
    """Start of the first chunk with a score that both calibrators had data for.

    Where calibration came too late to leave half of the scored chunks, the first scored bar.
    """
    scored = np.flatnonzero(np.isfinite(score))
    if not len(scored):
        return len(score)
    borders = splits.chain.borders
    chunk = max(chain.first_calibrated for chain in chains)
    start = int(borders[min(chunk, len(borders) - 1)])
    half = (scored[0] + len(score)) // 2
    return int(scored[0]) if start > half else max(start, int(scored[0]))


def _measure(
    datasets: Pair,
    ensembles: tuple[EnsembleChain, EnsembleChain],
    chains: tuple[CalibrationChain, CalibrationChain],
    splits: Splits,
    config: CalibrationConfig,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    import pandas as pd

    rows: list[dict[str, object]] = []
    curves: list[pd.DataFrame] = []
    for dataset, ensemble, chain in zip(datasets, ensembles, chains, strict=True):
        before, after = ensemble.p[dataset.rows], chain.p[dataset.rows]
        known = np.isfinite(before) & np.isfinite(after)
        regime = splits.regime[dataset.t0]
        slices: dict[str, BoolArray] = {"all": known}
        slices |= {f"regime {state}": known & (regime == state) for state in range(3)}
        for name, chosen in slices.items():
            if chosen.any():
                rows.append(_row(dataset, before, after, chosen, name, config.bins))
        for stage, p in (("before", before), ("after", after)):
            table = reliability_table(p[known], dataset.y[known], config.bins)
            curve = {"predicted": table.mean_p, "observed": table.mean_y, "rows": table.rows}
            curves.append(pd.DataFrame(curve).assign(track=dataset.track, stage=stage))
    return pd.DataFrame(rows), pd.concat(curves, ignore_index=True)


def _row(
    dataset: Dataset,
    before: Float64Array,
    after: Float64Array,
    chosen: BoolArray,
    name: str,
    bins: int,
) -> dict[str, object]:
    y = dataset.y[chosen]
    return {
        "track": dataset.track,
        "slice": name,
        "rows": int(np.count_nonzero(chosen)),
        "base_rate": float(y.mean()),
        "brier_before": brier(before[chosen], y),
        "brier_after": brier(after[chosen], y),
        "ece_before": expected_calibration_error(before[chosen], y, bins),
        "ece_after": expected_calibration_error(after[chosen], y, bins),
    }
