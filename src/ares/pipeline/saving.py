"""The files of a run that shape its identity, as bytes by relative path."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ares.learn.features import in_pieces
from ares.learn.regimes import NAMES
from ares.market.timeframe import DAY
from ares.model.artifact import model_files
from ares.pipeline import summaries
from ares.store.tables import encode_pieces, encode_table

_ROWS = 1 << 18

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from ares.core.types import Int8Array
    from ares.market.bars import Bars
    from ares.pipeline.values import MarketData, Trained, WalkForward
    from ares.validate.ab_test import ABReport
    from ares.validate.monte_carlo import MonteCarloReport
    from ares.validate.overfitting import SearchOverfitting


def run_files(
    data: MarketData,
    trained: Trained,
    walk: WalkForward,
    stress: MonteCarloReport,
    comparison: ABReport,
    search: SearchOverfitting,
    config_toml: str,
) -> dict[str, bytes]:
    """Every file of the run folder but the manifest and the volatile ones."""
    import pandas as pd

    oos = walk.oos
    equity = pd.DataFrame(
        {
            "day": pd.DatetimeIndex(oos.day * DAY, tz="UTC"),
            "equity": oos.equity,
            "daily_return": oos.daily_returns,
            "benchmark_return": oos.benchmark_returns,
        }
    )
    suffix, oos_body = encode_pieces(predictions_pieces(data.bars, walk))
    files = {
        "config.toml": config_toml.encode(),
        "params.json": as_json(summaries.plain(trained.plan.params)),
        **as_table("trials", trained.plan.trials),
        **as_table("trades", oos.trades),
        **as_table("equity", equity),
        "oos" + suffix: oos_body,
        **as_table("market", daily_market(data.bars, trained)),
    }
    files |= {f"models/{name}": body for name, body in model_files(trained.model).items()}
    for window, model in zip(walk.results, walk.models, strict=True):
        folder = f"windows/{window.window.index}"
        files |= {f"{folder}/{name}": body for name, body in model_files(model).items()}
        files[f"{folder}/params.json"] = as_json(summaries.plain(model.params))
    for number, found in step_summaries(data, trained, walk, stress, comparison, search).items():
        files[f"steps/{number:02d}.json"] = as_json(found)
    return files


def predictions_pieces(bars: Bars, walk: WalkForward) -> Iterator[pd.DataFrame]:
    """What `TradingModel.predict` says at every test bar, with the window's number in front.

    All of it at once would be more than the steps take.
    """
    import pandas as pd

    ends = np.cumsum([len(each) for each in walk.predictions])
    for begin in range(0, int(ends[-1]), _ROWS):
        parts = []
        for index, stop in enumerate(ends.tolist()):
            start = stop - len(walk.predictions[index])
            first, last = max(begin, start), min(begin + _ROWS, stop)
            if first < last:
                parts.append(_predictions(bars, walk, index, slice(first - start, last - start)))
        yield pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]


def _predictions(bars: Bars, walk: WalkForward, index: int, rows: slice) -> pd.DataFrame:
    """Some rows of one window."""
    import pandas as pd

    window, said = walk.results[index].window, walk.predictions[index]
    size = float(str(walk.models[index].params.get("size", 1.0)))
    action = said.action[rows]
    times = bars.timestamp[window.test_start : window.test_stop][rows]
    return pd.DataFrame(
        {
            "window": np.full(len(action), window.index, dtype=np.int64),
            "timestamp": pd.DatetimeIndex(times, tz="UTC"),
            "p_up": said.p_up[rows],
            "confidence": said.confidence[rows],
            "regime": _named(said.regime[rows]),
            "action": action,
            "size": np.where(action != 0, size, 0.0),
        }
    )


def _named(regime: Int8Array) -> Any:
    """Names of regimes as text; missing where there is none."""
    import pandas as pd

    names = pd.array([*NAMES, None], dtype="str")
    return names.take(np.where(regime < 0, len(NAMES), regime).astype(np.intp))


def step_summaries(
    data: MarketData,
    trained: Trained,
    walk: WalkForward,
    stress: MonteCarloReport,
    comparison: ABReport,
    search: SearchOverfitting,
) -> dict[int, dict[str, Any]]:
    """What each of steps 1 to 15 found, as plain JSON."""
    (analyst, tactician), (labels, meta) = trained.tracks, trained.datasets
    plain_fit, fit, meta_fit = trained.fits
    walked = {
        "evidence": summaries.plain(walk.evidence),
        "efficiency": summaries.plain(walk.oos.efficiency),
        "exposure": summaries.plain(walk.oos.exposure),
        "windows": summaries.plain(walk.oos.windows),
        "notes": list(walk.notes),
    }
    return {
        1: summaries.of_market(data),
        2: summaries.of_regimes(trained.regimes),
        3: summaries.of_splits(data.bars, trained.splits),
        4: summaries.of_dataset(analyst, labels),
        5: summaries.of_fit(plain_fit),
        6: summaries.of_fit(fit),
        7: summaries.of_ensemble(trained.ensembles[0]),
        8: summaries.of_dataset(tactician, meta),
        9: summaries.of_fit(meta_fit),
        10: summaries.of_ensemble(trained.ensembles[1]),
        11: summaries.of_calibration(trained.calibrated),
        12: summaries.of_plan(trained.plan)
        | {"overfitting": summaries.of_report(search, ("logits",))},
        13: walked,
        14: summaries.of_report(stress),
        15: summaries.of_report(comparison),
    }


def daily_market(bars: Bars, trained: Trained) -> pd.DataFrame:
    """Last close and regime of each day of the training range, for the report's plot."""
    import pandas as pd

    found = []
    for part in in_pieces(0, len(bars)):
        day = bars.timestamp[part.start : part.stop + 1] // DAY
        found.append(part.start + np.flatnonzero(day[1:] != day[:-1]))
    last = np.append(np.concatenate(found), len(bars) - 1)
    names = np.array([*trained.regimes.names, ""], dtype=object)
    return pd.DataFrame(
        {
            "day": pd.DatetimeIndex(bars.timestamp[last] // DAY * DAY, tz="UTC"),
            "close": bars.close[last],
            "regime": pd.Series(names[trained.splits.regime[last]], dtype="str"),
        }
    )


def as_json(value: object) -> bytes:
    """JSON bytes, sorted and indented; plain values only."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def as_table(stem: str, frame: pd.DataFrame) -> dict[str, bytes]:
    """A frame as a file by its name: Parquet where it can be written; equal frames, equal bytes."""
    suffix, body = encode_table(frame)
    return {stem + suffix: body}
