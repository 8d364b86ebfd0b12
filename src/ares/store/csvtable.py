r"""Frames as gzipped CSV that come back as they were: for where no engine for Parquet is.

Any program reads the file as plain CSV with a header. What CSV cannot say, types, index and notes,
stands as JSON in the comment of the gzip header (RFC 1952, FCOMMENT), so that one file holds all.

Cells: numbers in their shortest exact text, `nan` and `inf`; times in ISO 8601, UTC ones with `Z`;
`\N` for None and NaT, `\F` for a missing text that is NaN, `\A` for `pd.NA`; a text that begins
with a backslash gets a second one. Types are those of `ares.store.frames`.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import DataError, FingerprintError
from ares.store.frames import put_together, take_apart

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    import pandas as pd

SUFFIX: Final = ".csv.gz"
_KIND: Final = "ares.csvtable 1"
_HEAD: Final = b"\x1f\x8b\x08\x10\0\0\0\0\0\xff"  # deflate, FCOMMENT, no time, no system
_MISSING: Final = ("", "\\N", "\\F", "\\A")  # by the codes of `ares.store.frames`
_NOTHING: Final = _MISSING[1]
_TRUTH: Final = {"true": True, "false": False}
_ROWS: Final = 1 << 16
_MAX_NOTE: Final = 1 << 24
_MAX_CELL: Final = 100_000
_MAX_LINE: Final = 1 << 22
_MAX_RATIO: Final = 200
_FREE_BYTES: Final = 1 << 26


def encode(frame: pd.DataFrame, notes: dict[str, str]) -> bytes:
    """A frame as the bytes of a file; equal frames have equal bytes.

    Args:
        frame: Its `attrs` are not written.
        notes: Text that `read` gives back.

    Raises:
        DataError: A column, label or index of a type that cannot be kept.
    """
    bare = frame.copy(deep=False)
    bare.attrs = {}
    try:
        parts = take_apart(bare)
    except FingerprintError as error:
        raise DataError(error.rule, value=error.value, remedy=error.remedy) from None
    columns = [_written(part) for part in parts["columns"]]  # type: ignore[attr-defined]  # a list
    names = [str(label) for label in frame.columns]
    index: Any = parts["index"]
    if "values" in index:
        cells, how = _written(index["values"])
        columns.append((cells, how))
        names.append("index")
        index = {**index, "values": how}
    note = {
        "kind": _KIND,
        "rows": len(frame),
        "columns": [how for _, how in columns],
        "index": index,
        "labels": [list(frame.columns), str(frame.columns.dtype), frame.columns.name],
        "notes": notes,
    }
    try:
        comment = json.dumps(note, sort_keys=True).encode("ascii")
    except TypeError:
        raise DataError("labels and names must be text or numbers", value=names[:8]) from None
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows(zip(*(cells for cells, _ in columns), strict=True))
    return _packed(text.getvalue().encode("utf-8", "surrogatepass"), comment)


def read(path: str | os.PathLike[str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """The frame and the notes of a file that `encode` made, some ten thousand rows at a time.

    Raises:
        DataError: The file is damaged, or holds no such table.
        OSError: It cannot be read.
    """
    where = str(path)
    note = read_note(path)
    if note is None:
        raise DataError("this file holds no table with types", where=where)
    try:
        return _frame_of(note, _batches(path, where)), note["notes"]
    except (EOFError, zlib.error, gzip.BadGzipFile, csv.Error, LookupError, TypeError,
            AttributeError, ValueError, OverflowError) as error:  # fmt: skip
        if isinstance(error, DataError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"the table cannot be read: {reason}", where=where) from None


def read_note(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the comment in a file's header says; None where it is no table of this module.

    Raises:
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:  # noqa: PTH123  # any path-like
        head = file.read(len(_HEAD))
        if head != _HEAD:
            return None
        comment, end, _ = file.read(_MAX_NOTE).partition(b"\0")
    try:
        note = json.loads(comment) if end else None
    except ValueError:
        return None
    return note if isinstance(note, dict) and note.get("kind") == _KIND else None


def _packed(text: bytes, comment: bytes) -> bytes:
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(text) + deflate.flush()
    tail = struct.pack("<II", zlib.crc32(text), len(text) & 0xFFFFFFFF)
    return _HEAD + comment + b"\0" + body + tail


def _batches(path: str | os.PathLike[str], where: str) -> Iterator[list[list[str]]]:
    """Rows behind the header, some ten thousand at a time."""
    with gzip.open(path, "rt", encoding="utf-8", errors="surrogatepass", newline="") as text:
        rows = csv.reader(_lines(text, path, where))
        next(rows)
        while batch := list(itertools.islice(rows, _ROWS)):
            yield batch


def _lines(text: TextIO, path: str | os.PathLike[str], where: str) -> Iterator[str]:
    """Lines under caps on their length and on what the file expands to."""
    most = max(_FREE_BYTES, _MAX_RATIO * os.stat(path).st_size)  # noqa: PTH116  # any path-like
    seen = 0
    while line := text.readline(_MAX_LINE):
        seen += len(line)
        if seen > most or len(line) == _MAX_LINE:
            raise DataError(
                f"a line may have {_MAX_LINE >> 20} MiB, and a file expand {_MAX_RATIO}-fold",
                where=where,
            )
        yield line


def _frame_of(note: dict[str, Any], batches: Iterator[list[list[str]]]) -> pd.DataFrame:
    """Cells to columns, batch by batch."""
    import pandas as pd

    kinds: list[Any] = note["columns"]
    pieces: list[list[Any]] = [[] for _ in kinds]
    rows = 0
    for batch in batches:
        rows += len(batch)
        for kept, how, cells in zip(pieces, kinds, zip(*batch, strict=True), strict=True):
            kept.append(_values(how, cells))
    if rows != note["rows"] and kinds:
        raise ValueError(f"there are {rows} rows, and {note['rows']} are announced")
    columns = [_part(how, kept) for how, kept in zip(kinds, pieces, strict=True)]
    index = dict(note["index"])
    if "values" in index:
        index["values"] = columns.pop()
    labels, dtype, name = note["labels"]
    parts = {"kind": "frame", "index": index, "columns": columns, "attrs": {}}
    frame: Any = put_together({**parts, "labels": {"range": [0, len(columns), 1], "name": None}})
    frame.columns = pd.Index(labels, dtype=dtype, name=name)
    return frame  # type: ignore[no-any-return]  # the kind says that it is a frame


def _written(part: Any) -> tuple[list[str], dict[str, Any]]:
    """Cells of a column's parts, and what they do not say."""
    if isinstance(part, np.ndarray):
        return _cells(part), {"as": "array", "dtype": part.dtype.str}
    match part["as"]:
        case "zoned":
            cells = [c if c == _NOTHING else c + "Z" for c in _cells(part["values"])]
            how = {"dtype": part["values"].dtype.str, "zone": part["zone"]}
        case "category":
            known, categories = _categories(part["categories"])
            cells = [known[code] for code in part["codes"].tolist()]
            how = {"categories": categories, "known": known[:-1], "ordered": part["ordered"]}
        case _:
            cells = _texts(part)
            how = {"dtype": part["dtype"]}
    return cells, {"as": part["as"], **how}


def _categories(index: Any) -> tuple[list[str], dict[str, Any]]:
    """Cells of the categories, that of no category last, and their index without values."""
    if "range" in index:
        return [*map(str, range(*index["range"])), _NOTHING], index
    cells, how = _written(index["values"])
    return [*cells, _NOTHING], {**index, "values": how}


def _cells(array: np.ndarray[Any, Any]) -> list[str]:
    kind = array.dtype.kind
    if kind == "M":
        texts = np.datetime_as_string(array).tolist()
        return [_NOTHING if text == "NaT" else text for text in texts]
    if kind == "m":
        numbers = array.astype(np.int64).tolist()
        return list(map(str, numbers))
    if kind == "b":
        return ["true" if value else "false" for value in array.tolist()]
    if kind in "iu" or (kind == "f" and array.dtype.itemsize <= 8):
        return list(map(repr, array.tolist()))
    raise DataError("a column of this type cannot be kept as CSV", value=str(array.dtype))


def _texts(part: dict[str, Any]) -> list[str]:
    ends = np.cumsum(part["lengths"]).tolist()
    text: bytes = part["text"]
    cells = []
    for start, end, kind in zip([0, *ends], ends, part["missing"].tolist(), strict=False):
        cell = text[start:end].decode("utf-8", "surrogatepass")
        if len(cell) > _MAX_CELL:
            raise DataError(f"a text may have {_MAX_CELL:,} characters", value=cell[:40])
        cells.append(_MISSING[kind] or ("\\" + cell if cell.startswith("\\") else cell))
    return cells


def _values(how: dict[str, Any], cells: tuple[str, ...]) -> Any:
    """One batch of cells in the form that `_part` joins."""
    if how["as"] == "text":
        return cells
    if how["as"] == "category":
        codes = {cell: code for code, cell in enumerate(how["known"])} | {_NOTHING: -1}
        return np.array([codes[cell] for cell in cells], dtype=np.int64)
    dtype = np.dtype(how["dtype"])
    match dtype.kind:
        case "M":
            texts = ["NaT" if c == _NOTHING else c.removesuffix("Z") for c in cells]
            return np.array(texts, dtype=dtype)
        case "m":
            return np.array(list(map(int, cells)), dtype=np.int64).astype(dtype)
        case "b":
            return np.array([_TRUTH[cell] for cell in cells])
        case "f":
            return np.array(list(map(float, cells)), dtype=dtype)
        case _:
            return np.array(list(map(int, cells)), dtype=dtype)


def _part(how: dict[str, Any], pieces: list[Any]) -> Any:
    """The parts of a whole column, as `ares.store.frames` takes them."""
    if how["as"] == "text":
        return _text_part(how["dtype"], [cell for piece in pieces for cell in piece])
    if how["as"] == "category":
        codes = np.concatenate([np.empty(0, dtype=np.int64), *pieces])
        index = dict(how["categories"])
        if "values" in index:
            index["values"] = _part(
                index["values"], [_values(index["values"], tuple(how["known"]))]
            )
        return {**how, "codes": codes, "categories": index}
    array = np.concatenate([np.empty(0, dtype=how["dtype"]), *pieces])
    return array if how["as"] == "array" else {**how, "values": array}


def _text_part(dtype: str, cells: list[str]) -> dict[str, Any]:
    missing = [max(0, _MISSING.index(c)) if c in _MISSING[1:] else 0 for c in cells]
    items = [
        b"" if gone else cell.removeprefix("\\").encode("utf-8", "surrogatepass")
        for cell, gone in zip(cells, missing, strict=True)
    ]
    lengths = np.array([len(item) for item in items], dtype=np.int64)
    kinds = np.array(missing, dtype=np.uint8)
    return {
        "as": "text",
        "dtype": dtype,
        "text": b"".join(items),
        "lengths": lengths,
        "missing": kinds,
    }
