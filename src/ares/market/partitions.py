"""Checked bars on disk: one Parquet file per year, a file of gaps, and a manifest that rules.

    manifest.json           what the folder holds, with row counts and SHA-256; the commit point
    2013-1f0c....parquet    bars that open in that year (UTC); the name carries the content's digest
    gaps-77ab....parquet    open time of the bar before each gap, and the bars missing

A file is never overwritten by another content, so whoever reads by the old manifest finds the old
files until the new manifest has replaced it; what no manifest names is swept by the next writer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import ArtifactError
from ares.core.identity import fingerprint
from ares.market.bars import Bars
from ares.market.quality import Finding, QualityReport
from ares.market.raw import COLUMNS
from ares.market.timerange import FOREVER
from ares.store.atomic import (
    make_folder,
    read_checked,
    read_json,
    sweep_orphans,
    write_atomic,
    write_json,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from ares.core.types import Int64Array
    from ares.market.bars import Adjusted

SCHEMA: Final = 1
MANIFEST: Final = "manifest.json"
_MAX_MANIFEST: Final = 1 << 26
_REMEDY: Final = "`ares data repair` removes damaged parts; import the files again."


@dataclasses.dataclass(frozen=True)
class Part:
    """One Parquet file: its name, rows, first and last open time, digest and size."""

    file: str
    rows: int
    first: int
    last: int
    sha256: str
    size: int


@dataclasses.dataclass(frozen=True)
class ImportRecord:
    """One import: digests of the files, the options they were read with, and its report."""

    sources: tuple[str, ...]
    options: str
    quality: QualityReport


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a folder of bars holds."""

    symbol: str
    exchange: str
    timeframe: str
    calendar: str
    adjusted: Adjusted
    tick: float
    parts: tuple[Part, ...]
    gaps: Part
    quality: QualityReport
    imports: tuple[ImportRecord, ...] = ()

    @property
    def rows(self) -> int:
        """Number of bars."""
        return sum(part.rows for part in self.parts)

    @property
    def size(self) -> int:
        """Bytes of the Parquet files."""
        return sum(part.size for part in (*self.parts, self.gaps))


def write_bars(folder: Path, bars: Bars, imports: Sequence[ImportRecord]) -> Manifest:
    """Write `bars` into `folder` and make them its content, all at once.

    The caller holds the folder's lock. Files that exist under their digest are not written again.

    Raises:
        StoreError: The disk is full, read-only or failing; the old content is then intact.
    """
    make_folder(folder)
    years = bars.timestamp.astype("datetime64[ns]").astype("datetime64[Y]").astype(np.int64) + 1970
    starts = np.flatnonzero(np.diff(years, prepend=years[:1] - 1))
    parts = []
    for start, stop in zip(starts, [*starts[1:], len(bars)], strict=True):
        columns = {name: getattr(bars, name)[start:stop] for name in COLUMNS}
        parts.append(_write_part(folder, str(years[start]), columns))
    before = bars.timestamp[bars.gaps[:, 0]]
    gaps = _write_part(folder, "gaps", {"timestamp": before, "missing": bars.gaps[:, 2]})
    manifest = Manifest(
        symbol=bars.symbol,
        exchange=bars.exchange,
        timeframe=bars.timeframe,
        calendar=bars.calendar,
        adjusted=bars.adjusted,
        tick=bars.tick,
        parts=tuple(parts),
        gaps=gaps,
        quality=report_of(bars),
        imports=tuple(imports),
    )
    write_manifest(folder, manifest)
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make `manifest` the content of `folder`, all at once."""
    body = dataclasses.asdict(manifest)
    head = {"format": "ares bars", "schema": SCHEMA, "checksum": fingerprint(body)}
    write_json(folder / MANIFEST, {**head, "body": body})
    sweep(folder, manifest)


def sweep(folder: Path, manifest: Manifest) -> None:
    """Remove what killed writers left: temporary files, and parts that `manifest` does not name.

    The caller holds the folder's lock.
    """
    sweep_orphans(folder)
    named = {part.file for part in (*manifest.parts, manifest.gaps)}
    for path in folder.glob("*.parquet"):
        if path.name not in named:
            path.unlink(missing_ok=True)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of `folder`.

    Raises:
        ArtifactError: Missing, damaged, or of another schema.
    """
    path = folder / MANIFEST
    tree = read_json(path, max_bytes=_MAX_MANIFEST)
    try:
        if not isinstance(tree, dict) or tree["format"] != "ares bars":
            raise ArtifactError("this is no manifest of bars", where=str(path))
        if tree["schema"] != SCHEMA:
            raise ArtifactError(
                f"only schema {SCHEMA} is read",
                where=str(path),
                value=tree["schema"],
                remedy="Import the files again.",
            )
        body = tree["body"]
        manifest = Manifest(
            **{
                **body,
                "tick": float(body["tick"]),
                "parts": tuple(Part(**part) for part in body["parts"]),
                "gaps": Part(**body["gaps"]),
                "quality": _quality(body["quality"]),
                "imports": tuple(
                    ImportRecord(tuple(i["sources"]), i["options"], _quality(i["quality"]))
                    for i in body["imports"]
                ),
            }
        )
        intact = fingerprint(dataclasses.asdict(manifest)) == tree["checksum"]
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(
            "the manifest is incomplete", where=str(path), value=str(error), remedy=_REMEDY
        ) from None
    if not intact:
        raise ArtifactError("the manifest was changed", where=str(path), remedy=_REMEDY)
    return manifest


def read_bars(folder: Path, manifest: Manifest, span: tuple[int, int] = FOREVER) -> Bars:
    """Bars that open within `span`, from the parts that reach into it; every digest is checked.

    The bars passed the door once and keep their report.

    Raises:
        ArtifactError: A part is missing or damaged, or no bar lies in the span.
    """
    wanted = [p for p in manifest.parts if p.last >= span[0] and p.first < span[1]]
    if not wanted:
        raise ArtifactError("no bars lie in the time range", where=str(folder))
    columns = _read_parts(folder, wanted)
    start, stop = np.searchsorted(columns["timestamp"], span, side="left")
    if start == stop:
        raise ArtifactError("no bars lie in the time range", where=str(folder))
    if stop - start < len(columns["timestamp"]):
        columns = {name: column[start:stop].copy() for name, column in columns.items()}
    gaps = read_part(folder, manifest.gaps, ("timestamp", "missing"))
    return Bars(
        **columns,
        symbol=manifest.symbol,
        exchange=manifest.exchange,
        timeframe=manifest.timeframe,
        tick=manifest.tick,
        calendar=manifest.calendar,
        gaps=_gaps_within(columns["timestamp"], gaps["timestamp"], gaps["missing"]),
        adjusted=manifest.adjusted,
        quality=manifest.quality,
    )


def _read_parts(folder: Path, parts: Sequence[Part]) -> dict[str, Any]:
    """Columns of the bars of several parts; one part at a time is in memory beside them."""
    rows = sum(part.rows for part in parts)
    kinds = {name: np.int64 if name == "timestamp" else np.float64 for name in COLUMNS}
    columns: dict[str, Any] = {name: np.empty(rows, kind) for name, kind in kinds.items()}
    begin = 0
    for part in parts:
        for name, values in _joined([_read_table(folder, part, COLUMNS)], COLUMNS).items():
            columns[name][begin : begin + part.rows] = values
        begin += part.rows
    return columns


def read_part(folder: Path, part: Part, names: Sequence[str]) -> dict[str, Any]:
    """Columns of one file, after its digest was checked.

    Raises:
        ArtifactError: The file is missing, changed, or holds something else.
    """
    return _joined([_read_table(folder, part, names)], names)


def _joined(tables: Sequence[pa.Table], names: Sequence[str]) -> dict[str, Any]:
    """Columns of several tables, each copied once; a single chunk is not copied at all."""
    chunks = {name: [c.to_numpy() for t in tables for c in t.column(name).chunks] for name in names}
    return {
        name: parts[0] if len(parts) == 1 else np.concatenate(parts)
        for name, parts in chunks.items()
    }


def _read_table(folder: Path, part: Part, names: Sequence[str]) -> pa.Table:
    """Columns of a part as Arrow, after its digest was checked."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / part.file
    if "/" in part.file or part.file.startswith("."):
        raise ArtifactError("a part must lie in its folder", where=str(folder), value=part.file)
    data = read_checked(path, sha256=part.sha256, size=part.size)
    try:
        table = pq.read_table(pa.BufferReader(data), columns=list(names)).select(names)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ArtifactError(
            "the part must be Parquet", where=str(path), value=str(error)[:200], remedy=_REMEDY
        ) from None
    if len(table) != part.rows:
        raise ArtifactError(f"the part must have {part.rows} rows", where=str(path), remedy=_REMEDY)
    return table


def _write_part(folder: Path, stem: str, columns: Mapping[str, Any]) -> Part:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(
        pa.table(dict(columns)),
        sink,
        compression="zstd",
        use_dictionary=[name for name in columns if name in COLUMNS[1:]],  # decodes faster
        column_encoding={"timestamp": "DELTA_BINARY_PACKED"},
        write_statistics=False,
    )
    data = sink.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    times = columns["timestamp"]
    part = Part(
        file=f"{stem}-{digest[:16]}.parquet",
        rows=len(times),
        first=int(times[0]) if len(times) else 0,
        last=int(times[-1]) if len(times) else 0,
        sha256=digest,
        size=len(data),
    )
    path = folder / part.file
    if not _holds(path, part):
        write_atomic(path, data)
    return part


def _holds(path: Path, part: Part) -> bool:
    try:
        read_checked(path, sha256=part.sha256, size=part.size)
    except ArtifactError:
        return False
    return True


def _gaps_within(times: Int64Array, before: Int64Array, missing: Int64Array) -> Int64Array:
    """Rows of `Bars.gaps` for the gaps that have a bar of `times` on both sides."""
    inside = (before >= times[0]) & (before < times[-1])
    index = np.searchsorted(times, before[inside])
    return np.column_stack([index, index + 1, missing[inside]]).astype(np.int64)


def report_of(bars: Bars) -> QualityReport:
    """The report that bars carry after the door.

    Raises:
        ArtifactError: They carry none: slices do not.
    """
    if bars.quality is None:
        raise ArtifactError("bars need a quality report to be kept", where=repr(bars))
    return bars.quality


def _quality(tree: Mapping[str, Any]) -> QualityReport:
    findings = tuple(
        Finding(**{**finding, "examples": tuple(finding["examples"])})
        for finding in tree["findings"]
    )
    return QualityReport(**{**tree, "findings": findings})
