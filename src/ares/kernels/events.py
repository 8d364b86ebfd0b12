"""Bars at which something is so, for many points in one call; 64 bars to a machine word.

Crossings go over the bars tile by tile: a tile of each column stays in the processor's cache while
all pairs are compared on it. A column is given; simple means are compared by sums of windows.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from ares.kernels.addresses import floats_at
from ares.kernels.compiling import compiled

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_INT, _FLOAT = numba.int64, numba.float64
_F = numba.types.Array(_FLOAT, 1, "C", readonly=True)
_I = numba.types.Array(_INT, 1, "C", readonly=True)
_ROWS = numba.types.Array(_INT, 2, "C", readonly=True)
_TABLE, _BITS = _FLOAT[:, ::1], numba.uint64[:, ::1]
_TILE, _WORD = 1024, 64
_ONE = np.uint64(1)
# Position of the only bit of a word, by de Bruijn's sequence (Leiserson, Prokop, Randall 1998).
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_BIT = np.zeros(_WORD, dtype=np.int64)
for _k in range(_WORD):
    _BIT[((0x03F79D71B4CB0A89 << _k) & (2**64 - 1)) >> 58] = _k


@compiled(_INT(_F, _FLOAT, _INT[::1]), allocates=False)
def running_sums(values: Floats, scale: float, out: Ints) -> int:
    """Sums of the first 0, 1, ... n values in units of 1/scale, shape (n + 1,); the largest value."""
    total = largest = np.int64(0)
    out[0] = 0
    for i in range(values.shape[0]):
        units = np.int64(np.rint(values[i] * scale))
        largest = max(largest, units)
        total += units
        out[i + 1] = total
    return int(largest)


@compiled(numba.void(_INT, _INT, _INT, _INT, _INT, _I, _FLOAT[::1]))
def _fill_row(
    address: int, period: int, begin: int, tile: int, end: int, sums: Ints, row: Floats
) -> None:
    """Values of one column at the bars from `tile` on, or sums of its windows; NaN where none."""
    defined = min(max(begin + period - 1, tile), end)
    row[: defined - tile] = np.nan
    row[end - tile :] = np.nan
    if address != 0:
        column = floats_at(address, end)
        for i in range(defined, end):
            row[i - tile] = column[i]
        return
    # Slices, since a loop over indices that might be negative is not made into vectors.
    later, earlier = sums[defined + 1 : end + 1], sums[defined + 1 - period : end + 1 - period]
    out = row[defined - tile : end - tile]
    for k in range(out.shape[0]):
        out[k] = float(later[k] - earlier[k])


@compiled(numba.void(_TABLE, _INT, _INT, _FLOAT, _FLOAT, _BITS, _BITS, _INT), allocates=False)
def _compare(
    rows: Floats,
    fast: int,
    slow: int,
    fast_times: float,
    slow_times: float,
    above: Words,
    below: Words,
    pair: int,
) -> None:
    """One bit per bar of a tile: fast > slow, and fast < slow; the first word is left alone."""
    for w in range(_TILE // _WORD):
        greater = less = np.uint64(0)
        for k in range(_WORD):
            i = w * _WORD + k
            one, other = fast_times * rows[fast, i], slow_times * rows[slow, i]
            greater |= np.uint64(one > other) << np.uint64(k)
            less |= np.uint64(one < other) << np.uint64(k)
        above[pair, w + 1], below[pair, w + 1] = greater, less


@compiled(_INT(numba.uint64, numba.uint64, _INT, _INT[::1], _INT), inlined=True, allocates=False)
def _note(first: np.uint64, second: np.uint64, base: int, out: Ints, count: int) -> int:
    """Append 2 * bar for each bit of `first` and 2 * bar + 1 for each of `second`; the new count."""
    bits = first | second
    while bits != np.uint64(0):
        lowest = bits & (~bits + _ONE)
        bar = base + _BIT[(lowest * _DE_BRUIJN) >> np.uint64(58)]
        out[count] = 2 * bar + (second & lowest != np.uint64(0))
        count += 1
        bits &= bits - _ONE
    return count


@compiled(_INT(_BITS, _BITS, _INT, _INT, _INT, _INT[::1], _INT), allocates=False)
def _edges(
    above: Words, below: Words, pair: int, tile: int, first: int, out: Ints, count: int
) -> int:
    """Append the crossings of one pair in one tile; the new count.

    The first word of a pair is that of the bars before the tile; the last one becomes it. `first`
    is the first bar that may be an edge.
    """
    for w in range(1, _TILE // _WORD + 1):
        greater, less = above[pair, w], below[pair, w]
        up = greater & ~(greater << _ONE | above[pair, w - 1] >> np.uint64(_WORD - 1))
        down = less & ~(less << _ONE | below[pair, w - 1] >> np.uint64(_WORD - 1))
        if up | down == np.uint64(0):
            continue
        base = tile + (w - 1) * _WORD
        if first > base:
            missing = min(first - base, _WORD)
            keep = ~np.uint64(0) << np.uint64(missing) if missing < _WORD else np.uint64(0)
            up &= keep
            down &= keep
        count = _note(up, down, base, out, count)
    above[pair, 0], below[pair, 0] = above[pair, _TILE // _WORD], below[pair, _TILE // _WORD]
    return count


@compiled(numba.types.UniTuple(_INT[::1], 3)(_INT[::1], _INT[::1], _INT))
def _gathered(events: Ints, cuts: Ints, pairs: int) -> tuple[Ints, Ints, Ints]:
    """Ups and downs of each pair in a row, and where each pair's lie: its first up and down."""
    borders = np.zeros(2 * (pairs + 1), dtype=np.int64)
    for part in range(cuts.shape[0] - 1):
        for k in range(cuts[part], cuts[part + 1]):
            borders[2 * (part % pairs + 1) + (events[k] & 1)] += 1
    for at in range(2, borders.shape[0]):
        borders[at] += borders[at - 2]
    ups = np.empty(borders[2 * pairs], dtype=np.int64)
    downs = np.empty(borders[2 * pairs + 1], dtype=np.int64)
    place = borders.copy()
    for part in range(cuts.shape[0] - 1):
        pair = part % pairs
        for k in range(cuts[part], cuts[part + 1]):
            side = events[k] & 1
            (downs if side else ups)[place[2 * pair + side]] = events[k] >> 1
            place[2 * pair + side] += 1
    return ups, downs, borders


@compiled(numba.types.UniTuple(_INT[::1], 3)(_I, _I, _I, _I, _ROWS, _INT))
def crossings(
    addresses: Ints, periods: Ints, sums: Ints, starts: Ints, pairs: Ints, n: int
) -> tuple[Ints, Ints, Ints]:
    """Bars at which the first column of each pair crosses the second.

    Up where fast > slow now and fast <= slow one bar before; down is the mirror. A column is
    defined `period` - 1 bars after each start.

    Args:
        addresses: Of each column; or 0 for all, where they are means of the last `period` values.
            Then a / p > b / q is decided as q * a > p * b, in numbers below 2**53.
        periods: Of each column.
        sums: `running_sums`; not looked at where columns are given.
        starts: First bars of the stretches; the first one is 0.
        pairs: Fast and slow column of each pair, shape (pairs, 2).
        n: Number of bars.

    Returns:
        Ups of all pairs, downs of all pairs, and 2 * (pairs + 1) borders in them, in turns.
    """
    count, n_pairs, n_columns = 0, pairs.shape[0], periods.shape[0]
    rows = np.empty((n_columns, _TILE))
    above = np.zeros((n_pairs, _TILE // _WORD + 1), dtype=np.uint64)
    below = np.zeros((n_pairs, _TILE // _WORD + 1), dtype=np.uint64)
    events = np.empty(4096, dtype=np.int64)
    parts = 0
    for s in range(starts.shape[0]):
        end = starts[s + 1] if s + 1 < starts.shape[0] else n
        parts += (end - starts[s] + _TILE - 1) // _TILE * n_pairs
    cuts = np.zeros(parts + 1, dtype=np.int64)
    part = 0
    for s in range(starts.shape[0]):
        begin, end = starts[s], starts[s + 1] if s + 1 < starts.shape[0] else n
        for tile in range(begin, end, _TILE):
            for q in range(n_columns):
                stop = min(tile + _TILE, end)
                _fill_row(addresses[q], periods[q], begin, tile, stop, sums, rows[q])
            for p in range(n_pairs):
                fast, slow = pairs[p, 0], pairs[p, 1]
                if events.shape[0] < count + 2 * _TILE:
                    events = np.concatenate((events, np.empty_like(events)))
                times = (1.0, 1.0)
                if addresses[fast] == 0:
                    times = (float(periods[slow]), float(periods[fast]))
                _compare(rows, fast, slow, times[0], times[1], above, below, p)
                first = begin + max(periods[fast], periods[slow])
                count = _edges(above, below, p, tile, first, events, count)
                part += 1
                cuts[part] = count
    return _gathered(events, cuts, n_pairs)


@compiled(numba.types.UniTuple(_INT[::1], 3)(_F, _ROWS, _F))
def outside_bands(close: Floats, columns: Ints, widths: Floats) -> tuple[Ints, Ints, Ints]:
    """Bars at which the close is below mean - width * deviation, and above mean + width * deviation.

    Args:
        close: float64, one per bar.
        columns: Addresses of each point's mean and deviation, shape (points, 2); NaN is never left.
        widths: Of each point.

    Returns:
        Bars below of all points, bars above of all points, and their borders as in `crossings`.
    """
    n, count, points = close.shape[0], 0, columns.shape[0]
    events = np.empty(4096, dtype=np.int64)
    cuts = np.zeros(points + 1, dtype=np.int64)
    for p in range(points):
        mean, deviation = floats_at(columns[p, 0], n), floats_at(columns[p, 1], n)
        for base in range(0, n, _WORD):
            below = above = np.uint64(0)
            for i in range(base, min(base + _WORD, n)):
                reach = widths[p] * deviation[i]
                below |= np.uint64(close[i] < mean[i] - reach) << np.uint64(i - base)
                above |= np.uint64(close[i] > mean[i] + reach) << np.uint64(i - base)
            if events.shape[0] < count + 2 * _WORD:
                events = np.concatenate((events, np.empty_like(events)))
            count = _note(below, above, base, events, count)
        cuts[p + 1] = count
    return _gathered(events, cuts, points)
