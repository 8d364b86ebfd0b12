"""The check of a market: what `check_bars` does between rows as read and frozen bars.

A market passes in pieces: `Door.read` sees the rows in the order of the files, `Door.push` spans of
time, oldest first, and `Door.finish` what only the whole can tell: its calendar, and so its gaps. Any
cut into pieces gives the same bars, gaps and report; `clean` is the case of a single one.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np

from ares.core.errors import ConfigError, DataError
from ares.market.calendars import Calendar, CalendarClues, parse_calendar
from ares.market.checking.faults import (
    RowChecks,
    describe_row,
    impossible_rows,
    place_in_rows,
    refuse_repeated,
    timed_order,
)
from ares.market.checking.prints import PrintJudge
from ares.market.checking.spacing import GapRows, OvernightMoves, Spacing, describe_span
from ares.market.checking.tallies import (
    EXAMPLES,
    DecimalStep,
    Distances,
    StaleOpens,
    Stretches,
    Tally,
    changes,
    shortest_distance,
)
from ares.market.quality import Finding, QualityReport
from ares.market.raw import COLUMNS, PRICES, RawBars
from ares.market.timeframe import timeframe_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ares.core.types import Int64Array
    from ares.market.checking.faults import Place

log = logging.getLogger("ares.market")

Adjusted = Literal["none", "split", "total"]
BadPrints = Literal["drop", "keep", "error"]
PlaceOf: TypeAlias = "Callable[[RawBars, int, str], Place]"


@dataclasses.dataclass(frozen=True)
class DoorRules:
    """The checked options of `check_bars`; `calendar` None is inferred.

    `derived` bars were computed from checked ones: their prints and distances are not judged again.
    """

    interval: int
    calendar: Calendar | None
    adjusted: Adjusted
    bad_prints: str
    max_print: float
    strict: bool
    derived: bool = False

    @staticmethod
    def parse(
        *,
        timeframe: str,
        calendar: str | None,
        adjusted: str,
        bad_prints: str,
        max_print: float,
        strict: bool,
    ) -> DoorRules:
        """Check the options.

        Raises:
            ConfigError: one of them is not allowed.
        """
        for name, value, choices in (
            ("adjusted", adjusted, ("none", "split", "total")),
            ("bad_prints", bad_prints, ("drop", "keep", "error")),
        ):
            if value not in choices:
                raise ConfigError(f"must be one of {', '.join(choices)}", value=value, where=name)
        if not 1 < max_print < np.inf:
            raise ConfigError("must be a factor above 1", value=max_print, where="max_print")
        return DoorRules(
            interval=timeframe_ns(timeframe),
            calendar=None if calendar is None else parse_calendar(calendar),
            adjusted=cast("Adjusted", adjusted),
            bad_prints=bad_prints,
            max_print=float(max_print),
            strict=strict,
        )


class Times(NamedTuple):
    """Open times of one piece: all distinct ones, and those of the bars that remain."""

    distinct: Int64Array
    kept: Int64Array


@dataclasses.dataclass(frozen=True, eq=False)
class Cleaned:
    """Columns of the bars that remain, their decimal step and their gaps."""

    columns: dict[str, np.ndarray]
    tick: float
    gaps: Int64Array


def clean(raw: RawBars, rules: DoorRules) -> tuple[Cleaned, QualityReport]:
    """Bars that remain of `raw`, and what was found.

    Raises:
        DataError: as `check_bars`.
    """
    door = Door(rules, raw.files)
    door.read(raw)
    columns, times = door.push(raw)
    found: list[GapRows] = []
    report = door.finish(lambda: iter([times]), found.append)
    before, _, missing = found[0]
    gaps = np.column_stack([before, before + 1, missing]).astype(np.int64)
    return Cleaned(columns, door.tick, gaps), report


class Door:
    """The check, piece by piece.

    Args:
        rules: The checked options.
        files: Names of the sources, for errors on all of them; `file_of_row` of the rows counts
            them.
        place: Where a bad print stands: as `place_in_rows`, the default.
    """

    def __init__(
        self, rules: DoorRules, files: Sequence[str], *, place: PlaceOf | None = None
    ) -> None:
        self._rules = rules
        self._where = place or place_in_rows
        self._files = tuple(files)
        self._rows = RowChecks(strict=rules.strict)
        self._duplicates, self._overlapping, self._conflicts = Tally(), Tally(), Tally()
        self._distances = Distances(rules.interval)
        self._of_file: dict[int, Distances] = {}
        self._clues = CalendarClues(rules.interval)
        self._prints = PrintJudge(rules.interval, rules.max_print)
        self._zero_volume, self._stale = Stretches(), Stretches()
        self._stale_opens = StaleOpens()
        self._decimals = DecimalStep()
        self._moves = OvernightMoves(rules.calendar, rules.interval)
        self._bars = 0
        self._left_out = False

    @property
    def tick(self) -> float:
        """Smallest decimal step of the prices so far; 0.0 where they share none."""
        return self._decimals.step

    @property
    def common_distance(self) -> int | None:
        """The most common distance of neighbouring times in ns; None where there is none."""
        return self._distances.common

    def bad_prints(self, file: int | None = None) -> list[Finding]:
        """The bad prints so far, of all files or of one of them; nothing where there are none."""
        kept = self._rules.bad_prints == "keep"
        return self._prints.finding("kept" if kept else "dropped", file)

    def read(self, raw: RawBars) -> None:
        """Check the next rows in the order of the files.

        Raises:
            DataError: an impossible row, where those are refused.
        """
        self._rows.push(raw)

    def push(self, piece: RawBars) -> tuple[dict[str, np.ndarray], Times]:
        """Clean the next span of time: all rows of its times, in the order of the files.

        Returns:
            Columns of the bars that remain, and the times of the piece.

        Raises:
            DataError: one time has more rows than are taken.
        """
        order, times, distinct = self._sorted(piece)
        rows, kept = order, times
        if not self._rules.strict:
            possible = ~impossible_rows(piece)[order]
            rows, kept = order[possible], times[possible]
        rows = self._collapsed(piece, rows, kept)
        columns = _taken(piece, rows)
        if not self._rules.derived:
            bad = self._prints.push(
                columns,
                lambda k, name: self._where(piece, int(rows[k]), name),
                lambda k: 0 if piece.file_of_row is None else int(piece.file_of_row[rows[k]]),
            )
            if len(bad) and self._rules.bad_prints != "keep":
                rows = np.delete(rows, bad)
                columns = {name: np.delete(column, bad) for name, column in columns.items()}
        self._describe(piece, rows, columns)
        self._bars += len(rows)
        self._left_out |= len(rows) != len(distinct)
        return columns, Times(distinct, columns["timestamp"])

    def finish(
        self, pieces: Callable[[], Iterator[Times]], gaps: Callable[[GapRows], object]
    ) -> QualityReport:
        """Settle what the whole market decides, and report.

        Args:
            pieces: Gives the times that `push` returned once more, as often as it is called.
            gaps: Takes the gaps of the bars that remain, as they are found.

        Raises:
            DataError: no rows, a bad print (`bad_prints="error"`), or a timeframe that the
                distances of the rows contradict.
        """
        where = ", ".join(self._files) or "data"
        if self._rows.rows == 0 and self._distances.first is None:
            remedy = "Are these the right files and columns? `ares data check` says what it reads."
            raise DataError("there must be at least one bar", where=where, remedy=remedy)
        others = self._refuse_timeframe(where)
        if self._rules.bad_prints == "error":
            self._prints.refuse()
        calendar = self._rules.calendar or self._clues.calendar(
            lambda: (piece.distinct for piece in pieces())
        )
        spacing = Spacing(calendar, self._rules.interval)
        kept = spacing
        if self._left_out:
            spacing.look(piece.distinct for piece in pieces())
            for piece in pieces():
                spacing.push(piece.distinct)
            kept = Spacing(calendar, self._rules.interval)
        kept.look(piece.kept for piece in pieces())
        for piece in pieces():
            gaps(kept.push(piece.kept))
        moves = self._overnight_moves(calendar)
        return self._report(calendar, others, spacing, moves)

    def _sorted(self, piece: RawBars) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Rows that have a time, by time; their times; and the distinct ones."""
        times = piece.timestamp
        order = timed_order(times)
        times = times[order]
        is_new = changes(times)
        refuse_repeated(times, is_new, piece.files)
        distinct = times if is_new.all() else times[is_new]
        self._duplicates.add(order[~is_new], lambda row: describe_row(piece, row))
        before = self._distances.last
        distance = self._distances.push(distinct)
        joined = distinct if before is None else np.concatenate([[before], distinct])
        close = np.flatnonzero(distance < shortest_distance(self._rules.interval))
        self._overlapping.add(close, lambda k: describe_span(joined, k))
        if self._rules.calendar is None:
            self._clues.push(distinct)
        if piece.file_of_row is not None and len(order):
            self._look_at_files(np.asarray(piece.file_of_row)[order], times)
        return order, times, distinct

    def _look_at_files(self, files: Any, times: Int64Array) -> None:
        """Distances within each file: a few coarse bars hide among many fine ones."""
        by_file = np.argsort(files, kind="stable")
        files, times = files[by_file], times[by_file]
        starts = np.flatnonzero(changes(files))
        for start, stop in zip(starts, [*starts[1:], len(files)], strict=True):
            own = times[start:stop]
            own = own[changes(own)]
            self._of_file.setdefault(int(files[start]), Distances(self._rules.interval)).push(own)

    def _refuse_timeframe(self, where: str) -> list[str]:
        """What is wrong with the distances of single files, where that is not refused."""
        if self._rules.derived:
            return []
        self._distances.refuse(where)
        faults = []
        for file, distances in sorted(self._of_file.items()):
            try:
                distances.refuse(self._files[file])
            except DataError as error:
                if self._rules.strict:
                    raise
                faults.append(str(error))
        return faults

    def _collapsed(self, piece: RawBars, rows: Int64Array, times: Int64Array) -> Int64Array:
        """One row per time of rows sorted by time: the last of the file."""
        repeated = np.flatnonzero(times[1:] == times[:-1]) + 1
        if len(repeated) == 0:
            return rows
        earlier, later = rows[repeated - 1], rows[repeated]
        differs = np.zeros(len(repeated), dtype=np.bool_)
        for name in COLUMNS[1:]:
            column = getattr(piece, name)
            differs |= column[earlier] != column[later]
        conflicts = np.unique(times[repeated[differs]])
        winners = rows[np.searchsorted(times, conflicts, side="right") - 1]
        self._conflicts.add(winners, lambda row: describe_row(piece, row))
        last = np.ones(len(rows), dtype=np.bool_)
        last[repeated - 1] = False
        return rows[last]

    def _describe(self, piece: RawBars, rows: Int64Array, columns: dict[str, Any]) -> None:
        """Zero volume, stale opens, overnight moves and the decimal step of bars that remain."""

        def at(k: int) -> str:
            return describe_row(piece, int(rows[k]))

        self._zero_volume.add(columns["volume"] == 0, at)
        self._stale.add(self._stale_opens.push(columns["open"], columns["close"]), at)
        self._decimals.push([columns[name] for name in PRICES])
        calendar = self._rules.calendar
        if self._rules.adjusted == "none" and (calendar is None or calendar.kind != "24/7"):
            self._moves.push(columns, at)

    def _overnight_moves(self, calendar: Calendar) -> Tally:
        moves = Tally()
        if calendar.kind != "24/7":
            moves = self._moves.between_sessions(calendar)
        if moves.count:
            log.warning(
                "%d unadjusted overnight moves over 30 %%, the first at %s",
                moves.count,
                moves.examples[0],
            )
        return moves

    def _report(
        self, calendar: Calendar, others: Sequence[str], spacing: Spacing, moves: Tally
    ) -> QualityReport:
        zero, stale = self._zero_volume, self._stale
        stale_action = (
            "at their close over a fifth of the last 250 bars opened at the previous close; kept:"
            " fills at the next open would be the signal's own close"
        )
        move_action = "kept; are these splits? prices are unadjusted"
        findings = [
            *self._rows.impossible.finding("impossible", "left out"),
            *self._rows.disorder.finding("out_of_order", "sorted"),
            *self._duplicates.finding("duplicates", "collapsed"),
            *_files_finding(others),
            *spacing.gap_findings(),
            *self._overlapping.finding("overlapping", "kept"),
            *spacing.closure_findings(),
            *self._conflicts.finding("conflicts", "the last row won"),
            *self.bad_prints(),
            *zero.finding("zero_volume", f"kept; {zero.stretches} stretches", lengths=True),
            *stale.finding("stale_open", stale_action, lengths=False),
            *moves.finding("overnight_moves", move_action),
        ]
        return QualityReport(
            rows=self._rows.rows,
            bars=self._bars,
            first=self._distances.first,
            last=self._distances.last,
            missing_bars=spacing.missing,
            gaps=spacing.gaps,
            duplicates=self._duplicates.count,
            conflicts=self._conflicts.count,
            out_of_order=self._rows.disorder.count,
            impossible=self._rows.impossible.count,
            bad_prints=self._prints.count,
            zero_volume=zero.bars,
            stale_open=stale.bars,
            overnight_moves=moves.count,
            overlapping=self._overlapping.count,
            holidays=spacing.holidays,
            long_closures=spacing.long_closures.count,
            calendar=str(calendar),
            calendar_inferred=self._rules.calendar is None,
            findings=tuple(findings),
        )


def _files_finding(faults: Sequence[str]) -> list[Finding]:
    """Files whose rows are bars of another timeframe."""
    if not faults:
        return []
    return [Finding("other_timeframe", len(faults), "kept", tuple(faults[:EXAMPLES]))]


def _taken(piece: RawBars, rows: Int64Array) -> dict[str, np.ndarray]:
    """New arrays of the columns at `rows`, which are distinct."""
    columns = {name: getattr(piece, name) for name in COLUMNS}
    if len(rows) == len(piece) and bool((rows[1:] > rows[:-1]).all()):
        return {name: column.copy() for name, column in columns.items()}  # all, as they stand
    return {name: column[rows] for name, column in columns.items()}
