"""One backtest as a published run folder of its own."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ares.backtest.curves import buy_and_hold
from ares.backtest.engine import simulate
from ares.core.environment import code_digest
from ares.core.identity import fingerprint
from ares.core.settings import shaping_values, to_toml
from ares.market.files import source_files
from ares.pipeline.folder import publish_files
from ares.pipeline.saving import as_json, as_table
from ares.pipeline.source import without_names
from ares.pipeline.summaries import iso, plain
from ares.store.tables import find_table, table_fallbacks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ares.backtest.costs import Costs
    from ares.backtest.result import BacktestResult
    from ares.backtest.strategy import Strategy
    from ares.core.config import Config
    from ares.market.bars import Bars
    from ares.store.workspace import Workspace


@dataclass(frozen=True)
class SingleBacktest:
    """A published backtest.

    Attributes:
        result: At the given costs.
        twice: At twice the costs.
        costs: The given costs.
        params: The whole point, defaults included.
        held: Return of buying at the first open and holding, before costs.
        run_dir: Its folder.
    """

    result: BacktestResult
    twice: BacktestResult
    costs: Costs
    params: Mapping[str, Any]
    held: float
    run_dir: Path

    def table(self, stem: str) -> Path | None:
        """The file of one of its tables."""
        return find_table(self.run_dir, stem)


def backtest(
    workspace: Workspace,
    bars: Bars,
    strategy: Strategy,
    params: Mapping[str, Any],
    costs: Costs,
    config: Config,
) -> SingleBacktest:
    """Run one backtest on all bars and publish trades, equity and report.

    Raises:
        ParameterError: parameters that the strategy does not take.
        StoreError: the workspace cannot be written.
    """
    from ares.report.backtest_page import render_backtest

    settings: dict[str, Any] = {"fill": config.search.fill, "max_gap": config.data.max_gap}
    result = simulate(bars, strategy, params, costs=costs, **settings)
    twice = simulate(bars, strategy, params, costs=costs.times(2.0), **settings)
    point = strategy.space.normalise(params)
    title = {"strategy": strategy.name, **point}
    equity = result.equity.rename("equity").rename_axis("time").reset_index()
    files = {
        "config.toml": to_toml(shaping_values(config)).encode(),
        "params.json": as_json(plain(title)),
        **as_table("trades", result.trades),
        **as_table("equity", equity),
        "metrics.json": as_json({"once": plain(result.metrics), "twice": plain(twice.metrics)}),
    }
    sections = {
        **common_sections("backtest", bars, config),
        "strategy": strategy.name,
        "params": plain(point),
        "costs": plain(dataclasses.asdict(costs)),
        "metrics": plain(result.metrics),
        "outcome": result.outcome.name,
    }
    bars = without_names(bars, source_files(config.data.data) if config.data.data else [])
    page = render_backtest(title, bars, result, costs, twice, **settings)
    volatile = {"fallbacks": list(table_fallbacks())}
    folder = publish(workspace, files, sections, volatile, lambda _: page)
    held = float(buy_and_hold(bars, result.equity)[-1]) - 1.0
    return SingleBacktest(result, twice, costs, point, held, folder)


def publish(
    workspace: Workspace,
    files: Mapping[str, bytes],
    sections: Mapping[str, Any],
    info: Mapping[str, Any],
    render: Callable[[Path], str],
) -> Path:
    """Publish from a working folder of this process's own."""
    now = dt.datetime.now(dt.UTC)
    work = workspace.work(fingerprint((now.isoformat(), os.getpid(), dict(files))))
    try:
        return publish_files(
            workspace, work / "staging", files, sections, started=now, info=info, render=render
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def common_sections(kind: str, bars: Bars, config: Config) -> dict[str, Any]:
    """What the manifest of every such run says: kind, market, data, seed and code."""
    return {
        "kind": kind,
        "market": {
            "symbol": bars.symbol,
            "exchange": bars.exchange,
            "timeframe": bars.timeframe,
            "calendar": bars.calendar,
        },
        "data": {
            "digest": bars.digest,
            "bars": len(bars),
            "first": iso(bars.timestamp[0]),
            "last": iso(bars.timestamp[-1]),
        },
        "seed": config.enhanced_training_manager.seed,
        "configuration": fingerprint(shaping_values(config)),
        "code": {"digest": code_digest()},
    }
