"""The report on bars that were merged: what several checks of them found, added up."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from ares.market.checking.tallies import EXAMPLES

if TYPE_CHECKING:
    from ares.market.quality import QualityReport

# What one import found in its rows; the merged rows can no longer say it.
_ROW_COUNTS: Final = (
    "rows",
    "duplicates",
    "conflicts",
    "out_of_order",
    "impossible",
    "bad_prints",
)


def added(old: QualityReport, new: QualityReport, seam: QualityReport) -> QualityReport:
    """The report on merged bars: structure from `seam`, faults of rows from all three."""
    reports = (old, new, seam)
    counts = {name: sum(getattr(r, name) for r in reports) for name in _ROW_COUNTS}
    findings = [f for f in seam.findings if f.kind not in _ROW_COUNTS]
    for kind in _ROW_COUNTS:
        same = [f for r in reports for f in r.findings if f.kind == kind]
        if same and counts[kind]:
            examples = tuple(e for f in same for e in f.examples)[:EXAMPLES]
            findings.append(dataclasses.replace(same[0], count=counts[kind], examples=examples))
    return dataclasses.replace(seam, **counts, findings=tuple(findings))
