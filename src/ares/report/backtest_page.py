"""The page of one backtest: metrics at once and twice the costs, trades on the price, equity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.backtest.curves import buy_and_hold, decimate, fill_marks, marked
from ares.backtest.result import Outcome
from ares.report import plots
from ares.report.quality import faults
from ares.report.run_outcome import trade_groups
from ares.report.shell import Card, page
from ares.report.tables import (
    coloured,
    columns,
    empty,
    facts,
    monthly_table,
    note,
    part,
    table,
    tiles,
    tone,
)
from ares.report.text import DASH, Html, join, num, pct, plain, plural, short, tag, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

    from ares.backtest.costs import Costs
    from ares.backtest.result import BacktestResult
    from ares.core.types import Fill, Int64Array
    from ares.market.bars import Bars

_MAX_PRICES: Final = 20_000
_FEW_MARKERS: Final = 300
_LISTED: Final = 100
_METRICS: Final[tuple[tuple[str, str, Callable[[Any], str]], ...]] = (
    ("Total return", "total_return", pct),
    ("Return per year", "cagr", pct),
    ("Volatility per year", "volatility", pct),
    ("Sharpe ratio", "sharpe", num),
    ("Sortino ratio", "sortino", num),
    ("Calmar ratio", "calmar", num),
    ("Largest drawdown", "max_drawdown", pct),
    ("Trades", "n_trades", whole),
    ("Winners", "win_rate", pct),
    ("Profit factor", "profit_factor", num),
    ("Mean profit of a trade", "expectancy", lambda value: pct(value, 3)),
    ("Mean bars held", "avg_bars_held", num),
    ("Turnover", "turnover", num),
    ("Fees paid", "fees_paid", pct),
    ("Time in the market", "exposure", pct),
)


def render_backtest(
    result_title: Mapping[str, Any],
    bars: Bars,
    result: BacktestResult,
    costs: Costs,
    twice: BacktestResult | None = None,
    *,
    fill: Fill = "next_open",
    max_gap: int | None = None,
) -> str:
    """The report of one backtest; the same backtest makes the same page.

    Args:
        result_title: `strategy`, its name, and its parameters.
        bars: The bars that were traded, in full.
        result: At `costs`.
        costs: What trading cost.
        twice: The same at twice the costs; None leaves the column out.
        fill: As in `simulate`.
        max_gap: As in `simulate`.
    """
    market = (bars.symbol, bars.exchange, bars.timeframe)
    title = " · ".join(str(v) for v in (result_title.get("strategy"), *market) if v)
    span = plots.dates(bars.timestamp[[0, -1]].view("datetime64[ns]"))
    subtitle = f"{plural(len(bars), 'bar')}, {span[0]} to {span[1]}"
    cards = (
        _result(result),
        _setting(result_title, costs, fill, max_gap),
        _metrics(result, twice),
        _price(bars, result.trades),
        _equity(bars, result),
        Card("months", "Monthly returns", "Months", monthly_table(result.daily_returns), "Net."),
        _trades(result.trades),
        _data(bars, span),
    )
    return page(title, subtitle, cards, kind="Ares backtest")


def _result(result: BacktestResult) -> Card:
    metrics = result.metrics
    final, sharpe = metrics.get("total_return"), metrics.get("sharpe")
    body = tiles(
        (
            ("Return", pct(final, sign=True), tone(final)),
            ("Return per year", pct(metrics.get("cagr"), sign=True), tone(final)),
            ("Sharpe ratio", num(sharpe), tone(sharpe)),
            ("Largest drawdown", pct(metrics.get("max_drawdown")), ""),
            ("Trades", whole(metrics.get("n_trades")), ""),
            ("Time in the market", pct(metrics.get("exposure"), 0), ""),
        )
    )
    said = (
        "One backtest with one set of parameters says nothing about the future: parameters chosen "
        "by looking at such a page fit its past."
    )
    sentence = said if result.outcome is Outcome.OK else result.outcome.value
    lead = tag("p", sentence, class_="sentence")
    return Card("result", "Result", "Result", join((lead, body)), kind="banner")


def _setting(title: Mapping[str, Any], costs: Costs, fill: Fill, max_gap: int | None) -> Card:
    params = [(str(k), plain(v)) for k, v in title.items() if k != "strategy"]
    gap = "no gap is too long" if max_gap is None else f"{plural(max_gap, 'bar')} missing"
    rules = [
        ("Orders fill", "at the next open" if fill == "next_open" else "at the close"),
        ("Indicators start anew after", gap),
        ("Fee per side", _points(costs.fee)),
        ("Slippage per side", _points(costs.slippage)),
    ]
    if costs.borrow:
        rules.append(("Borrow per year", _points(costs.borrow)))
    if costs.funding:
        rules.append(("Funding", plural(len(costs.funding), "payment")))
    body = (part("Parameters", facts(params)), part("Rules and costs", facts(rules)))
    return Card("setting", "What was tested", "Setting", join(body))


def _points(rate: float) -> str:
    return f"{short(rate * 1e4)} basis points"


def _metrics(result: BacktestResult, twice: BacktestResult | None) -> Card:
    columns_ = [result.metrics] + ([twice.metrics] if twice is not None else [])
    heads = ("Metric", "Costs as given", *(["Twice the costs"] if twice is not None else []))
    body = [(name, *(shown(m.get(key)) for m in columns_)) for name, key, shown in _METRICS]
    lead = (
        "A result that twice the costs destroy rests on the costs being right. Profit and fees "
        "are shares of the initial cash."
    )
    return Card("metrics", "Metrics", "Metrics", table(heads, body), lead)


def _price(bars: Bars, trades: pd.DataFrame) -> Card:
    kept = decimate(bars.close, _MAX_PRICES)
    stamps = _instants(bars.close_time)
    price = plots.line(stamps(kept), bars.close[kept], "Close", "muted", width=1.1)
    price["hovertemplate"] = "%{y:,.6~g}"
    shown = marked(trades)
    fills = _markers(shown)
    # Many marks would cover the price: it is drawn over them.
    traces = [price, *fills] if len(shown) <= _FEW_MARKERS else [*fills, price]
    layout = {
        "xaxis": {"range": stamps(np.array([0, len(bars) - 1]))},
        "yaxis": {"tickformat": ",.5~g"},
        "hovermode": "closest",
    }
    plot = plots.Plot("price", "Price with entries and exits", traces, layout, 420, log=True)
    notes = []
    if len(kept) < len(bars):
        notes.append(f"{whole(len(kept))} of {whole(len(bars))} prices, all extremes among them.")
    if len(shown) < len(trades):
        notes.append(f"{whole(len(shown))} of {plural(len(trades), 'trade')} are marked, evenly.")
    body = (part("Close", plots.figure(plot)), note(" ".join(notes)) if notes else Html())
    return Card("price", "Entries and exits", "Price", join(body))


def _markers(trades: pd.DataFrame) -> list[dict[str, Any]]:
    """Entries by side and exits, at their bars' open times and fill prices."""
    few = len(trades) <= _FEW_MARKERS
    size, strength = (9.0, "") if few else (4.5, ":0.55")
    styles: dict[str, tuple[str, float, dict[str, Any]]] = {
        "Long entry": ("good", size, {"symbol": "triangle-up"}),
        "Short entry": ("bad", size, {"symbol": "triangle-down"}),
        "Exit": ("accent", size - 2, {"symbol": "x-thin"}),
    }
    made = []
    for marks in fill_marks(trades):
        colour, large, marker = styles[marks.kind]
        colour += strength
        marker["line"] = {"width": 1.4 if few else 1, "color": colour}
        if marks.kind != "Exit":
            marker["line"]["width"] = 0
        trace = plots.points(
            plots.minutes(marks.times), marks.prices, marks.kind, colour, size=large, marker=marker
        )
        trace["hovertemplate"] = "%{x|%Y-%m-%d %H:%M} %{y:,.6~g}"
        if any(marks.notes):
            trace["customdata"] = [plots.label(words) for words in marks.notes]
            trace["hovertemplate"] += " %{customdata}"
        made.append(trace)
    return made


def _instants(times: Int64Array) -> Callable[[Int64Array], list[str]]:
    """Times at given bars, to the minute."""
    return lambda at: plots.minutes(times[at].astype("datetime64[ns]"))


def _equity(bars: Bars, result: BacktestResult) -> Card:
    equity = result.equity.to_numpy(np.float64)
    if not len(equity):
        return Card("equity", "Equity", "Equity", empty("No equity."))
    times = result.equity.index
    kept = decimate(equity)
    x = plots.minutes(times[kept])
    traces = [plots.line(x, equity[kept], "Strategy", "accent", width=2)]
    held = buy_and_hold(bars, result.equity)
    traces.append(plots.line(x, held[kept], "Buy and hold", "grey", line={"dash": "dot"}))
    for trace in traces:
        trace["hovertemplate"] = "%{y:.3f}"
    layout = {"yaxis": {"tickformat": ".2~f"}}
    growth = plots.Plot("equity", "Equity against buy and hold", traces, layout, 360, log=True)
    fall = plots.drawdown_plot(times, equity, name="drawdown", exact=True)
    body = (
        part("Growth of 1", plots.figure(growth)),
        part("Drawdown", plots.figure(fall)),
    )
    lead = (
        f"Net {pct(equity[-1] - 1.0, sign=True)}; buying at the first open and holding made "
        f"{pct(held[-1] - 1.0, sign=True)} before costs."
    )
    return Card("equity", "Equity", "Equity", join(body), lead)


def _trades(trades: pd.DataFrame) -> Card:
    if trades.empty:
        return Card("trades", "Trades", "Trades", empty("There were no trades."))
    returns = trades["return"].to_numpy(np.float64)
    side = np.where(trades["side"].to_numpy(np.int64) > 0, "long", "short")
    body = [
        part("Returns per trade", plots.figure(plots.returns_histogram(returns, name="trades"))),
        columns(
            part("By exit", trade_groups(trades["reason"].astype(str), returns, "Exit")),
            part("By side", trade_groups(side, returns, "Side")),
        ),
    ]
    if len(trades) <= 2 * _LISTED:
        body.append(part("All trades", _list(trades)))
    else:
        body.append(part(f"First {_LISTED}", _list(trades.head(_LISTED))))
        body.append(part(f"Last {_LISTED}", _list(trades.tail(_LISTED))))
    lead = (
        f"{plural(len(trades), 'round trip')}, net of all costs; times are bars' open times, UTC."
    )
    return Card("trades", "Trades", "Trades", join(body), lead)


def _list(trades: pd.DataFrame) -> Html:
    heads = ("Entry", "Exit", "Side", "Reason", "Entry price", "Exit price", "Fees", "Profit")
    entry, out = plots.minutes(trades["entry_time"]), plots.minutes(trades["exit_time"])
    body = [
        (
            tag("span", entry[k], class_="nowrap"),
            tag("span", out[k], class_="nowrap"),
            "long" if row["side"] > 0 else "short",
            row["reason"] or DASH,
            short(row["entry_price"], 6, zeros=True),
            short(row["exit_price"], 6, zeros=True),
            short(row["fees"], 3, zeros=True),
            short(row["pnl"], 3, zeros=True),
            coloured(pct(row["return"], 2, sign=True), row["return"]),
        )
        for k, row in enumerate(trades.to_dict("records"))
    ]
    return table((*heads, "Return"), body, words=4)


def _data(bars: Bars, span: list[str]) -> Card:
    gaps = bars.gaps[:, 2]
    longest = plural(gaps.max(), "missing bar") if len(gaps) else "none"
    shown = (("Bars", whole(len(bars))), ("from", span[0]), ("to", span[1]))
    parts = [facts((*shown, ("Calendar", bars.calendar), ("Longest gap", longest)))]
    lead = ""
    if bars.quality is not None:
        parts += faults(bars.quality.to_dict())
        lead = "Counts over all rows as they were read, those outside the time range included."
    return Card("data", "Data and its quality", "Data", join(parts), lead)
