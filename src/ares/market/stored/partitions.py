"""Checked bars on disk: one Parquet file per year, a file of gaps, and a manifest that rules.

    manifest.json           what the folder holds, with row counts and SHA-256; the commit point
    2013-1f0c....parquet    bars that open in that year (UTC); the name carries the content's digest
    gaps-77ab....parquet    open time of the bar before each gap, and the bars missing

A file is never overwritten by another content, so whoever reads by the old manifest finds the old
files until the new manifest has replaced it; what no manifest names is swept by the next writer.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from ares.core.errors import ArtifactError, StoreError
from ares.core.identity import fingerprint
from ares.market.bars import Bars
from ares.market.quality import Finding, QualityReport
from ares.market.raw import COLUMNS
from ares.market.stored.parts import (
    GAPS,
    REMEDY,
    Part,
    checked_bytes,
    naming_repair,
    read_part,
    read_parts,
)
from ares.market.timeframe import timeframe_ns
from ares.market.timerange import FOREVER
from ares.store.atomic import read_regular, write_atomic
from ares.store.jsonio import json_bytes, parse_json
from ares.store.temporaries import sweep_orphans

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ares.core.types import Int64Array
    from ares.market.checking.door import Adjusted

SCHEMA: Final = 1
MANIFEST: Final = "manifest.json"
_MAX_MANIFEST: Final = 1 << 26
_PATIENCE: Final = 10.0  # seconds
_TRIES: Final = 3
_BLOCK: Final = 1 << 15


Read = TypeVar("Read")


class BrokenManifestError(ArtifactError):
    """The content of a manifest is damaged: nothing says any more which bars there were."""


@dataclasses.dataclass(frozen=True)
class ImportRecord:
    """One import: digests of the files, the options they were read with, and its report."""

    sources: tuple[str, ...]
    options: str
    quality: QualityReport


@dataclasses.dataclass(frozen=True)
class Origin:
    """What bars were resampled from: the timeframe and the identity of that dataset."""

    timeframe: str
    identity: str


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
    imports: tuple[ImportRecord, ...] = ()  # the last one; older versions of Ares kept all
    origin: Origin | None = None

    @property
    def identity(self) -> str:
        """Digest of the bars and of what is known of them, without reading them."""
        bars = [(part.first, part.rows, part.sha256) for part in self.parts]
        known = (self.calendar, self.quality.calendar_inferred, self.adjusted, self.tick)
        return fingerprint((self.symbol, self.exchange, self.timeframe, bars, known))

    @property
    def rows(self) -> int:
        """Number of bars."""
        return sum(part.rows for part in self.parts)

    @property
    def size(self) -> int:
        """Bytes of the Parquet files."""
        return sum(part.size for part in (*self.parts, self.gaps))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make `manifest` the content of `folder`, all at once.

    Raises:
        StoreError: It cannot be written, or could not be read back; the old content is then intact.
    """
    body = _body(manifest)
    head = {"format": "ares bars", "schema": SCHEMA, "checksum": fingerprint(body)}
    data = json_bytes({**head, "body": body})
    if len(data) > _MAX_MANIFEST:
        raise StoreError(
            f"a manifest may have {_MAX_MANIFEST} bytes",
            value=len(data),
            where=str(folder / MANIFEST),
            remedy="Import fewer files at once.",
        )
    write_atomic(folder / MANIFEST, data)
    sweep(folder, manifest)


def _body(manifest: Manifest) -> dict[str, Any]:
    """The manifest as a tree; bars that were imported have no origin, and never had the key."""
    body = dataclasses.asdict(manifest)
    if manifest.origin is None:
        del body["origin"]
    return body


def sweep(folder: Path, manifest: Manifest | None) -> None:
    """Remove what killed writers left: temporary files, and parts that `manifest` does not name.

    The caller holds the folder's lock.
    """
    sweep_orphans(folder)
    named = set() if manifest is None else {p.file for p in (*manifest.parts, manifest.gaps)}
    for path in folder.glob("*.parquet"):
        if path.name not in named:
            path.unlink(missing_ok=True)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of `folder`.

    Raises:
        BrokenManifestError: Its content is damaged.
        ArtifactError: Missing, unreadable, too large, or of another schema.
    """
    path = folder / MANIFEST
    with naming_repair():
        data = read_regular(path, max_bytes=_MAX_MANIFEST)
    try:
        tree = parse_json(data, where=str(path))
    except ArtifactError as error:
        raise BrokenManifestError(
            error.rule, value=error.value, where=error.where, remedy=REMEDY
        ) from error
    try:
        if not isinstance(tree, dict) or tree["format"] != "ares bars":
            raise BrokenManifestError("this is no manifest of bars", where=str(path), remedy=REMEDY)
        if tree["schema"] != SCHEMA:
            raise ArtifactError(
                f"only schema {SCHEMA} is read",
                where=str(path),
                value=tree["schema"],
                remedy="Another version of Ares wrote it: use that one, or another workspace.",
            )
        body = tree["body"]
        manifest = Manifest(
            **{
                **body,
                "tick": float(body["tick"]),
                "parts": tuple(Part(**part) for part in body["parts"]),
                "gaps": Part(**body["gaps"]),
                "origin": Origin(**body["origin"]) if "origin" in body else None,
                "quality": _quality(body["quality"]),
                "imports": tuple(
                    ImportRecord(tuple(i["sources"]), i["options"], _quality(i["quality"]))
                    for i in body["imports"]
                ),
            }
        )
        intact = fingerprint(_body(manifest)) == tree["checksum"]
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise BrokenManifestError(
            "the manifest is incomplete", where=str(path), value=str(error), remedy=REMEDY
        ) from None
    if not intact:
        raise BrokenManifestError("the manifest was changed", where=str(path), remedy=REMEDY)
    return manifest


def consistent(folder: Path, read: Callable[[Manifest], Read]) -> Read:
    """What `read` makes of a manifest and its parts, while others may replace both.

    It is tried again as long as the manifest is another one after a failure, for ten seconds and at
    least three times.

    Raises:
        ArtifactError: `read` raised it, and not because the manifest was replaced.
    """
    patience = time.monotonic() + _PATIENCE
    for tries in itertools.count(1):
        manifest = read_manifest(folder)
        try:
            return read(manifest)
        except ArtifactError:
            over = tries >= _TRIES and time.monotonic() > patience
            if over or read_manifest(folder) == manifest:
                raise
    raise AssertionError("unreachable")


def intact(folder: Path, manifest: Manifest) -> bool:
    """Whether the folder has all files of the manifest as they were written; every byte is read."""
    try:
        verify(folder, manifest)
    except ArtifactError:
        return False
    return True


def verify(folder: Path, manifest: Manifest) -> None:
    """Raise where a file of the manifest is not as it was written.

    Raises:
        ArtifactError: It is missing or damaged.
    """
    for part in (*manifest.parts, manifest.gaps):
        checked_bytes(folder, part)


def read_bars(folder: Path, manifest: Manifest, span: tuple[int, int] = FOREVER) -> Bars:
    """Bars that open within `span`, from the parts that reach into it; every digest is checked.

    The bars passed the door once and keep their report.

    Raises:
        ArtifactError: A part is missing or damaged, or no bar lies in the span.
    """
    wanted = [p for p in manifest.parts if p.last >= span[0] and p.first < span[1]]
    if not wanted:
        raise ArtifactError("no bars lie in the time range", where=str(folder))
    with ThreadPoolExecutor(1, "ares-gaps") as worker:
        task = worker.submit(read_part, folder, manifest.gaps, GAPS)
        columns = read_parts(folder, wanted, COLUMNS)
        gaps = task.result()
    start, stop = np.searchsorted(columns["timestamp"], span, side="left")
    if start == stop:
        raise ArtifactError("no bars lie in the time range", where=str(folder))
    if stop - start < len(columns["timestamp"]):
        columns = {name: column[start:stop].copy() for name, column in columns.items()}
    return Bars(
        **columns,
        symbol=manifest.symbol,
        exchange=manifest.exchange,
        timeframe=manifest.timeframe,
        tick=manifest.tick,
        calendar=manifest.calendar,
        gaps=_gaps_within(
            columns["timestamp"],
            gaps["timestamp"],
            gaps["missing"],
            timeframe_ns(manifest.timeframe),
        ),
        adjusted=manifest.adjusted,
        quality=manifest.quality,
    )


def _gaps_within(
    times: Int64Array, before: Int64Array, missing: Int64Array, interval: int
) -> Int64Array:
    """Rows of `Bars.gaps` for the gaps that have a bar of `times` on both sides."""
    start, stop = np.searchsorted(before, [times[0], times[-1]])
    before = before[start:stop]
    rows = np.empty((stop - start, 3), dtype=np.int64)
    place = np.zeros(0, dtype=np.int64)
    if len(before):
        place = _holes(times, interval)
        # Where every hole is a gap, as on most markets, these are they.
        if not np.array_equal(times[place], before):
            place = np.searchsorted(times, before)
    rows[:, 0] = place
    rows[:, 1] = place + 1
    rows[:, 2] = missing[start:stop]
    return rows


def _holes(times: Int64Array, interval: int) -> Int64Array:
    """Positions of times whose next one is not an interval later; blockwise, within the caches."""
    found = []
    for begin in range(0, len(times), _BLOCK):
        block = times[begin : begin + _BLOCK + 1]
        found.append(begin + np.flatnonzero(block[1:] - block[:-1] != interval))
    return np.concatenate(found)


def _quality(tree: Mapping[str, Any]) -> QualityReport:
    findings = tuple(
        Finding(**{**finding, "examples": tuple(finding["examples"])})
        for finding in tree["findings"]
    )
    return QualityReport(**{**tree, "findings": findings})
