"""A naive backtest, written from the rules of trading in plain Python: no arrays, no reuse.

Bars come as lists, signals as four sets of bar indices; everything is spelled out per bar.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field

NS_PER_YEAR = 365.25 * 24 * 3600 * 1e9
NS_PER_DAY = 24 * 3600 * 10**9


@dataclass
class Rules:
    fill: str = "next_open"
    direction: str = "long"
    stop_loss: float | None = None
    take_profit: float | None = None
    stop_unit: str = "fraction"
    max_hold: int | None = None
    size: float = 1.0
    cooldown: int = 0
    fee: float = 0.0
    slippage: float = 0.0
    borrow: float = 0.0
    funding: tuple = ()


@dataclass
class Market:
    time: list
    open: list
    high: list
    low: list
    close: list
    interval: int
    after_long_gap: set = field(default_factory=set)
    calendar: str = "24/7"


@dataclass
class Position:
    side: str
    bar: int
    price: float
    units: float
    entry_fee: float
    stop: float | None
    target: float | None
    paid_until: int
    accrued: float = 0.0


def naive_atr(market, period=14):
    """Wilder: the mean of the first `period` true ranges, then smoothed; anew after a long gap."""
    out, ranges, value = [], [], None
    for i in range(len(market.time)):
        if i == 0 or i in market.after_long_gap:
            ranges, value = [], None
        else:
            previous = market.close[i - 1]
            ranges.append(
                max(
                    market.high[i] - market.low[i],
                    abs(market.high[i] - previous),
                    abs(market.low[i] - previous),
                )
            )
            if len(ranges) == period:
                value = sum(ranges) / period
            elif len(ranges) > period:
                value = ((period - 1) * value + ranges[-1]) / period
        out.append(value)
    return out


class NaiveBacktest:
    """Runs once; then `trades` (dicts), `equity` (one per bar), `ledger` (cash, units), `ruined`."""

    def __init__(self, market, signals, rules, start=0, stop=None):
        self.m, self.s, self.r = market, signals, rules
        self.start = start
        self.stop = len(market.time) if stop is None else stop
        self.cash = 1.0
        self.position = None
        self.trades, self.equity, self.ledger, self.held = [], [], [], 0
        self.ruined = False
        self.may_decide_from = start
        self.atr = naive_atr(market)
        for bar in range(self.start, self.stop):
            if self.ruined:
                self.equity.append(0.0)
                self.ledger.append((0.0, 0.0))
            else:
                self.one_bar(bar)

    # -- one bar ---------------------------------------------------------------------------------

    def one_bar(self, bar):
        m = self.m
        if self.position:
            self.accrue(m.time[bar], m.close[bar - 1])
        before = self.position
        if self.r.fill == "next_open" and bar > self.start:
            self.fills(decided=bar - 1, bar=bar, price=m.open[bar], when=m.time[bar])
        if self.position:
            self.guards(bar, was_open_before=self.position is before)
        if self.r.fill == "close":
            when = m.time[bar] + m.interval
            self.fills(decided=bar, bar=bar, price=m.close[bar], when=when)
        self.mark(bar)

    def mark(self, bar):
        close = self.m.close[bar]
        value = self.cash
        if self.position:
            self.held += 1
            sign = 1 if self.position.side == "long" else -1
            value = self.cash + sign * self.position.units * close
            if value <= 0:
                self.exit(bar, close, "ruin", slip=True)
            elif bar == self.stop - 1:
                self.exit(bar, close, "end", slip=True)
                value = self.cash
        if value <= 0:
            self.ruined, self.cash, value = True, 0.0, 0.0
        self.equity.append(value)
        signed = 0.0
        if self.position:
            signed = self.position.units * (1 if self.position.side == "long" else -1)
        self.ledger.append((self.cash, signed))

    def fills(self, decided, bar, price, when):
        """Signal exit, time exit, entry: all at one price."""
        reversed_from = None
        if self.position:
            side = self.position.side
            if self.wants(side, "exit", decided):
                self.exit(bar, price, "signal", slip=True)
                if self.r.cooldown == 0:
                    reversed_from = side
            elif self.r.max_hold and bar == self.position.bar + self.r.max_hold:
                self.exit(bar, price, "time", slip=True)
            else:
                return
            earliest = bar + self.r.cooldown
            if self.r.fill == "close":
                earliest = max(earliest, bar + 1)
            self.may_decide_from = earliest
        if bar == self.stop - 1:
            return
        if self.r.fill == "next_open" and bar in self.m.after_long_gap:
            return
        side = self.entry_side(decided)
        if side is None:
            return
        opposite = {"long": "short", "short": "long"}[side]
        if decided >= self.may_decide_from or reversed_from == opposite:
            self.enter(side, bar, decided, price, when)

    def wants(self, side, what, bar):
        return bar in self.s[f"{side}_{what}"]

    def entry_side(self, bar):
        sides = ["long", "short"] if self.r.direction == "both" else [self.r.direction]
        asked = [side for side in sides if self.wants(side, "entry", bar)]
        if len(asked) != 1 or self.wants(asked[0], "exit", bar):
            return None
        return asked[0]

    def enter(self, side, bar, decided, price, when):
        if self.cash <= 0:
            return
        r = self.r
        one = 1.0
        guarded = r.stop_loss is not None or r.take_profit is not None
        fill = price * (1 + r.slippage) if side == "long" else price * (1 - r.slippage)
        if r.stop_unit == "atr" and guarded:
            if self.atr[decided] is None:
                return
            one = self.atr[decided]
        stop = self.level(fill, r.stop_loss, one, below=side == "long")
        target = self.level(fill, r.take_profit, one, below=side == "short")
        units = r.size * self.cash / (fill * (1 + r.fee))
        fee = r.fee * (units * fill)
        self.cash += (-units * fill if side == "long" else units * fill) - fee
        self.position = Position(side, bar, fill, units, fee, stop, target, when)

    def level(self, fill, distance, one, below):
        if distance is None:
            return None
        if self.r.stop_unit == "atr":
            return fill - distance * one if below else fill + distance * one
        return fill * (1 - distance) if below else fill * (1 + distance)

    def guards(self, bar, was_open_before):
        m, p = self.m, self.position
        long = p.side == "long"
        opening = m.open[bar]
        if p.stop is not None and (opening <= p.stop if long else opening >= p.stop):
            self.exit(bar, opening, "gap", slip=True)
        elif (
            was_open_before
            and p.target is not None
            and (opening >= p.target if long else opening <= p.target)
        ):
            self.exit(bar, opening, "target", slip=False)
        else:
            self.accrue(m.time[bar] + m.interval, opening)
            if p.stop is not None and (m.low[bar] <= p.stop if long else m.high[bar] >= p.stop):
                self.exit(bar, p.stop, "stop", slip=True)
            elif p.target is not None and (
                m.high[bar] >= p.target if long else m.low[bar] <= p.target
            ):
                self.exit(bar, p.target, "target", slip=False)
        if self.position is None:
            self.may_decide_from = bar + self.r.cooldown

    # -- money -----------------------------------------------------------------------------------

    def exit(self, bar, price, reason, slip):
        p, r = self.position, self.r
        sign = 1 if p.side == "long" else -1
        fill = price * (1 - sign * r.slippage) if slip else price
        fee = r.fee * (p.units * fill)
        self.cash += sign * p.units * fill - fee
        pnl = sign * p.units * (fill - p.price) - (p.entry_fee + fee) - p.accrued
        self.trades.append(
            {
                "entry_bar": p.bar,
                "exit_bar": bar,
                "side": sign,
                "entry_price": p.price,
                "exit_price": fill,
                "units": p.units,
                "fees": p.entry_fee + fee,
                "pnl": pnl,
                "return": pnl / (p.units * p.price),
                "reason": reason,
            }
        )
        self.position = None

    def accrue(self, now, price):
        p = self.position
        if now <= p.paid_until:
            return
        cost = 0.0
        if p.side == "short":
            cost += self.r.borrow * (now - p.paid_until) / NS_PER_YEAR * p.units * price
        signed = p.units if p.side == "long" else -p.units
        for time, rate in self.r.funding:
            if p.paid_until < time <= now:
                cost += rate * signed * price
        p.paid_until = now
        p.accrued += cost
        self.cash -= cost


def naive_metrics(run, days_per_year):
    """Every metric from the definitions, in plain loops."""
    m = run.m
    times = m.time[run.start : run.stop]
    marks = {}
    for time, value in zip(times, run.equity, strict=True):
        marks[dt.datetime.fromtimestamp(time // 10**9, dt.UTC).date()] = value
    dates = sorted(marks)
    if m.calendar == "24/7":
        span = (dates[-1] - dates[0]).days
        dates = [dates[0] + dt.timedelta(days=k) for k in range(span + 1)]
    returns, last = [], 1.0
    for date in dates:
        value = marks.get(date, last)
        returns.append(value / last - 1 if last else 0.0)
        last = value
    n = len(returns)
    mean = math.fsum(returns) / n
    spread = math.nan
    if n > 1:
        spread = math.sqrt(math.fsum((r - mean) ** 2 for r in returns) / (n - 1))
        if len(set(returns)) == 1:
            spread = 0.0
    down = math.sqrt(math.fsum(min(r, 0.0) ** 2 for r in returns) / n)
    peak, worst = 1.0, 0.0
    for value in run.equity:
        peak = max(peak, value)
        worst = max(worst, (peak - value) / peak)
    days = (times[-1] + m.interval - times[0]) / NS_PER_DAY
    try:
        cagr = run.equity[-1] ** (365.25 / days) - 1
    except OverflowError:  # a rate beyond the floats is undefined
        cagr = math.nan
    wins = [t["pnl"] for t in run.trades if t["pnl"] > 0]
    losses = [-t["pnl"] for t in run.trades if t["pnl"] < 0]
    count = len(run.trades)
    level = 0.0
    last = 1.0
    for date in dates:
        last = marks.get(date, last)
        level += last / len(dates)
    traded = math.fsum(t["units"] * (t["entry_price"] + t["exit_price"]) for t in run.trades)

    def over(a, b):
        return a / b if b > 0 else math.nan

    return {
        "total_return": run.equity[-1] - 1,
        "cagr": cagr,
        "volatility": spread * math.sqrt(days_per_year),
        "sharpe": over(mean, spread) * math.sqrt(days_per_year),
        "sortino": over(mean, down) * math.sqrt(days_per_year),
        "max_drawdown": worst,
        "calmar": over(cagr, worst),
        "n_trades": count,
        "win_rate": over(len(wins), count),
        "profit_factor": over(math.fsum(wins), math.fsum(losses)),
        "expectancy": over(math.fsum(t["pnl"] for t in run.trades), count),
        "avg_bars_held": over(sum(t["exit_bar"] - t["entry_bar"] for t in run.trades), count),
        "turnover": over(traded, level),
        "fees_paid": math.fsum(t["fees"] for t in run.trades),
        "exposure": run.held / len(times),
        "days_per_year": days_per_year,
    }
