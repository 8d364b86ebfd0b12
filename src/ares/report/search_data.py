"""The run folder of a search, read once; parts that are absent are empty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ares.report.run_data import RunData, dig, json_file, read_run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd


@dataclass(frozen=True, eq=False)
class SearchData:
    """A search in memory.

    Attributes:
        run: What every run folder holds.
        facts: `search.json`.
    """

    run: RunData
    facts: Mapping[str, Any]

    @property
    def best(self) -> Mapping[str, Any]:
        """Parameters of the winner; empty without one."""
        return dig(self.facts, "best", "params") or {}

    @property
    def space(self) -> Mapping[str, Any]:
        """Searched ranges by name."""
        return self.facts.get("space") or {}

    @property
    def trials(self) -> pd.DataFrame:
        """One row per point."""
        return self.run.trials

    @property
    def logs(self) -> frozenset[str]:
        """Parameters that were searched on a logarithmic scale."""
        return frozenset(name for name in self.space if dig(self.space, name, "log"))


def read_search(folder: Path) -> SearchData:
    """Read the folder of a search.

    Raises:
        ArtifactError: no valid manifest, or a file that is there cannot be read.
    """
    return SearchData(read_run(folder), json_file(folder / "search.json"))


def shown_range(given: Any) -> str:
    """A searched range in words."""
    if dig(given, "fixed"):
        return "fixed"
    choices = dig(given, "choices")
    if choices is not None:
        return ", ".join(str(c) for c in choices)
    low, high = dig(given, "low"), dig(given, "high")
    if low is None or high is None:
        return ""
    return f"{low:g} to {high:g}" + (", log" if dig(given, "log") else "")
