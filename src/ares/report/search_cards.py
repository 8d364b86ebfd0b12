"""Cards of a search's page: blocks of the winner, parameters, early stopping."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.report import plots
from ares.report.run_data import dig, rows
from ares.report.run_search import multiples
from ares.report.shell import Card
from ares.report.tables import coloured, empty, facts, note, part, table
from ares.report.text import DASH, Html, join, num, number_of, pct, plural, tag, whole

if TYPE_CHECKING:
    import pandas as pd

    from ares.report.search_data import SearchData

_BINS: Final = 10
_PAIRED: Final = 4  # the most important parameters, each with each


def blocks(found: SearchData) -> Card | None:
    """The winner in each scoring block."""
    given = rows(found.facts, "blocks")
    if not given:
        return None
    values = [number_of(row.get("sharpe")) for row in given]
    spans = [f"{row.get('first')} to {row.get('last')}" for row in given]
    colours = ["good:0.75" if (v or 0.0) > 0 else "bad:0.75" for v in values]
    trace = {
        "type": "bar",
        "x": [str(row.get("first")) for row in given],
        "y": [None if v is None else float(f"{v:.6g}") for v in values],
        "customdata": [plots.label(text) for text in spans],
        "marker": {"color": colours, "line": {"width": 0}},
        "hovertemplate": "%{customdata}: %{y:.2f}<extra></extra>",
    }
    layout = {
        "xaxis": {"type": "category", "nticks": 8},
        "yaxis": {"title": {"text": "Sharpe ratio"}},
        "showlegend": False,
        "hovermode": "closest",
        "bargap": 0.15,
    }
    plot = plots.Plot("blocks", "Sharpe ratio of the winner in each block", [trace], layout, 240)
    body = [
        (
            tag("span", span, class_="nowrap"),
            coloured(pct(row.get("return"), sign=True), row.get("return")),
            num(row.get("sharpe")),
            pct(row.get("max_drawdown")),
            whole(row.get("trades")),
        )
        for span, row in zip(spans, given, strict=True)
    ]
    good = sum((number_of(row.get("return")) or 0.0) > 0 for row in given)
    lead = (
        f"One continuous run, cut into {plural(len(given), 'block')} of days: {whole(good)} of them "
        "made money. A winner that owes everything to one block owes it to one event."
    )
    heads = ("Days", "Return", "Sharpe ratio", "Largest drawdown", "Trades")
    content = (plots.figure(plot), table(heads, body))
    return Card("blocks", "The winner, block by block", "Blocks", join(content), lead)


def parameters(found: SearchData) -> Card | None:
    """Importance, slices, and heat maps of pairs."""
    if found.trials.empty:
        return None
    slices = multiples(found.trials, found.best, logs=found.logs)
    if not slices:
        return None
    body = [_importance(found), part("Score over each parameter", slices), _pairs(found)]
    lead = (
        "Which parameters decide the score, and where it is high. A wide region of good scores is "
        "worth more than one sharp peak. Dotted lines mark the winner."
    )
    return Card("parameters", "Parameters", "Parameters", join(body), lead)


def _importance(found: SearchData) -> Html:
    given = dig(found.facts, "importance")
    if not given:
        return empty("Too few points, or parameters, to say which parameters matter.")
    names, shares = rows(given, "names"), rows(given, "shares")
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": plots.numbers(list(reversed(shares))),
        "y": [plots.label(name) for name in reversed(names)],
        "marker": {"color": "accent:0.8", "line": {"width": 0}},
        "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
    }
    layout = {
        "xaxis": {"title": {"text": "loss of R2 when shuffled"}, "rangemode": "tozero"},
        "yaxis": {"type": "category"},
        "showlegend": False,
        "hovermode": "closest",
        "bargap": 0.3,
    }
    height = 90 + 26 * len(names)
    plot = plots.Plot("importance", "Importance of the parameters", [trace], layout, height)
    r2 = number_of(given.get("r2")) or 0.0
    words = (
        f"Permutation importance: a random forest learns the rank of the score from {plural(given.get('points'), 'point')} "
        "that ran in full (those without a score rank last), and each bar is how much worse it "
        f"predicts unseen points when one parameter is shuffled. It explains {pct(max(r2, 0.0), 0)} "
        "of the ranks. The search asks more points where scores are good, so that a parameter "
        "that matters only elsewhere looks small; parameters that act together share their bars."
    )
    if r2 < 0.1:
        words += " So little is explained here that the order of the bars means nothing."
    return part("Importance", plots.figure(plot), note(words))


def _pairs(found: SearchData) -> Html:
    ranked = rows(found.facts, "importance", "names")[:_PAIRED]
    frame = found.trials
    frame = frame[np.isfinite(frame["value"].to_numpy(np.float64))]
    if len(ranked) < 2 or len(frame) < 2 * _BINS:
        return Html()
    drawn = []
    for position, (across, up) in enumerate(itertools.combinations(ranked, 2)):
        plot = _heat(found, frame, str(across), str(up), position)
        title = tag("h4", f"{across} and {up}")
        drawn.append(tag("div", title, plots.figure(plot)))
    words = (
        "Median score of the points in each cell that ran in full: the stronger the colour, the "
        "better; empty cells had none. Cells are named by their middle. The ring is the winner."
    )
    return part("Pairs of parameters", tag("div", *drawn, class_="columns"), note(words))


def _heat(
    found: SearchData, frame: pd.DataFrame, across: str, up: str, position: int
) -> plots.Plot:
    x, x_names = _cells(found, frame, across)
    y, y_names = _cells(found, frame, up)
    value = frame["value"].to_numpy(np.float64)
    grid: list[list[float | None]] = []
    for row in range(len(y_names)):
        cells = [value[(x == column) & (y == row)] for column in range(len(x_names))]
        grid.append(plots.numbers([np.median(cell) if len(cell) else np.nan for cell in cells]))
    known = [v for row in grid for v in row if v is not None]
    weak = float(np.quantile(known, 0.2))  # a few terrible cells would hide what differs above
    traces: list[dict[str, Any]] = [
        {
            "type": "heatmap",
            "x": [plots.label(name) for name in x_names],
            "y": [plots.label(name) for name in y_names],
            "z": grid,
            "zmin": weak,
            "zmax": max(*known, weak + 1e-9),
            "colorscale": [[0, "accent:0.06"], [0.5, "accent:0.3"], [1, "accent"]],
            "showscale": False,
            "xgap": 1,
            "ygap": 1,
            "hoverongaps": False,
            "hovertemplate": "%{x}, %{y}: %{z:.3f}<extra></extra>",
        }
    ]
    best = frame["value"].to_numpy(np.float64).argmax()
    ring = {"symbol": "circle-open", "line": {"width": 2}}
    winner = plots.points(
        [plots.label(x_names[x[best]])], [0.0], "winner", "text", size=11, marker=ring
    )
    winner["y"] = [plots.label(y_names[y[best]])]
    winner["hoverinfo"] = "skip"
    traces.append(winner)
    layout = {
        "xaxis": {"type": "category", "title": {"text": plots.label(across)}, "nticks": 6},
        "yaxis": {"type": "category", "title": {"text": plots.label(up)}, "nticks": 5},
        "showlegend": False,
        "hovermode": "closest",
    }
    label = f"Median score over {across} and {up}"
    return plots.Plot(f"pair-{position}", label, traces, layout, 260)


def _cells(found: SearchData, frame: pd.DataFrame, name: str) -> tuple[Any, list[str]]:
    """Cell of each point along one parameter, and the names of the cells in order."""
    column = frame[f"param_{name}"]
    if column.dtype.kind not in "iuf":
        texts = column.astype(str).to_numpy(dtype=object)
        known = [str(c) for c in rows(found.space, name, "choices")]
        names = [c for c in known if (texts == c).any()] or sorted(set(texts.tolist()))
        return np.array([names.index(text) for text in texts]), names
    values = column.to_numpy(np.float64)
    distinct = np.unique(values)
    if len(distinct) <= _BINS:
        return np.searchsorted(distinct, values), [f"{v:.4g}" for v in distinct.tolist()]
    low, high = float(distinct[0]), float(distinct[-1])
    log = name in found.logs and low > 0
    edges = (np.geomspace if log else np.linspace)(low, high, _BINS + 1)
    cell = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, _BINS - 1)
    middle = np.sqrt(edges[1:] * edges[:-1]) if log else (edges[1:] + edges[:-1]) / 2
    return cell, [f"{v:.0f}" if v >= 100 else f"{v:.3g}" for v in middle.tolist()]


def stops(found: SearchData) -> Card:
    """What early stopping did, and what it cost."""
    given = found.facts.get("stops") or {}
    title = "Early stopping"
    if not given.get("on"):
        reason = given.get("reason") or "there is no record of it"
        text = f"Early stopping was off: {reason}. Every point was run in full."
        return Card("stops", title, "Stopping", join((empty(text), _agreements(given))))
    audited = number_of(given.get("audited")) or 0
    lost = number_of(given.get("lost"))
    lead = (
        f"Points that were losing on {whole(given.get('flat_blocks'))} short pieces of the data "
        f"were stopped: {whole(given.get('stopped'))} of them. Some were run to the end all the "
        "same, chosen by lot: they measure what stopping costs and were not told to the sampler."
    )
    rate = DASH
    if audited:
        low, high = (pct(dig(given, "interval", end)) for end in (0, 1))
        rate = f"{pct(given.get('false_stop_rate'))} (95 %: {low} to {high})"
    worst = DASH if lost is None else ("nothing" if lost == 0 else num(lost, 3))
    staged = [
        (f"After stage {stage}", whole(count))
        for stage, count in (given.get("by_stage") or {}).items()
    ]
    body = [
        facts(
            (
                ("Audited", whole(audited)),
                ("Would have led", whole(given.get("false_stops"))),
                ("False stops", rate),
                ("Best audited score", num(given.get("best_audited"), 3)),
                ("Above the winner by", worst),
                ("Share of all bars saved", pct(given.get("saved"), 0)),
            )
        ),
        table(("Stopped", "Points"), staged) if staged else Html(),
        _agreements(given),
    ]
    if not audited:
        body.insert(1, note("None was drawn for audit, so that nothing is known of false stops."))
    return Card("stops", title, "Stopping", join(body), lead)


def _agreements(given: Any) -> Html:
    pairs = [(whole(dig(pair, 0)), num(dig(pair, 1), 3)) for pair in rows(given, "agreements")]
    if not pairs:
        return Html()
    text = (
        "Rank correlation of the first points' scores on short pieces and on the whole; it has to "
        "reach 0.9."
    )
    return join((table(("Pieces", "Rank correlation"), pairs), note(text)))
