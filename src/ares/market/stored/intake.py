"""Rows of any number through the door into files of bars, at constant memory."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from ares.market.checking.door import Door
from ares.market.raw import COLUMNS, RawBars
from ares.market.stored.parts import Part, read_part
from ares.market.stored.partwriting import GapWriter, PartWriter
from ares.market.stored.pieces import LateRowsError, by_month, in_order, joined, spooled
from ares.market.stored.scratch import TimesFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from ares.market.checking.door import DoorRules
    from ares.market.quality import QualityReport
    from ares.market.stored.rows import Rows


@dataclasses.dataclass(frozen=True)
class Checked:
    """Bars in files: one per year, their gaps, their decimal step, and what the check found."""

    parts: tuple[Part, ...]
    gaps: Part
    tick: float
    report: QualityReport


def check_rows(folder: Path, rows: Rows, rules: DoorRules) -> Checked:
    """What `check_bars` makes of the rows, as files in `folder`.

    Rows that do not come month by month are read twice, and sorted by way of a temporary file.

    Raises:
        DataError: As `check_bars`; files that no manifest names are left then.
        StoreError: The folder cannot be written.
    """
    with contextlib.suppress(LateRowsError):
        return _check(folder, rows, rules, exact=False)
    return _check(folder, rows, rules, exact=True)


def report_rows(
    folder: Path, rows: Rows, rules: DoorRules, *, common: bool = False
) -> QualityReport | int | None:
    """What the door finds in the rows; `folder` is for temporary files.

    Args:
        folder: As `check_rows`.
        rows: As `check_rows`.
        rules: As `check_rows`.
        common: Return their most common distance instead, where it is not that of the rules.

    Raises:
        DataError: As `check_bars`.
        StoreError: As `check_rows`.
    """
    with contextlib.suppress(LateRowsError):
        return _report(folder, rows, rules, exact=False, common=common)
    return _report(folder, rows, rules, exact=True, common=common)


def _report(
    folder: Path, rows: Rows, rules: DoorRules, *, exact: bool, common: bool
) -> QualityReport | int | None:
    door, pieces = _opened(folder, rows, rules, exact=exact)
    with TimesFile(folder) as times:
        for piece in pieces:
            times.add(door.push(piece)[1])
        if common and door.common_distance != rules.interval:
            return door.common_distance
        return door.finish(times.pieces, lambda _: None)


def _check(folder: Path, rows: Rows, rules: DoorRules, *, exact: bool) -> Checked:
    door, pieces = _opened(folder, rows, rules, exact=exact)
    return keep(folder, door, lambda _: pieces)


def _opened(
    folder: Path, rows: Rows, rules: DoorRules, *, exact: bool
) -> tuple[Door, Iterator[RawBars]]:
    """A door, and the pieces for it; it reads the rows as those are made."""
    names, chunks = rows.arranged(exact=exact)
    door = Door(rules, names)

    def read() -> Iterator[RawBars]:
        for chunk in chunks:
            door.read(chunk)
            yield chunk

    return door, spooled(read(), folder) if exact else in_order(read())


def keep(folder: Path, door: Door, pieces: Callable[[PartWriter], Iterable[RawBars]]) -> Checked:
    """Push pieces through a door into files.

    Args:
        folder: Where the files go.
        door: It has read, or reads meanwhile, the rows in the order of the files.
        pieces: Spans of time, oldest first; given the writer, to say which files are there.

    Raises:
        DataError: As `Door`.
        StoreError: The folder cannot be written.
    """
    with PartWriter(folder) as writer, GapWriter(folder) as gaps, TimesFile(folder) as times:
        for piece in pieces(writer):
            columns, of_piece = door.push(piece)
            writer.add(columns)
            times.add(of_piece)
        report = door.finish(times.pieces, gaps.add)
        return Checked(writer.finish(), gaps.finish(), door.tick, report)


def merged_pieces(
    sides: Sequence[tuple[Path, Sequence[Part]]], names: tuple[str, ...], writer: PartWriter
) -> Iterator[RawBars]:
    """Bars of several datasets month by month; those of the first may keep their files.

    Raises:
        ArtifactError: A file is damaged.
    """
    by_year = [{part.year: part for part in parts} for _, parts in sides]
    for year in sorted(set().union(*by_year)):
        months: dict[int, list[RawBars]] = {}
        for side, parts in enumerate(by_year):
            if year not in parts:
                continue
            part = parts[year]
            columns = read_part(sides[side][0], part, COLUMNS)
            if side == 0:
                writer.expect(part, columns)
            file = np.full(part.rows, side, dtype=np.int32)
            unknown = np.zeros(part.rows, dtype=np.int64)  # the bars have lost their rows
            raw = RawBars(**columns, files=names, file_of_row=file, row_of=unknown)
            for month, rows in by_month(raw):
                months.setdefault(month, []).append(rows)
        for month in sorted(months):
            yield joined(months.pop(month))
