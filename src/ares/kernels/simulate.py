"""The bar-by-bar walk: flags of signals in, trades and marks out.

The order of events inside a bar is the order of the statements in `walk` and `_through_bar`. The
functions share the `Books`: small arrays of the one position (floats, integers) and the tables of
finished trades. `Rules` are rates, plan, funding times and funding rates; `Market` is open, high,
low, close and open time of the bars.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Market = tuple[Floats, Floats, Floats, Floats, Ints]
Rules = tuple[Floats, Ints, Ints, Floats]
Books = tuple[Floats, Ints, Floats, Ints]
_Function = TypeVar("_Function", bound=Callable[..., Any])

_INT, _FLOAT, _BOOL = numba.int64, numba.float64, numba.boolean
_F = numba.types.Array(_FLOAT, 1, "C", readonly=True)
_I = numba.types.Array(_INT, 1, "C", readonly=True)
_U = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_MARKET = numba.types.Tuple((_F, _F, _F, _F, _I))
_RULES = numba.types.Tuple((_F, _I, _I, _F))
_BOOKS = numba.types.Tuple((_FLOAT[::1], _INT[::1], _FLOAT[:, ::1], _INT[:, ::1]))

LONG_ENTRY, LONG_EXIT, SHORT_ENTRY, SHORT_EXIT = 1, 2, 4, 8
SIGNAL, STOP, TARGET, GAP, TIME, END, RUIN = 0, 1, 2, 3, 4, 5, 6

# rates: what the caller fixes, floats
STOP_LOSS, TAKE_PROFIT, SIZE, FEE, SLIPPAGE, BORROW = 0, 1, 2, 3, 4, 5
N_RATES = 6
# plan: what the caller fixes, integers
FIRST, LAST, AT_CLOSE, MAX_HOLD, COOLDOWN, USE_ATR, INTERVAL = 0, 1, 2, 3, 4, 5, 6
N_PLAN = 7
# the position, floats: cash, signed units, fill price, levels, entry fee, accruals so far
_CASH, _UNITS, _ENTRY, _STOP_LEVEL, _TARGET_LEVEL, _FEES, _ACCRUED = 0, 1, 2, 3, 4, 5, 6
# the position, integers: side, entry bar, first bar that may decide, accrued until, next funding,
# trades so far
_SIDE, _BAR, _READY, _CLOCK, _NEXT, _TRADES = 0, 1, 2, 3, 4, 5
# a finished trade
T_ENTRY_BAR, T_EXIT_BAR, T_SIDE, T_REASON = 0, 1, 2, 3
T_ENTRY, T_EXIT, T_UNITS, T_FEES, T_PNL = 0, 1, 2, 3, 4


def _compiled(signature: Any) -> Callable[[_Function], _Function]:
    compiler: Callable[[_Function], _Function] = numba.njit(
        signature, cache=True, nogil=True, error_model="numpy"
    )
    return compiler


@_compiled(numba.void(_INT, _FLOAT, _RULES, _BOOKS))
def _accrue(now: int, price: float, rules: Rules, books: Books) -> None:
    """Charge borrow and funding for the time until `now` on the position's value at `price`."""
    book, state = books[0], books[1]
    funding_time = rules[2]
    elapsed = now - state[_CLOCK]
    if elapsed <= 0:
        return
    state[_CLOCK] = now
    charge = 0.0
    if state[_SIDE] < 0:
        charge = rules[0][BORROW] * elapsed * abs(book[_UNITS]) * price
    while state[_NEXT] < funding_time.shape[0] and funding_time[state[_NEXT]] <= now:
        charge += rules[3][state[_NEXT]] * book[_UNITS] * price
        state[_NEXT] += 1
    book[_CASH] -= charge
    book[_ACCRUED] += charge


@_compiled(numba.void(_INT, _FLOAT, _INT, _RULES, _BOOKS))
def _leave(bar: int, price: float, reason: int, rules: Rules, books: Books) -> None:
    """Close the position at `price`, worsened by slippage unless at a target; note the trade."""
    book, state, floats, integers = books
    rates = rules[0]
    units = book[_UNITS]
    slippage = 0.0 if reason == TARGET else rates[SLIPPAGE]
    fill = price * (1.0 - slippage) if units > 0.0 else price * (1.0 + slippage)
    fee = rates[FEE] * (abs(units) * fill)
    book[_CASH] += units * fill - fee
    row = state[_TRADES]
    integers[row, T_ENTRY_BAR] = state[_BAR]
    integers[row, T_EXIT_BAR] = bar
    integers[row, T_SIDE] = state[_SIDE]
    integers[row, T_REASON] = reason
    fees = book[_FEES] + fee
    floats[row, T_ENTRY] = book[_ENTRY]
    floats[row, T_EXIT] = fill
    floats[row, T_UNITS] = abs(units)
    floats[row, T_FEES] = fees
    floats[row, T_PNL] = units * (fill - book[_ENTRY]) - fees - book[_ACCRUED]
    state[_TRADES] = row + 1
    state[_SIDE] = 0
    book[_UNITS] = 0.0


@_compiled(numba.void(_INT, _INT, _FLOAT, _INT, _FLOAT, _RULES, _BOOKS))
def _enter(
    side: int, bar: int, price: float, moment: int, atr: float, rules: Rules, books: Books
) -> None:
    """Open a position at `price` worsened by slippage; levels count from the fill price."""
    book, state = books[0], books[1]
    rates, plan, funding_time = rules[0], rules[1], rules[2]
    if not book[_CASH] > 0.0 or (plan[USE_ATR] and math.isnan(atr)):
        return
    fill = price * (1.0 + side * rates[SLIPPAGE])
    units = rates[SIZE] * book[_CASH] / (fill * (1.0 + rates[FEE]))
    fee = rates[FEE] * (units * fill)
    book[_CASH] -= side * units * fill + fee
    book[_UNITS] = side * units
    book[_ENTRY] = fill
    book[_FEES] = fee
    book[_ACCRUED] = 0.0
    if plan[USE_ATR]:
        book[_STOP_LEVEL] = fill - side * rates[STOP_LOSS] * atr
        book[_TARGET_LEVEL] = fill + side * rates[TAKE_PROFIT] * atr
    else:
        book[_STOP_LEVEL] = fill * (1.0 - side * rates[STOP_LOSS])
        book[_TARGET_LEVEL] = fill * (1.0 + side * rates[TAKE_PROFIT])
    state[_SIDE] = side
    state[_BAR] = bar
    state[_CLOCK] = moment
    while state[_NEXT] < funding_time.shape[0] and funding_time[state[_NEXT]] <= moment:
        state[_NEXT] += 1


@_compiled(_INT(_INT, _INT, _FLOAT, _BOOL, _RULES, _BOOKS))
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
    side = state[_SIDE]
    if side != 0:
        wanted = flags & (LONG_EXIT if side > 0 else SHORT_EXIT)
        due = plan[MAX_HOLD] > 0 and bar >= state[_BAR] + plan[MAX_HOLD]
        if wanted == 0 and not due:
            return 0
        _leave(bar, price, SIGNAL if wanted != 0 else TIME, rules, books)
        # An exit at a close comes after that close's decision, hence at least one bar.
        state[_READY] = bar + max(plan[COOLDOWN], at_close)
        if wanted != 0 and plan[COOLDOWN] == 0:
            turned = side
    enter_long, enter_short = flags & LONG_ENTRY, flags & SHORT_ENTRY
    if not may_enter or (enter_long != 0 and enter_short != 0):
        return 0
    free = bar - 1 + at_close >= state[_READY]
    if enter_long != 0 and flags & LONG_EXIT == 0 and (free or turned < 0):
        return 1
    if enter_short != 0 and flags & SHORT_EXIT == 0 and (free or turned > 0):
        return -1
    return 0


@_compiled(numba.void(_INT, _BOOL, _MARKET, _RULES, _BOOKS))
def _through_bar(bar: int, older: bool, market: Market, rules: Rules, books: Books) -> None:
    """Stop and target of the open position in this bar: open first, then stop, then target."""
    book, state = books[0], books[1]
    opening, high, low = market[0][bar], market[1][bar], market[2][bar]
    side, stop, target = state[_SIDE], book[_STOP_LEVEL], book[_TARGET_LEVEL]
    if side * (opening - stop) <= 0.0:
        _leave(bar, opening, GAP, rules, books)
    elif older and side * (opening - target) >= 0.0:
        _leave(bar, opening, TARGET, rules, books)
    else:
        # When inside the bar it left is not known: it pays for the whole bar.
        _accrue(market[4][bar] + rules[1][INTERVAL], opening, rules, books)
        worst, best = (low, high) if side > 0 else (high, low)
        if side * (worst - stop) <= 0.0:
            _leave(bar, stop, STOP, rules, books)
        elif side * (best - target) >= 0.0:
            _leave(bar, target, TARGET, rules, books)
    if state[_SIDE] == 0:
        state[_READY] = bar + rules[1][COOLDOWN]


@_compiled(_INT(_INT))
def _watched(side: int) -> int:
    """The signals that matter to a position on `side`, or to none (0)."""
    if side == 0:
        return LONG_ENTRY | SHORT_ENTRY
    return LONG_EXIT if side > 0 else SHORT_EXIT


@_compiled(numba.void(_INT, _INT, _FLOAT, _INT, _BOOL, _FLOAT, _RULES, _BOOKS))
def _fills(
    flags: int,
    bar: int,
    price: float,
    moment: int,
    may_enter: bool,
    atr: float,
    rules: Rules,
    books: Books,
) -> None:
    """Exit and entry at one price and moment, by the flags and the true range of the deciding bar."""
    side = _decided(flags, bar, price, may_enter, rules, books)
    if side != 0:
        _enter(side, bar, price, moment, atr, rules, books)


@_compiled(
    numba.types.Tuple((_INT, _FLOAT, _BOOL, _INT))(
        _MARKET, _U, _U, _F, _RULES, _FLOAT[::1], _FLOAT[:, ::1], _INT[:, ::1]
    )
)
def walk(
    market: Market,
    flags: Bytes,
    stale: Bytes,
    atr: Floats,
    rules: Rules,
    marks: Floats,
    floats: Floats,
    integers: Ints,
) -> tuple[int, float, bool, int]:
    """Walk the bars [FIRST, LAST) and return trades, maximum drawdown, ruin, closes held.

    `flags` are the signals of each bar, `stale[i]` says that bar i comes after a long gap, `atr`
    is empty where it is not used, `marks` becomes the equity at each close. Calls cost more than
    most bars do, so they are made only where something can happen.
    """
    opening, high, low, closing, time = market
    plan = rules[1]
    book, state = np.zeros(7), np.zeros(6, dtype=np.int64)
    books = (book, state, floats, integers)
    book[_CASH], state[_READY], peak, first = 1.0, plan[FIRST], 1.0, plan[FIRST]
    closes, use_atr, hold = plan[AT_CLOSE] == 1, plan[USE_ATR] == 1, plan[MAX_HOLD] or 2**62
    accrues = rules[0][BORROW] > 0.0 or rules[2].shape[0] > 0
    drawdown, ruined, held = 0.0, False, 0
    for i in range(first, plan[LAST]):
        last, side = i == plan[LAST] - 1, state[_SIDE]
        older, due = side != 0, side != 0 and i - state[_BAR] >= hold
        if accrues and older:
            _accrue(time[i], closing[i - 1], rules, books)
        if not closes and i > first and not ruined and (due or flags[i - 1] & _watched(side) != 0):
            before = state[_TRADES]
            level = atr[i - 1] if use_atr else np.nan
            enter = not last and stale[i] == 0
            _fills(flags[i - 1], i, opening[i], time[i], enter, level, rules, books)
            older = older and state[_TRADES] == before
            side = state[_SIDE]
        if side != 0:
            worst, best = (low[i], high[i]) if side > 0 else (high[i], low[i])
            stopped = side * (worst - book[_STOP_LEVEL]) <= 0.0
            if accrues or stopped or side * (best - book[_TARGET_LEVEL]) >= 0.0:
                _through_bar(i, older, market, rules, books)
        if closes and not ruined and (due or flags[i] & _watched(state[_SIDE]) != 0):
            level = atr[i] if use_atr else np.nan
            known = time[i] + plan[INTERVAL]
            _fills(flags[i], i, closing[i], known, not last, level, rules, books)
        equity = book[_CASH] + book[_UNITS] * closing[i]
        if state[_SIDE] != 0:
            held += 1
            if equity <= 0.0:
                _leave(i, closing[i], RUIN, rules, books)
            elif last:
                _leave(i, closing[i], END, rules, books)
                equity = book[_CASH]
        if equity <= 0.0:
            ruined = True
            book[_CASH] = equity = 0.0
        peak = max(peak, equity)
        drawdown = max(drawdown, (peak - equity) / peak)
        marks[i - first] = equity
    return state[_TRADES], drawdown, ruined, held
