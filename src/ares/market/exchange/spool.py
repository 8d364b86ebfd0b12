"""The spool: fetched pages as files, so that a killed download goes on from what is there.

    .ares/work/<digest>.lock           one process at a time
    .ares/work/<digest>/<start>-<stop>-<sha256>.npy    the bars of [start, stop)
    .ares/work/<digest>/pending.json   ranges that a repair took out and nobody fetched yet

A page is a fact about a stretch of time, whoever asked for it; so pages of an unfinished download
serve any later one of the same market. Only pages with bars are kept: that there was nothing
may be false tomorrow.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import io
import logging
import re
import shutil
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from ares.core.errors import ArtifactError
from ares.core.identity import fingerprint
from ares.store.atomic import read_json, read_regular, write_atomic, write_json
from ares.store.locks import FileLock
from ares.store.temporaries import sweep_orphans

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ares.market.exchange.source import Market, Page
    from ares.store.workspace import Workspace

_log = logging.getLogger("ares.market.exchange")

_PAGE: Final = re.compile(r"(\d{1,15})-(\d{1,15})-([0-9a-f]{16})\.npy")
_MAX_PAGE: Final = 1 << 26
_PENDING: Final = "pending.json"

Range = tuple[int, int]


class Spool:
    """The pages of one market from one source; hold it with `with`.

    Args:
        workspace: Where it lies.
        source: Name of the source.
        market: What the pages are of; its address is no part of that.
    """

    def __init__(self, workspace: Workspace, source: str, market: Market) -> None:
        request = (source, market.exchange, market.symbol, market.timeframe)
        self.folder = workspace.work(fingerprint(("load", *request)))
        self._lock = FileLock(self.folder.with_name(f"{self.folder.name}.lock"))
        self._pages: list[tuple[int, int, Path]] = []

    def __enter__(self) -> Self:
        """Take the lock and find the pages of an earlier process.

        Raises:
            BusyError: Another process is loading this market.
        """
        self._lock.acquire()
        try:
            sweep_orphans(self.folder)
            for path in self.folder.glob("*.npy"):
                if match := _PAGE.fullmatch(path.name):
                    self._pages.append((int(match[1]), int(match[2]), path))
            self._pages.sort()
            if self._pages:
                # The newest bars are those that an exchange may still have revised.
                newest = max(self._pages, key=lambda page: page[1])
                self._forget(newest)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __len__(self) -> int:
        return len(self._pages)

    def stop_of(self, cursor: int) -> int | None:
        """Where the page that holds `cursor` ends; None where there is no such page."""
        index = bisect.bisect_right(self._pages, cursor, key=lambda page: page[0]) - 1
        if index < 0 or self._pages[index][1] <= cursor:
            return None
        return self._pages[index][1]

    def keep(self, page: Page) -> None:
        """Write a page, durably; one without bars is not kept.

        Raises:
            StoreError: The disk is full, read-only or failing.
        """
        if len(page.rows) == 0:
            return
        buffer = io.BytesIO()
        np.save(buffer, page.rows, allow_pickle=False)
        data = buffer.getvalue()
        path = self.folder / f"{page.start}-{page.stop}-{_digest(data)}.npy"
        write_atomic(path, data)
        bisect.insort(self._pages, (page.start, page.stop, path))

    def rows(self, spans: Sequence[Range]) -> Iterator[np.ndarray]:
        """The bars within ascending, disjoint `spans`, in time order and each once.

        Raises:
            ArtifactError: A page was damaged and is gone now; what it held must be fetched again.
        """
        for start, stop in spans:
            cursor = start
            for page in list(self._pages):
                if page[0] >= stop:
                    break
                if page[1] <= cursor:
                    continue
                rows = self._read(page)
                inside = (rows[:, 0] >= cursor) & (rows[:, 0] < stop)
                if inside.any():
                    yield rows[inside]
                cursor = page[1]

    @property
    def pending(self) -> list[Range]:
        """Ranges that were taken out of the dataset and not fetched since."""
        if not (self.folder / _PENDING).exists():
            return []
        tree = read_json(self.folder / _PENDING, max_bytes=1 << 20)
        try:
            return [(int(start), int(stop)) for start, stop in tree]  # type: ignore[attr-defined]
        except (TypeError, ValueError):
            raise ArtifactError(
                "the list of ranges is damaged",
                where=str(self.folder / _PENDING),
                remedy="Remove the file.",
            ) from None

    def expect(self, spans: Sequence[Range]) -> None:
        """Write down ranges that are about to be taken out, before they are."""
        if spans:
            write_json(self.folder / _PENDING, sorted({*self.pending, *spans}))

    def remove(self) -> None:
        """Remove the folder: all of it is in the dataset."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._pages.clear()

    def _read(self, page: tuple[int, int, Path]) -> np.ndarray:
        path = page[2]
        try:
            data = _read_checked(path)
            return np.asarray(np.load(io.BytesIO(data), allow_pickle=False)).reshape(-1, 6)
        except (ArtifactError, ValueError, EOFError) as error:
            _log.warning("a page of the download is damaged and will be fetched again: %s", error)
            self._forget(page)
            raise ArtifactError(
                "the page is damaged", where=str(path), remedy="Run the same command again."
            ) from None

    def _forget(self, page: tuple[int, int, Path]) -> None:
        with contextlib.suppress(FileNotFoundError):
            page[2].unlink()
        self._pages.remove(page)


def _read_checked(path: Path) -> bytes:
    data = read_regular(path, max_bytes=_MAX_PAGE)
    if _digest(data) != path.stem.rsplit("-", 1)[1]:
        raise ArtifactError("the page was changed", where=str(path))
    return data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
