"""The bar-by-bar loop: signals of every bar in, trades and marks out. Read this one first."""

from __future__ import annotations

import numba
import numpy as np

from ares.kernels.compiling import compiled
from ares.kernels.position import (
    AT_CLOSE,
    BYTES,
    CASH,
    FIRST,
    FLOAT,
    FLOATS,
    INT,
    LAST,
    MARKET,
    N_BOOK,
    N_STATE,
    READY,
    RUINED,
    RULES,
    TRADES,
    Bytes,
    Floats,
    Ints,
    Market,
    Rules,
    step,
)


@compiled(
    numba.types.UniTuple(INT, 2)(
        MARKET, BYTES, BYTES, FLOATS, RULES, FLOAT[::1], FLOAT[:, ::1], INT[:, ::1]
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
) -> tuple[int, int]:
    """Walk the bars [FIRST, LAST) one by one; the number of trades, and 1 where all is lost.

    Args:
        market: The bars.
        flags: The signals known at the close of each bar.
        stale: Whether each bar comes after a long gap.
        atr: Average true range of each bar; empty where it is not used.
        rules: Rates, plan, funding times and rates.
        marks: Becomes the equity at each close.
        floats: Becomes prices, units, fees and profit of each trade.
        integers: Becomes entry bar, exit bar, side and reason of each trade.
    """
    plan = rules[1]
    book, state = np.zeros(N_BOOK), np.zeros(N_STATE, dtype=np.int64)
    books = (book, state, floats, integers)
    first = plan[FIRST]
    book[CASH], state[READY] = 1.0, first
    for bar in range(first, plan[LAST]):
        deciding = bar - 1 + plan[AT_CLOSE]
        known = int(flags[deciding]) if deciding >= first else 0
        if state[RUINED] == 0:
            marks[bar - first] = step(bar, known, market, stale, atr, rules, books)
        else:
            marks[bar - first] = 0.0
    return state[TRADES], state[RUINED]
