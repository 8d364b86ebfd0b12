"""What a file gave before anything was checked: six columns of one file."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import AresError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ares.core.types import Float64Array, Int64Array

_DATE: Final = r"\d{4}-\d\d-\d\d([ T]\d\d(:?\d\d(:?\d\d(\.\d{1,9})?)?)?)?"
ISO: Final = re.compile(_DATE, re.ASCII)
ZONED: Final = re.compile(_DATE + r"(Z|[+-]\d\d(:?\d\d)?)", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Table:
    """Six columns of one file, in the file's order, unchecked.

    Attributes:
        timestamp: int64 in an unknown unit, or datetime64[ns] in UTC.
        values: open, high, low, close and volume, float64; an empty cell is NaN.
        where: The file, for messages.
        first_row: Row of the file that the first data row stands in, counted from 1.
        notes: What was recognised rather than declared.
    """

    timestamp: npt.NDArray[np.int64] | npt.NDArray[np.datetime64]
    values: dict[str, Float64Array]
    where: str
    first_row: int
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.timestamp)

    def noted(self, note: str) -> Table:
        """The same table with one more note."""
        return dataclasses.replace(self, notes=(*self.notes, note))


@contextlib.contextmanager
def guarded(where: str) -> Iterator[None]:
    """Turn what a file can do to its readers into one clear `DataError`."""
    import pyarrow as pa

    try:
        yield
    except AresError:
        raise
    except FileNotFoundError:
        raise DataError(
            "the file must exist", where=where, remedy="Check the path and its spelling."
        ) from None
    except IsADirectoryError:
        raise DataError("this must be a file, not a folder", where=where) from None
    except PermissionError:
        raise DataError("the file must be readable", where=where) from None
    except MemoryError:
        raise DataError(
            "the file asks for more memory than there is",
            where=where,
            remedy="The file is damaged, or larger than this machine can hold.",
        ) from None
    except (pa.ArrowException, zlib.error, EOFError, OSError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"the file cannot be read: {reason[0][:200]}",
            where=where,
            remedy="The file is damaged or in another format; fetch it again.",
        ) from None


def as_array(column: Any) -> npt.NDArray[Any]:
    """One contiguous numpy array of a pyarrow column; an empty cell of a float is NaN."""
    return column.to_numpy()  # type: ignore[no-any-return]  # pyarrow has no types


def whole_times(values: Float64Array, where: str) -> Int64Array:
    """Timestamps that were written as floats, as int64.

    Raises:
        DataError: A value is not a whole number below 2**53.
    """
    bad = np.flatnonzero(~((values == np.floor(values)) & (np.abs(values) < 2.0**53)))
    if bad.size:
        raise DataError(
            "timestamps must be whole numbers",
            where=f"{where}, data row {int(bad[0]) + 1}",
            value=float(values[bad[0]]),
        )
    return values.astype(np.int64)
