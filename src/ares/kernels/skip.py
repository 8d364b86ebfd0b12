"""The event-skipping walk: from one bar at which something can happen to the next.

Between two such bars nothing changes but the price, so the marks follow from cash and units. What
happens at a bar is `position.step`, the same as in the bar-by-bar loop. Signals are levels on a
score, found by its block extremes, or sorted lists of bars.
"""

from __future__ import annotations

import math

import numba

from ares.kernels.compiling import compiled
from ares.kernels.index import first_outside, first_touch
from ares.kernels.position import (
    AT_CLOSE,
    BAR,
    BOOKS,
    BORROW,
    BYTES,
    CASH,
    ENTRY,
    FIRST,
    FLOAT,
    FLOATS,
    INT,
    INTS,
    KEEP,
    LAST,
    LONG_ENTRY,
    LONG_EXIT,
    MARK,
    MARKET,
    MAX_HOLD,
    NEVER,
    NEXT,
    PENDING,
    READY,
    RUINED,
    RULES,
    SHORT_ENTRY,
    SHORT_EXIT,
    SIDE,
    STOP_LEVEL,
    TARGET_LEVEL,
    TRADES,
    UNITS,
    WATCHED,
    Books,
    Bytes,
    Floats,
    Ints,
    Market,
    Rules,
    step,
)

Places = tuple[Bytes, Floats, Ints, Floats, Floats]
Signal = tuple[Floats, Floats, Floats, Floats, Ints, Ints, Ints, Ints, Ints]

# levels of a score
ENTER, EXIT, SHORT_ENTER, SHORT_EXIT_LEVEL = 0, 1, 2, 3
_SLACK, _TINY = 1e-9, 1e-290

PLACES = numba.types.Tuple((BYTES, FLOATS, INTS, FLOATS, FLOATS))
_OUT, _EVENTS = FLOAT[::1], INT[::1]
_SIGNAL = numba.types.Tuple((_OUT, _OUT, _OUT, FLOATS, _EVENTS, _EVENTS, _EVENTS, _EVENTS, _EVENTS))


@compiled(INT(_EVENTS, _EVENTS, INT, INT), allocates=False)
def _next_event(events: Ints, cursors: Ints, which: int, begin: int) -> int:
    """First event at `begin` or later; the cursor of the list moves there, never back."""
    n, at = events.shape[0], cursors[which]
    if at < n and events[at] < begin:
        stride = 1
        while at + stride < n and events[at + stride] < begin:
            at += stride
            stride *= 2
        end = min(at + stride, n)
        while at + 1 < end:
            middle = (at + end) // 2
            if events[middle] < begin:
                at = middle
            else:
                end = middle
        at = end
        cursors[which] = at
    return int(events[at]) if at < n else NEVER


@compiled(INT(_SIGNAL, INT, INT, INT), inlined=True, allocates=False)
def _next_signal(signal: Signal, wanted: int, begin: int, end: int) -> int:
    """First bar in [begin, end) with one of the `wanted` signals; `end` where there is none."""
    score, minima, maxima, levels = signal[0], signal[1], signal[2], signal[3]
    if score.shape[0] > 0:
        low, high = -math.inf, math.inf
        if wanted & LONG_ENTRY:
            high = levels[ENTER]
        if wanted & SHORT_EXIT:
            high = levels[SHORT_EXIT_LEVEL]
        if wanted & LONG_EXIT:
            low = levels[EXIT]
        if wanted & SHORT_ENTRY:
            low = levels[SHORT_ENTER]
        return first_outside(score, score, minima, maxima, begin, end, low, high)
    found, cursors = end, signal[8]
    if wanted & LONG_ENTRY:
        found = min(found, _next_event(signal[4], cursors, 0, begin))
    if wanted & LONG_EXIT:
        found = min(found, _next_event(signal[5], cursors, 1, begin))
    if wanted & SHORT_ENTRY:
        found = min(found, _next_event(signal[6], cursors, 2, begin))
    if wanted & SHORT_EXIT:
        found = min(found, _next_event(signal[7], cursors, 3, begin))
    return found


@compiled(INT(_SIGNAL, INT, INT), inlined=True, allocates=False)
def _flags(signal: Signal, watched: int, bar: int) -> int:
    """The `watched` signals of one bar as bits."""
    score, levels, flags = signal[0], signal[3], 0
    if score.shape[0] > 0:
        value = score[bar]
        if value >= levels[ENTER]:
            flags |= LONG_ENTRY
        if value <= levels[EXIT]:
            flags |= LONG_EXIT
        if value <= levels[SHORT_ENTER]:
            flags |= SHORT_ENTRY
        if value >= levels[SHORT_EXIT_LEVEL]:
            flags |= SHORT_EXIT
        return flags & watched
    cursors = signal[8]
    if watched & LONG_ENTRY and _next_event(signal[4], cursors, 0, bar) == bar:
        flags |= LONG_ENTRY
    if watched & LONG_EXIT and _next_event(signal[5], cursors, 1, bar) == bar:
        flags |= LONG_EXIT
    if watched & SHORT_ENTRY and _next_event(signal[6], cursors, 2, bar) == bar:
        flags |= SHORT_ENTRY
    if watched & SHORT_EXIT and _next_event(signal[7], cursors, 3, bar) == bar:
        flags |= SHORT_EXIT
    return flags


@compiled(numba.types.UniTuple(FLOAT, 2)(INT, _OUT), inlined=True, allocates=False)
def _levels(side: int, book: Floats) -> tuple[float, float]:
    """Low and high at which something happens to the position: stop, target or ruin; NaN for none.

    A ruin is looked for a little before its level; whether it is one the bar decides.
    """
    ruin = -book[CASH] / book[UNITS]
    if side > 0:
        ruin *= 1.0 + _SLACK
        low, high = book[STOP_LEVEL], book[TARGET_LEVEL]
        return (ruin if math.isnan(low) or ruin > low else low), high
    ruin *= 1.0 - _SLACK
    low, high = book[TARGET_LEVEL], book[STOP_LEVEL]
    return low, (ruin if math.isnan(high) or ruin < high else high)


@compiled(INT(INT, _SIGNAL, MARKET, PLACES, RULES, _OUT, _EVENTS), inlined=True, allocates=False)
def _next_bar(
    bar: int,
    signal: Signal,
    market: Market,
    places: Places,
    rules: Rules,
    book: Floats,
    state: Ints,
) -> int:
    """First bar after `bar` at which something can happen to the open position."""
    plan, side, at_close = rules[1], state[SIDE], int(rules[1][AT_CLOSE])
    # It pays in every bar; or it is worth so little that its value has hardly a digit.
    if (side < 0 and rules[0][BORROW] > 0.0) or abs(book[UNITS]) * book[ENTRY] < _TINY:
        return bar + 1
    until = int(min(plan[LAST] - 1, state[BAR] + plan[MAX_HOLD]))
    wanted = LONG_EXIT if side > 0 else SHORT_EXIT
    funding_bar, minima, maxima = places[2], places[3], places[4]
    if state[NEXT] < funding_bar.shape[0]:
        until = max(bar + 1, min(until, int(funding_bar[state[NEXT]])))
    score = signal[0]
    if score.shape[0] == 0:
        until = _next_signal(signal, wanted, bar + at_close, until - 1 + at_close) + 1 - at_close
    low, high = _levels(side, book)
    low = low if low >= minima[-1] else -math.inf
    high = high if high <= maxima[-1] else math.inf
    if score.shape[0] == 0:
        if low == -math.inf and high == math.inf:
            return until
        return first_outside(market[2], market[1], minima, maxima, bar + 1, until, low, high)
    bottom = signal[3][EXIT] if side > 0 else -math.inf
    top = signal[3][SHORT_EXIT_LEVEL] if side < 0 else math.inf
    if at_close == 0 and (score[bar] <= bottom or score[bar] >= top):
        return bar + 1
    prices = (market[2], market[1], minima, maxima)
    found = first_touch(
        prices, (score, signal[1], signal[2]), bar + 1, until, (low, high, bottom, top)
    )
    if found == until or market[2][found] <= low or market[1][found] >= high:
        return found
    return found + 1 - at_close


@compiled(INT(INT, _SIGNAL, MARKET, PLACES, RULES, _OUT, _EVENTS), inlined=True, allocates=False)
def _following(
    bar: int,
    signal: Signal,
    market: Market,
    places: Places,
    rules: Rules,
    book: Floats,
    state: Ints,
) -> int:
    """First bar after `bar` at which something can happen; NEVER where nothing more can."""
    plan, at_close = rules[1], rules[1][AT_CLOSE]
    last = plan[LAST] - 1
    if state[RUINED] == 1 or bar == last:
        return NEVER
    if state[SIDE] != 0:
        return _next_bar(bar, signal, market, places, rules, book, state)
    # No entry is made on the last bar.
    entries = plan[WATCHED] & (LONG_ENTRY | SHORT_ENTRY)
    seek = max(state[READY], bar + at_close)
    found = _next_signal(signal, entries, seek, last - 1 + at_close) + 1 - at_close
    return found if found < last else NEVER


@compiled(numba.void(INT, FLOATS, INTS, _OUT, _EVENTS, INTS, _OUT), inlined=True, allocates=False)
def _mark(
    bar: int, closing: Floats, plan: Ints, book: Floats, state: Ints, marked: Ints, marks: Floats
) -> None:
    """Mark the equity at the wanted closes before `bar`, at which nothing happened."""
    cash, units, mark = book[CASH], book[UNITS], state[MARK]
    if plan[KEEP] == 1:
        first = plan[FIRST]
        for k in range(mark, bar - first):
            marks[k] = cash + units * closing[first + k]
        state[MARK] = bar - first
        return
    while mark < marked.shape[0] and marked[mark] < bar:
        marks[mark] = cash + units * closing[marked[mark]]
        mark += 1
    state[MARK] = mark


@compiled(
    numba.void(INT, _SIGNAL, MARKET, PLACES, RULES, BOOKS, INTS, _OUT, _EVENTS), allocates=False
)
def skip(
    until: int,
    signal: Signal,
    market: Market,
    places: Places,
    rules: Rules,
    books: Books,
    marked: Ints,
    marks: Floats,
    closed: Ints,
) -> None:
    """Walk on to bar `until`, or to the end of [FIRST, LAST).

    Args:
        until: Where to pause; the walk goes on from there at the next call.
        signal: Score, its block minima and maxima, its levels; or four lists of bars and their
            cursors.
        market: The bars.
        places: Bars after a long gap, average true ranges, the bar of each funding time, and the
            block minima of the lows and block maxima of the highs.
        rules: Rates, plan, funding times and rates.
        books: The position, and the tables of finished trades.
        marked: Bars at whose closes equity is wanted, not decreasing; with KEEP it is every close.
        marks: Becomes the equity at these closes.
        closed: The number of trades that ended after the mark before is added to each mark; may be
            shorter.
    """
    closing, book, state, at_close = market[3], books[0], books[1], rules[1][AT_CLOSE]
    if state[PENDING] < 0:
        first = rules[1][FIRST] - 1
        state[PENDING] = _following(first, signal, market, places, rules, book, state)
    while True:
        bar = min(state[PENDING], until)
        _mark(bar, closing, rules[1], book, state, marked, marks)
        if bar == until:
            break
        before, mark = state[TRADES], state[MARK]
        flags = _flags(signal, rules[1][WATCHED], bar - 1 + at_close)
        step(bar, flags, market, places[0], places[1], rules, books)
        if mark < closed.shape[0]:
            closed[mark] += state[TRADES] - before
        state[PENDING] = _following(bar, signal, market, places, rules, book, state)
