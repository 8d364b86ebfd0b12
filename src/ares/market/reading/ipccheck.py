"""What a Feather (Arrow IPC) file will decode to, found out before a native reader sees it.

Compressed buffers begin with the size that they decode to, and a reader allocates it. So the
footer and the message of every batch are read, and what their buffers claim is added up.

Source: the format documentation of Apache Arrow (File.fbs, Message.fbs) and of FlatBuffers.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, Final

from ares.core.errors import DataError
from ares.market.reading.limits import check_decoded, check_rows

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC: Final = b"ARROW1"
_OLD_FEATHER: Final = b"FEA1"
_MAX_FOOTER: Final = 16 * 1024**2
_MAX_BATCHES: Final = 100_000
_MAX_BUFFERS: Final = 1 << 16
_BLOCK: Final = struct.Struct("<qi4xq")
_BUFFER: Final = struct.Struct("<qq")


class _Table:
    """A table of a FlatBuffer: its fields by number."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._fields = at - _int(data, "<i", at)
        self._size = _int(data, "<H", self._fields)

    def number(self, field: int, form: str) -> int:
        """An integer stored in place, 0 where it is absent."""
        place = self._place(field)
        return _int(self._data, form, place) if place else 0

    def table(self, field: int) -> _Table | None:
        place = self._place(field)
        return _Table(self._data, place + _int(self._data, "<I", place)) if place else None

    def structs(self, field: int, form: struct.Struct, most: int) -> list[tuple[int, ...]]:
        place = self._place(field)
        if not place:
            return []
        place += _int(self._data, "<I", place)
        count = _int(self._data, "<I", place)
        if count > most:
            raise ValueError(f"{count} parts")
        return [form.unpack_from(self._data, place + 4 + n * form.size) for n in range(count)]

    def _place(self, field: int) -> int:
        slot = 4 + 2 * field
        if slot >= self._size:
            return 0
        offset = _int(self._data, "<H", self._fields + slot)
        return self._at + offset if offset else 0


def _int(data: bytes, form: str, at: int) -> int:
    if at < 0:
        raise ValueError("a position before the start")
    return int(struct.unpack_from(form, data, at)[0])


def check_feather(path: Path, where: str) -> None:
    """Check the frame of a Feather file, and what its batches and dictionaries decode to.

    Raises:
        DataError: It is empty, cut, of the first version, no Feather file, or it is too large.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        _check_head(file.read(8), where)
        try:
            rows, decoded = _sizes(file, size, where)
        except (struct.error, ValueError, OSError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"the Feather file has no valid footer or batches ({error})",
                where=where,
                remedy="The file is truncated or damaged; fetch it again.",
            ) from None
    check_rows(rows, size, where)
    check_decoded(decoded, size, where)


def _check_head(head: bytes, where: str) -> None:
    if not head:
        raise DataError("the file is empty", where=where, remedy="Fetch it again.")
    if head.startswith(_OLD_FEATHER):
        raise DataError(
            "Feather version 1 is not read", where=where, remedy="Write it again as version 2."
        )
    if not head.startswith(_MAGIC):
        raise DataError(
            "this is no Feather file",
            where=where,
            remedy="It is damaged or has a wrong ending; fetch it again.",
        )


def _sizes(file: BinaryIO, size: int, where: str) -> tuple[int, int]:
    """Rows, and bytes of all decoded buffers."""
    file.seek(max(0, size - 10))
    tail = file.read(10)
    length = _int(tail, "<i", 0)
    if tail[4:] != _MAGIC or not 0 < length <= min(size - 18, _MAX_FOOTER):
        raise ValueError("it is cut")
    file.seek(size - 10 - length)
    data = file.read(length)
    footer = _Table(data, _int(data, "<I", 0))
    rows = decoded = 0
    for field in (2, 3):  # dictionaries, record batches
        for offset, head, body in footer.structs(field, _BLOCK, _MAX_BATCHES):
            if min(offset, head, body) < 0 or offset + head + body > size or head > _MAX_FOOTER:
                raise ValueError("a batch lies outside of it")
            found, unpacked = _batch_size(file, offset, head, body)
            rows += found if field == 3 else 0
            decoded += unpacked
            check_rows(rows, size, where)
            check_decoded(decoded, size, where)
    return rows, decoded


def _batch_size(file: BinaryIO, offset: int, head: int, body: int) -> tuple[int, int]:
    """Rows of one batch, and bytes of its decoded buffers."""
    file.seek(offset)
    data = file.read(head)
    start = 8 if data[:4] == b"\xff\xff\xff\xff" else 4
    message = _Table(data, start + _int(data, "<I", start))
    kind, batch = message.number(1, "<B"), message.table(2)
    if kind == 2 and batch is not None:  # a dictionary holds its batch
        batch = batch.table(1)
    if kind not in (2, 3) or batch is None:
        raise ValueError("a block is no batch")
    rows = batch.number(0, "<q")
    if rows < 0:
        raise ValueError("a batch of fewer rows than none")
    compressed = batch.table(3) is not None
    decoded = 0
    for at, length in batch.structs(2, _BUFFER, _MAX_BUFFERS):
        if min(at, length) < 0 or at + length > body:
            raise ValueError("a buffer lies outside of its batch")
        if compressed and length >= 8:
            file.seek(offset + head + at)
            claimed = _int(file.read(8), "<q", 0)
            if claimed < -1:
                raise ValueError("a buffer of negative size")
            decoded += length if claimed == -1 else claimed
        else:
            decoded += length
    return rows, decoded
