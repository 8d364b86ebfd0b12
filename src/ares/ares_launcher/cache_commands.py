"""`ares cache stats|verify|gc|clear`: the stored results of searches and of pipeline steps."""

from __future__ import annotations

import re
import secrets
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ares.ares_launcher import options as opt
from ares.ares_launcher.output import emit, guarded, prints_aside, say, size, table
from ares.ares_launcher.progress import stage
from ares.ares_launcher.strategy_commands import (
    Fee,
    Fill,
    Slippage,
    Strategy,
    load,
    market_overrides,
    settings_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ares.search.scorestore import ScoreStore
    from ares.store.store import Store
    from ares.store.workspace import Workspace

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"(?i)(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?")
_SEARCH_ONLY = {
    "--param", "--trials", "--objective", "--seed", "--jobs", "--engine", "--scheduler", "--memory",
}  # fmt: skip
_SHOWN = 3


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    cache = typer.Typer(
        help="Look at, check and empty what is kept of searches and steps.", no_args_is_help=True
    )
    cache.command("stats")(guarded(cache_stats))
    cache.command("verify")(guarded(cache_verify))
    cache.command("gc")(guarded(cache_gc))
    cache.command("clear")(guarded(cache_clear))
    app.add_typer(cache, name="cache")


def cache_stats(home: opt.Home = None, as_json: opt.Json = False, debug: opt.Debug = False) -> None:
    """Count what is kept of searches and of pipeline steps."""
    workspace, store = _workspace(home)
    found = {"searches": _search_stats(workspace), "steps": _step_stats(store)}
    if as_json:
        emit(found)
        return
    rows = [
        (name, f"{s['entries']:,}", size(s["bytes"]), f"{s['quarantined']:,}", s["path"])
        for name, s in found.items()
    ]
    table("", ("kept of", "entries", "size", "quarantined", "where"), rows)


def cache_verify(
    sample: Annotated[
        int, typer.Option("--sample", min=0, help="Results of searches to compute again.")
    ] = 50,
    strategy: Strategy = "sma_cross",
    symbol: opt.Symbol = None,
    exchange: opt.Exchange = None,
    timeframe: opt.Timeframe = None,
    timerange: opt.Timerange = None,
    data: opt.Data = None,
    columns: opt.Columns = None,
    calendar: opt.Calendar = None,
    config: opt.ConfigFile = None,
    set_: opt.Set = None,
    fee: Fee = None,
    slippage: Slippage = None,
    fill: Fill = None,
    seed: opt.Seed = None,
    home: opt.Home = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Check digests, and compute a sample of results again.

    Every digest is checked, and a random sample of a search's results is computed again.
    Strategy, market, costs and configuration are given as to `ares optimize`: results of other
    searches, other code or another machine cannot be computed again here and are counted only. What
    is wrong leaves the cache. Exit code 1 where something was, 2 where results are kept and none of
    them is of this search; --sample 0 is content with the digests.
    """
    market = market_overrides(symbol, exchange, timeframe, timerange, data, columns, calendar)
    costs = {"costs.fee": fee, "costs.slippage": slippage, "search.fill": fill}
    workspace, store = _workspace(home)
    with stage("Reading the results of steps", quiet=as_json):
        steps = store.verify()
    kept: dict[str, Any] = {"damaged": 0, "entries": 0, "checked": 0, "wrong": (), "others": 0}
    seed = secrets.randbelow(2**31) if seed is None else seed
    with prints_aside(as_json=as_json), stage("Computing again", quiet=as_json):
        if workspace.cache_db.is_file():
            from ares.enhanced_training_manager_optimized import EnhancedTrainingManagerOptimized

            settings = settings_of(config, {**market, **costs}, set_)
            toolkit = EnhancedTrainingManagerOptimized(settings, home=home)
            problem = _problem(toolkit, strategy, whole=timerange is not None)
            kept = vars(_verified(workspace, problem, sample, seed))
    bad = kept["damaged"] + len(kept["wrong"]) + len(steps.damaged)
    foreign = sample > 0 and not kept["entries"] and kept["others"] > 0
    commands = _verifying(workspace)[:_SHOWN] if foreign else []
    reason = _why_unchecked(kept, sample, commands)
    if as_json:
        told = {"ok": not bad and not foreign, "reason": reason, "commands": commands}
        emit({"searches": {**kept, "seed": seed}, "steps": vars(steps), **told})
    else:
        _say_verified(kept, steps, seed)
        if reason and sample:
            say(reason)
        for command in commands:
            say(f"  {command}")
    if bad or foreign:
        raise typer.Exit(1 if bad else 2)


def cache_gc(
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", help="What may stay of each of the two, e.g. 2GiB."),
    ] = None,
    home: opt.Home = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Remove what nobody needs, then the oldest.

    Until --max-size is kept. Results of steps that a finished run names stay.
    """
    from ares.store.runs import list_runs

    limit = None if max_size is None else _bytes(max_size)
    workspace, store = _workspace(home)
    roots = {
        str(step["digest"])
        for run in list_runs(workspace)
        for step in run.sections.get("steps", ())
        if isinstance(step, dict) and "digest" in step
    }
    steps = store.gc(limit, roots=roots) if store.root.is_dir() else None
    searches = _shrink(workspace, limit)
    removed = steps.removed_objects if steps else 0
    freed = (steps.removed_bytes if steps else 0) + searches["removed_bytes"]
    if as_json:
        emit({"searches": searches, "steps": vars(steps) if steps else None})
        return
    say(
        f"Removed {searches['removed_entries']:,} results of searches and {removed:,} of steps, "
        f"{size(freed)}."
    )


def cache_clear(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    home: opt.Home = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Remove all kept results. Runs and data stay; the next search computes everything anew."""
    workspace, store = _workspace(home)
    before = _search_stats(workspace), _step_stats(store)
    entries, held = (sum(each[key] for each in before) for key in ("entries", "bytes"))
    if entries and not yes:
        if as_json:
            from ares.core.errors import InputError

            raise InputError("clearing the cache must be confirmed", remedy="Add --yes.")
        question = f"Remove {entries:,} results ({size(held)}) of {workspace.home}?"
        if not typer.confirm(question, err=True):
            say("Nothing was removed.")
            return
    if workspace.cache_db.is_file():
        _shrink(workspace, 0)
    if store.root.is_dir():
        store.clear()
    if as_json:
        emit({"removed_entries": entries, "removed_bytes": held})
    else:
        say(f"Removed {entries:,} results, {size(held)}.")


def _workspace(home: Path | None) -> tuple[Workspace, Store]:
    from ares.store.store import Store
    from ares.store.workspace import Workspace

    workspace = Workspace.locate(home)
    return workspace, Store(workspace.store)


def _search_stats(workspace: Workspace) -> dict[str, Any]:
    found = {"entries": 0, "bytes": 0, "quarantined": 0, "path": workspace.cache_db}
    if workspace.cache_db.is_file():
        store = _opened(workspace)
        found |= {"entries": store.rows(), "quarantined": store.in_quarantine()}
        store.close()
        found["bytes"] = _file_bytes(workspace)
    return found


def _step_stats(store: Store) -> dict[str, Any]:
    found = store.stats()
    return {
        "entries": found.entries,
        "bytes": found.total_bytes,
        "quarantined": found.quarantined,
        "path": store.root,
    }


def _file_bytes(workspace: Workspace) -> int:
    """The database and what SQLite keeps beside it."""
    files = workspace.cache_db.parent.glob(f"{workspace.cache_db.name}*")
    return sum(path.stat().st_size for path in files if path.is_file())


def _opened(workspace: Workspace) -> ScoreStore:
    """The file of search results.

    Raises:
        StoreError: it cannot be used.
    """
    from ares.core.errors import StoreError
    from ares.search.scorestore import ScoreStore

    store = ScoreStore(workspace.cache_db)
    if store.failure is not None:
        raise StoreError(
            "the cache of search results must be usable",
            value=store.failure,
            where=str(workspace.cache_db),
            remedy="Another program may use it; try again, or move the file away.",
        )
    return store


def _problem(toolkit: Any, strategy: str, *, whole: bool) -> Any:
    """What `ares optimize` with the same options evaluates."""
    from ares.backtest.user import load_strategy
    from ares.market.bars import split_holdout

    chosen = load_strategy(strategy)
    bars = load(toolkit)
    training = bars if whole else split_holdout(bars, toolkit.config.data.holdout)[0]
    toolkit.use(training, chosen)
    problem = toolkit.cached_backtester.problem
    toolkit.cleanup()
    return problem


def _verified(workspace: Workspace, problem: Any, sample: int, seed: int) -> Any:
    from ares.search.verify import verify_sample

    store = _opened(workspace)
    try:
        return verify_sample(store, problem, sample, seed)
    finally:
        store.close()


def _shrink(workspace: Workspace, limit: int | None) -> dict[str, int]:
    """Drop the oldest results of searches until `limit` is kept."""
    if not workspace.cache_db.is_file():
        return {"removed_entries": 0, "removed_bytes": 0, "kept_entries": 0}
    before = _file_bytes(workspace)
    store = _opened(workspace)
    removed = store.shrink(2**62 if limit is None else limit)
    kept = store.rows()
    store.close()
    return {
        "removed_entries": removed,
        "removed_bytes": max(0, before - _file_bytes(workspace)),
        "kept_entries": kept,
    }


def _bytes(text: str) -> int:
    from ares.core.errors import ConfigError

    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            "a size is a number and a unit", value=text, where="--max-size", remedy="E.g. 2GiB."
        )
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _say_verified(kept: dict[str, Any], steps: Any, seed: int) -> None:
    say(
        f"Steps: {steps.objects:,} results read, {len(steps.damaged):,} damaged, "
        f"{len(steps.dangling):,} without content."
    )
    say(
        f"Searches: {kept['damaged']:,} damaged; {kept['entries']:,} results of this strategy on "
        f"this market, {kept['checked']:,} computed again (sample {seed}), "
        f"{len(kept['wrong']):,} wrong; {kept['others']:,} of others cannot be checked here."
    )
    for params in kept["wrong"]:
        say(f"  Wrong, and removed: {params}")


def _why_unchecked(kept: dict[str, Any], sample: int, commands: list[str]) -> str | None:
    """Why nothing was computed again, and what to give instead; None where something was."""
    if kept["checked"]:
        return None
    if not sample:
        return "Nothing was computed again, as --sample 0 asked: only digests were checked."
    if not kept["others"] + kept["entries"]:
        return "No results of searches are kept, so there was nothing to compute again."
    reason = (
        f"None of the {kept['others']:,} results kept was computed again. None is of this search:"
        " give --strategy, market and costs as `ares optimize` had them."
    )
    if not commands:
        reason += (
            " No finished search of this workspace was made by this code: results of training, of"
            " other code and of another machine are checked by their digests only."
        )
    return reason


def _verifying(workspace: Workspace) -> list[str]:
    """The commands that check the finished searches of this code, newest first."""
    from ares.core.environment import code_digest
    from ares.core.errors import ArtifactError
    from ares.store.atomic import read_json
    from ares.store.runs import list_runs

    found: dict[str, None] = {}
    for run in reversed(list_runs(workspace)):
        code = run.sections.get("code")
        if run.sections.get("kind") != "optimize" or code != {"digest": code_digest()}:
            continue
        try:
            info = read_json(run.path / "run_info.json")
        except ArtifactError:
            continue
        given = info.get("command") if isinstance(info, dict) else None
        if isinstance(given, list) and given[1:2] == ["optimize"]:
            words = ["ares", "cache", "verify", *_shared_options([str(word) for word in given[2:]])]
            found[shlex.join(words)] = None
    return list(found)


def _shared_options(words: list[str]) -> list[str]:
    """The options of `ares optimize` that `ares cache verify` takes, too."""
    kept, rest = [], iter(words)
    for word in rest:
        name, given, _ = word.partition("=")
        if name in _SEARCH_ONLY or word in {"-p", "-j"}:
            if not given:
                next(rest, None)
        elif not (word.startswith(("-p", "-j")) or word in {"--json", "--debug"}):
            kept.append(word)
    return kept
