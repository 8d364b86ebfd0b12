"""The side effects of a run: its working folder, the workspace's memory, and publication."""

from __future__ import annotations

import datetime as dt
import logging
import os
import platform
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from ares.backtest.metrics import DAY_NS, YEAR_DAYS
from ares.core.environment import code_digest, library_versions, source_digest
from ares.core.errors import AresError, StoreError
from ares.core.identity import fingerprint
from ares.core.settings import shaping_values, to_toml
from ares.model.artifact import load_model, model_files
from ares.pipeline.folder import publish_files
from ares.pipeline.runlog import RunLog
from ares.pipeline.summaries import iso, plain
from ares.pipeline.values import Tools
from ares.report.page import render_run
from ares.search.progressive import OFF
from ares.search.workers.pools import SharedPool
from ares.store.history import History
from ares.store.locks import FileLock
from ares.store.memo import memo_counts
from ares.store.tables import table_fallbacks
from ares.store.temporaries import sweep_orphans
from ares.validate.evidence import Evidence, discounted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from ares.core.config import WalkForwardConfig
    from ares.core.settings import Settings
    from ares.market.bars import Bars
    from ares.market.memory import MemoryManager
    from ares.model.trading_model import TradingModel
    from ares.pipeline.step import Runner
    from ares.pipeline.values import Artifact, MarketData, Recipe, WalkForward
    from ares.store.workspace import Workspace
    from ares.validate.ab_test import ABReport
    from ares.validate.monte_carlo import MonteCarloReport

_log = logging.getLogger("ares.run")


@dataclass(frozen=True)
class Rivals:
    """What the challenger meets: the champion, and how often the holdout was looked at before."""

    champion: TradingModel | None
    champion_run: str
    looks: int
    validations: int


@dataclass(frozen=True)
class Publication:
    """A published run."""

    run_dir: Path
    displayed: Evidence
    metrics: dict[str, float]
    recommendation: str


class Session:
    """One execution of the pipeline: lock, working folder, log, fallbacks.

    Args:
        workspace: Where everything lies.
        request: Digest of what is asked; unfinished work is found again by it.
        progress: Callback of long steps.
        toolkit: The manager that knows the switches.
        fresh: Forget unfinished searches, and do not ask the backtest cache.

    Raises:
        BusyError: another process works on the same request.
        StoreError: the workspace cannot be written.
    """

    def __init__(
        self,
        workspace: Workspace,
        request: str,
        progress: Callable[[str, int, int], None],
        toolkit: Any,
        *,
        fresh: bool = False,
    ) -> None:
        self.workspace = workspace
        self.request = request
        self.folder = workspace.work(request)
        self.started = dt.datetime.now(dt.UTC)
        self.history = History(workspace.history_db)
        self.fallbacks: list[str] = []
        self.memory: MemoryManager = toolkit.memory_manager
        self.tools = Tools(
            jobs=toolkit.jobs,
            cache_path=workspace.cache_db if toolkit.caching and not fresh else None,
            cache_size=toolkit.config.computational_optimization.caching.max_cache_size,
            ledger_dir=self.folder / "ledgers",
            progress=progress,
            note=self.note,
            memory=self.memory if toolkit.memory_management else None,
            pool=SharedPool.of(
                toolkit.workers,
                toolkit.jobs,
                toolkit.config.computational_optimization.parallelization.scheduler,
            ),
        )
        self._fresh = fresh
        self._lock = FileLock(self.folder.with_suffix(".lock"))
        self._clock = time.perf_counter()
        self._log = RunLog(self.folder / "log.jsonl")

    def __enter__(self) -> Self:
        try:
            (self.folder / "ledgers").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                "the workspace must be writable",
                value=error.strerror,
                where=str(self.folder),
                remedy="Choose another with --home or ARES_HOME.",
            ) from error
        self._lock.acquire()
        if self._fresh:
            for ledger in (self.folder / "ledgers").iterdir():
                ledger.unlink()
        sweep_orphans(self.workspace.home)
        self._log.open()
        for fallback in table_fallbacks():
            self.note(fallback)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.tools.pool is not None:
            self.tools.pool.close()
        self._log.close()
        self._lock.release()

    def note(self, fallback: str) -> None:
        """Record a fallback once, visibly."""
        if fallback not in self.fallbacks:
            self.fallbacks.append(fallback)
            kind = OFF if fallback.startswith(OFF) else fallback  # as the search itself said it
            _log.warning("%s", fallback, extra={"once": kind})

    def config_toml(self, settings: Settings) -> str:
        """The configuration as far as it shapes results."""
        return to_toml(shaping_values(settings.config))

    def rivals(
        self, model: TradingModel, data: MarketData, recipe: Recipe, windows: WalkForwardConfig
    ) -> Rivals:
        """Count this validation and this look at the holdout, and find the champion.

        A look is recorded before the holdout is opened: it counts even where the run ends here.
        """
        digest = fingerprint(model_files(model))
        holdout, bars = data.holdout.digest, data.bars
        looks = self.history.looks_before(holdout, digest)
        self.history.record_look(holdout, digest)
        study = fingerprint((recipe, windows))
        validations = self.history.validations_before(bars.digest, study)
        self.history.record_validation(bars.digest, study)
        champion, run = self._champion(market_key(data), digest)
        return Rivals(champion, run, looks, validations)

    def _champion(self, market: str, challenger: str) -> tuple[TradingModel | None, str]:
        run = self.history.champion(market)
        if run is None:
            return None, ""
        try:
            model = load_model(self.workspace.runs / run)
        except AresError as error:
            self.note(f"the champion {run} cannot be loaded and is left out: {error}")
            return None, ""
        if fingerprint(model_files(model)) == challenger:
            return None, ""  # it is this model: there is nothing to compare
        return model, run

    def seconds(self) -> float:
        """Wall time since the session began."""
        return time.perf_counter() - self._clock


def market_key(data: MarketData) -> str:
    """Name under which a market's champion is remembered."""
    bars = data.bars
    return f"{bars.symbol} {bars.exchange} {bars.timeframe}"


def publish(
    session: Session,
    runner: Runner,
    artifact: Artifact,
    data: MarketData,
    walk: WalkForward,
    stress: MonteCarloReport,
    comparison: ABReport,
    rivals: Rivals,
    settings: Settings,
) -> Publication:
    """Write the run folder beside its place and give it its name by one rename."""
    displayed = discounted(walk.evidence, walk.evidence.n_validated + rivals.validations)
    metrics = headline(data.bars, walk, stress)
    run_dir = publish_files(
        session.workspace,
        session.folder / "staging",
        artifact.files,
        _sections(data, walk, comparison, metrics, settings, runner),
        started=session.started,
        info=_run_info(session, runner, displayed, rivals, settings),
        log=session.folder / "log.jsonl",
        render=render_run,
    )
    shutil.rmtree(session.folder, ignore_errors=True)
    return Publication(run_dir, displayed, metrics, comparison.decision)


def headline(bars: Bars, walk: WalkForward, stress: MonteCarloReport) -> dict[str, float]:
    """The numbers of the stitched out-of-sample curve that tables show.

    They are defined as those of one backtest: `cagr` by elapsed days / 365.25 from the open of the
    first test bar to the close of the last, `max_drawdown` marked at every close.
    """
    oos, evidence = walk.oos, walk.evidence
    first, last = walk.results[0].window.test_start, walk.results[-1].window.test_stop - 1
    elapsed = int(bars.timestamp[last]) + bars.interval_ns - int(bars.timestamp[first])
    years = elapsed / DAY_NS / YEAR_DAYS
    total = stress.final_return.observed
    return {
        "total_return": total,
        "cagr": (1.0 + total) ** float(1.0 / years) - 1.0,
        "sharpe": stress.sharpe.observed,
        "max_drawdown": oos.max_drawdown,
        "n_trades": float(oos.n_trades),
        "exposure": oos.exposure,
        "dsr": evidence.dsr,
        "p_value": evidence.p_value,
        "benchmark_sharpe": evidence.benchmark_sharpe,
        "walk_forward_efficiency": oos.efficiency,
    }


def _sections(
    data: MarketData,
    walk: WalkForward,
    comparison: ABReport,
    metrics: dict[str, float],
    settings: Settings,
    runner: Runner,
) -> dict[str, Any]:
    """What the manifest says beside the files; nothing volatile."""
    bars = data.bars
    return {
        "kind": "train",
        "verdict": walk.evidence.verdict,
        "edge": walk.evidence.edge,
        "recommendation": comparison.decision,
        "market": {
            "symbol": bars.symbol,
            "exchange": bars.exchange,
            "timeframe": bars.timeframe,
            "calendar": bars.calendar,
        },
        "data": {
            "digest": bars.digest,
            "holdout_digest": data.holdout.digest,
            "bars": len(bars),
            "first": iso(bars.timestamp[0]),
            "last": iso(bars.timestamp[-1]),
        },
        "metrics": plain(metrics),
        "configuration": fingerprint(shaping_values(settings.config)),
        "mode": settings.config.enhanced_training_manager.mode,
        "seed": settings.config.enhanced_training_manager.seed,
        "code": {"digest": code_digest(), "sources": source_digest()},
        "libraries": {**library_versions(), "python": platform.python_version()},
        "steps": [
            {"number": r.number, "name": r.name, "digest": r.digest}
            for r in runner.records
            if not r.scope
        ],
    }


def _run_info(
    session: Session,
    runner: Runner,
    displayed: Evidence,
    rivals: Rivals,
    settings: Settings,
) -> dict[str, Any]:
    """Everything volatile: times, memory, switches, fallbacks, effective configuration."""
    return {
        "seconds": round(session.seconds(), 3),
        "processors": os.cpu_count(),
        "jobs": session.tools.jobs,
        "verdict": displayed.verdict,
        "edge": displayed.edge,
        "validations_before": rivals.validations,
        "looks_before": rivals.looks,
        "champion": rivals.champion_run,
        "memory": plain(session.memory.profile_memory_usage()),
        "fallbacks": list(dict.fromkeys((*runner.fallbacks, *session.fallbacks))),
        "steps": [asdict(record) for record in runner.records],
        "features": memo_counts(),
        "config": plain(settings.config.model_dump(mode="json")),
        "origins": settings.origins,
    }
