"""Repair of datasets: what is damaged is taken out or set aside, what is intact stays."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import re
from typing import TYPE_CHECKING, Final

from ares.core.errors import ArtifactError
from ares.market.checking.door import Door
from ares.market.raw import COLUMNS
from ares.market.stored.catalogue import missing_dataset
from ares.market.stored.intake import keep, merged_pieces
from ares.market.stored.merging import added
from ares.market.stored.partitions import (
    MANIFEST,
    BrokenManifestError,
    ImportRecord,
    read_manifest,
    write_manifest,
)
from ares.market.stored.parts import GAPS, read_part
from ares.market.stored.writing import (
    DoorOptions,
    door_rules,
    lock_of,
    manifest_of,
    swept_after_failure,
)
from ares.store.atomic import writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ares.market.stored.partitions import Manifest
    from ares.market.stored.parts import Part
    from ares.store.workspace import Workspace

_log = logging.getLogger("ares.market.stored.datasets")

_BARS: Final = re.compile(r"-?\d+-([0-9a-f]{16})\.parquet")


def repair_dataset(
    workspace: Workspace, symbol: str, exchange: str, timeframe: str
) -> tuple[str, ...]:
    """Take damaged parts out of a dataset, so that the rest loads and an import refills it.

    Where the manifest's content is damaged, nothing says what the bars are: it and the parts are
    moved into a folder beside, from which they can be imported, and the dataset is gone.

    Returns:
        Names of the files that were taken out; doing it again takes out nothing.

    Raises:
        DataError: There is no such dataset.
        ArtifactError: A file cannot be read, or the manifest is too large or of another schema: that
            is no damage, and nothing is changed.
        StoreError: The workspace cannot be written.
    """
    folder = workspace.dataset(exchange, symbol, timeframe)
    if not (folder / MANIFEST).exists():
        raise missing_dataset(workspace, symbol, exchange, timeframe)
    with lock_of(folder):
        try:
            manifest = read_manifest(folder)
        except BrokenManifestError as error:
            _log.warning("%s", error)
            with writing(folder):
                aside = _set_aside(folder)
            _log.warning(
                "the manifest and the parts are kept in %s: `ares import` of that folder takes their"
                " bars in again, with the calendar that was declared before",
                aside,
            )
            return (MANIFEST,)
        except ArtifactError as error:
            schema = "schema" in error.rule
            raise ArtifactError(
                error.rule,
                value=error.value,
                where=error.where,
                remedy=f"Nothing was changed or removed. {error.remedy if schema else ''}".strip(),
            ) from error
        with swept_after_failure(folder):
            return _without_damage(folder, manifest)


def _without_damage(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    removed = [part.file for part in manifest.parts if _damaged(folder, part, COLUMNS)]
    good = [part for part in manifest.parts if part.file not in removed]
    if not removed and not _damaged(folder, manifest.gaps, GAPS):
        return ()
    if not good:
        (folder / MANIFEST).unlink()
        return tuple(removed)
    options: DoorOptions = {"calendar": manifest.calendar, "adjusted": manifest.adjusted}
    # The bars were judged when they came in.
    rules = dataclasses.replace(door_rules(manifest.timeframe, options), derived=True)
    sides = ((folder, good),)
    door = Door(rules, ("dataset",))
    checked = keep(folder, door, lambda writer: merged_pieces(sides, ("dataset",), writer))
    lost = manifest.rows - sum(part.rows for part in good)
    inferred = manifest.quality.calendar_inferred
    empty = dataclasses.replace(checked.report, rows=-lost)
    report = added(manifest.quality, empty, checked.report)
    report = dataclasses.replace(report, calendar_inferred=inferred)
    record = ImportRecord(("repair",), "", report)
    names = (manifest.symbol, manifest.exchange, manifest.timeframe)
    # Bars that were resampled are to be made anew: this is no identity of the finer ones.
    origin = manifest.origin and dataclasses.replace(manifest.origin, identity="repair")
    made = manifest_of(checked, report, names, rules, (record,), origin)
    write_manifest(folder, made)
    return tuple(removed) or (manifest.gaps.file,)


def _damaged(folder: Path, part: Part, columns: Sequence[str]) -> bool:
    """Whether a part is missing or changed.

    Raises:
        ArtifactError: It is there and cannot be read: that may pass.
    """
    try:
        read_part(folder, part, columns)
    except ArtifactError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
                raise
            cause = cause.__cause__
        _log.warning("%s", error)
        return True
    return False


def _set_aside(folder: Path) -> Path:
    """Move the manifest and the parts into a new folder; parts that were changed get another ending."""
    number = 1
    while (folder / f"broken-{number}").exists():
        number += 1
    aside = folder / f"broken-{number}"
    aside.mkdir()
    for path in sorted(folder.glob("*.parquet")):
        match = _BARS.fullmatch(path.name)
        if match is not None:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            intact = digest.startswith(match.group(1))
            path.rename(aside / (path.name if intact else f"{path.name}.damaged"))
    (folder / MANIFEST).rename(aside / MANIFEST)  # last: killed before, a repair goes on
    return aside
