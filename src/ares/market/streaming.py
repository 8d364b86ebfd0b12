"""Files of any size at constant memory: their rows, what the check finds, and their checked bars.

What needs the whole market (its order, its calendar) goes by way of temporary files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ares.core.errors import DataError
from ares.market.files import source_files, with_notes
from ares.market.infer import infer_timeframe, timeframe_of_distance
from ares.market.quality import QualityReport
from ares.market.raw import COLUMNS
from ares.market.reading.columns import declared_columns, no_rows_error
from ares.market.stored.derived import columns_by_year
from ares.market.stored.intake import check_rows, report_rows
from ares.market.stored.rows import FileRows, raw_chunks
from ares.market.stored.writing import door_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pandas as pd

    from ares.market.checking.door import Adjusted
    from ares.market.files import Paths
    from ares.market.reading.columns import Columns
    from ares.market.stored.rows import Progress
    from ares.market.stored.writing import DoorOptions


def seen_timeframe(path: Paths, *, columns: Columns | None = None) -> str:
    """The timeframe that the first rows of the first file show, where nobody named it.

    Args:
        path: As `load_bars`.
        columns: As `load_bars`.

    Raises:
        DataError: The file cannot be read as bars, or its rows show no timeframe.
    """
    file = source_files(path)[0]
    first = next(raw_chunks(file, columns=declared_columns(columns)), None)
    if first is None:
        raise no_rows_error(str(file))
    return infer_timeframe(first)


def report_files(
    path: Paths,
    *,
    timeframe: str | None = None,
    columns: Columns | None = None,
    calendar: str | None = None,
    adjusted: Adjusted = "none",
    max_print: float = 2.0,
    progress: Progress | None = None,
) -> QualityReport:
    """What the door finds in files, at constant memory; impossible, NaN and non-positive rows count.

    The arguments are those of `load_bars`; without a timeframe it is the most common distance.
    `progress` is called with the rows read.

    Raises:
        DataError: No report can be made: the file cannot be read as rows of bars at all.
        ConfigError: As `load_bars`.
        StoreError: No temporary file can be written.
    """
    rows = FileRows(path, columns=columns, progress=progress)
    door: DoorOptions = {"calendar": calendar, "adjusted": adjusted, "max_print": max_print}
    named = timeframe
    if named is None:
        try:
            named = seen_timeframe(path, columns=columns)
        except DataError:
            named = "1m"  # a guess: all rows decide
    where = ", ".join(str(file) for file in rows.files)
    with tempfile.TemporaryDirectory(prefix="ares-") as folder:
        for guess in (timeframe is None, False):
            rules = dataclasses.replace(door_rules(named, door), strict=False)
            found = report_rows(Path(folder), rows, rules, common=guess)
            if isinstance(found, QualityReport):
                return with_notes(found, rows.notes)
            named = timeframe_of_distance(found, where)
    raise AssertionError("unreachable")


@contextlib.contextmanager
def checked_bars(
    path: Paths, *, timeframe: str | None, columns: Columns | None, door: DoorOptions
) -> Iterator[tuple[CheckedFiles, str]]:
    """The checked bars of files for the time of a `with` block, and the name of their timeframe.

    Raises:
        DataError: As `load_bars`.
        ConfigError: As `load_bars`.
        StoreError: No temporary file can be written.
    """
    named = timeframe or seen_timeframe(path, columns=columns)
    with tempfile.TemporaryDirectory(prefix="ares-") as folder:
        rules = door_rules(named, door)
        checked = check_rows(Path(folder), FileRows(path, columns=columns), rules)
        yield CheckedFiles(Path(folder), checked.parts), named


@dataclasses.dataclass(frozen=True)
class CheckedFiles:
    """Checked bars in temporary files."""

    folder: Path
    parts: tuple[Any, ...]

    def columns(self) -> Iterator[dict[str, Any]]:
        """Their columns, a year at a time."""
        return columns_by_year(self.folder, self.parts)


def row_columns(path: Path, columns: tuple[str, ...] | None) -> Iterator[dict[str, Any]]:
    """Columns of a file's rows, unchecked, chunk by chunk."""
    for raw in raw_chunks(path, columns=columns):
        yield {name: getattr(raw, name) for name in COLUMNS}


def rechunked(pieces: Iterable[Mapping[str, Any]], size: int) -> Iterator[dict[str, Any]]:
    """The same columns in chunks of exactly `size` rows, but for the last."""
    waiting: list[Mapping[str, Any]] = []
    held = 0
    for piece in pieces:
        rows = len(piece["timestamp"])
        starts = [0, *range(min(size - held, rows), rows, size), rows]
        for start, stop in itertools.pairwise(starts):
            if start == stop:
                continue
            waiting.append({name: array[start:stop] for name, array in piece.items()})
            held += stop - start
            if held == size:
                yield _joined(waiting)
                waiting, held = [], 0
    if held:
        yield _joined(waiting)


def _joined(pieces: list[Mapping[str, Any]]) -> dict[str, Any]:
    if len(pieces) == 1:
        return dict(pieces[0])
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def frame_of(columns: Mapping[str, Any]) -> pd.DataFrame:
    """A frame; `timestamp` becomes datetime64[ns, UTC]."""
    import pandas as pd

    times = pd.DatetimeIndex(columns["timestamp"].view("datetime64[ns]"), tz="UTC")
    return pd.DataFrame({**columns, "timestamp": times})
