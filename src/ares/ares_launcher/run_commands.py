"""`ares runs list|show|compare|promote`, `ares report` and `ares signal`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ares.ares_launcher import options as opt
from ares.ares_launcher.output import emit, fitting, guarded, number, percent, say, table
from ares.ares_launcher.strategy_commands import metric
from ares.ares_launcher.train_commands import RECOMMENDATIONS, counted, show_metrics

Run = Annotated[str, typer.Argument(help="Run id, the beginning of one, or last.")]
_MADE = (
    "kind", "strategy", "objective", "costs", "market", "data", "mode", "seed", "configuration",
    "code", "libraries",
)  # fmt: skip
_COLUMNS = ("run", "kind", "strategy", "market", "found")
_IMPORTANCE = ("run", "found", "market", "strategy", "kind")
_NO_EDGE = "There was no evidence of edge when this model was validated."
_UNBEATEN = {
    "hold": "On the holdout it was not significantly better than what it had to beat.",
    "reject": "It was REJECTED: on the holdout it was significantly worse than what it had to beat.",
}
Runs = Annotated[list[str], typer.Argument(help="Two runs or more.")]


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    runs = typer.Typer(help="Look at finished runs and choose the champion.", no_args_is_help=True)
    runs.command("list")(guarded(runs_list))
    runs.command("show")(guarded(runs_show))
    runs.command("compare")(guarded(runs_compare))
    runs.command("promote")(guarded(runs_promote))
    app.add_typer(runs, name="runs")
    app.command("report")(guarded(report))
    app.command("signal")(guarded(signal))


def runs_list(home: opt.Home = None, as_json: opt.Json = False, debug: opt.Debug = False) -> None:
    """List the runs of the workspace, newest last."""
    from ares.store.history import History
    from ares.store.runs import list_runs
    from ares.store.workspace import Workspace

    workspace = Workspace.locate(home)
    found = [_summary(run) for run in list_runs(workspace)]
    history = History(workspace.history_db)
    for entry in found:
        entry["champion"] = bool(entry["market"]) and (
            history.champion(entry["market"]) == entry["run_id"]
        )
    if as_json:
        emit({"runs": found})
    elif not found:
        say("No runs yet. `ares train` makes one.")
    else:
        _show_runs(found)


def _show_runs(found: list[dict[str, Any]]) -> None:
    """A line for each run, as many columns as the terminal has room for; what is special below."""
    cells = [
        (
            entry["run_id"],
            entry["kind"],
            entry["strategy"],
            " ".join(dict.fromkeys(entry["market"].split())),
            "damaged" if entry["problem"] else _finding(entry),
        )
        for entry in found
    ]
    header, rows, left_out = fitting(_COLUMNS, cells, _IMPORTANCE)
    table("", header, rows)
    for entry in found:
        if entry["champion"]:
            say(f"{entry['run_id']} is the champion of {entry['market']}.")
        if entry["problem"]:
            say(f"{entry['run_id']} is damaged: {entry['problem']}")
    if left_out:
        say(f"A wider terminal, or --json, shows more: {', '.join(left_out)}.")


def runs_show(
    run: Run = "last", home: opt.Home = None, as_json: opt.Json = False, debug: opt.Debug = False
) -> None:
    """Show one run: verdict, metrics, data and every file's check."""
    from ares.store.runs import find_run, read_manifest
    from ares.store.workspace import Workspace

    folder = find_run(Workspace.locate(home), run)
    manifest = read_manifest(folder)
    sections = dict(manifest.sections)
    if as_json:
        emit({"run_id": folder.name, "run_dir": folder, "digest": manifest.digest, **sections})
        return
    kind = sections.get("kind", "run")
    files = f"{len(manifest.files)} files, all as recorded"
    say(f"{folder.name}: {kind}, {_market(sections)}, {files}")
    if kind == "train":
        show_metrics(sections["metrics"])
        say(RECOMMENDATIONS[sections["recommendation"]])
        say(counted())
        say(sections["verdict"])
    else:
        _show_single(sections)
    if (folder / "report.html").exists():
        say(f"Report: {folder / 'report.html'}")


def _show_single(sections: dict[str, Any]) -> None:
    """A backtest, or a search with its winner."""
    strategy, params = sections["strategy"], _params_of(sections)
    if params:
        table(strategy, ("parameter", "value"), list(params.items()))
    rows = [(k.replace("_", " "), metric(k, v)) for k, v in sections["metrics"].items()]
    where = "on all bars given"
    if sections.get("kind") == "optimize":
        counts = sections["counts"]
        where = "its winner in sample" if params else "no point had a score"
        failed = f", {counts['raised']:,} failed" if counts.get("raised") else ""
        say(
            f"Objective {sections['objective']}; {counts['trials']:,} points, {counts['full']:,} in "
            f"full, {counts['stopped']:,} stopped early{failed}."
        )
    table(f"{strategy}, {where}", ("metric", "value"), rows)


def _params_of(sections: Any) -> dict[str, Any]:
    """The parameters of a backtest, or of the winner of a search."""
    found = sections.get("params") or (sections.get("best") or {}).get("params")
    return dict(found or {})


def runs_compare(
    runs: Runs, home: opt.Home = None, as_json: opt.Json = False, debug: opt.Debug = False
) -> None:
    """Put the metrics of several runs side by side.

    And what differs in their making.
    """
    from ares.store.runs import find_run, read_manifest
    from ares.store.workspace import Workspace

    workspace = Workspace.locate(home)
    folders = [find_run(workspace, name) for name in runs]
    sections = [dict(read_manifest(folder, verify_files=False).sections) for folder in folders]
    params = [_params_of(each) for each in sections]
    differing = [key for key in _MADE if _differ([s.get(key) for s in sections])]
    moved = _moved(sections, params)
    differing += ["params"] if moved else []
    recorded = [key for key in _MADE if any(key in s for s in sections)]
    lacking = [[key for key in recorded if key not in s] for s in sections]
    if as_json:
        entries = [
            {
                "run_id": f.name,
                **{k: s.get(k) for k in ("metrics", "verdict", *differing)},
                "measured": _measured(s),
                "not_recorded": keys,
                "params": p,
            }
            for f, s, p, keys in zip(folders, sections, params, lacking, strict=True)
        ]
        emit({"runs": entries, "differing": differing})
        return
    _show_compared([folder.name for folder in folders], sections, differing, moved)
    say(f"They differ in: {', '.join(differing) or 'nothing that shapes a result'}.")
    for folder, made, keys in zip(folders, sections, lacking, strict=True):
        if keys:
            say(f"Not recorded in {folder.name} ({made.get('kind', 'train')}): {', '.join(keys)}.")


def _differ(values: list[Any]) -> bool:
    """Whether what several runs record differs. What one does not record says nothing."""
    known = [value for value in values if value is not None]
    if all(isinstance(value, dict) for value in known):
        shared = set.intersection(*(set(value) for value in known)) if known else set()
        return any(value[key] != known[0][key] for value in known for key in shared)
    return any(value != known[0] for value in known)


def _moved(
    sections: list[dict[str, Any]], params: list[dict[str, Any]]
) -> dict[str, tuple[object, ...]]:
    """Parameters that differ, with their values in each run.

    A search records those that it searched, and a backtest all: between runs of different kinds only
    those that several record are compared.
    """
    same_kind = len({each.get("kind") for each in sections}) == 1
    found = {}
    for name in sorted({name for each in params for name in each}):
        known = [each[name] for each in params if name in each]
        partly = same_kind and len(known) < len(params)
        if partly or any(value != known[0] for value in known):
            found[name] = tuple(each.get(name, "-") for each in params)
    return found


def _measured(sections: dict[str, Any]) -> str:
    """On which bars the metrics of a run were measured."""
    kinds = {"train": "out of sample", "optimize": "in sample"}
    return kinds.get(sections.get("kind", "train"), "all bars given")


def _show_compared(
    runs: list[str],
    sections: list[dict[str, Any]],
    differing: list[str],
    moved: dict[str, tuple[object, ...]],
) -> None:
    names = sorted({name for each in sections for name in each.get("metrics", {})})
    rows = [
        (name.replace("_", " "), *(metric(name, s.get("metrics", {}).get(name)) for s in sections))
        for name in names
    ]
    measured = [_measured(each) for each in sections]
    table("", ("metric", *map("{}\n{}".format, runs, measured)), rows)
    if len(set(measured)) > 1:
        say(
            "The columns were measured on different bars: numbers in sample are of the days on which"
            " the winner was chosen, and look better than what comes."
        )
    plain = ("kind", "strategy", "objective")
    apart: list[tuple[object, ...]] = [
        (key, *(s.get(key, "-") for s in sections)) for key in plain if key in differing
    ]
    apart += [(name, *values) for name, values in moved.items()]
    if apart:
        table("", ("differing", *runs), apart)


def runs_promote(
    run: Run, home: opt.Home = None, as_json: opt.Json = False, debug: opt.Debug = False
) -> None:
    """Make a run the champion of its market.

    Later runs are tested against it.
    """
    from ares.model.artifact import load_model
    from ares.store.history import History
    from ares.store.runs import find_run, read_manifest
    from ares.store.workspace import Workspace

    workspace = Workspace.locate(home)
    folder = find_run(workspace, run, kind="train")
    model = load_model(folder)  # a champion that cannot be loaded is none
    sections = read_manifest(folder).sections
    edge, found = bool(sections["edge"]), str(sections["recommendation"])
    market = f"{model.symbol} {model.exchange} {model.timeframe}"
    history = History(workspace.history_db)
    before = history.champion(market)
    history.promote(market, folder.name)
    if as_json:
        told = {"champion": folder.name, "market": market, "edge": edge}
        emit({**told, "recommendation": found, "before": before})
        return
    say(f"{folder.name} is the champion of {market}.")
    if found in _UNBEATEN:
        say(_UNBEATEN[found])
    if not edge:
        say(_NO_EDGE)
    if before not in {None, folder.name}:
        say(f"The champion before was {before}; `ares runs promote {before}` brings it back.")


def report(
    run: Run = "last", home: opt.Home = None, as_json: opt.Json = False, debug: opt.Debug = False
) -> None:
    """Render the report of a training run or a search again.

    The report of a backtest is made when it runs; it stays as it is.
    """
    from ares.core.errors import ArtifactError
    from ares.report.page import render_run
    from ares.store.atomic import write_atomic
    from ares.store.runs import find_run, read_manifest
    from ares.store.workspace import Workspace

    folder = find_run(Workspace.locate(home), run)
    kind = read_manifest(folder).sections.get("kind", "train")
    page = folder / "report.html"
    if kind in {"train", "optimize"}:
        write_atomic(page, render_run(folder).encode())
    elif not page.is_file():
        raise ArtifactError(
            "the report of a backtest is made when it runs, and this one is gone",
            where=str(folder),
            remedy="Run the backtest again.",
        )
    if as_json:
        emit({"run_id": folder.name, "kind": kind, "report": page})
    else:
        say(f"Report: {page}")


def signal(
    run: Run = "last",
    data: opt.Data = None,
    columns: opt.Columns = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Latest closes to show.")] = 5,
    home: opt.Home = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Say what a trained model decides at the latest closes."""
    from ares.market.sources import resolve
    from ares.model.artifact import load_model
    from ares.store.runs import find_run, read_manifest
    from ares.store.workspace import Workspace

    workspace = Workspace.locate(home)
    folder = find_run(workspace, run, kind="train")
    model, edge = load_model(folder), bool(read_manifest(folder).sections["edge"])
    bars = resolve(
        model.symbol,
        model.exchange,
        model.timeframe,
        data=data or None,
        workspace=workspace,
        columns=columns,
        calendar=model.calendar if data else None,
    )
    latest = model.predict(bars).tail(rows)
    words = {1: "enter long", -1: "enter short", 0: "do not enter"}
    if as_json:
        records: list[Any] = latest.to_dict("records")
        rows_ = [{**r, "timestamp": r["timestamp"].isoformat()} for r in records]
        emit({"run_id": folder.name, "edge": edge, "signals": rows_})
        return
    shown = [
        (
            f"{row.timestamp:%Y-%m-%d %H:%M}",
            number(row.p_up, 3),
            number(row.confidence, 3),
            row.regime if isinstance(row.regime, str) else "-",
            words[int(row.action)],
            number(row.size, 3),
        )
        for row in rows_of(latest)
    ]
    header = ("bar opened (UTC)", "P(up)", "confidence", "regime", "decision at its close", "size")
    table(f"{model.symbol} {model.exchange} {model.timeframe}, {folder.name}", header, shown)
    if not edge:
        say(_NO_EDGE)


def _finding(entry: dict[str, Any]) -> str:
    """What a run found, in a few words."""
    metrics = entry["metrics"]
    if entry["kind"] == "train":
        evidence = "evidence" if entry["edge"] else "no evidence"
        return f"{evidence}, Sharpe {number(metrics.get('sharpe'))}"
    if entry["kind"] == "optimize":
        score = metrics.get("score")
        return "no score" if score is None else f"score {number(score, 3)} in sample"
    return f"return {percent(metrics.get('total_return'))}" if metrics else ""


def rows_of(frame: Any) -> Any:
    """Rows of a frame as named tuples."""
    return frame.itertuples()


def _summary(run: Any) -> dict[str, Any]:
    sections = run.sections
    return {
        "run_id": run.run_id,
        "market": _market(sections),
        "kind": sections.get("kind", ""),
        "strategy": sections.get("strategy", ""),
        "edge": sections.get("edge", False),
        "verdict": sections.get("verdict", ""),
        "metrics": dict(sections.get("metrics", {})),
        "problem": run.problem,
    }


def _market(sections: Any) -> str:
    market = sections.get("market", {})
    return " ".join(str(market[k]) for k in ("symbol", "exchange", "timeframe") if k in market)
