"""A small run folder made of known values, for the tests of its page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ares.store.runs import write_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

DAYS = 160
NAMES = ("calm", "normal", "wild")
VERDICT = "No evidence of edge: known & <small>."


def write_run(
    folder: Path,
    *,
    sections: Mapping[str, Any] | None = None,
    symbol: str = "IXIC",
    regimes: tuple[str, ...] = NAMES,
    note: str = "a note",
    info: Mapping[str, Any] | None = None,
) -> Path:
    """A complete run folder with two windows, 40 trades and 24 trials."""
    (folder / "steps").mkdir(parents=True)
    for number, found in steps(regimes, note).items():
        _json(folder / "steps" / f"{number:02d}.json", found)
    for k in range(2):
        (folder / "windows" / str(k)).mkdir(parents=True)
        _json(folder / "windows" / str(k) / "params.json", {"enter": 0.3 + k, "exit": 0.1})
    _json(folder / "params.json", {"enter": 0.625, "direction": "both", "stop_loss": None})
    (folder / "config.toml").write_text(f'[data]\nsymbol = "{symbol}"\n')
    for name, frame in frames(regimes).items():
        frame.to_parquet(folder / f"{name}.parquet")
    write_manifest(folder, {**manifest_sections(symbol), **(sections or {})})
    if info is not None:
        write_info(folder, info)
    return folder


def write_info(folder: Path, changed: Mapping[str, Any]) -> None:
    """`run_info.json` of a run."""
    info = {
        "run_id": "20260101T000000Z-01234567",
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 61.5,
        "jobs": 2,
        "verdict": VERDICT,
        "edge": False,
        "validations_before": 0,
        "memory": {"peak_bytes": 3 << 20, "budget_bytes": 5 << 30},
        "fallbacks": [],
        "steps": [
            _record(1, "data collection", "", 0.25),
            _record(2, "market regime classification", "window 0", 1.5),
        ],
        "config": {"data": {"symbol": "IXIC"}},
        "origins": {"data.symbol": "default"},
    }
    _json(folder / "run_info.json", {**info, **changed})


def manifest_sections(symbol: str) -> dict[str, Any]:
    return {
        "kind": "train",
        "verdict": VERDICT,
        "edge": False,
        "recommendation": "hold",
        "market": {"symbol": symbol, "exchange": "nasdaq", "timeframe": "1d", "calendar": "24/7"},
        "data": {"digest": "d1", "holdout_digest": "d2", "bars": 500, "first": "2001", "last": "2"},
        "metrics": {
            "total_return": -0.125,
            "cagr": 0.0625,
            "sharpe": 1.5,
            "max_drawdown": 0.25,
            "n_trades": 40.0,
            "dsr": 0.9499,
            "p_value": 0.00001,
            "benchmark_sharpe": None,
            "exposure": 0.5,
        },
        "configuration": "c1",
        "mode": "quick",
        "seed": 0,
        "code": {"digest": "c2", "sources": "c3"},
        "libraries": {"numpy": "2.4"},
        "steps": [{"number": 1, "name": "data collection", "digest": "s1"}],
    }


def steps(regimes: tuple[str, ...], note: str) -> dict[int, dict[str, Any]]:
    identity = np.full((3, 3), 0.05) + 0.85 * np.eye(3)
    model = {
        "means": [[0.001, -4.0], [0.0, -3.5], [-0.001, -3.0]],
        "occupancy": [0.5, 0.3, 0.2],
        "transition": identity.tolist(),
    }
    dataset = {
        "timeframe": "1d",
        "horizon": 10,
        "features": ["return_1"],
        "rows": 300,
        "effective_rows": 80.0,
        "base_rate": 0.5,
        "mean_net_return": 0.001,
    }
    fit = {"chunks": 4, "fitted": 3, "effective_sample": [10.0, 5.0, 3.0, 2.0], "notes": [note]}
    ensemble = {"chunks": 4, "stacked": 2, "notes": []}
    return {
        1: {
            "training": {"bars": 400, "first": "2001-01-01T00:00:00Z", "last": "2002-01-01"},
            "holdout": {"bars": 100, "first": "2002-01-02T00:00:00Z"},
            "quality": {
                "rows": 500,
                "gaps": 7,
                "bad_prints": 3,
                "duplicates": 0,
                "findings": [
                    {"kind": "bad_prints", "count": 3, "action": note, "examples": ["row 8"]}
                ],
            },
        },
        2: {"names": list(regimes), "timeframe": "1d", "chunks": [model]},
        3: {"borders": ["2001-01-01", "2001-06-01", "2002-01-01"], "embargo_bars": 5},
        4: {**dataset, "track": "analyst"},
        5: fit,
        6: fit,
        7: ensemble,
        8: {**dataset, "track": "tactician"},
        9: fit,
        10: ensemble,
        11: _calibration(),
        12: {
            "score": 0.5,
            "metrics": {"sharpe": 0.7, "cagr": 0.1, "n_trades": 50.0},
            "notes": [note],
            "overfitting": {
                "n_trials": 72,
                "effective_trials": 31.0,
                "mean_correlation": 0.25,
                "dsr": 0.321,
                "dsr_effective": 0.4,
                "pbo": {"probability": 0.53, "standard_error": 0.19},
                "spa": {"consistent": 0.44},
                "min_backtest_years": 3.5,
            },
        },
        13: {
            "efficiency": -0.5,
            "exposure": 0.5,
            "windows": [_window(80), _window(80)],
            "evidence": {"dsr": 0.1, "p_value": 0.9, "n_days": DAYS, "n_validated": 1},
        },
        14: _monte_carlo(),
        15: {
            "decision": "hold",
            "n_days": 100,
            "level": 0.05,
            "looks_before": 1,
            "power": "Enough.",
            "reasons": [note],
            "comparisons": [
                {"opponent": "cash", "decides": True, "annual_difference": 0.01, "p_better": None}
            ],
        },
    }


def frames(regimes: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(8)
    day = pd.date_range("2001-01-01", periods=DAYS, tz="UTC")
    daily = rng.normal(0.0, 0.01, DAYS)
    equity = {"day": day, "equity": np.cumprod(1 + daily), "daily_return": daily}
    names = np.array([*regimes, ""], dtype=object)[rng.integers(0, len(regimes) + 1, DAYS)]
    market = {"day": day, "close": 100 * np.cumprod(1 + daily), "regime": names.astype(str)}
    side = np.where(rng.random(40) < 0.5, 1, -1)
    trades = {
        "side": side,
        "return": rng.normal(0, 0.02, 40),
        "pnl": rng.normal(0, 0.02, 40),
        "reason": np.where(side > 0, "stop", "signal"),
    }
    status = np.array(["full"] * 16 + ["stopped"] * 6 + ["failed"] * 2)
    value = np.where(status == "full", rng.normal(0, 1, 24), -np.inf)
    trials = {
        "number": np.arange(24),
        "phase": np.array(["sobol"] * 16 + ["adaptive"] * 8),
        "param_enter": rng.random(24),
        "param_direction": ["both"] * 12 + ["long"] * 12,
        "status": status,
        "value": value,
        "revealed": np.where(status == "stopped", 0.1, np.nan),
    }
    action = rng.integers(-1, 2, DAYS)
    return {
        "equity": pd.DataFrame({**equity, "benchmark_return": rng.normal(0, 0.01, DAYS)}),
        "market": pd.DataFrame(market),
        "trades": pd.DataFrame(trades),
        "trials": pd.DataFrame(trials),
        # As `TradingModel.predict` gives it: missing in warm-up and after a long gap, not "".
        "oos": pd.DataFrame(
            {"action": action, "regime": pd.Series([name or None for name in names], dtype="str")}
        ),
    }


class Elements(HTMLParser):
    """Every element of a page, its attributes and the text right inside it."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.declarations: list[str] = []
        self._open: list[int] = []
        self.feed(text)
        self.close()
        assert not self._open, [self.found[i][0] for i in self._open]

    def handle_decl(self, decl: str) -> None:
        self.declarations.append(decl)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self._open.append(len(self.found))
        self.found.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self.found[self._open[-1]][0] == tag, tag
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            self.found[self._open[-1]][2].append(data)

    def named(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, "".join(text)) for name, attributes, text in self.found if name == tag]

    @property
    def text(self) -> str:
        """What a reader sees."""
        hidden = {"script", "style"}
        return " ".join("".join(t) for name, _, t in self.found if name not in hidden)

    def plots(self) -> dict[str, Any]:
        """Specification of every plot by the identifier of its place."""
        return {
            str(a["data-plot"]): json.loads(text)
            for a, text in self.named("script")
            if "data-plot" in a
        }


def _json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def _record(number: int, name: str, scope: str, seconds: float) -> dict[str, Any]:
    size = 200 << 20
    return {
        "number": number,
        "name": name,
        "scope": scope,
        "seconds": seconds,
        "peak_memory_bytes": size,
        "cached": bool(scope),
    }


def _window(days: int) -> dict[str, Any]:
    return {
        "n_days": days,
        "n_trades": 20,
        "test_return": 0.04,
        "benchmark_return": -0.02,
        "train_sharpe": 1.25,
        "test_sharpe": -0.75,
        "efficiency": None,
    }


def _calibration() -> dict[str, Any]:
    quality, reliability = [], []
    for track in ("analyst", "tactician"):
        for part in ("all", "regime 1"):
            scores = {"brier_before": 0.26, "brier_after": 0.24, "ece_before": 0.1}
            quality.append({"track": track, "slice": part, "rows": 9, "ece_after": None, **scores})
        for stage in ("before", "after"):
            point = {"track": track, "stage": stage, "rows": 9, "predicted": 0.4, "observed": 0.5}
            none = {"track": track, "stage": stage, "rows": 0, "predicted": None, "observed": None}
            reliability += [point, none]
    return {"quality": quality, "reliability": reliability, "notes": []}


def _monte_carlo() -> dict[str, Any]:
    spread = {"observed": 0.1, "mean": 0.1, "quantiles": [-0.2, 0.0, 0.1, 0.2, 0.4]}
    fan = [np.linspace(1.0, 1.0 + shift, DAYS).tolist() for shift in (-0.2, 0.0, 0.1, 0.2, 0.4)]
    names = ("final_return", "cagr", "sharpe", "max_drawdown", "shuffled_drawdown")
    return {
        "n_paths": 50,
        "mean_block": 2.5,
        "probability_of_loss": 0.25,
        "fan": fan,
        "stress": [{"name": "costs x2", "total_return": -0.3, "sharpe": None}],
        **dict.fromkeys(names, spread),
    }
