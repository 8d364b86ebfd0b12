"""What each step found, as plain JSON: the files `steps/NN.json` of a run folder."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ares.learn.chain_fit import EnsembleChain, TrackFit
    from ares.learn.regime_chain import RegimeChain
    from ares.learn.track import Dataset, Track
    from ares.market.bars import Bars
    from ares.pipeline.values import Calibrated, MarketData, Plan, Splits


def plain(value: Any) -> Any:
    """Dataclasses, arrays, frames and numbers as JSON; NaN and infinities become null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if hasattr(value, "to_dict") and hasattr(value, "columns"):  # a frame
        return [plain(row) for row in value.to_dict("records")]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def iso(ns: int) -> str:
    """Time in UTC to the second, as ISO 8601."""
    return str(np.datetime64(int(ns), "ns").astype("datetime64[s]")) + "Z"


def of_market(data: MarketData) -> dict[str, Any]:
    """Step 1."""
    bars = data.bars
    return {
        "training": _span(bars),
        "holdout": {"bars": data.holdout.n_bars, "first": iso(data.holdout.first_time)},
        "quality": plain(data.quality),
    }


def of_regimes(regimes: RegimeChain) -> dict[str, Any]:
    """Step 2."""
    return {
        "timeframe": regimes.timeframe,
        "names": list(regimes.names),
        "chunks": [plain(model) for model in regimes.models],
    }


def of_splits(bars: Bars, splits: Splits) -> dict[str, Any]:
    """Step 3."""
    borders = splits.chain.borders
    return {
        "borders": [iso(bars.timestamp[b]) for b in borders[:-1]]
        + [iso(bars.timestamp[-1] + bars.interval_ns)],
        "embargo_bars": splits.chain.embargo,
        "occupancy": plain(splits.occupancy),
    }


def of_dataset(track: Track, dataset: Dataset) -> dict[str, Any]:
    """Steps 4 and 8."""
    return {
        "track": track.name,
        "timeframe": track.timeframe,
        "horizon": track.horizon,
        "features": list(dataset.names),
        "candidates": dataset.n_candidates,
        "rows": len(dataset.t0),
        "effective_rows": float(dataset.weight.sum()),
        "base_rate": float(dataset.y.mean()),
        "mean_net_return": float(dataset.net_return.mean()),
    }


def of_fit(fit: TrackFit) -> dict[str, Any]:
    """Steps 5, 6 and 9."""
    last = fit.specialists[-1]
    return {
        "chunks": len(fit.specialists),
        "fitted": sum(s is not None for s in fit.specialists),
        "effective_sample": plain(last.effective if last else ()),
        "notes": list(fit.notes),
    }


def of_ensemble(ensemble: EnsembleChain) -> dict[str, Any]:
    """Steps 7 and 10."""
    return {
        "stacked": sum(s is not None for s in ensemble.stackers),
        "chunks": len(ensemble.stackers),
        "notes": list(ensemble.notes),
    }


def of_calibration(calibrated: Calibrated) -> dict[str, Any]:
    """Step 11."""
    return {
        "quality": plain(calibrated.quality),
        "reliability": plain(calibrated.reliability),
        "notes": list(calibrated.notes),
    }


def of_plan(plan: Plan) -> dict[str, Any]:
    """Step 12."""
    return {
        "params": plain(plan.params),
        "score": plain(plan.score),
        "outcome": plan.outcome,
        "metrics": plain(plan.metrics),
        "trials": len(plan.trials),
        "trials_digest": plan.trials_digest,
        "notes": list(plan.notes),
    }


def of_report(value: object, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """A validation report, without the named fields and without per-path values."""
    found: dict[str, Any] = _without(plain(value), {"values", *leave_out})
    return found


def _without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, names) for key, item in value.items() if key not in names}
    return value


def _span(bars: Bars) -> Mapping[str, Any]:
    return {
        "symbol": bars.symbol,
        "exchange": bars.exchange,
        "timeframe": bars.timeframe,
        "calendar": bars.calendar,
        "bars": len(bars),
        "first": iso(bars.timestamp[0]),
        "last": iso(bars.timestamp[-1]),
    }
