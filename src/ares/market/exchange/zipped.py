"""The one member of a dump's archive, read line by line: no path of the archive is ever used."""

from __future__ import annotations

import csv
import zipfile
import zlib
from array import array
from typing import IO, TYPE_CHECKING, BinaryIO, Final

import numpy as np

from ares.core.errors import DataError
from ares.market.exchange.source import as_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ares.core.types import Float64Array

MAX_MEMBER: Final = 1 << 28
MAX_RATIO: Final = 200
_MAX_LINE: Final = 1 << 12
_COLUMNS: Final = 12
_MICROSECONDS: Final = 10**14
"""Open times from here on are microseconds: Binance's spot dumps have them since 2025."""
_ENCRYPTED: Final = 1
_AGAIN: Final = "The archive is as the server signed it; another --source may have these bars."


def read_klines(archive: BinaryIO, member: str, where: str) -> Float64Array:
    """Rows of the only member of an archive, which must have exactly that name.

    Args:
        archive: A zip file.
        member: Name of its member.
        where: Name of the archive, for messages.

    Returns:
        float64 (n, 6) as `Page.rows`.

    Raises:
        DataError: Another member, too large a one, damage, or a line that is no kline.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            info = _only_member(opened, member, where)
            with opened.open(info) as stream:
                return _parse(_lines(stream, info.file_size, where), where)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            "the archive is damaged", where=where, value=str(error)[:120], remedy=_AGAIN
        ) from None


def _only_member(opened: zipfile.ZipFile, member: str, where: str) -> zipfile.ZipInfo:
    infos = opened.infolist()
    if [info.filename for info in infos] != [member]:
        raise DataError(
            f"the archive must hold {member} and nothing else",
            where=where,
            value=[info.filename[:60] for info in infos[:4]],
            remedy="Try again later, or use --source ccxt.",
        )
    info = infos[0]
    if info.flag_bits & _ENCRYPTED:
        raise DataError(
            "the archive must not be encrypted",
            where=where,
            remedy="Check data.base_url, or use --source ccxt.",
        )
    if info.file_size > MAX_MEMBER or info.file_size > MAX_RATIO * max(info.compress_size, 1024):
        raise DataError(
            f"a member may have {MAX_MEMBER} bytes and {MAX_RATIO} times its packed size",
            where=where,
            value=f"{info.compress_size} bytes that unpack to {info.file_size}",
            remedy="Check data.base_url, or use --source ccxt.",
        )
    return info


def _lines(stream: IO[bytes], size: int, where: str) -> Iterator[str]:
    """Lines as text; what is unpacked is counted, since the declared size may lie."""
    read = 0
    while line := stream.readline(_MAX_LINE + 1):
        read += len(line)
        if len(line) > _MAX_LINE or read > size:
            raise DataError(
                f"a line may have {_MAX_LINE} bytes",
                where=where,
                remedy="Check data.base_url, or use --source ccxt.",
            )
        yield line.decode("ascii", "replace")


def _parse(lines: Iterator[str], where: str) -> Float64Array:
    values = array("d")
    for number, cells in enumerate(csv.reader(lines), start=1):
        if not cells or (number == 1 and cells[0].strip().lower() in {"open_time", "open time"}):
            continue
        if len(cells) != _COLUMNS:
            raise DataError(
                f"a kline has {_COLUMNS} columns",
                where=f"{where}, row {number}",
                value=len(cells),
                remedy=_AGAIN,
            )
        values.append(_milliseconds(cells[0], f"{where}, row {number}, column open_time"))
        for column, cell in zip(
            ("open", "high", "low", "close", "volume"), cells[1:6], strict=True
        ):
            try:
                values.append(float(cell))
            except ValueError:
                raise DataError(
                    f"{column} must be a number",
                    where=f"{where}, row {number}, column {column}",
                    value=cell[:60],
                    remedy=_AGAIN,
                ) from None
    return as_rows(np.frombuffer(values), where)


def _milliseconds(cell: str, where: str) -> int:
    text = cell.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        raise DataError("open_time must be a time", where=where, value=text[:60], remedy=_AGAIN)
    time = int(text)
    if time < _MICROSECONDS:
        return time
    milliseconds, rest = divmod(time, 1000)
    if rest:
        raise DataError(
            "open_time must be whole milliseconds",
            where=where,
            value=text,
            remedy="Try again later, or use --source ccxt.",
        )
    return milliseconds
