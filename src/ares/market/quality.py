"""What the check of a market found: counts, first examples, and what was done about them."""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np

from ares.store.codecs import register

_STALE: Final = "stale_open"
_STRETCHES: Final = 3
"""Stretches of stale opens in the text: a market that has them often has them everywhere."""


@register(schema=1)
@dataclasses.dataclass(frozen=True)
class Finding:
    """One kind of fault: how many, what was done, and the first examples in words."""

    kind: str
    count: int
    action: str
    examples: tuple[str, ...] = ()


@register(schema=1)
@dataclasses.dataclass(frozen=True)
class QualityReport:
    """Counts over the rows as read, and what became of them.

    Attributes:
        rows: Data rows read, duplicates included.
        bars: Bars that remain.
        first: First distinct open time, int64 ns UTC; None where no row had a time.
        last: Last distinct open time.
        missing_bars: Expected bars that are absent between distinct timestamps, counted before
            bad or impossible bars are dropped.
        gaps: Runs of one or more absent bars.
        duplicates: Rows minus distinct timestamps.
        conflicts: Timestamps whose rows disagree; the last row won.
        out_of_order: Rows that open before the row above them.
        impossible: Rows with an unreadable, non-finite or non-positive cell, or whose prices
            contradict each other.
        bad_prints: Bars with a price beyond the allowed factor of the recent median close.
        zero_volume: Bars without volume.
        stale_open: Bars at the end of a 250-bar window in which over 20 % of the opens equal the
            previous close.
        overnight_moves: Unadjusted moves of over 30 % between sessions.
        overlapping: Bars that open before the bar above them has closed.
        holidays: Weekdays without bars in a session calendar.
        long_closures: Runs of more than 10 such weekdays.
        calendar: The calendar that counts what is expected.
        calendar_inferred: Whether it was inferred from the times.
        findings: The faults among the above that are not zero, with examples.
    """

    rows: int
    bars: int
    first: int | None
    last: int | None
    missing_bars: int
    gaps: int
    duplicates: int
    conflicts: int
    out_of_order: int
    impossible: int
    bad_prints: int
    zero_volume: int
    stale_open: int
    overnight_moves: int
    overlapping: int
    holidays: int
    long_closures: int
    calendar: str
    calendar_inferred: bool
    findings: tuple[Finding, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_dict(self) -> dict[str, object]:
        """Plain numbers and strings for display; times are ISO 8601 in UTC."""
        counts = dataclasses.asdict(self)
        return {
            **counts,
            "first": time_text(self.first),
            "last": time_text(self.last),
            "findings": [
                {**dataclasses.asdict(f), "examples": list(f.examples)} for f in self.findings
            ],
        }

    def lines(self) -> list[str]:
        """The report as lines of text."""
        source = "inferred" if self.calendar_inferred else "declared"
        span = f"{time_text(self.first)} to {time_text(self.last)}"
        head = [
            f"{self.rows} rows, {self.bars} bars, {span}",
            f"calendar {self.calendar} ({source})",
        ]
        for finding in self.findings:
            stale = finding.kind == _STALE
            share = f" of {self.bars} bars" if stale else ""
            head.append(f"{finding.kind}: {finding.count}{share} ({finding.action})")
            shown = finding.examples[:_STRETCHES] if stale else finding.examples
            head.extend(f"    {example}" for example in shown)
            listed = len(finding.examples) if stale else finding.count
            if listed > len(shown) > 0:
                head.append("    ...")
        return head


def time_text(time_ns: int | None) -> str | None:
    """ISO 8601 text in UTC of int64 ns, to the second unless there is a fraction."""
    if time_ns is None:
        return None
    unit = "s" if time_ns % 1_000_000_000 == 0 else "ns"
    return f"{np.datetime64(int(time_ns), 'ns').astype(f'datetime64[{unit}]')}Z"
