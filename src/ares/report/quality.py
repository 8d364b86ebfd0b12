"""What was wrong with the bars as they were read, for every page that rests on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ares.report.run_data import rows
from ares.report.tables import facts, note, part, table
from ares.report.text import whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ares.report.text import Html

_COUNTS: Final = (
    ("missing_bars", "Missing bars"),
    ("gaps", "Gaps"),
    ("bad_prints", "Bad prints"),
    ("impossible", "Impossible bars"),
    ("duplicates", "Duplicates"),
    ("conflicts", "Conflicting duplicates"),
    ("out_of_order", "Out of order"),
    ("overlapping", "Overlapping"),
    ("zero_volume", "Bars without volume"),
    ("stale_open", "Stale opens"),
    ("overnight_moves", "Large moves overnight"),
    ("holidays", "Holidays"),
    ("long_closures", "Long closures"),
)


def faults(report: Mapping[str, Any]) -> list[Html]:
    """Counts and findings of a quality report (`QualityReport.to_dict`), and what there was none of."""
    counted = [(name, whole(report[key])) for key, name in _COUNTS if report.get(key)]
    clean = [name.lower() for key, name in _COUNTS if report.get(key) == 0]
    findings = [
        (
            str(f.get("kind", "")).replace("_", " "),
            f.get("action"),
            "; ".join(map(str, (f.get("examples") or [])[:3])),
            whole(f.get("count")),
        )
        for f in rows(report, "findings")
    ]
    parts = []
    if counted:
        parts.append(part("Counts", facts(counted)))
    if findings:
        heads = ("Finding", "What was done", "For example", "Count")
        parts.append(part("Findings", table(heads, findings, words=3)))
    if clean:
        parts.append(note(f"None at all: {', '.join(clean)}."))
    return parts
