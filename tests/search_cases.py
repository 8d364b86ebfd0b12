"""A run folder of a search made of known values, for the tests of its page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ares.store.runs import write_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

POINTS, FIRST, DAYS = 90, 32, 240


def write_search(
    folder: Path,
    *,
    changed: Mapping[str, Any] | None = None,
    name: str = "fast",
    strategy: str = "SmaCross",
    info: Mapping[str, Any] | None = None,
) -> Path:
    """A complete folder; the first parameter is called `name`."""
    folder.mkdir(parents=True)
    frame = trials(name)
    (folder / "search.json").write_text(json.dumps({**facts(name), **(changed or {})}))
    (folder / "params.json").write_text(json.dumps({"params": {name: 12}, "score": 1.5}))
    (folder / "config.toml").write_text("[search]\ntrials = 90\n")
    frame.to_parquet(folder / "trials.parquet")
    curve().to_parquet(folder / "equity.parquet")
    sections = {
        "kind": "optimize",
        "strategy": strategy,
        "market": {"symbol": "IXIC", "exchange": "nasdaq", "timeframe": "1d"},
        "data": {"digest": "d1", "bars": 500, "first": "2001-01-02", "last": "2002-01-03"},
        "metrics": {"score": 1.5},
        "trials_digest": "t1",
        "seed": 0,
    }
    write_manifest(folder, sections)
    if info is not None:
        (folder / "run_info.json").write_text(json.dumps(info))
    return folder


def trials(name: str = "fast") -> pd.DataFrame:
    """32 Sobol points and 58 adaptive ones, 20 of them stopped, two audited, three without score."""
    rng = np.random.default_rng(5)
    first = rng.integers(3, 61, POINTS)
    side = np.array(["long", "both"], dtype=object)[rng.integers(0, 2, POINTS)]
    value = -(np.log(first / 12.0) ** 2) + 0.2 * (side == "both") + rng.normal(0, 0.05, POINTS)
    stage = np.zeros(POINTS, dtype=np.int64)
    stage[FIRST + 5 : FIRST + 25] = [1] * 12 + [2] * 8
    lost = np.isin(np.arange(POINTS), (3, 9, 40 + 25))
    audit = np.full(POINTS, np.nan)
    audit[[FIRST + 6, FIRST + 7]] = value[[FIRST + 6, FIRST + 7]]
    stopped = stage > 0
    return pd.DataFrame(
        {
            "number": np.arange(POINTS),
            "phase": ["sobol"] * FIRST + ["adaptive"] * (POINTS - FIRST),
            f"param_{name}": first,
            "param_direction": side,
            "status": np.select([stopped, lost], ["stopped", "failed"], "full"),
            "stage": stage,
            "value": np.where(stopped | lost, -np.inf, value),
            "revealed": np.where(stopped, value, np.nan),
            "audit": audit,
        }
    )


def curve() -> pd.DataFrame:
    rng = np.random.default_rng(6)
    daily = rng.normal(0.001, 0.01, DAYS)
    return pd.DataFrame(
        {
            "day": pd.date_range("2001-01-02", periods=DAYS, tz="UTC"),
            "equity": np.cumprod(1 + daily),
            "daily_return": daily,
            "benchmark_return": rng.normal(0, 0.01, DAYS),
        }
    )


def facts(name: str = "fast") -> dict[str, Any]:
    """`search.json`."""
    point = {name: 12, "direction": "both"}
    return {
        "objective": {"name": "sharpe", "penalty": 1.0, "min_trades": 30},
        "space": {
            name: {"low": 3, "high": 60, "log": True, "fixed": False},
            "direction": {"choices": ["long", "both"], "fixed": False},
        },
        "costs": {"fee": 0.001, "slippage": 0.0005},
        "fill": "next_open",
        "max_gap": 60,
        "initial": FIRST,
        "held_back": "20020104-",
        "best": {
            "params": point,
            "score": 1.5,
            "error": 0.25,
            "metrics": {"total_return": 0.5, "sharpe": 1.75, "max_drawdown": 0.2, "n_trades": 41},
        },
        "benchmark": {"total_return": -0.1, "sharpe": -0.3, "max_drawdown": 0.4},
        "counts": {"trials": POINTS, "full": 70, "stopped": 20, "failed": 3, "audited": 2},
        "outcomes": {"OK": 67, "TOO_FEW_TRADES": 2, "RUINED": 1},
        "blocks": [
            {
                "first": f"2001-{m:02d}-01",
                "last": f"2001-{m:02d}-28",
                "return": 0.01 * (m - 3),
                "sharpe": 0.5 * (m - 3),
                "max_drawdown": 0.1,
                "trades": m,
            }
            for m in range(1, 9)
        ],
        "overfitting": {
            "points": 30,
            "n_trials": POINTS,
            "effective_trials": 40.0,
            "mean_correlation": 0.5,
            "sharpe": 1.75,
            "expected_max_sharpe": 1.25,
            "dsr": 0.94999,
            "dsr_effective": 0.96,
            "min_backtest_years": 6.0,
            "pbo": {"probability": 0.375, "standard_error": 0.125},
            "spa": {"consistent": 0.03},
        },
        "stops": {
            "on": True,
            "reason": "",
            "flat_blocks": 16,
            "agreements": [[32, 0.85], [16, 0.95]],
            "stopped": 20,
            "by_stage": {"1": 12, "2": 8},
            "audited": 2,
            "false_stops": 1,
            "false_stop_rate": 0.5,
            "interval": [0.095, 0.905],
            "best_audited": 1.625,
            "lost": 0.125,
        },
        "importance": {"names": [name, "direction"], "shares": [1.2, 0.1], "r2": 0.9, "points": 72},
        "plateau": None,
        "replayed": True,
    }
