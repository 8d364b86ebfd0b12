"""Plain twins of the file readers: csv, gzip, datetime and Decimal, and pyarrow's own door.

Written from the documentation of the formats, not from the code: a file becomes rows
`(time in ns or None, open, high, low, close, volume)`, NaN where a cell is no number; None in place
of the rows means that this reader does not know what to make of the file.
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import itertools
import math
import re
from decimal import Decimal

NAN = math.nan
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,6})?", re.ASCII)
SPECIAL = {"inf": math.inf, "infinity": math.inf, "nan": NAN}
DATE = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,9}))?)?)?)?"
    r"(Z|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
NAMES = {
    "timestamp": "timestamp open_time opentime datetime date time unix epoch ts t",
    "open": "open o open_price first",
    "high": "high h high_price",
    "low": "low l low_price",
    "close": "close c close_price",
    "volume": "volume vol v base_volume",
}
ROLES = tuple(NAMES)
ORDERS = {"ohlc": (0, 1, 2, 3, 4, 5), "ochl": (0, 1, 3, 4, 2, 5)}


def text_rows(data, declared=None):
    """Rows of a CSV or CSV.gz; `declared`: names of its columns where it has no header."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    text = data.decode("utf-8-sig", "surrogateescape")
    file = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", "surrogateescape", newline="")
    lines = list(csv.reader(file, delimiter=_separator(text)))
    lines = [[c.strip() for c in r] for r in lines if len(r) > 1 or "".join(r).strip()]
    if not lines or any(len(r) != len(lines[0]) for r in lines):
        return None
    head = [re.sub("[ .-]", "_", c.strip("<>").strip().lower()) for c in lines[0]]
    known = {name for names in NAMES.values() for name in names.split()}
    if declared is not None:
        places = tuple(declared.split(",").index(role) for role in ROLES)
    elif sum(c in known for c in head) >= 3:
        places = tuple(_place(head, role) for role in ROLES)
        lines = lines[1:]
    elif len(head) == 12:
        places = ORDERS["ohlc"]
    else:
        places = _order(lines)
    if not lines or places is None or None in places or max(places) >= len(lines[0]):
        return None
    times = _times([row[places[0]] for row in lines])
    if times is None:
        return None
    return [
        (time, *(number(row[place]) for place in places[1:]))
        for time, row in zip(times, lines, strict=True)
    ]


def _separator(text):
    first = next((line for line in re.split("[\r\n]+", text) if line.strip()), "")
    return max(",;\t", key=first.count)


def _place(head, role):
    return next((head.index(name) for name in NAMES[role].split() if name in head), None)


def _order(lines):
    """The one order of unnamed columns in which every row can be a bar."""
    if len(lines[0]) != 6:
        return None
    fitting = []
    for places in ORDERS.values():
        rows = [[number(line[p]) for p in places[1:5]] for line in lines]
        if all(low <= min(o, c) and max(o, c) <= h for o, h, low, c in rows):
            fitting.append(places)
    return fitting[0] if len(fitting) == 1 else None


def number(cell):
    if NUMBER.fullmatch(cell):
        return float(Decimal(cell))
    sign = -1 if cell.startswith("-") else 1
    return sign * SPECIAL.get(cell.lstrip("+-").lower(), NAN)


def _times(cells):
    """ns per cell, None where unreadable; the first readable cell says how they are written."""
    first = next((c for c in cells if NUMBER.fullmatch(c) or DATE.fullmatch(c)), None)
    if first is None:
        return None
    if DATE.fullmatch(first):
        zoned = DATE.fullmatch(first)[8] is not None
        return [_date(c, zoned) for c in cells]
    whole = re.fullmatch(r"[+-]?\d{1,18}", first, re.ASCII) is not None
    pattern = re.compile(r"[+-]?\d{1,18}", re.ASCII) if whole else NUMBER
    values = [Decimal(c) if pattern.fullmatch(c) else None for c in cells]
    return [None if v is None or math.isinf(float(v)) else epoch(v) for v in values]


def epoch(value):
    """ns of a number of s, ms, us or ns; a fraction counts to the microsecond."""
    size = abs(value)
    unit = next(
        (u for u, top in ((10**9, 10**11), (10**6, 10**14), (10**3, 10**17)) if size < top), 1
    )
    exact = Decimal(value) * unit
    if exact == exact.to_integral_value():
        return int(exact)
    return round(exact / 1000) * 1000


def _date(cell, zoned):
    found = DATE.fullmatch(cell)
    if not found or (found[8] is not None) != zoned:
        return None
    if found[6] and cell[11 : found.end(6)].count(":") == 1:  # 12:3456 is neither form of ISO 8601
        return None
    year, month, day, hour, minute, second = (int(found[n] or 0) for n in range(1, 7))
    try:
        moment = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
        if zoned and found[8] != "Z":
            sign, digits = found[8][0], found[8][1:].replace(":", "").ljust(4, "0")
            if int(digits[2:]) > 59 or int(digits[:2]) > 23:
                return None
            shift = dt.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
            moment = moment - shift if sign == "+" else moment + shift
    except (ValueError, OverflowError):
        return None
    seconds = (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(seconds=1)
    total = seconds * 10**9 + int((found[7] or "").ljust(9, "0"))
    return total if abs(total) < 2**63 else None


def arrow_rows(names, read):
    """Rows of a file that pyarrow reads without any of Ares: `read` makes a table of some columns."""
    plain = {re.sub("[ .-]", "_", n.strip("<>").strip().lower()): n for n in reversed(names)}
    used = [next((plain[n] for n in NAMES[r].split() if n in plain), None) for r in ROLES]
    if None in used:
        return None
    table = read(used)
    columns = []
    for role, name in zip(ROLES, used, strict=True):
        column = table.column(name)
        if role == "timestamp":
            columns.append(_arrow_times(column))
        else:
            columns.append([NAN if v is None else float(v) for v in column.to_pylist()])
    return list(zip(*columns, strict=True))


def _arrow_times(column):
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        scale = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[column.type.unit]
        return [None if v is None else v * scale for v in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_date32(column.type):
        return [
            None if v is None else v * 86_400 * 10**9 for v in column.cast(pa.int32()).to_pylist()
        ]
    cells = column.to_pylist()
    if cells and isinstance(next((c for c in cells if c is not None), None), str):
        return _times(["" if c is None else c for c in cells])
    return [None if v is None or not math.isfinite(v) else epoch(Decimal(v)) for v in cells]


def door(rows):
    """Bars by time, the last row of a time winning; None where a row can be no bar."""
    bars = {}
    for row in rows:
        time, o, h, low, c, v = row
        fine = time is not None and all(0 < x < math.inf for x in (o, h, low, c))
        if not (fine and 0 <= v < math.inf and low <= min(o, c) and h >= max(o, c)):
            return None
        bars[time] = row
    return [bars[time] for time in sorted(bars)]


def counts(rows):
    """What a check must count, whatever the timeframe."""
    times = [row[0] for row in rows if row[0] is not None]
    return {
        "rows": len(rows),
        "duplicates": len(times) - len(set(times)),
        "out_of_order": sum(b < a for a, b in itertools.pairwise(times)),
        "impossible": sum(door([row]) is None for row in rows),
    }
