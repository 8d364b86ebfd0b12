"""Holes of a dataset: the times to ask for again, and what a source did not send for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ares.market.calendars import parse_calendar
from ares.market.exchange.source import MS
from ares.market.raw import COLUMNS
from ares.market.stored.partitions import MANIFEST, consistent, read_manifest
from ares.market.stored.parts import read_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ares.core.types import Float64Array
    from ares.market.exchange.spool import Range
    from ares.market.stored.partitions import Manifest

APART: Final = 300
"""Holes nearer than this many bars are asked for together: one page holds more."""


def joined(spans: Iterable[Range], apart: int = 0) -> list[Range]:
    """Ascending, disjoint spans that cover `spans`; those at most `apart` from each other are one."""
    found: list[Range] = []
    for start, stop in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1] + apart:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start, stop))
    return found


def holes(folder: Path, interval: int, spans: Sequence[Range] | None = None) -> list[Range]:
    """Ranges (Unix ms) between the bars on both sides of each gap; one part is read at a time.

    Args:
        folder: Folder of the dataset; without one there are no holes.
        interval: Length of a bar in ns.
        spans: Ascending, disjoint ranges: what lies outside of them is left out.

    Raises:
        ArtifactError: The dataset is damaged.
    """
    if not (folder / MANIFEST).exists():
        return []
    found = consistent(folder, lambda manifest: _all_holes(folder, interval, manifest))
    return found if spans is None else _within(found, spans)


def _all_holes(folder: Path, interval: int, manifest: Manifest) -> list[Range]:
    before = read_part(folder, manifest.gaps, ("timestamp", "missing"))["timestamp"]
    following = [part.first for part in manifest.parts[1:]]
    found: list[Range] = []
    for part, next_first in zip(manifest.parts, [*following, _after_all(manifest)], strict=True):
        here = before[(before >= part.first) & (before <= part.last)]
        if len(here):
            times = np.append(read_part(folder, part, COLUMNS)["timestamp"], next_first)
            starts = (here + interval) // MS
            stops = times[np.searchsorted(times, here) + 1] // MS
            found += zip(starts.tolist(), stops.tolist(), strict=True)
    return found


def absent_bars(
    folder: Path, interval: int, spans: Sequence[Range], pages: Iterable[Float64Array]
) -> int:
    """Bars of `spans` that the calendar expects, the dataset lacks and `pages` do not hold.

    A bar that was sent and that the door did not take is not absent.
    """
    missing = holes(folder, interval, spans)
    if not missing:
        return 0
    starts, stops = np.array(missing, dtype=np.int64).T
    sides = np.column_stack([starts * MS - interval, stops * MS]).ravel()
    calendar = parse_calendar(read_manifest(folder).calendar)
    expected = int(calendar.missing(sides, interval)[::2].sum())
    sent = 0
    for rows in pages:
        place = np.searchsorted(starts, rows[:, 0], side="right") - 1
        sent += int(np.count_nonzero((place >= 0) & (rows[:, 0] < stops[place])))
    return max(expected - sent, 0)


def _within(ranges: Sequence[Range], spans: Sequence[Range]) -> list[Range]:
    """The parts of ascending, disjoint `ranges` that lie in such `spans`."""
    found: list[Range] = []
    number = 0
    for start, stop in ranges:
        while number < len(spans) and spans[number][1] <= start:
            number += 1
        for first, end in spans[number:]:
            if first >= stop:
                break
            found.append((max(start, first), min(stop, end)))
    return found


def _after_all(manifest: Manifest) -> int:
    """A time after the last bar; no gap begins there."""
    return manifest.parts[-1].last + 1
