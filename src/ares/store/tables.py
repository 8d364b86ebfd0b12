"""Tables on disk: which engine reads and writes them here.

pyarrow where it is there; else fastparquet, which writes Parquet, too; else `ares.store.csvtable`.
A missing engine is warned of once per process, and runs record it (`table_fallbacks`). The values
are the same whatever the engine; the bytes of the files are not.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import logging
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, TypeAlias

from ares.core.errors import AresError, ConfigError, DataError, InputError
from ares.store import csvtable, tabletypes

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd

_log = logging.getLogger("ares.store.tables")

Engine: TypeAlias = Literal["pyarrow", "fastparquet", "csv"]

CODECS: Final = ("zstd", "snappy", "gzip", "lz4", "none")
_FASTPARQUET_CODECS: Final = {"lz4": "LZ4_RAW", "none": "UNCOMPRESSED"}
_INSTALL: Final = "pip install pyarrow"
_NOTES: Final[dict[Engine, str]] = {
    "pyarrow": "",
    "fastparquet": "pyarrow is not installed: Parquet goes through fastparquet, CSV through the"
    f" plain reader; Feather files and the dataset store are closed ({_INSTALL})",
    "csv": "neither pyarrow nor fastparquet is installed: tables are kept as gzipped CSV; Parquet"
    f" and Feather files and the dataset store are closed ({_INSTALL})",
}


@functools.cache
def table_engine() -> Engine:
    """The first of pyarrow and fastparquet that can be imported, else "csv"; warns once."""
    engine: Engine = "csv"
    if _imports("pyarrow.parquet"):
        engine = "pyarrow"
    elif _imports("fastparquet"):
        engine = "fastparquet"
    if _NOTES[engine]:
        _log.warning("%s", _NOTES[engine])
    return engine


def table_fallbacks() -> tuple[str, ...]:
    """What stands in for pyarrow here, for `run_info.json`; empty with pyarrow."""
    note = _NOTES[table_engine()]
    return (note,) if note else ()


def needs_pyarrow(what: str, where: str = "") -> None:
    """Refuse what nothing stands in for.

    Raises:
        InputError: pyarrow is not here.
    """
    if table_engine() != "pyarrow":
        raise InputError(f"{what} needs pyarrow", where=where, remedy=f"Install it: {_INSTALL}.")


def reader_errors() -> tuple[type[Exception], ...]:
    """What the readers of tables and text raise on a damaged file."""
    common = (zlib.error, EOFError, OSError, ValueError)
    if table_engine() != "pyarrow":
        return common
    import pyarrow as pa

    return (*common, pa.ArrowException)


def write_parquet(
    file: BinaryIO,
    frame: pd.DataFrame,
    *,
    notes: Mapping[str, str] | None = None,
    compression: str = "zstd",
    index: bool | None = None,
) -> None:
    """Write a frame as Parquet with `notes` as metadata of the file.

    Args:
        file: Open for writing.
        frame: Its `attrs` are not written.
        notes: Metadata of the file.
        compression: One of `CODECS`.
        index: Whether the index is written; None: a range of numbers costs no column.

    Raises:
        ConfigError: An unknown compression.
        DataError: A column's name or type that fastparquet does not give back; pyarrow raises its
            own errors.
    """
    if compression not in CODECS:
        raise ConfigError(
            f"must be one of {', '.join(CODECS)}", value=compression, where="compression"
        )
    bare = frame.copy(deep=False)
    bare.attrs = {}
    if not len(bare.columns) and len(bare):
        raise DataError("Parquet keeps no rows without columns", value=f"{len(bare)} rows")
    noted = {**(notes or {}), tabletypes.KEY: tabletypes.as_note(tabletypes.of(bare))}
    if table_engine() != "pyarrow":
        file.write(_by_fastparquet(bare, noted, compression, index))
        return
    import pyarrow.parquet as pq

    pq.write_table(_arrow(bare, noted, index), file, compression=compression)


def _arrow(frame: pd.DataFrame, notes: Mapping[str, str], index: bool | None) -> Any:
    import pyarrow as pa

    table = pa.Table.from_pandas(frame, preserve_index=index)
    added = {key.encode(): text.encode() for key, text in notes.items()}
    return table.replace_schema_metadata({**table.schema.metadata, **added})


def read_parquet(path: str | os.PathLike[str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """The frame that `write_parquet` wrote, or another program, and the metadata of the file.

    Raises:
        InputError: There is no engine for Parquet.
        Exception: Whatever the engine raises on a damaged file.
    """
    if table_engine() == "pyarrow":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            table = file.read()
        raw = table.schema.metadata or {}
        notes = {k.decode(): v.decode(errors="replace") for k, v in raw.items()}
        return tabletypes.restored(table.to_pandas(), notes), notes
    with checking_nothing(path):
        file = open_fastparquet(path)
        notes = {str(k): str(v) for k, v in file.key_value_metadata.items()}
        return tabletypes.restored(file.to_pandas(), notes), notes


def parquet_footer(path: str | os.PathLike[str]) -> Any:
    """What a file says of its rows: `num_rows`, `num_row_groups`, `row_group(n)`, as pyarrow has it.

    Raises:
        InputError: There is no engine for Parquet.
        Exception: Whatever the engine raises on a damaged file.
    """
    if table_engine() == "pyarrow":
        import pyarrow.parquet as pq

        return pq.read_metadata(path)
    with checking_nothing(path):
        return _Footer(open_fastparquet(path).fmd)


class _Footer:
    """pyarrow's names for what fastparquet read."""

    def __init__(self, found: Any) -> None:
        self._groups = list(found.row_groups or ())
        self.num_rows = int(found.num_rows)
        self.num_row_groups = len(self._groups)

    def row_group(self, number: int) -> Any:
        return self._groups[number]


def open_fastparquet(path: str | os.PathLike[str]) -> Any:
    """Fastparquet's `ParquetFile`.

    Raises:
        InputError: fastparquet is not here, either.
    """
    if table_engine() == "csv":
        raise InputError(
            "Parquet is read by pyarrow or fastparquet, and neither is installed",
            where=str(path),
            remedy=f"Install one: {_INSTALL}.",
        )
    import fastparquet

    return fastparquet.ParquetFile(str(path))


@contextlib.contextmanager
def checking_nothing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what fastparquet raises on a damaged file, which may be anything, into a `DataError`."""
    try:
        yield
    except (AresError, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  # it checks nothing: damage is any exception
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise DataError(
            f"the file cannot be read: {reason[:200]}",
            where=str(path),
            remedy="The file is damaged or in another format; fetch it again.",
        ) from None


def encode_table(frame: pd.DataFrame) -> tuple[str, bytes]:
    """Ending of the file's name and its bytes; the index is left out. Equal frames: equal bytes.

    Raises:
        DataError: A column that the engine cannot hold.
    """
    if table_engine() == "csv":
        return csvtable.SUFFIX, csvtable.encode(frame.reset_index(drop=True), {})
    buffer = io.BytesIO()
    write_parquet(buffer, frame, index=False)
    return ".parquet", buffer.getvalue()


def encode_pieces(pieces: Iterable[pd.DataFrame]) -> tuple[str, bytes]:
    """As `encode_table` of all pieces below each other, of which one at a time is in memory.

    At least one; all have the same columns. Each becomes a row group.

    Raises:
        DataError: As `encode_table`.
    """
    import pandas as pd

    if table_engine() != "pyarrow":
        return encode_table(pd.concat(list(pieces), ignore_index=True))
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    with contextlib.ExitStack() as stack:
        writer: Any = None
        for piece in pieces:
            noted = {tabletypes.KEY: tabletypes.as_note(tabletypes.of(piece))}
            table = _arrow(piece, noted, index=False)
            if writer is None:
                writer = stack.enter_context(
                    pq.ParquetWriter(buffer, table.schema, compression="zstd")
                )
            writer.write_table(table)
    return ".parquet", buffer.getvalue()


def find_table(folder: Path, stem: str) -> Path | None:
    """The file of a table that `encode_table` made, whatever the engine was."""
    candidates = (folder / f"{stem}{suffix}" for suffix in (".parquet", csvtable.SUFFIX))
    return next((path for path in candidates if path.exists()), None)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The frame in a file that `find_table` found.

    Args:
        path: The file.
        columns: These of it, as far as they are there, in the types that the engine has; None: all
            of it as it was.

    Raises:
        InputError: As `read_parquet`.
        Exception: Whatever the engine raises on a damaged file.
    """
    if path.name.endswith(csvtable.SUFFIX):
        frame = csvtable.read(path)[0]
    elif columns is not None and table_engine() == "pyarrow":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            frame = file.read(columns=list(columns)).to_pandas()
    else:
        frame = read_parquet(path)[0]
    return frame if columns is None else frame[[n for n in columns if n in frame.columns]]


def _by_fastparquet(
    frame: pd.DataFrame, notes: dict[str, str], compression: str, index: bool | None
) -> bytes:
    """A Parquet file that was read again: fastparquet changes some types without a word."""
    import fastparquet
    import pandas as pd

    codec = _FASTPARQUET_CODECS.get(compression, compression.upper())
    if index is False:
        frame = frame.reset_index(drop=True)
    with tempfile.TemporaryDirectory(prefix="ares-") as folder:
        path = Path(folder, "table.parquet")
        try:
            plain, labels = tabletypes.taken_apart(frame)
            notes |= {tabletypes.LABELS_KEY: tabletypes.as_note(labels)}
            fastparquet.write(
                str(path), plain, compression=codec, write_index=False, custom_metadata=notes
            )
            back, _ = read_parquet(path)
            pd.testing.assert_frame_equal(back, frame, check_exact=True)
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                "fastparquet cannot hold this frame as it is",
                value=reason,
                remedy=f"Install pyarrow ({_INSTALL}), or convert the columns to plain types.",
            ) from None
        return path.read_bytes()


def _imports(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
