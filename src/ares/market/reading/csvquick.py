"""The quick reading of a CSV of plain numbers and times; all else is left to the other readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ares.market.reading.columns import PRICES
from ares.market.reading.table import Table
from ares.market.reading.textfile import NEWLINE, line_ends

if TYPE_CHECKING:
    from ares.market.reading.columns import Layout
    from ares.market.reading.timeforms import TimeKind


def read_quick(
    data: bytes,
    layout: Layout,
    kind: TimeKind,
    where: str,
    *,
    start: int,
    delimiter: str,
    headed: bool,
    rows_before: int,
) -> Table | None:
    """Read every row from the line at `start` on; times are of any kind but `formatted`.

    Returns:
        The rows; None where one of them is out of the ordinary: blank, quoted, of another length,
        with a cell that is no number or one of too many digits, or a time in another form.
    """
    from ares.kernels.csvrows import ISO, TIME, UNUSED, ZONED, plain_rows  # numba costs a second

    if not data.endswith(NEWLINE):
        data += NEWLINE
    before = line_ends(data, 0, start)
    if headed:
        start = data.find(NEWLINE, start) + 1
        before += 1
    lines = line_ends(data, start)
    roles = np.full(layout.width, UNUSED, dtype=np.int64)
    # a decimal time is one more number
    role = {"integer": TIME, "iso": ISO, "zoned": ZONED, "number": len(PRICES)}[kind]
    roles[layout.position("timestamp")] = role
    for n, name in enumerate(PRICES):
        roles[layout.position(name)] = n
    times = np.empty(lines, dtype=np.int64)
    numbers = np.empty((len(PRICES) + (kind == "number"), lines))
    text = np.frombuffer(data, dtype=np.uint8)
    rows = plain_rows(text, start, ord(delimiter), roles, times, numbers)
    if rows <= 0:
        return None
    first = 1 + rows_before + before
    if kind != "integer":
        times = numbers[-1] if kind == "number" else times.view("datetime64[ns]")
    return Table(
        timestamp=times,
        numbers=dict(zip(PRICES, numbers, strict=False)),
        where=where,
        row_of=np.arange(first, first + rows, dtype=np.int64),
    )
