"""Plots as plain data: the page's own script draws them, in the colours of its theme.

A colour is the name of one of the page's CSS variables, with an optional opacity after a colon:
"accent", "grey:0.3". Identifiers are fixed, so that equal runs make equal pages.
"""

from __future__ import annotations

import html
import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.backtest.curves import decimate, drawdown
from ares.report.text import Html, clean, esc, number_of, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from ares.core.types import Float64Array

_DIGITS: Final = 6


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        name: Identifier on the page.
        label: What it shows, for those who cannot see it.
        traces: As plotly.js takes them.
        layout: What differs from the page's common layout.
        height: In CSS pixels.
        log: Whether a button switches the value axis to logarithms.
    """

    name: str
    label: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    height: int = 320
    log: bool = False


def figure(plot: Plot) -> Html:
    """The plot's place on the page, and its data."""
    spec = {"data": plot.traces, "layout": plot.layout}
    identifier = f"plot-{plot.name}"
    parts = [
        tag(
            "div",
            id=identifier,
            class_="canvas",
            role="img",
            aria_label=plot.label,
            style=f"height:{plot.height}px",
        ),
        Html(
            f'<script type="application/json" data-plot="{esc(identifier)}">'
            f"{script_json(spec)}</script>"
        ),
    ]
    if plot.log:
        button = tag("button", "Log axis", type="button", data_log=identifier, aria_pressed="false")
        parts.insert(0, tag("div", button, class_="tools"))
    return tag("figure", *parts)


def script_json(value: object) -> str:
    """JSON that can stand inside a script element: no `<`, `>`, `&` and no line separators."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def label(value: object) -> str:
    """Text for inside a plot: plotly.js reads a little markup in it, so it is escaped."""
    return html.escape(clean(value), quote=False).replace("%{", "% {")


def slug(value: object) -> str:
    """`value` as part of an identifier."""
    return re.sub(r"[^a-z0-9]+", "-", str(value).lower()).strip("-") or "x"


def numbers(values: Any) -> list[float | None]:
    """Floats to six significant digits; None where not finite."""
    array = np.asarray(values, dtype=np.float64)
    return [float(f"{v:.{_DIGITS}g}") if np.isfinite(v) else None for v in array.tolist()]


def dates(times: Any) -> list[str]:
    """Times (UTC) as dates."""
    return _times(times, "D")


def minutes(times: Any) -> list[str]:
    """Times (UTC) to the minute."""
    return _times(times, "m")


def line(
    x: Sequence[Any], y: Any, name: str, colour: str, *, width: float = 1.5, **more: Any
) -> dict[str, Any]:
    """A line trace."""
    style = {"color": colour, "width": width, **more.pop("line", {})}
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(x),
        "y": numbers(y),
        "name": label(name),
        "line": style,
        **more,
    }


def points(
    x: Sequence[Any], y: Any, name: str, colour: str, *, size: float = 6, **more: Any
) -> dict[str, Any]:
    """A trace of markers."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(x),
        "y": numbers(y),
        "name": label(name),
        "marker": {"color": colour, "size": size, **more.pop("marker", {})},
        **more,
    }


def band(x: Sequence[Any], low: Any, high: Any, name: str, colour: str) -> list[dict[str, Any]]:
    """The area between two lines."""
    edge = {"width": 0, "color": colour}
    return [
        line(x, low, name, colour, width=0, showlegend=False, hoverinfo="skip"),
        line(x, high, name, colour, line=edge, fill="tonexty", fillcolor=colour, hoverinfo="skip"),
    ]


def upright(x: Any, *, text: str = "", colour: str = "muted:0.55") -> tuple[dict[str, Any], ...]:
    """A vertical line over the whole plot, and its text at the top (None where there is none)."""
    shape = {
        "type": "line",
        "x0": x,
        "x1": x,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "layer": "below",
        "line": {"color": colour, "width": 1, "dash": "dot"},
    }
    if not text:
        return (shape,)
    words = {
        "x": x,
        "yref": "paper",
        "y": 1,
        "text": label(text),
        "showarrow": False,
        "xanchor": "left",
        "yanchor": "top",
        "font": {"size": 11, "color": "muted"},
    }
    return shape, words


DAILY: Final = (
    "By the last close of each day. The largest drawdown among the numbers is marked at every close "
    "and may be deeper, where a day has several."
)
"""What to say of a drawdown of days beside the one of closes."""


def drawdown_plot(x: Any, equity: Float64Array, *, name: str, exact: bool = False) -> Plot:
    """Drawdown as an area below zero.

    Args:
        x: Times, one per value of `equity`.
        equity: Relative to the initial 1.0.
        name: Identifier.
        exact: Whether times are shown to the minute.
    """
    fall = drawdown(np.asarray(equity, dtype=np.float64))
    kept = decimate(fall)
    times = (minutes if exact else dates)(x[kept])
    trace = line(times, fall[kept], "Drawdown", "bad", width=1, fill="tozeroy", fillcolor="bad:0.2")
    trace["hovertemplate"] = "%{y:.1%}<extra></extra>"
    layout = {"yaxis": {"tickformat": ".0%", "rangemode": "tozero"}, "showlegend": False}
    return Plot(name, "Drawdown over time", [trace], layout, height=200)


def returns_histogram(returns: Float64Array, *, name: str) -> Plot:
    """Returns per trade, in bins of equal width; far tails end in the outer bins."""
    known = np.asarray([v for v in returns.tolist() if number_of(v) is not None])
    low, high = np.quantile(known, (0.005, 0.995)) if len(known) else (-0.01, 0.01)
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    width = max(high - low, 1e-6) / 40
    first = min(math.floor(low / width), -int((known < 0.0).any()))
    last = max(math.ceil(high / width), int((known >= 0.0).any()), first + 1)
    edges = width * np.arange(first, last + 1)  # 0 is an edge: no bar is on both sides
    counts, _ = np.histogram(np.clip(known, edges[0], edges[-1]), bins=edges)
    beyond = int(np.count_nonzero((known < edges[0]) | (known > edges[-1])))
    note = f" ({beyond} beyond the ends are in the outer bars)" if beyond else ""
    middle = (edges[1:] + edges[:-1]) / 2
    colours = ["good:0.75" if m > 0 else "bad:0.75" for m in middle.tolist()]
    trace = {
        "type": "bar",
        "x": numbers(middle),
        "y": counts.tolist(),
        "marker": {"color": colours, "line": {"width": 0}},
        "hovertemplate": "%{x:.2%}: %{y} trades<extra></extra>",
    }
    layout = {
        "xaxis": {"tickformat": ".1%", "title": {"text": f"net return of a trade{note}"}},
        "yaxis": {"title": {"text": "trades"}},
        "bargap": 0.05,
        "showlegend": False,
        "hovermode": "closest",
    }
    return Plot(name, "Histogram of returns per trade", [trace], layout, height=260)


def _times(times: Any, unit: str) -> list[str]:
    array = np.asarray(times)
    if array.dtype.kind != "M":
        import pandas as pd

        index: pd.DatetimeIndex = pd.DatetimeIndex(times)
        index = index.tz_localize(None) if index.tz is not None else index
        array = index.to_numpy()
    text: list[str] = np.datetime_as_string(array.astype(f"datetime64[{unit}]")).tolist()
    return [t.replace("T", " ") for t in text]
