"""The check of a market: what `check_bars` does between rows as read and frozen bars."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.core.errors import ConfigError, DataError
from ares.market.calendars import Calendar, infer_calendar, parse_calendar
from ares.market.faults import (
    describe_impossible_row,
    impossible_row_error,
    impossible_rows,
    out_of_order_rows,
    refuse_other_timeframe,
    shortest_distance,
    stable_order,
)
from ares.market.quality import Finding, QualityReport, time_text
from ares.market.raw import COLUMNS, NO_TIME, PRICES
from ares.market.timeframe import HOUR, timeframe_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ares.core.types import BoolArray, Float64Array, Int64Array
    from ares.market.raw import RawBars

log = logging.getLogger("ares.market")

EXAMPLES: Final = 10
STALE_WINDOW: Final = 250
STALE_SHARE: Final = 0.2
OVERNIGHT_MOVE: Final = 0.3
CLOSED_DAYS: Final = 10
_MAX_DECIMALS: Final = 12
_ROUNDING: Final = 1e-15
_MOST_UNITS: Final = 1e13


@dataclasses.dataclass(frozen=True)
class DoorRules:
    """The checked options of `check_bars`; `calendar` None is inferred."""

    interval: int
    calendar: Calendar | None
    adjusted: str
    bad_prints: str
    max_print: float
    strict: bool

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
            adjusted=adjusted,
            bad_prints=bad_prints,
            max_print=float(max_print),
            strict=strict,
        )


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
    if len(raw) == 0:
        raise DataError("there must be at least one bar", where=", ".join(raw.files) or "data")
    impossible = impossible_rows(raw)
    if rules.strict and impossible.any():
        raise impossible_row_error(raw, int(impossible.argmax()))
    notes = _Notes(raw)
    notes.add(
        "impossible",
        np.flatnonzero(impossible),
        "left out",
        lambda r: describe_impossible_row(raw, r),
    )
    disorder = out_of_order_rows(raw)
    notes.add("out_of_order", disorder, "sorted", notes.row)

    timed = np.flatnonzero(raw.timestamp != NO_TIME)
    order = timed[stable_order(raw.timestamp[timed])]
    times = raw.timestamp[order]
    is_new = np.diff(times, prepend=NO_TIME) != 0
    distinct = times[is_new]
    notes.add("duplicates", order[~is_new], "collapsed", notes.row)
    refuse_other_timeframe(distinct, rules.interval, ", ".join(raw.files) or "data")
    others = _files_of_other_timeframes(raw, rules.interval)
    if rules.strict and others:
        raise others[0]
    notes.describe_files([str(error) for error in others])
    calendar = rules.calendar or infer_calendar(distinct, rules.interval)
    notes.count_times(distinct, rules.interval, calendar)

    kept = _collapse(raw, order[~impossible[order]], notes)
    kept = _judge_prints(raw, kept, rules, notes)
    columns = {name: getattr(raw, name)[kept] for name in COLUMNS}
    notes.describe_bars(columns, kept, calendar, rules)
    missing = calendar.missing(columns["timestamp"], rules.interval)
    before = np.flatnonzero(missing)
    gaps = np.column_stack([before, before + 1, missing[before]]).astype(np.int64)
    report = notes.report(
        bars=len(kept), distinct=distinct, calendar=calendar, inferred=rules.calendar is None
    )
    return Cleaned(columns, decimal_step([columns[name] for name in PRICES]), gaps), report


def _files_of_other_timeframes(raw: RawBars, interval: int) -> list[DataError]:
    """What is wrong with each file by itself: a few coarse bars hide among many fine ones."""
    found: list[DataError] = []
    if raw.file_of_row is None:
        return found
    starts = np.flatnonzero(np.diff(raw.file_of_row, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(raw)], strict=True):
        times = np.unique(raw.timestamp[start:stop])
        name = raw.files[int(raw.file_of_row[start])]
        try:
            refuse_other_timeframe(times[times != NO_TIME], interval, name)
        except DataError as error:
            found.append(error)
    return found


def _collapse(raw: RawBars, rows: Int64Array, notes: _Notes) -> Int64Array:
    """One row per time of rows sorted by time: the last of the file."""
    times = raw.timestamp[rows]
    repeated = np.flatnonzero(times[1:] == times[:-1]) + 1
    if len(repeated) == 0:
        return rows
    earlier, later = rows[repeated - 1], rows[repeated]
    differs = np.zeros(len(repeated), dtype=np.bool_)
    for name in COLUMNS[1:]:
        column = getattr(raw, name)
        differs |= column[earlier] != column[later]
    conflicts = np.unique(times[repeated[differs]])
    winners = rows[np.searchsorted(times, conflicts, side="right") - 1]
    notes.add("conflicts", winners, "the last row won", notes.row)
    last = np.ones(len(rows), dtype=np.bool_)
    last[repeated - 1] = False
    return rows[last]


def _judge_prints(raw: RawBars, rows: Int64Array, rules: DoorRules, notes: _Notes) -> Int64Array:
    """The rows without bad prints, or all of them where they are kept.

    Raises:
        DataError: there is a bad print, and they are refused.
    """
    from ares.kernels.quality import bad_prints  # numba costs a second, a dataset needs none

    columns = [np.ascontiguousarray(getattr(raw, name)[rows]) for name in COLUMNS[:5]]
    window = max(6 * HOUR, 3 * rules.interval)
    reference = bad_prints(*columns, window, rules.max_print)
    bad = np.flatnonzero(~np.isnan(reference))

    def worst(k: int) -> tuple[str, float]:
        prices = {name: float(column[k]) for name, column in zip(PRICES, columns[1:], strict=True)}
        with np.errstate(all="ignore"):  # the smallest and largest floats
            name = max(prices, key=lambda n: abs(np.log(prices[n] / reference[k])))
        return name, prices[name]

    def describe(k: int) -> str:
        name, value = worst(k)
        where = raw.where(int(rows[k]), name, short=True)
        time = time_text(int(columns[0][k]))
        return f"{time} {name} {value!r}, recent median close {float(reference[k])!r} ({where})"

    if len(bad) and rules.bad_prints == "error":
        name, value = worst(int(bad[0]))
        raise DataError(
            f"prices must be within a factor {rules.max_print:g} of the recent median close"
            f" ({float(reference[bad[0]])!r}); {len(bad)} bars are not",
            value=value,
            where=raw.where(int(rows[bad[0]]), name),
            remedy="Correct or remove the rows, or choose bad_prints drop or keep.",
        )
    dropped = rules.bad_prints == "drop"
    notes.add("bad_prints", bad, "dropped" if dropped else "kept", describe)
    return np.delete(rows, bad) if dropped and len(bad) else rows


class _Notes:
    """Collects findings while the check goes on."""

    def __init__(self, raw: RawBars) -> None:
        self._raw = raw
        self._counts: dict[str, int] = {}
        self._findings: list[Finding] = []

    def row(self, row: int) -> str:
        return f"{time_text(int(self._raw.timestamp[row]))} ({self._raw.where(row, short=True)})"

    def add(
        self,
        kind: str,
        found: Sequence[int] | Int64Array,
        action: str,
        describe: Callable[[int], str],
        *,
        count: int | None = None,
    ) -> None:
        """Count `found` (or take `count`) and keep its first examples in words."""
        total = len(found) if count is None else count
        self._counts[kind] = total
        if total:
            examples = tuple(describe(int(k)) for k in found[:EXAMPLES])
            self._findings.append(Finding(kind, total, action, examples))

    def describe_files(self, faults: Sequence[str]) -> None:
        """Files whose rows are bars of another timeframe."""
        if faults:
            examples = tuple(faults[:EXAMPLES])
            self._findings.append(Finding("other_timeframe", len(faults), "kept", examples))

    def count_times(self, distinct: Int64Array, interval: int, calendar: Calendar) -> None:
        """Gaps, overlaps and holidays of the distinct times."""
        missing = calendar.missing(distinct, interval)
        absent = np.flatnonzero(missing)

        def between(k: int) -> str:
            return f"{time_text(int(distinct[k]))} to {time_text(int(distinct[k + 1]))}"

        longest = absent[np.argsort(-missing[absent], kind="stable")]
        self.add(
            "gaps",
            longest,
            "listed; the longest first",
            lambda k: f"{between(k)}: {missing[k]} bars missing",
        )
        self.add("missing_bars", (), "none invented", str, count=int(missing.sum()))
        close = np.flatnonzero(np.diff(distinct) < shortest_distance(interval))
        self.add("overlapping", close, "kept", between)
        closed = calendar.holidays(distinct, interval)
        self._counts["holidays"] = int(closed.sum())
        long = np.flatnonzero(closed > CLOSED_DAYS)
        self.add(
            "long_closures",
            long,
            "taken for holidays; is there a hole in the data?",
            lambda k: f"{between(k)}: {closed[k]} weekdays without bars",
        )

    def describe_bars(
        self,
        columns: dict[str, np.ndarray],
        rows: Int64Array,
        calendar: Calendar,
        rules: DoorRules,
    ) -> None:
        """Zero volume, stale opens and overnight moves of the bars that remain."""
        times, close = columns["timestamp"], columns["close"]

        def at(k: int) -> str:
            return self.row(int(rows[k]))

        starts, lengths = runs(columns["volume"] == 0)
        stretch = dict(zip(starts.tolist(), lengths.tolist(), strict=True))
        self.add(
            "zero_volume",
            starts,
            f"kept; {len(starts)} stretches",
            lambda k: f"{at(k)}: {stretch[k]} bars",
            count=int(lengths.sum()),
        )
        stale = stale_opens(columns["open"], close)
        self.add(
            "stale_open",
            runs(stale)[0],
            "kept; fills at the next open would be the signal's own close",
            at,
            count=int(np.count_nonzero(stale)),
        )
        moves = np.zeros(0, dtype=np.int64)
        if rules.adjusted == "none" and calendar.kind != "24/7" and len(times) > 1:
            days = calendar.session_days(times, rules.interval)
            move = np.abs(columns["open"][1:] / close[:-1] - 1)
            moves = np.flatnonzero((days[1:] != days[:-1]) & (move > OVERNIGHT_MOVE)) + 1
        self.add("overnight_moves", moves, "kept; are these splits? prices are unadjusted", at)
        if len(moves):
            log.warning(
                "%d unadjusted overnight moves over 30 %%, the first at %s",
                len(moves),
                at(int(moves[0])),
            )

    def report(
        self, *, bars: int, distinct: Int64Array, calendar: Calendar, inferred: bool
    ) -> QualityReport:
        return QualityReport(
            rows=len(self._raw),
            bars=bars,
            first=int(distinct[0]) if len(distinct) else None,
            last=int(distinct[-1]) if len(distinct) else None,
            calendar=str(calendar),
            calendar_inferred=inferred,
            findings=tuple(self._findings),
            **{"conflicts": 0, **self._counts},
        )


def runs(mask: BoolArray) -> tuple[Int64Array, Int64Array]:
    """Start index and length of every run of True."""
    edges = np.diff(np.concatenate([[0], mask.astype(np.int8), [0]]))
    starts = np.flatnonzero(edges == 1)
    return starts, np.flatnonzero(edges == -1) - starts


def stale_opens(open_: Float64Array, close: Float64Array) -> BoolArray:
    """True for bars at the end of 250 bars of which over 20 % open at the previous close."""
    stale = np.zeros(len(open_), dtype=np.bool_)
    if len(open_) >= STALE_WINDOW:
        same = np.concatenate([[0], np.cumsum(np.append(False, open_[1:] == close[:-1]))])
        in_window = same[STALE_WINDOW:] - same[:-STALE_WINDOW]
        stale[STALE_WINDOW - 1 :] = in_window > STALE_SHARE * STALE_WINDOW
    return stale


def decimal_step(columns: Sequence[Float64Array]) -> float:
    """Largest power of ten, 1 to 1e-12, that all values are whole multiples of; 0.0 for none.

    A value counts as a multiple where it is within the rounding of a few operations of one, and
    small enough for that to mean something.
    """
    for decimals in range(_MAX_DECIMALS + 1):
        scale = 10.0**decimals
        if all(_on_step(column[:512], scale) for column in columns) and all(
            _on_step(column, scale) for column in columns
        ):
            return 1.0 / scale
    return 0.0


def _on_step(column: Float64Array, scale: float) -> bool:
    with np.errstate(over="ignore"):  # the largest floats are whole numbers of no step
        units = np.rint(column * scale)
    close = np.abs(units / scale - column) <= _ROUNDING * column
    return bool((close & (units < _MOST_UNITS)).all())
