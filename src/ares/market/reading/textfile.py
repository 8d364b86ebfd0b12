"""Text of plain and gzipped files as bytes, under caps on size, ratio and length of a line."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np

from ares.core.errors import DataError
from ares.market.reading.table import guarded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEWLINE: Final = b"\n"
_GZIP: Final = b"\x1f\x8b"
_GZIP_ONLY: Final = 31  # zlib: a gzip header, largest window
BOM: Final = b"\xef\xbb\xbf"
_QUOTE: Final = b'"'
_RETURN: Final = b"\r"
_WIDE_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")
MAX_LINE: Final = 64 * 1024
MAX_BYTES: Final = 8 * 1024**3
MAX_RATIO: Final = 100
"""Bytes of text per byte of a gzip file. Real bars reach 5, constant ones 14."""
FREE_BYTES: Final = 32 * 1024**2
"""Decompressed sizes up to this one are harmless whatever the ratio."""
STEP: Final = 1024**2
_RAW_STEP: Final = 128 * 1024
_FREE_MEMBERS: Final = 1000
_MIN_MEMBER: Final = 1024


def blocks_of(path: Path, where: str) -> Iterator[tuple[bytes, int]]:
    """Guarded blocks of whole lines, each with the number of lines before it."""
    waiting: list[bytes] = []
    held = lines = 0
    with guarded(where), path.open("rb") as file:
        for piece in _pieces(file, where):
            waiting.append(piece)
            held += len(piece)
            end = piece.rfind(NEWLINE) + 1 if held >= STEP else 0
            if end:  # the text is copied once: memory for blocks costs more than what is done there
                block = b"".join([*waiting[:-1], memoryview(piece)[:end]])
                _check_text(block, where, lines)
                _check_quotes(block, where, lines)
                waiting, held = [piece[end:]], len(piece) - end
                yield block, lines
                lines += line_ends(block)
            elif held >= STEP:
                _check_text(b"".join(waiting), where, lines)  # refuses a line that is too long
        data = b"".join(waiting)
        _check_text(data, where, lines)
        _check_quotes(data, where, lines)
        if not lines or (data and not data.isspace()):
            yield data, lines


def line_ends(data: bytes, start: int = 0, end: int | None = None) -> int:
    """Line ends of a part of a text: LF, CR LF, or a CR alone, which is what `csv` counts, too.

    `bytes.count` takes twice as long where lines are short.
    """
    text = np.frombuffer(data, np.uint8)[start:end]
    count = int(np.count_nonzero(text == NEWLINE[0]))
    if data.find(_RETURN, start, end) >= 0:
        returns = text == _RETURN[0]
        count += int(np.count_nonzero(returns)) - int(
            np.count_nonzero(returns[:-1] & (text[1:] == NEWLINE[0]))
        )
    return count


def first_line(data: bytes, where: str, rows_before: int) -> tuple[int, str]:
    """Offset and text of the first line that is not blank."""
    at = len(BOM) if data.startswith(BOM) else 0
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        line = data[at:end].strip()
        if line:
            try:
                return at, line.decode("utf-8")
            except UnicodeDecodeError:
                raise DataError(
                    "text must be encoded in UTF-8",
                    where=f"{where}, row {rows_before + line_ends(data, 0, at) + 1}",
                    value=line[:40],
                    remedy="Save it as UTF-8.",
                ) from None
        at = end + 1
    raise DataError("the file is empty", where=where, remedy="Fetch it again.")


def _pieces(file: BinaryIO, where: str) -> Iterator[bytes]:
    """The text of a plain or gzipped file in steps; lone carriage returns end lines, too."""
    packed = file.read(2) == _GZIP
    file.seek(0)
    size, old_mac = 0, None
    for piece in _inflate(file, where) if packed else iter(lambda: file.read(STEP), b""):
        size += len(piece)
        if size > MAX_BYTES:
            raise DataError(
                f"a CSV file may have {MAX_BYTES >> 30} GiB of text",
                where=where,
                remedy="Split it; a folder of files is read as one.",
            )
        if old_mac is None and piece:
            if piece.startswith(_WIDE_BOMS):
                raise DataError(
                    "text must be encoded in UTF-8, this is UTF-16",
                    where=where,
                    remedy="Save it as UTF-8.",
                )
            old_mac = b"\r" in piece and NEWLINE not in piece
        yield piece.replace(b"\r", NEWLINE) if old_mac else piece


def _check_text(data: bytes, where: str, rows_before: int) -> None:
    """Refuse NUL bytes and lines over `MAX_LINE` bytes: no bar needs them, and parsers stall."""
    nul = data.find(b"\0")
    if nul >= 0:
        row = rows_before + line_ends(data, 0, nul) + 1
        raise DataError(
            "text must not contain NUL bytes",
            where=f"{where}, row {row}",
            remedy="The file is damaged or is no CSV; fetch it again.",
        )
    at = 0
    while at + MAX_LINE < len(data):
        end = data.rfind(NEWLINE, at, at + MAX_LINE + 1)
        if end < 0:
            row = rows_before + line_ends(data, 0, at) + 1
            raise DataError(
                f"a line may have {MAX_LINE // 1024} KiB",
                where=f"{where}, row {row}",
                remedy="The file is damaged or is no CSV of bars.",
            )
        at = end + 1


def _check_quotes(data: bytes, where: str, rows_before: int) -> None:
    """Refuse quotes that are open at the end of a line of whole lines.

    No bar needs a cell that spans lines, a quote that never closes would swallow the rest of the
    file, and what is read in blocks must be what is read at once.
    """
    if _QUOTE not in data:
        return
    is_open = False
    for at in range(0, len(data), STEP):
        block = np.frombuffer(data, np.uint8, min(STEP, len(data) - at), at)
        odd = np.logical_xor.accumulate(block == _QUOTE[0]) ^ is_open
        bad = np.flatnonzero(odd & (block == NEWLINE[0]))
        is_open = bool(odd[-1])
        if len(bad) or (is_open and at + STEP >= len(data)):
            end = at + int(bad[0]) if len(bad) else len(data)
            begin = data.rfind(NEWLINE, 0, end) + 1
            raise DataError(
                "a quote must be closed in its line",
                where=f"{where}, row {rows_before + line_ends(data, 0, begin) + 1}",
                value=data[begin:end][:40].decode("utf-8", "replace"),
                remedy="A cell that spans lines is not read.",
            )


def _inflate(file: BinaryIO, where: str) -> Iterator[bytes]:
    """Members of a gzip file, decompressed in steps, under caps on ratio and number of members."""
    packed = unpacked = members = 0
    stream = zlib.decompressobj(wbits=_GZIP_ONLY)
    while raw := file.read(_RAW_STEP):
        packed += len(raw)
        while raw:
            if stream.eof:
                if not raw.strip(b"\0"):
                    break  # padding after the last member
                stream = zlib.decompressobj(wbits=_GZIP_ONLY)
                members += 1
                if members > _FREE_MEMBERS + unpacked // _MIN_MEMBER:
                    raise DataError(
                        f"the members of a gzip file must hold {_MIN_MEMBER} bytes on average",
                        where=where,
                        value=f"{members} members of {unpacked} bytes",
                        remedy="Compress it again in one piece.",
                    )
            piece = stream.decompress(raw, STEP)
            unpacked += len(piece)
            if unpacked > max(FREE_BYTES, MAX_RATIO * packed):
                raise DataError(
                    f"a compressed file may expand {MAX_RATIO}-fold",
                    where=where,
                    remedy="Bars do not compress so well: the file is damaged or hostile.",
                )
            yield piece
            raw = stream.unused_data if stream.eof else stream.unconsumed_tail
    yield stream.flush()
    if not stream.eof:
        raise DataError(
            "the gzip stream ends too early",
            where=where,
            remedy="The file is truncated; fetch it again.",
        )
