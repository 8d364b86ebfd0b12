"""Many points in one call: for each its signals, its rules, one walk; the GIL is not held."""

from __future__ import annotations

import numba
import numpy as np

from ares.kernels.addresses import floats_at, ints_at
from ares.kernels.compiling import compiled
from ares.kernels.position import (
    CASH,
    FIRST,
    FLOAT,
    FLOATS,
    INT,
    INTS,
    MARKET,
    N_BOOK,
    N_STATE,
    READY,
    TRADES,
    Floats,
    Ints,
    Market,
)
from ares.kernels.skip import PLACES, Places, skip

Tables = tuple[Floats, Ints]

# columns of `sources`: an address and a length of each array
SCORE, MINIMA, MAXIMA = 0, 2, 4
LONG_ENTRIES, LONG_EXITS, SHORT_ENTRIES, SHORT_EXITS = 6, 8, 10, 12
N_SOURCES = 14

_ROWS = numba.types.Array(INT, 2, "C", readonly=True)
_REALS = numba.types.Array(FLOAT, 2, "C", readonly=True)
_FUNDING = numba.types.Tuple((INTS, FLOATS))
_TABLES = numba.types.Tuple((FLOAT[:, ::1], INT[:, ::1]))


@compiled(
    numba.void(
        _ROWS, _REALS, MARKET, PLACES, _REALS, _ROWS, _FUNDING, INTS, FLOAT[:, ::1], INT[:, ::1],
        INT[:, ::1], _TABLES,
    )
)  # fmt: skip
def sweep(
    sources: Ints,
    levels: Floats,
    market: Market,
    places: Places,
    rates: Floats,
    plans: Ints,
    funding: tuple[Ints, Floats],
    marked: Ints,
    marks: Floats,
    closed: Ints,
    totals: Ints,
    tables: Tables,
) -> None:
    """Walk all points, one after the other.

    Args:
        sources: Addresses and lengths of each point's score and its block extremes, or of its
            four lists of bars, shape (points, 14); the caller keeps these arrays alive.
        levels: Levels of each point's score, shape (points, 4).
        market: The bars.
        places: As in `skip`.
        rates: Shape (points, 6).
        plans: Shape (points, 9).
        funding: Times and rates.
        marked: Bars at whose closes equity is wanted.
        marks: Becomes the equity there, shape (points, marks).
        closed: Becomes the trades that ended up to each mark, after the one before; zeros on
            entry, shape (points, marks).
        totals: Becomes the number of trades and whether all was lost, shape (points, 2).
        tables: Prices and bars of all trades of the one point that keeps them, else one row.
    """
    book, state = np.empty(N_BOOK), np.empty(N_STATE, dtype=np.int64)
    cursors, books = np.empty(4, dtype=np.int64), (book, state, tables[0], tables[1])
    for point in range(sources.shape[0]):
        at, plan = sources[point], plans[point]
        signal = (
            floats_at(at[SCORE], at[SCORE + 1]),
            floats_at(at[MINIMA], at[MINIMA + 1]),
            floats_at(at[MAXIMA], at[MAXIMA + 1]),
            levels[point],
            ints_at(at[LONG_ENTRIES], at[LONG_ENTRIES + 1]),
            ints_at(at[LONG_EXITS], at[LONG_EXITS + 1]),
            ints_at(at[SHORT_ENTRIES], at[SHORT_ENTRIES + 1]),
            ints_at(at[SHORT_EXITS], at[SHORT_EXITS + 1]),
            cursors,
        )
        book[:], state[:], cursors[:] = 0.0, 0, 0
        book[CASH], state[READY] = 1.0, plan[FIRST]
        rules = (rates[point], plan, funding[0], funding[1])
        totals[point, 1] = skip(
            signal, market, places, rules, books, marked, marks[point], closed[point]
        )
        totals[point, 0] = state[TRADES]
