"""The upper part of a run's page: verdict, out-of-sample curve, windows, months, trades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ares.backtest.curves import decimate
from ares.report import plots
from ares.report.run_data import DIRECTIONS, VOLATILITIES, dig, rows
from ares.report.shell import Card
from ares.report.tables import (
    coloured,
    columns,
    empty,
    monthly_table,
    note,
    part,
    table,
    tiles,
    tone,
)
from ares.report.text import (
    DASH,
    Html,
    cut,
    join,
    num,
    number_of,
    p_value,
    pct,
    plural,
    short,
    tag,
    whole,
)

if TYPE_CHECKING:
    from ares.report.run_data import RunData


def verdict(run: RunData) -> Card:
    """The banner."""
    sections, metrics = run.sections, dig(run.sections, "metrics")
    edge = sections.get("edge") is True
    sharpe, final = dig(metrics, "sharpe"), dig(metrics, "total_return")
    body = [
        tag("p", sections.get("verdict") or "There is no verdict.", class_="sentence"),
        tiles(
            (
                ("Return out of sample", pct(final, sign=True), tone(final)),
                ("Return per year", pct(dig(metrics, "cagr"), sign=True), tone(final)),
                ("Sharpe ratio", num(sharpe), tone(sharpe)),
                ("Sharpe, buy and hold", num(dig(metrics, "benchmark_sharpe")), ""),
                ("Largest drawdown", pct(dig(metrics, "max_drawdown")), ""),
                ("Trades", whole(dig(metrics, "n_trades")), ""),
                ("Deflated Sharpe ratio", cut(dig(metrics, "dsr")), ""),
                ("p against buy and hold", p_value(dig(metrics, "p_value")), ""),
                ("Time in the market", pct(dig(metrics, "exposure"), 0), ""),
                ("Recommendation", sections.get("recommendation") or DASH, ""),
            )
        ),
    ]
    head = "Evidence of edge" if edge else "No evidence of edge"
    if not sections.get("verdict"):
        head = "No verdict"
    kind = "banner edge" if edge else "banner"
    return Card("verdict", head, "Verdict", join(body), kind=kind)


def walk_forward(run: RunData) -> Card:
    """Equity against buy and hold, drawdown, and the windows."""
    lead = (
        "Every model and parameter was refitted inside each window, on earlier bars only; the "
        "curve is what trading them afterwards would have made, net of costs."
    )
    if run.equity.empty:
        return Card("equity", "Walk-forward result", "Equity", empty("No curve."), lead)
    days = run.equity["day"].to_numpy()
    equity = run.equity["equity"].to_numpy(np.float64)
    body = [
        part("Growth of 1", plots.figure(_equity_plot(run, equity))),
        part("Drawdown", plots.figure(plots.drawdown_plot(days, equity, name="drawdown"))),
        note(plots.DAILY),
        part("Windows", _windows(run)),
    ]
    return Card("equity", "Walk-forward result", "Equity", join(body), lead)


def _equity_plot(run: RunData, equity: Any) -> plots.Plot:
    days = run.equity["day"].to_numpy()
    kept = decimate(equity)
    x = plots.dates(days[kept])
    traces = [plots.line(x, equity[kept], "Strategy", "accent", width=2.2)]
    exposure = number_of(dig(run.steps[13], "exposure"))
    if "benchmark_return" in run.equity:
        market = run.equity["benchmark_return"].to_numpy(np.float64)
        if exposure is not None:
            held = np.cumprod(1.0 + exposure * market)
            name = f"Buy and hold at {exposure:.0%} exposure"
            traces.append(plots.line(x, held[kept], name, "amber", width=1.4))
        whole_market = np.cumprod(1.0 + market)
        traces.append(
            plots.line(x, whole_market[kept], "Buy and hold", "grey", line={"dash": "dot"})
        )
    for trace in traces:
        trace["hovertemplate"] = "%{y:.3f}"
    borders = np.cumsum([0, *(int(w.get("n_days") or 0) for w in rows(run.steps[13], "windows"))])
    stamps = plots.dates(days)
    drawn = [
        plots.upright(stamps[at], text=f"window {k}")
        for k, at in enumerate(borders[:-1].tolist())
        if at < len(stamps)
    ]
    layout = {
        "shapes": [d[0] for d in drawn],
        "annotations": [d[1] for d in drawn],
        "yaxis": {"tickformat": ".2~f"},
    }
    return plots.Plot(
        "equity", "Out-of-sample equity against buy and hold", traces, layout, 380, log=True
    )


def _windows(run: RunData) -> Html:
    found = rows(run.steps[13], "windows")
    heads = ("Window", "Days", "Trades", "Return", "Buy and hold", "Sharpe in sample")
    body = [
        (
            whole(k),
            whole(w.get("n_days")),
            whole(w.get("n_trades")),
            coloured(pct(w.get("test_return"), sign=True), w.get("test_return")),
            pct(w.get("benchmark_return"), sign=True),
            num(w.get("train_sharpe")),
            coloured(num(w.get("test_sharpe")), w.get("test_sharpe")),
            num(w.get("efficiency")),
        )
        for k, w in enumerate(found)
    ]
    efficiency = dig(run.steps[13], "efficiency")
    sentence = (
        "Efficiency is the mean daily return out of sample over the one in sample; over all "
        f"windows it is {num(efficiency)}. One means that nothing was lost, below zero that the "
        "promise was reversed."
    )
    return join((table((*heads, "Sharpe out of sample", "Efficiency"), body), note(sentence)))


def months(run: RunData) -> Card:
    """Monthly returns of the out-of-sample curve."""
    if run.equity.empty:
        body = empty("No daily returns.")
    else:
        body = monthly_table(run.equity.set_index("day")["daily_return"])
    return Card("months", "Monthly returns", "Months", body, "Net, out of sample.")


def trades(run: RunData) -> Card:
    """How the round trips went."""
    if run.trades.empty:
        return Card("trades", "Trades", "Trades", empty("There were no trades out of sample."))
    frame = run.trades
    returns = frame["return"].to_numpy(np.float64)
    body = [
        part("Returns per trade", plots.figure(plots.returns_histogram(returns, name="trades"))),
        columns(
            part("By exit", trade_groups(frame["reason"].astype(str), returns, "Exit")),
            part("By side", trade_groups(_sides(frame["side"]), returns, "Side")),
            part("Decisions by regime", _actions(run)),
        ),
    ]
    lead = f"{plural(len(frame), 'round trip')} out of sample, net of all costs."
    return Card("trades", "Trades", "Trades", join(body), lead)


def trade_groups(keys: Any, returns: Any, head: str) -> Html:
    """Count, share of winners and mean return per group of trades."""
    names = np.asarray(keys, dtype=object)
    body = []
    for name in sorted(set(names.tolist())):
        mine = returns[names == name]
        mean = float(np.mean(mine))
        wins = float(np.mean(mine > 0))
        body.append((name, whole(len(mine)), pct(wins, 0), coloured(pct(mean, 2, sign=True), mean)))
    return table((head, "Trades", "Winners", "Mean return"), body)


def _sides(side: Any) -> list[str]:
    return ["long" if value > 0 else "short" for value in side]


def _actions(run: RunData) -> Html:
    if run.oos.empty:
        return empty("No predictions.")
    regime = run.oos["regime"].astype("category").cat.as_unordered()
    codes, names = regime.cat.codes.to_numpy(), ["", *map(str, regime.cat.categories)]
    action = run.oos["action"].to_numpy()
    body = []
    for code, name in sorted(enumerate(names, start=-1), key=lambda each: _regime_order(each[1])):
        mine = action[codes == code]
        if not len(mine):
            continue
        shares = [pct(float(np.mean(mine == way)), 0) for way in (1, 0, -1)]
        body.append((name or "not known yet", whole(len(mine)), *shares))
    found = table(("Regime", "Bars", "Long", "Flat", "Short"), body)
    said = (
        "By the model of each window, which names its regimes by return (bear, sideways, bull) or, "
        "where those are alike, by volatility (calm, normal, wild)."
    )
    return join((found, note(said)))


def _regime_order(name: str) -> tuple[int, str]:
    """Bars without a regime, then the two scales from their low end, then other names."""
    known = ("", *DIRECTIONS, *VOLATILITIES)
    return (known.index(name) if name in known else len(known), name)


def chosen(run: RunData) -> Card:
    """The chosen parameters, beside those of each window."""
    if not run.params:
        return Card("parameters", "Chosen parameters", "", empty("No parameters."))
    windows = sorted(run.windows)
    heads = ("Parameter", "Chosen", *(f"window {k}" for k in windows))
    body = [
        (
            name,
            tag("b", _parameter(value)),
            *(_parameter(run.windows[k].get(name)) for k in windows),
        )
        for name, value in sorted(run.params.items())
    ]
    lead = "Found on the whole training range, beside what each window's own search found."
    return Card("parameters", "Chosen parameters", "Parameters", table(heads, body), lead)


def _parameter(value: Any) -> str:
    if isinstance(value, str | bool | int) or value is None:
        return DASH if value is None else str(value)
    return short(value)
