"""Plain twins of the market checks: integers, loops, the standard library, nothing of Ares."""

from __future__ import annotations

import bisect
import csv
import gzip
import itertools
from decimal import Decimal

SCALE = 10**10
HOUR_MS = 3_600_000


def read_bitfinex(path):
    """Rows (ms, open, high, low, close, volume) as integers; prices in units of 1e-10."""
    rows = []
    with gzip.open(path, "rt", newline="") as file:
        for ts, o, c, h, lo, v in csv.reader(file):
            numbers = [Decimal(x) * SCALE for x in (o, h, lo, c)]
            assert all(x == int(x) for x in numbers)
            rows.append((int(ts), *map(int, numbers), int(Decimal(v) * SCALE)))
    return rows


def is_impossible(row):
    _, o, h, lo, c, v = row
    return min(o, h, lo, c) <= 0 or v < 0 or lo > min(o, c) or h < max(o, c)


def bad_print_flags(bars, interval, factor_up=2, factor_down=1):
    """The rule for bars sorted by distinct time; the factor is factor_up / factor_down."""
    window = max(6 * HOUR_MS, 3 * interval)
    accepted = []  # (time, close) of accepted bars, at most the last 60
    ranked = []
    flags = []
    for time, o, h, lo, c, _ in bars:
        while accepted and time - accepted[0][0] > window:
            ranked.pop(bisect.bisect_left(ranked, accepted.pop(0)[1]))
        bad = False
        if ranked:
            k = len(ranked)
            twice = 2 * ranked[k // 2] if k % 2 else ranked[k // 2 - 1] + ranked[k // 2]
            # beyond: price > median * up / down, or price < median * down / up
            top, bottom = max(o, h, lo, c), min(o, h, lo, c)
            bad = (
                2 * top * factor_down > twice * factor_up
                or 2 * bottom * factor_up < twice * factor_down
            )
        flags.append(bad)
        if bad:
            continue
        if len(accepted) == 60:
            ranked.pop(bisect.bisect_left(ranked, accepted.pop(0)[1]))
        accepted.append((time, c))
        bisect.insort(ranked, c)
    return flags


def count(rows, interval, **factor):
    """Counts of `data check` on a market that is open all the time; times in ms."""
    times = [row[0] for row in rows]
    distinct = sorted(set(times))
    absent = [(b - a) // interval - 1 for a, b in itertools.pairwise(distinct)]
    possible = {row[0]: row for row in rows if not is_impossible(row)}  # the last row wins
    bars = [possible[time] for time in sorted(possible)]
    flags = bad_print_flags(bars, interval, **factor)
    traded = [bar for bar, bad in zip(bars, flags, strict=True) if not bad]
    return {
        "rows": len(rows),
        "missing_bars": sum(n for n in absent if n > 0),
        "gaps": sum(n > 0 for n in absent),
        "duplicates": len(rows) - len(distinct),
        "out_of_order": sum(b < a for a, b in itertools.pairwise(times)),
        "impossible": sum(map(is_impossible, rows)),
        "bad_prints": sum(flags),
        "stale_open": count_stale(traded),
    }


def count_stale(bars):
    """Bars at the end of 250 traded bars of which more than 50 open at the close before."""
    same = [0] + [int(b[1] == a[4]) for a, b in itertools.pairwise(bars)]
    total = sum(same[:249])
    found = 0
    for k in range(249, len(bars)):
        total += same[k]
        found += total > 50
        total -= same[k - 249]
    return found
