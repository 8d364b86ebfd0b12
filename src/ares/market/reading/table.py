"""What the file readers share: six columns of one file, and the patterns of their cells."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import AresError, DataError
from ares.market.raw import CellProblem, RawBars, normalise_timestamps
from ares.store.tables import reader_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from ares.core.types import Float64Array, Int64Array

_DATE: Final = r"\d{4}-\d\d-\d\d([ T]\d\d(:?\d\d(:?\d\d(\.\d{1,9})?)?)?)?"
ISO: Final = re.compile(_DATE, re.ASCII)
ZONED: Final = re.compile(_DATE + r"(Z|[+-]\d\d(:?\d\d)?)", re.ASCII)
INTEGER: Final = re.compile(r"[+-]?\d{1,18}", re.ASCII)
NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,6})?", re.ASCII)
MAX_PROBLEMS: Final = 100
EMPTY: Final = frozenset({"", "nan", "NaN", "NAN", "null", "NULL", "None", "N/A", "NA", "#N/A"})


@dataclasses.dataclass(frozen=True)
class Table:
    """Six columns of one file, in the file's order, unchecked.

    Attributes:
        timestamp: Numbers in an unknown unit (int64 or float64), or datetime64[ns] in UTC.
        numbers: open, high, low, close and volume, float64; NaN where a cell is empty or text.
        where: The file, for messages.
        row_of: Row of the file that each data row stands in, counted from 1; None: no offset.
        problems: The first cells that hold neither a number nor a time.
        notes: What was recognised rather than declared.
    """

    timestamp: npt.NDArray[Any]
    numbers: dict[str, Float64Array]
    where: str
    row_of: Int64Array | None = None
    problems: tuple[CellProblem, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.timestamp)

    def noted(self, note: str) -> Table:
        """The same table with one more note."""
        return dataclasses.replace(self, notes=(*self.notes, note))

    def numbered_from(self, rows: int) -> Table:
        """The same table as the next one after so many rows of its file."""
        numbers = np.arange(rows + 1, rows + 1 + len(self), dtype=np.int64)
        return dataclasses.replace(self, row_of=numbers)

    def raw(self) -> RawBars:
        """The rows with timestamps in ns.

        Raises:
            DataError: timestamps mix units.
        """
        times = self.timestamp
        if times.dtype.kind == "M":
            nanoseconds = times.astype("datetime64[ns]").view(np.int64)
        else:
            nanoseconds = normalise_timestamps(times, where=self._where_of)
        return RawBars(
            timestamp=nanoseconds,
            open=self.numbers["open"],
            high=self.numbers["high"],
            low=self.numbers["low"],
            close=self.numbers["close"],
            volume=self.numbers["volume"],
            files=(self.where,),
            row_of=self.row_of,
            problems=self.problems,
        )

    def _where_of(self, row: int) -> str:
        number = row + 1 if self.row_of is None else int(self.row_of[row])
        return f"{self.where}, row {number}, column timestamp"


def joined(parts: Sequence[Table]) -> Table:
    """The rows of one file of which these are the parts, in order."""
    if len(parts) == 1:
        return parts[0]
    starts = itertools.accumulate((len(part) for part in parts), initial=0)
    problems = (
        dataclasses.replace(problem, row=start + problem.row)
        for start, part in zip(starts, parts, strict=False)
        for problem in part.problems
    )
    rows = [part.row_of for part in parts if part.row_of is not None]
    return dataclasses.replace(
        parts[0],
        timestamp=np.concatenate([part.timestamp for part in parts]),
        numbers={
            name: np.concatenate([part.numbers[name] for part in parts])
            for name in parts[0].numbers
        },
        row_of=np.concatenate(rows) if len(rows) == len(parts) else None,
        problems=tuple(itertools.islice(problems, MAX_PROBLEMS)),
    )


@contextlib.contextmanager
def guarded(where: str) -> Iterator[None]:
    """Turn what a file can do to its readers into one clear `DataError`."""
    try:
        yield
    except AresError:
        raise
    except FileNotFoundError:
        raise DataError(
            "the file must exist", where=where, remedy="Check the path and its spelling."
        ) from None
    except IsADirectoryError:
        raise DataError(
            "this must be a file, not a folder", where=where, remedy="Name a file in it."
        ) from None
    except PermissionError:
        raise DataError(
            "the file must be readable", where=where, remedy="Change its permissions."
        ) from None
    except MemoryError:
        raise DataError(
            "the file asks for more memory than there is",
            where=where,
            remedy="The file is damaged, or larger than this machine can hold.",
        ) from None
    except reader_errors() as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"the file cannot be read: {reason[0][:200]}",
            where=where,
            remedy="The file is damaged or in another format; fetch it again.",
        ) from None


def as_array(column: Any) -> npt.NDArray[Any]:
    """One contiguous numpy array of a pyarrow column; an empty cell of a float is NaN."""
    return column.to_numpy()  # type: ignore[no-any-return]  # pyarrow has no types
