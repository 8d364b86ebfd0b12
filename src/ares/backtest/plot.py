"""One backtest as an interactive figure, for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.backtest.curves import MAX_MARKED, decimate, drawdown, fill_marks, marked
from ares.core.errors import InputError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from ares.backtest.result import BacktestResult
    from ares.core.types import Float64Array
    from ares.market.bars import Bars

_MAX_PRICES: Final = 20_000
_FEW: Final = 300
_BLUE, _GREY, _GREEN, _RED = "#2f5bd0", "#8b939b", "#1a7f4b", "#c0362c"
_MARKERS: Final = {
    "Long entry": ("triangle-up", _GREEN),
    "Short entry": ("triangle-down", _RED),
    "Exit": ("x-thin", _BLUE),
}


def figure(result: BacktestResult, bars: Bars | None = None) -> Figure:
    """Equity and drawdown, with `bars` below the close and its fills.

    Args:
        result: The backtest.
        bars: The bars that it traded.

    Raises:
        InputError: bars that the backtest did not trade.
    """
    from plotly.subplots import make_subplots

    rows = [(0.62, "Equity, net (growth of 1)"), (0.38, "Drawdown")]
    if bars is not None:
        rows = [(0.45, f"{bars.symbol}, close and fills"), (0.33, rows[0][1]), (0.22, rows[1][1])]
    shown: Any = make_subplots(
        rows=len(rows),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.07,
        row_heights=[height for height, _ in rows],
        subplot_titles=[title for _, title in rows],
    )
    if bars is not None:
        for trace in _price(result, bars):
            shown.add_trace(trace, row=1, col=1)
    for row, trace in enumerate(_curves(result), start=len(rows) - 1):
        shown.add_trace(trace, row=row, col=1)
    shown.update_yaxes(tickformat=".0%", row=len(rows), col=1)
    _dress(shown, result, height=200 + 200 * len(rows))
    return shown


def _curves(result: BacktestResult) -> tuple[dict[str, Any], dict[str, Any]]:
    equity = result.equity.to_numpy(np.float64)
    times = result.equity.index
    fall = drawdown(equity)
    up, down = decimate(equity), decimate(fall)
    above = _line(times[up], equity[up], "Equity", _BLUE, hover="%{y:.4f}")
    below = _line(times[down], fall[down], "Drawdown", _RED, hover="%{y:.2%}")
    return above, {**below, "fill": "tozeroy", "fillcolor": "rgba(192,54,44,0.2)"}


def _price(result: BacktestResult, bars: Bars) -> list[dict[str, Any]]:
    first, last = _span(result, bars)
    kept = first + decimate(bars.close[first:last], _MAX_PRICES)
    times = bars.close_time.view("datetime64[ns]")
    close = _line(times[kept], bars.close[kept], "Close", _GREY, hover="%{y:,.8~g}")
    trades = marked(result.trades)
    few = len(trades) <= _FEW
    fills = []
    for marks in fill_marks(trades):
        symbol, colour = _MARKERS[marks.kind]
        trace = {
            "type": "scatter",
            "mode": "markers",
            "x": marks.times,
            "y": marks.prices,
            "name": marks.kind,
            "marker": {
                "symbol": symbol,
                "color": colour,
                "size": (9 if few else 5) - 2 * (marks.kind == "Exit"),
                "opacity": 1.0 if few else 0.55,
                "line": {"color": colour, "width": 1.4 if marks.kind == "Exit" else 0},
            },
            "text": marks.notes,
            "hovertemplate": "%{x|%Y-%m-%d %H:%M} %{y:,.8~g} %{text}",
        }
        fills.append(trace)
    # Many marks would cover the price: it is drawn over them.
    return [close, *fills] if few else [*fills, close]


def _span(result: BacktestResult, bars: Bars) -> tuple[int, int]:
    """The bars that the equity covers.

    Raises:
        InputError: they are not the bars that were traded.
    """
    traded = result.equity.index.as_unit("ns").asi8  # type: ignore[attr-defined]  # a DatetimeIndex
    first = int(np.searchsorted(bars.close_time, traded[0]))
    last = first + len(traded)
    if not np.array_equal(bars.close_time[first:last], traded):
        raise InputError(
            "the bars must be those that the backtest traded",
            value=bars,
            where="bars",
            remedy="Give the bars that simulate was given, or none.",
        )
    return first, last


def _line(
    times: Any, values: Float64Array, name: str, colour: str, *, hover: str
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": times,
        "y": values,
        "name": name,
        "showlegend": False,
        "line": {"color": colour, "width": 1.5},
        "hovertemplate": hover,
    }


def _dress(shown: Any, result: BacktestResult, *, height: int) -> None:
    found = result.metrics
    said = [f"Return {found['total_return']:+.1%}"]
    if np.isfinite(found["sharpe"]):
        said.append(f"Sharpe {found['sharpe']:.2f}")
    said += [f"drawdown {found['max_drawdown']:.1%}", f"{len(result.trades):,} trades"]
    if len(result.trades) > MAX_MARKED:
        said.append(f"{MAX_MARKED:,} of them marked")
    if result.outcome.name != "OK":
        said.append(result.outcome.value)
    shown.update_layout(
        title={"text": " · ".join(said), "x": 0.01, "font": {"size": 15}},
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 90, "b": 40},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
        hovermode="closest",
    )
    shown.update_xaxes(range=[result.equity.index[0], result.equity.index[-1]])
    shown.update_annotations(x=0.0, xanchor="left", font={"size": 12, "color": "#68717a"})
