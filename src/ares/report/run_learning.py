"""What was learned from what: data, regimes, labels, models, calibration."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.backtest.curves import decimate
from ares.report import plots
from ares.report.quality import faults
from ares.report.run_data import DIRECTIONS, VOLATILITIES, dig, rows
from ares.report.shell import Card
from ares.report.tables import bullets, columns, details, empty, facts, note, part, table
from ares.report.text import DASH, Html, day, join, num, number_of, pct, plural, tag, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ares.report.run_data import RunData

_COLOURS: Final = {
    "bull": "good",
    "sideways": "grey",
    "bear": "bad",
    "calm": "teal",
    "normal": "grey",
    "wild": "amber",
}
_SPARE: Final = ("accent", "violet", "amber", "teal")
_TRACKS: Final = (("analyst", 4, 6, 7), ("tactician", 8, 9, 10))


def regimes(run: RunData) -> Card:
    """Price with the regime of each day behind it, and what the regimes are."""
    names = [str(name) for name in rows(run.steps[2], "names")]
    lead = (
        "Each day's regime as it was known on that day, by a model fitted on earlier bars only; the "
        "first days have none. The training range only: the held-back days stay out of sight here."
    )
    body = [
        plots.figure(_regime_plot(run, names)) if len(run.market) else empty("No prices."),
        part("Regimes of the final model", _regime_table(run, names)),
        note(_meaning(names)),
    ]
    return Card("regimes", "Market regimes", "Regimes", join(body), lead)


def _meaning(names: list[str]) -> str:
    """What the names of regimes say, in one sentence or two."""
    if tuple(names) == VOLATILITIES:
        return (
            "Calm, normal and wild say how much prices move, not which way: the mean returns of the "
            "states lie too close together to call them bear, sideways and bull."
        )
    if tuple(names) == DIRECTIONS:
        return "Bear, sideways and bull are ordered by mean return for the risk in it."
    return ""


def _regime_plot(run: RunData, names: list[str]) -> plots.Plot:
    close = run.market["close"].to_numpy(np.float64)
    days = run.market["day"].to_numpy()
    kept = decimate(close)
    regime = run.market["regime"].astype(str).to_numpy(dtype=object)
    others = sorted(set(regime.tolist()) - set(names) - {""})
    traces = [
        stripe(days, regime == name, name, f"{regime_colour(name, k)}:0.26")
        for k, name in enumerate([*names, *others])
    ]
    price = plots.line(plots.dates(days[kept]), close[kept], "Close", "text", width=1.2)
    traces.append({**price, "hovertemplate": "%{y:,.6~g}"})
    layout = {
        "yaxis": {"type": "log", "tickformat": ",.5~g"},
        "yaxis2": {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
    }
    return plots.Plot("regimes", "Close price and market regime by day", traces, layout, 360)


def stripe(days: Any, mask: Any, name: str, colour: str) -> dict[str, Any]:
    """Full-height stripes where `mask` holds, on the second value axis."""
    edges = np.diff(np.concatenate([[0], mask.astype(np.int8), [0]]))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    x: list[str | None] = []
    y: list[float | None] = []
    stamps = plots.dates(days)
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        left, right = stamps[start], stamps[min(stop, len(stamps) - 1)]
        x += [left, left, right, right, None]
        y += [0.0, 1.0, 1.0, 0.0, None]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "yaxis": "y2",
        "name": plots.label(name),
        "line": {"width": 0, "color": colour},
        "fill": "toself",
        "fillcolor": colour,
        "hoverinfo": "skip",
    }


def regime_colour(name: str, position: int) -> str:
    """Colour of a regime by its name, else by its place."""
    return _COLOURS.get(name, _SPARE[position % len(_SPARE)])


def _regime_table(run: RunData, names: list[str]) -> Html:
    last = dig(run.steps[2], "chunks", -1)
    occupancy = rows(last, "occupancy")
    body = []
    for k, name in enumerate(names):
        stay = number_of(dig(last, "transition", k, k))
        length = 1.0 / (1.0 - stay) if stay is not None and stay < 1.0 else None
        log_volatility = number_of(dig(last, "means", k, 1))
        volatility = None if log_volatility is None else math.exp(log_volatility)
        share = occupancy[k] if k < len(occupancy) else None
        mean = dig(last, "means", k, 0)
        body.append(
            (name, pct(share, 0), pct(mean, 3, sign=True), pct(volatility, 2), num(length, 0))
        )
    heads = ("Regime", "Share of bars", "Mean return", "Volatility", "Expected bars in it")
    found = table(heads, body)
    frame = run.steps[2].get("timeframe")
    said = (
        f"Per bar of {frame}. Shares and means are those of all bars that this model was fitted on; "
        "the picture shows what each day's own, earlier model said."
    )
    return join((found, note(said) if frame else Html()))


def quality(run: RunData) -> Card:
    """What was read, and what was wrong with it."""
    step = run.steps[1]
    training, holdout = step.get("training") or {}, step.get("holdout") or {}
    report = step.get("quality") or {}
    inferred = " (inferred)" if report.get("calendar_inferred") else ""
    head = facts(
        (
            ("Training bars", whole(training.get("bars"))),
            ("from", day(training.get("first"))),
            ("to", day(training.get("last"))),
            ("Held back for the A/B test", plural(holdout.get("bars"), "bar")),
            ("Rows read", whole(report.get("rows"))),
            ("Calendar", f"{report.get('calendar') or training.get('calendar') or DASH}{inferred}"),
        )
    )
    parts = [head, *faults(report)]
    lead = "Counts over all bars as they were read, the held-back part included."
    return Card("data", "Data and its quality", "Data", join(parts), lead)


def models(run: RunData) -> Card:
    """Labels, features and models of both tracks, step by step."""
    heads = ("", *(name.capitalize() for name, *_ in _TRACKS))
    found = [(run.steps[a], run.steps[b], run.steps[c]) for _, a, b, c in _TRACKS]
    lines: list[tuple[str, list[object]]] = [
        ("Timeframe", [data.get("timeframe") or DASH for data, _, _ in found]),
        ("Label horizon", [plural(data.get("horizon"), "bar") for data, _, _ in found]),
        ("Features", [whole(len(rows(data, "features"))) for data, _, _ in found]),
        ("Labelled rows", [whole(data.get("rows")) for data, _, _ in found]),
        ("Effective rows", [whole(data.get("effective_rows")) for data, _, _ in found]),
        ("Share of good outcomes", [pct(data.get("base_rate")) for data, _, _ in found]),
        (
            "Mean net return",
            [pct(data.get("mean_net_return"), 3, sign=True) for data, _, _ in found],
        ),
        ("Models fitted", [_of(fit, "fitted") for _, fit, _ in found]),
        ("Stacked ensembles", [_of(whole_, "stacked") for _, _, whole_ in found]),
    ]
    names = [str(name) for name in rows(run.steps[2], "names")]
    for k, name in enumerate(["all regimes", *names]):
        values = [_item(rows(fit, "effective_sample"), k) for _, fit, _ in found]
        lines.append((f"Effective sample, {name}", list(values)))
    body = [
        table(heads, [(name, *values) for name, values in lines]),
        _chain(run),
        *(_track_details(run, name, steps) for name, *steps in _TRACKS),
    ]
    lead = (
        "The analyst looks far and says which way; the tactician looks near and says whether "
        "entering that way now would have paid."
    )
    return Card("models", "Labels, features, models", "Models", join(body), lead)


def _chain(run: RunData) -> Html:
    borders = [day(b) for b in rows(run.steps[3], "borders")]
    if not borders:
        return Html()
    text = (
        f"Forward chain: {plural(len(borders) - 1, 'chunk')} from {borders[0]} to {borders[-1]}, cut at "
        f"{', '.join(borders[1:-1]) or 'no day'}; each is predicted by models that saw only what "
        f"lay {plural(run.steps[3].get('embargo_bars'), 'bar')} or more before it."
    )
    return note(text)


def _track_details(run: RunData, name: str, steps: Sequence[int]) -> Html:
    data = run.steps[steps[0]]
    features = join(tag("code", feature) for feature in rows(data, "features"))
    notes = [line for step in steps for line in rows(run.steps[step], "notes")]
    if not features and not notes:
        return Html()
    return details(
        f"{name.capitalize()}: features and notes",
        tag("div", features, class_="tags"),
        bullets(notes),
    )


def _of(step: Any, key: str) -> str:
    return f"{whole(step.get(key))} of {whole(step.get('chunks'))}"


def _item(values: list[Any], position: int) -> str:
    return whole(values[position]) if position < len(values) else DASH


def calibration(run: RunData) -> Card:
    """Reliability before and after, and its scores."""
    step = run.steps[11]
    lead = (
        "When a model says 60 %, it should happen six times in ten: points on the diagonal. All "
        "predictions here were made ahead of the labels; the size shows how many there are."
    )
    reliability = rows(step, "reliability")
    if not reliability:
        return Card("calibration", "Confidence calibration", "", empty("No predictions."), lead)
    tracks = sorted({str(row.get("track")) for row in reliability})
    drawn = [part(name.capitalize(), plots.figure(_curve(reliability, name))) for name in tracks]
    heads = (
        "Track",
        "Rows of",
        "Rows",
        "Base rate",
        "Brier before",
        "Brier after",
        "ECE before",
        "ECE after",
    )
    names = [str(name) for name in rows(run.steps[2], "names")]
    body = [
        (
            row.get("track"),
            _slice(row.get("slice"), names),
            whole(row.get("rows")),
            pct(row.get("base_rate")),
            num(row.get("brier_before"), 4),
            num(row.get("brier_after"), 4),
            num(row.get("ece_before"), 4),
            num(row.get("ece_after"), 4),
        )
        for row in rows(step, "quality")
    ]
    parts = (
        columns(*drawn),
        table(heads, body, words=2),
        note("Brier score and expected calibration error (ECE): lower is better."),
        bullets(rows(step, "notes")),
    )
    return Card("calibration", "Confidence calibration", "Calibration", join(parts), lead)


def _slice(name: Any, regime_names: list[str]) -> str:
    text = str(name)
    number = text.removeprefix("regime ")
    if number != text and number.isdecimal() and int(number) < len(regime_names):
        return regime_names[int(number)]
    return text


def _curve(reliability: list[Any], track: str) -> plots.Plot:
    diagonal = plots.line([0, 1], [0, 1], "perfect", "muted", width=1, line={"dash": "dot"})
    traces = [{**diagonal, "hoverinfo": "skip"}]
    for stage, colour in (("before", "grey"), ("after", "accent")):
        mine = [
            row
            for row in reliability
            if row.get("track") == track and row.get("stage") == stage and row.get("rows")
        ]
        total = sum(row["rows"] for row in mine) or 1
        sizes = [round(6 + 22 * math.sqrt(row["rows"] / total), 1) for row in mine]
        trace = plots.points(
            plots.numbers([row.get("predicted") for row in mine]),
            [row.get("observed") for row in mine],
            stage,
            f"{colour}:0.75",
            marker={"size": sizes, "line": {"width": 0}},
            mode="lines+markers",
            line={"color": f"{colour}:0.5", "width": 1},
            cliponaxis=False,
            customdata=[row["rows"] for row in mine],
            hovertemplate="said %{x:.1%}, was %{y:.1%}<br>%{customdata} rows",
        )
        traces.append(trace)
    layout = {
        "xaxis": {"range": [-0.02, 1.02], "tickformat": ".0%", "title": {"text": "predicted"}},
        "yaxis": {"range": [-0.02, 1.02], "tickformat": ".0%", "title": {"text": "observed"}},
        "hovermode": "closest",
    }
    return plots.Plot(
        f"calibration-{plots.slug(track)}", f"Calibration, {track}", traces, layout, 340
    )
