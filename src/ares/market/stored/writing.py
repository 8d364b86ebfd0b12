"""What all writers of datasets share: the lock, the options of the door, and the manifest."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, TypedDict

from ares.core.errors import ArtifactError
from ares.market.checking.door import DoorRules
from ares.market.stored.partitions import MANIFEST, Manifest, read_manifest, sweep
from ares.store.locks import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ares.market.checking.door import Adjusted, BadPrints
    from ares.market.quality import QualityReport
    from ares.market.stored.intake import Checked
    from ares.market.stored.partitions import ImportRecord, Origin

_LOCK: Final = ".lock"
_WAIT_SECONDS: Final = 30.0


class DoorOptions(TypedDict, total=False):
    """Options of the check at the door, as `load_bars` takes them."""

    calendar: str | None
    adjusted: Adjusted
    bad_prints: BadPrints
    max_print: float


def lock_of(folder: Path) -> FileLock:
    """The lock of a dataset's folder; it waits for half a minute."""
    return FileLock(folder / _LOCK, timeout=_WAIT_SECONDS)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[Manifest | None]:
    """Hold the lock of a dataset's folder; its manifest, if it has one.

    What killed writers left is swept before, and what a failure leaves is swept after.

    Raises:
        BusyError: Another process has been writing the dataset for half a minute.
        ArtifactError: The manifest is damaged: that is no blank sheet.
    """
    with lock_of(folder):
        manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
        sweep(folder, manifest)
        with swept_after_failure(folder):
            yield manifest


@contextlib.contextmanager
def swept_after_failure(folder: Path) -> Iterator[None]:
    """Leave no files of a writer that fails; the caller holds the lock."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(ArtifactError):
            # A failure right after the commit leaves the new manifest: its files stay.
            sweep(folder, read_manifest(folder) if (folder / MANIFEST).exists() else None)
        raise


def door_rules(timeframe: str, door: DoorOptions) -> DoorRules:
    """The checked options of a door that refuses impossible rows.

    Raises:
        ConfigError: As `load_bars`.
    """
    return DoorRules.parse(
        timeframe=timeframe,
        calendar=door.get("calendar"),
        adjusted=door.get("adjusted", "none"),
        bad_prints=door.get("bad_prints", "drop"),
        max_print=door.get("max_print", 2.0),
        strict=True,
    )


def manifest_of(
    checked: Checked,
    report: QualityReport,
    names: tuple[str, str, str],
    rules: DoorRules,
    imports: tuple[ImportRecord, ...],
    origin: Origin | None = None,
) -> Manifest:
    """The manifest of checked bars; `names` are symbol, exchange and timeframe."""
    symbol, exchange, timeframe = names
    return Manifest(
        symbol=symbol,
        exchange=exchange,
        timeframe=timeframe,
        calendar=report.calendar,
        adjusted=rules.adjusted,
        tick=checked.tick,
        parts=checked.parts,
        gaps=checked.gaps,
        quality=report,
        imports=imports,
        origin=origin,
    )
