"""One position at a time: what a bar does to it. This is the definition of a trade.

The order of events inside a bar is the order of the statements in `step` and `_through_bar`. The
functions share the `Books`: small arrays of the one position (floats, integers) and the tables of
finished trades. `Rules` are rates, plan, funding times and funding rates; `Market` is open, high,
low, close and open time of the bars. All are inlined into the loops that call them, so neither
loop has a definition of its own.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

from ares.kernels.compiling import compiled

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Market = tuple[Floats, Floats, Floats, Floats, Ints]
Rules = tuple[Floats, Ints, Ints, Floats]
Books = tuple[Floats, Ints, Floats, Ints]

INT, FLOAT, BOOL = numba.int64, numba.float64, numba.boolean
FLOATS = numba.types.Array(FLOAT, 1, "C", readonly=True)
INTS = numba.types.Array(INT, 1, "C", readonly=True)
BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)
MARKET = numba.types.Tuple((FLOATS, FLOATS, FLOATS, FLOATS, INTS))
RULES = numba.types.Tuple((FLOATS, INTS, INTS, FLOATS))
BOOKS = numba.types.Tuple((FLOAT[::1], INT[::1], FLOAT[:, ::1], INT[:, ::1]))

LONG_ENTRY, LONG_EXIT, SHORT_ENTRY, SHORT_EXIT = 1, 2, 4, 8
SIGNAL, STOP, TARGET, GAP, TIME, END, RUIN = 0, 1, 2, 3, 4, 5, 6
NEVER = 2**62

# rates: what the caller fixes, floats
STOP_LOSS, TAKE_PROFIT, SIZE, FEE, SLIPPAGE, BORROW = 0, 1, 2, 3, 4, 5
N_RATES = 6
# plan: what the caller fixes, integers; MAX_HOLD is NEVER where there is none, KEEP is 1 where
# trades get a row each and every close is marked
FIRST, LAST, AT_CLOSE, MAX_HOLD, COOLDOWN, USE_ATR, INTERVAL, WATCHED, KEEP = range(9)
N_PLAN = 9
# the position, floats: cash, signed units, fill price, levels, entry fee, accruals so far
CASH, UNITS, ENTRY, STOP_LEVEL, TARGET_LEVEL, FEES, ACCRUED = 0, 1, 2, 3, 4, 5, 6
N_BOOK = 7
# the position, integers: side, entry bar, first bar that may decide, accrued until, next funding,
# trades so far, whether all is lost; and how far a walk that pauses has come: the bar at which
# something can happen next, and the next mark
SIDE, BAR, READY, CLOCK, NEXT, TRADES, RUINED, PENDING, MARK = range(9)
N_STATE = 9
# a finished trade
T_ENTRY_BAR, T_EXIT_BAR, T_SIDE, T_REASON = 0, 1, 2, 3
T_ENTRY, T_EXIT, T_UNITS, T_FEES, T_PNL = 0, 1, 2, 3, 4


@compiled(numba.void(INT, BOOKS), inlined=True, allocates=False)
def begin(first: int, books: Books) -> None:
    """A flat position with the initial cash of 1, before its first bar."""
    book, state = books[0], books[1]
    for k in range(N_BOOK):
        book[k] = 0.0
    for k in range(N_STATE):
        state[k] = 0
    book[CASH], state[READY], state[PENDING] = 1.0, first, -1


@compiled(numba.void(INT, FLOAT, RULES, BOOKS), inlined=True, allocates=False)
def _accrue(now: int, price: float, rules: Rules, books: Books) -> None:
    """Charge borrow and funding for the time until `now` on the position's value at `price`."""
    book, state = books[0], books[1]
    funding_time = rules[2]
    elapsed = now - state[CLOCK]
    if elapsed <= 0:
        return
    state[CLOCK] = now
    charge = 0.0
    if state[SIDE] < 0:
        charge = rules[0][BORROW] * elapsed * abs(book[UNITS]) * price
    while state[NEXT] < funding_time.shape[0] and funding_time[state[NEXT]] <= now:
        charge += rules[3][state[NEXT]] * book[UNITS] * price
        state[NEXT] += 1
    book[CASH] -= charge
    book[ACCRUED] += charge


@compiled(numba.void(INT, FLOAT, INT, RULES, BOOKS), inlined=True, allocates=False)
def _leave(bar: int, price: float, reason: int, rules: Rules, books: Books) -> None:
    """Close the position at `price`, worsened by slippage unless at a target; note the trade."""
    book, state, floats, integers = books
    rates = rules[0]
    units = book[UNITS]
    slippage = 0.0 if reason == TARGET else rates[SLIPPAGE]
    fill = price * (1.0 - state[SIDE] * slippage)
    fee = rates[FEE] * (abs(units) * fill)
    book[CASH] += units * fill - fee
    if rules[1][KEEP] == 1:
        row = state[TRADES]
        integers[row, T_ENTRY_BAR] = state[BAR]
        integers[row, T_EXIT_BAR] = bar
        integers[row, T_SIDE] = state[SIDE]
        integers[row, T_REASON] = reason
        fees = book[FEES] + fee
        floats[row, T_ENTRY] = book[ENTRY]
        floats[row, T_EXIT] = fill
        floats[row, T_UNITS] = abs(units)
        floats[row, T_FEES] = fees
        floats[row, T_PNL] = units * (fill - book[ENTRY]) - fees - book[ACCRUED]
    state[TRADES] += 1
    state[SIDE] = 0
    book[UNITS] = 0.0


@compiled(numba.void(INT, INT, FLOAT, INT, FLOAT, RULES, BOOKS), inlined=True, allocates=False)
def _enter(
    side: int, bar: int, price: float, moment: int, atr: float, rules: Rules, books: Books
) -> None:
    """Open a position at `price` worsened by slippage; levels count from the fill price."""
    book, state = books[0], books[1]
    rates, plan, funding_time = rules[0], rules[1], rules[2]
    if not book[CASH] > 0.0 or (plan[USE_ATR] and math.isnan(atr)):
        return
    fill = price * (1.0 + side * rates[SLIPPAGE])
    units = rates[SIZE] * book[CASH] / (fill * (1.0 + rates[FEE]))
    fee = rates[FEE] * (units * fill)
    book[CASH] -= side * units * fill + fee
    book[UNITS] = side * units
    book[ENTRY] = fill
    book[FEES] = fee
    book[ACCRUED] = 0.0
    if plan[USE_ATR]:
        book[STOP_LEVEL] = fill - side * rates[STOP_LOSS] * atr
        book[TARGET_LEVEL] = fill + side * rates[TAKE_PROFIT] * atr
    else:
        book[STOP_LEVEL] = fill * (1.0 - side * rates[STOP_LOSS])
        book[TARGET_LEVEL] = fill * (1.0 + side * rates[TAKE_PROFIT])
    state[SIDE] = side
    state[BAR] = bar
    state[CLOCK] = moment
    while state[NEXT] < funding_time.shape[0] and funding_time[state[NEXT]] <= moment:
        state[NEXT] += 1


@compiled(INT(INT, INT, FLOAT, BOOL, RULES, BOOKS), inlined=True, allocates=False)
def _decided(
    flags: int, bar: int, price: float, may_enter: bool, rules: Rules, books: Books
) -> int:
    """Signal exit, else time exit, at `price` in `bar`; then the side to enter, or 0.

    `flags` are those of the deciding bar: `bar` itself where orders fill at its close, else the
    bar before it.
    """
    state, plan = books[1], rules[1]
    at_close = plan[AT_CLOSE]
    turned = 0
    side = state[SIDE]
    if side != 0:
        wanted = flags & (LONG_EXIT if side > 0 else SHORT_EXIT)
        if wanted == 0 and bar - state[BAR] < plan[MAX_HOLD]:
            return 0
        _leave(bar, price, SIGNAL if wanted != 0 else TIME, rules, books)
        # An exit at a close comes after that close's decision, hence at least one bar.
        state[READY] = bar + max(plan[COOLDOWN], at_close)
        if wanted != 0 and plan[COOLDOWN] == 0:
            turned = side
    enter_long, enter_short = flags & LONG_ENTRY, flags & SHORT_ENTRY
    if not may_enter or (enter_long != 0 and enter_short != 0):
        return 0
    free = bar - 1 + at_close >= state[READY]
    if enter_long != 0 and flags & LONG_EXIT == 0 and (free or turned < 0):
        return 1
    if enter_short != 0 and flags & SHORT_EXIT == 0 and (free or turned > 0):
        return -1
    return 0


@compiled(numba.void(INT, BOOL, MARKET, RULES, BOOKS), inlined=True, allocates=False)
def _through_bar(bar: int, older: bool, market: Market, rules: Rules, books: Books) -> None:
    """Stop and target of the open position in this bar: open first, then stop, then target."""
    book, state = books[0], books[1]
    opening, high, low = market[0][bar], market[1][bar], market[2][bar]
    side, stop, target = state[SIDE], book[STOP_LEVEL], book[TARGET_LEVEL]
    price, reason = opening, -1
    if side * (opening - stop) <= 0.0:
        reason = GAP
    elif older and side * (opening - target) >= 0.0:
        reason = TARGET
    else:
        # When inside the bar it left is not known: it pays for the whole bar.
        if rules[0][BORROW] > 0.0 or rules[2].shape[0] > 0:
            _accrue(market[4][bar] + rules[1][INTERVAL], opening, rules, books)
        worst, best = (low, high) if side > 0 else (high, low)
        if side * (worst - stop) <= 0.0:
            price, reason = stop, STOP
        elif side * (best - target) >= 0.0:
            price, reason = target, TARGET
    if reason >= 0:
        _leave(bar, price, reason, rules, books)
        state[READY] = bar + rules[1][COOLDOWN]


@compiled(
    numba.void(INT, BOOL, FLOAT, INT, INT, FLOATS, RULES, BOOKS), inlined=True, allocates=False
)
def _fills(
    bar: int,
    may_enter: bool,
    price: float,
    moment: int,
    flags: int,
    atr: Floats,
    rules: Rules,
    books: Books,
) -> None:
    """Exit and entry at one price and moment, by the flags and the true range of the deciding bar."""
    side = _decided(flags, bar, price, may_enter, rules, books)
    if side != 0:
        plan = rules[1]
        level = atr[bar - 1 + plan[AT_CLOSE]] if plan[USE_ATR] == 1 else math.nan
        _enter(side, bar, price, moment, level, rules, books)


@compiled(FLOAT(INT, INT, MARKET, BYTES, FLOATS, RULES, BOOKS), inlined=True, allocates=False)
def step(
    bar: int, flags: int, market: Market, stale: Bytes, atr: Floats, rules: Rules, books: Books
) -> float:
    """Everything that happens in one bar, in its order; the equity at its close.

    Args:
        bar: Its index.
        flags: Signals of the deciding bar: `bar` itself where orders fill at the close, else the
            bar before it (0 on the first bar).
        market: The bars.
        stale: Whether each bar comes after a long gap.
        atr: Average true range of each bar; not looked at where it is not used.
        rules: What the caller fixed.
        books: The position, changed in place.
    """
    opening, closing, time = market[0], market[3], market[4]
    book, state, plan = books[0], books[1], rules[1]
    last, older = bar == plan[LAST] - 1, state[SIDE] != 0
    accrues = rules[0][BORROW] > 0.0 or rules[2].shape[0] > 0
    if accrues and older:
        _accrue(time[bar], closing[bar - 1], rules, books)
    if plan[AT_CLOSE] == 0:
        before = state[TRADES]
        enter = not last and stale[bar] == 0
        _fills(bar, enter, opening[bar], time[bar], flags, atr, rules, books)
        older = older and state[TRADES] == before
    guarded = not (math.isnan(book[STOP_LEVEL]) and math.isnan(book[TARGET_LEVEL]))
    if state[SIDE] != 0 and (guarded or accrues):
        _through_bar(bar, older, market, rules, books)
    if plan[AT_CLOSE] == 1:
        known = time[bar] + plan[INTERVAL]
        _fills(bar, not last, closing[bar], known, flags, atr, rules, books)
    equity: float = book[CASH] + book[UNITS] * closing[bar]
    if state[SIDE] != 0:
        if equity <= 0.0:
            _leave(bar, closing[bar], RUIN, rules, books)
        elif last:
            _leave(bar, closing[bar], END, rules, books)
            equity = book[CASH]
    if equity <= 0.0:
        state[RUINED] = 1
        book[CASH] = equity = 0.0
    return equity
