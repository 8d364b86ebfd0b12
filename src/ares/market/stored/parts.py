"""Parquet files of checked bars: one per year, one of gaps, each named by its content's digest."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import ArtifactError
from ares.market.ahead import ahead
from ares.market.stored.encoding import allocated, decoded, joined
from ares.store.atomic import read_checked
from ares.store.tables import needs_pyarrow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ares.core.types import Int64Array

REMEDY: Final = "`ares data repair` removes damaged parts; import the files again."
GAPS_REMEDY: Final = "`ares data repair` finds the gaps of the bars again; no bar is lost."
GAPS: Final = ("timestamp", "missing")


@dataclasses.dataclass(frozen=True)
class Part:
    """One Parquet file: its name, rows, first and last open time, digest and size."""

    file: str
    rows: int
    first: int
    last: int
    sha256: str
    size: int

    @property
    def year(self) -> int:
        """Year (UTC) of the bars."""
        return int(year_of(np.array([self.first]))[0])


def read_part(folder: Path, part: Part, names: Sequence[str]) -> dict[str, Any]:
    """Columns of one file, after its digest was checked.

    Raises:
        ArtifactError: The file is missing, changed, or holds something else.
    """
    columns = _decoded(folder, part, checked_bytes(folder, part), names)
    return {name: joined(chunks) for name, chunks in columns.items()}


def read_parts(folder: Path, parts: Sequence[Part], names: Sequence[str]) -> dict[str, Any]:
    """Columns of files, one after the other.

    One is copied while the next is decoded, and that one while the digest of its next is checked.

    Raises:
        ArtifactError: As `read_part`.
    """
    if len(parts) == 1:
        return read_part(folder, parts[0], names)
    rows = sum(part.rows for part in parts)
    columns: dict[str, Any] = {}
    at = 0
    contents = ahead(checked_bytes(folder, part) for part in parts)
    pieces = ahead(
        _decoded(folder, part, data, names) for part, data in zip(parts, contents, strict=True)
    )
    with contextlib.closing(contents), contextlib.closing(pieces):
        for part, piece in zip(parts, pieces, strict=True):
            for name, chunks in piece.items():
                if not at:
                    columns[name] = allocated(rows, chunks[0].dtype)
                np.concatenate(chunks, out=columns[name][at : at + part.rows])
            at += part.rows
    return columns


def checked_bytes(folder: Path, part: Part) -> bytes:
    """Bytes of a part that have its digest: nothing else is ever given to a decoder.

    Raises:
        ArtifactError: The file is missing or changed.
    """
    if "/" in part.file or part.file.startswith("."):
        raise ArtifactError("a part must lie in its folder", where=str(folder), value=part.file)
    with naming_repair(GAPS_REMEDY if part.file.startswith("gaps-") else REMEDY):
        return read_checked(folder / part.file, sha256=part.sha256, size=part.size)


@contextlib.contextmanager
def naming_repair(remedy: str = REMEDY) -> Iterator[None]:
    """Errors of the store, with the remedy that there is for bars."""
    try:
        yield
    except ArtifactError as error:
        raise ArtifactError(
            error.rule, value=error.value, where=error.where, remedy=remedy
        ) from error


def _decoded(folder: Path, part: Part, data: bytes, names: Sequence[str]) -> dict[str, list[Any]]:
    needs_pyarrow("a dataset", str(folder))
    import pyarrow as pa

    path = folder / part.file
    try:
        columns = decoded(pa.BufferReader(data), names)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise ArtifactError(
            "the part must be Parquet", where=str(path), value=str(error)[:200], remedy=REMEDY
        ) from None
    if any(sum(map(len, chunks)) != part.rows for chunks in columns.values()):
        raise ArtifactError(f"the part must have {part.rows} rows", where=str(path), remedy=REMEDY)
    return columns


def year_of(times: Int64Array) -> Int64Array:
    """Years (UTC) of int64 ns."""
    return np.asarray(times.view("M8[ns]").astype("M8[Y]").astype(np.int64) + 1970)
