"""The bar-by-bar loop: signals of every bar in, trades and marks out. Read this one first."""

from __future__ import annotations

import numba

from ares.kernels.compiling import compiled
from ares.kernels.position import (
    AT_CLOSE,
    BOOKS,
    BYTES,
    FIRST,
    FLOAT,
    FLOATS,
    INT,
    LAST,
    MARKET,
    RUINED,
    RULES,
    TRADES,
    Books,
    Bytes,
    Floats,
    Market,
    Rules,
    begin,
    step,
)


@compiled(
    numba.types.UniTuple(INT, 2)(MARKET, BYTES, BYTES, FLOATS, RULES, BOOKS, FLOAT[::1]),
    allocates=False,
)
def walk(
    market: Market,
    flags: Bytes,
    stale: Bytes,
    atr: Floats,
    rules: Rules,
    books: Books,
    marks: Floats,
) -> tuple[int, int]:
    """Walk the bars [FIRST, LAST) one by one; the number of trades, and 1 where all is lost.

    Args:
        market: The bars.
        flags: The signals known at the close of each bar.
        stale: Whether each bar comes after a long gap.
        atr: Average true range of each bar; empty where it is not used.
        rules: Rates, plan, funding times and rates.
        books: Room for the position; its tables become the finished trades.
        marks: Becomes the equity at each close.
    """
    plan, state = rules[1], books[1]
    first = plan[FIRST]
    begin(first, books)
    for bar in range(first, plan[LAST]):
        deciding = bar - 1 + plan[AT_CLOSE]
        known = int(flags[deciding]) if deciding >= first else 0
        equity = 0.0
        if state[RUINED] == 0:
            equity = step(bar, known, market, stale, atr, rules, books)
        marks[bar - first] = equity
    return state[TRADES], state[RUINED]
