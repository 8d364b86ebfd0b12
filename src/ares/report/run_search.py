"""The search: every trial's score, over its number and over each parameter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.report import plots
from ares.report.run_data import dig, rows
from ares.report.shell import Card
from ares.report.tables import bullets, empty, facts, note, part
from ares.report.text import Html, join, num, pct, plural, tag, whole

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    import pandas as pd

    from ares.report.run_data import RunData

_PHASES: Final = {"sobol": "accent", "adaptive": "amber"}
_PREFIX: Final = "param_"
_MOST: Final = 3000


def search(run: RunData) -> Card:
    """Trials by number, and small multiples by parameter."""
    if run.trials.empty:
        return Card("search", "Parameter search", "", empty("There are no trials."))
    frame = run.trials
    value = _values(frame["value"])
    known = np.isfinite(value)
    lost = int(np.count_nonzero(frame["status"].astype(str).to_numpy(dtype=object) == "failed"))
    stopped = bool(np.isfinite(_revealed(frame, value)).any())
    lead = (
        f"{plural(len(frame), 'trial')}, {plural(int(known.sum()), 'score')} in full; the score is "
        "the penalised objective over the training range. The more is tried, the better the best "
        "looks by luck alone: the statistics below count every trial."
    )
    small = multiples(frame, run.params)
    metrics = dig(run.steps[12], "metrics")
    body = [
        facts(
            (
                ("Best score", num(dig(run.steps[12], "score"), 3)),
                ("Sharpe ratio in sample", num(dig(metrics, "sharpe"))),
                ("Return per year in sample", pct(dig(metrics, "cagr"), sign=True)),
                ("Trades in sample", whole(dig(metrics, "n_trades"))),
            )
        ),
        part("Score by trial", plots.figure(by_number(frame))),
        part("Score by parameter", small) if small else Html(),
        _note(stopped, lost),
        bullets(rows(run.steps[12], "notes")),
    ]
    return Card("search", "Parameter search", "Search", join(body), lead)


def _note(stopped: bool, lost: int) -> Html:
    sentences = []
    if stopped:
        sentences.append("Hollow points were stopped early and show what they had reached.")
    if lost:
        sentences.append(f"{plural(lost, 'trial')} had no score (too few trades, or ruin).")
    return note(" ".join(sentences)) if sentences else Html()


def by_number(frame: pd.DataFrame) -> plots.Plot:
    """Score of every trial by its number, and the best so far."""
    value = _values(frame["value"])
    number = frame["number"].to_numpy(np.int64)
    traces = []
    for colour, name, mine in _groups(frame):
        done = mine & np.isfinite(value)
        if done.any():
            traces.append(_dots(number, value, done, name, f"{colour}:0.75"))
    partial = _revealed(frame, value)
    seen = np.isfinite(partial)
    if seen.any():
        trace = _dots(number, partial, seen, "stopped", "muted:0.6", symbol="circle-open")
        traces.append(trace)
    best = np.fmax.accumulate(np.where(np.isfinite(value), value, np.nan))
    style = {"shape": "hv"}
    traces.append(plots.line(number.tolist(), best, "best so far", "text", width=1.2, line=style))
    for trace in traces:
        trace["hovertemplate"] = "trial %{x}: %{y:.3f}"
    layout = {
        "xaxis": {"title": {"text": "trial"}, "rangemode": "nonnegative"},
        "yaxis": {"title": {"text": "score"}, "range": _range(value, partial)},
        "hovermode": "closest",
    }
    return plots.Plot("trials", "Score of every trial by its number", traces, layout, 340)


def multiples(frame: pd.DataFrame, chosen: Mapping[str, Any], *, logs: Container[str] = ()) -> Html:
    """The score over each parameter that varies, as small plots.

    Args:
        frame: Trials.
        chosen: The winner's parameters, marked by a line.
        logs: Parameters whose axis is logarithmic.
    """
    value = _values(frame["value"])
    partial = _revealed(frame, value)
    drawn: list[Html] = []
    for column in sorted(c for c in frame.columns if str(c).startswith(_PREFIX)):
        name = str(column).removeprefix(_PREFIX)
        if frame[column].astype(str).nunique() < 2:
            continue
        plot = _by_parameter(frame, column, name, value, partial, chosen.get(name), len(drawn))
        if name in logs:
            plot.layout["xaxis"] = _log_axis(frame[column].to_numpy(np.float64))
        drawn.append(tag("div", tag("h4", name), plots.figure(plot)))
    return tag("div", *drawn, class_="columns three") if drawn else Html()


def _by_parameter(
    frame: pd.DataFrame,
    column: Any,
    name: str,
    value: Any,
    partial: Any,
    chosen: Any,
    position: int,
) -> plots.Plot:
    numeric = frame[column].dtype.kind in "iuf"
    given = frame[column].to_numpy(np.float64) if numeric else frame[column].astype(str).to_numpy()
    traces = []
    for colour, phase, mine in _groups(frame):
        done = mine & np.isfinite(value)
        if done.any():
            traces.append(_dots(given, value, done, phase, f"{colour}:0.6", size=5))
    if np.isfinite(partial).any():
        seen = np.isfinite(partial)
        ring = "circle-open"
        traces.append(_dots(given, partial, seen, "stopped", "muted:0.5", size=4, symbol=ring))
    for trace in traces:
        trace["hovertemplate"] = "%{x}: %{y:.3f}<extra></extra>"
    at = chosen if numeric and isinstance(chosen, int | float) else None
    shapes = []
    if at is not None:  # a line of the grid at the same place would hide it below
        shapes = [{**plots.upright(float(at), colour="text")[0], "layer": "above"}]
    layout = {
        "showlegend": False,
        "hovermode": "closest",
        "shapes": shapes,
        "xaxis": {"nticks": 5} if numeric else {"type": "category"},
        "yaxis": {"range": _range(value, partial)},
    }
    return plots.Plot(f"parameter-{position}", f"Score over {name}", traces, layout, 200)


def _log_axis(values: Any) -> dict[str, Any]:
    """A logarithmic axis with a few round ticks."""
    low, high = float(values.min()), float(values.max())
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{d}e{power}") for power in decades for d in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    few = inside[:: -(-len(inside) // 6) or 1]
    return {"type": "log", "tickvals": few, "ticktext": [f"{tick:g}" for tick in few]}


def _dots(
    x: Any, y: Any, mask: Any, name: str, colour: str, *, size: int = 6, symbol: str = "circle"
) -> dict[str, Any]:
    at = np.flatnonzero(mask)
    if len(at) > _MOST:
        at = at[np.linspace(0, len(at) - 1, _MOST).astype(np.int64)]
    given = x[at]
    if given.dtype.kind == "f":
        shown: list[Any] = list(plots.numbers(given))
    else:
        shown = given.tolist() if given.dtype.kind in "iu" else [plots.label(v) for v in given]
    marker = {"symbol": symbol}
    return plots.points(shown, y[at], name, colour, size=size, marker=marker)


def _groups(frame: pd.DataFrame) -> list[tuple[str, str, Any]]:
    phase = frame["phase"].astype(str).to_numpy(dtype=object)
    spare = iter(("violet", "teal", "good", "bad") * 8)
    names = sorted(set(phase.tolist()) - set(_PHASES))
    known = [name for name in _PHASES if (phase == name).any()]
    return [
        (_PHASES.get(name) or next(spare, "grey"), name, phase == name) for name in known + names
    ]


def _values(column: pd.Series) -> Any:
    return column.to_numpy(np.float64, na_value=np.nan)


def _revealed(frame: pd.DataFrame, value: Any) -> Any:
    """What stopped trials had reached; NaN elsewhere."""
    if "revealed" not in frame:
        return np.full(len(frame), np.nan)
    return np.where(np.isfinite(value), np.nan, _values(frame["revealed"]))


def _range(*values: Any) -> list[float] | None:
    """All scores but the worst few, which would press the others into a line."""
    known = np.concatenate([v[np.isfinite(v)] for v in values])
    if not len(known):
        return None
    low, high = float(np.quantile(known, 0.03)), float(known.max())
    pad = 0.08 * (high - low) or 0.1
    return [round(low - pad, 4), round(high + pad, 4)]
