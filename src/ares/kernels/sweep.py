"""Many points in one call: for each its signals, its rules, one walk; the GIL is not held."""

from __future__ import annotations

import numba

from ares.kernels.addresses import floats_at, ints_at
from ares.kernels.compiling import compiled
from ares.kernels.position import (
    FIRST,
    FLOAT,
    FLOATS,
    INT,
    INTS,
    LAST,
    MARKET,
    Books,
    Floats,
    Ints,
    Market,
    begin,
)
from ares.kernels.skip import PLACES, Places, skip

# columns of `sources`: an address and a length of each array
SCORE, MINIMA, MAXIMA = 0, 2, 4
LONG_ENTRIES, LONG_EXITS, SHORT_ENTRIES, SHORT_EXITS = 6, 8, 10, 12
N_SOURCES = 14

# Bars that all points walk through before any walks on: their prices stay in the cache.
_TILE = 16_384

_ROWS = numba.types.Array(INT, 2, "C", readonly=True)
_REALS = numba.types.Array(FLOAT, 2, "C", readonly=True)
_FUNDING = numba.types.Tuple((INTS, FLOATS))
_ALL_BOOKS = numba.types.Tuple((FLOAT[:, ::1], INT[:, ::1], FLOAT[:, ::1], INT[:, ::1]))


@compiled(
    numba.void(
        _ROWS, _REALS, MARKET, PLACES, _REALS, _ROWS, _FUNDING, INTS, FLOAT[:, ::1], INT[:, ::1],
        INT[:, ::1], _ALL_BOOKS,
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
    cursors: Ints,
    books: Books,
) -> None:
    """Walk all points over the same bars, tile by tile.

    Args:
        sources: Addresses and lengths of each point's score and its block extremes, or of its
            four lists of bars, shape (points, 14); the caller keeps these arrays alive.
        levels: Levels of each point's score, shape (points, 4).
        market: The bars.
        places: As in `skip`.
        rates: Shape (points, 6).
        plans: Shape (points, 9); all have the same first and last bar.
        funding: Times and rates.
        marked: Bars at whose closes equity is wanted.
        marks: Becomes the equity there, shape (points, marks).
        closed: Becomes the trades that ended up to each mark, after the one before; zeros on
            entry, shape (points, marks).
        cursors: Room, shape (points, 4); zeros on entry.
        books: Room for the positions, shape (points, 7) and (points, 9), left as they end; and the
            tables of trades, which become those of the one point that keeps them.
    """
    for point in range(sources.shape[0]):
        begin(plans[point, FIRST], (books[0][point], books[1][point], books[2], books[3]))
    last = plans[0, LAST] if sources.shape[0] > 0 else 0
    until = plans[0, FIRST] if sources.shape[0] > 0 else 0
    while until < last:
        until = min(until + _TILE, last)
        for point in range(sources.shape[0]):
            at = sources[point]
            signal = (
                floats_at(at[SCORE], at[SCORE + 1]),
                floats_at(at[MINIMA], at[MINIMA + 1]),
                floats_at(at[MAXIMA], at[MAXIMA + 1]),
                levels[point],
                ints_at(at[LONG_ENTRIES], at[LONG_ENTRIES + 1]),
                ints_at(at[LONG_EXITS], at[LONG_EXITS + 1]),
                ints_at(at[SHORT_ENTRIES], at[SHORT_ENTRIES + 1]),
                ints_at(at[SHORT_EXITS], at[SHORT_EXITS + 1]),
                cursors[point],
            )
            rules = (rates[point], plans[point], funding[0], funding[1])
            own = (books[0][point], books[1][point], books[2], books[3])
            skip(until, signal, market, places, rules, own, marked, marks[point], closed[point])
