"""Repair of a dataset that came from an exchange: what is damaged or absent is fetched again."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ares.core.errors import ArtifactError, ConfigError
from ares.market.exchange.download import Told, origin_of, take_in
from ares.market.exchange.holes import APART, holes, joined
from ares.market.exchange.opening import SOURCES, open_source
from ares.market.exchange.retry import Retry
from ares.market.exchange.source import MS
from ares.market.exchange.spool import Spool
from ares.market.raw import COLUMNS
from ares.market.stored.datasets import repair_dataset
from ares.market.stored.partitions import MANIFEST, read_manifest
from ares.market.stored.parts import read_part
from ares.market.stored.writing import lock_of
from ares.market.timeframe import timeframe_ns

if TYPE_CHECKING:
    from pathlib import Path

    from ares.market.exchange.download import Watch
    from ares.market.exchange.source import Market
    from ares.market.exchange.spool import Range
    from ares.store.workspace import Workspace

_log = logging.getLogger("ares.market.exchange")


@dataclass(frozen=True)
class RepairResult:
    """What a repair did.

    Attributes:
        removed: Names of the damaged files that were taken out.
        source: Where bars were fetched from; None where nothing was.
        before: Bars that were left after the damaged files had gone.
        after: Bars in the dataset now.
        revised: Bars beside the gaps that the exchange now has otherwise.
        absent: Bars that the calendar expects, the dataset lacks and the exchange did not send.
        changed: Whether bars were fetched that the dataset did not have.
        path: Folder of the dataset.
    """

    removed: tuple[str, ...]
    source: str | None
    before: int
    after: int
    revised: int
    absent: int
    changed: bool
    path: Path

    @property
    def filled(self) -> int:
        """Bars that were fetched again."""
        return max(self.after - self.before, 0)


def repair(
    workspace: Workspace,
    market: Market,
    *,
    source: str | None = None,
    watch: Watch | None = None,
    retry: Retry | None = None,
) -> RepairResult:
    """Take damaged parts out of a dataset and fetch them again, and fill its gaps.

    The ranges are written down before anything is taken out, so a repair that was killed goes on.
    A dataset that came from files is only repaired, unless `source` says where its bars are.

    Args:
        workspace: Where the dataset lies.
        market: Whose dataset.
        source: "ccxt" or "dumps"; None means the one that the dataset was loaded from.
        watch: As `load`.
        retry: As `load`.

    Raises:
        InputError: There is no such dataset or source, or the exchange refuses.
        OutageError: It does not answer.
        BusyError: Another process is loading or repairing this market.
    """
    names = (market.symbol, market.exchange, market.timeframe)
    folder = workspace.dataset(market.exchange, market.symbol, market.timeframe)
    chosen = source or origin_of(folder)
    if chosen is not None and chosen not in SOURCES:
        raise ConfigError(f"must be one of {', '.join(SOURCES)}", value=chosen, where="--source")
    if chosen is None:
        removed = repair_dataset(workspace, *names)
        bars = _bars(folder)
        return RepairResult(removed, None, bars, bars, 0, 0, False, folder)
    told, interval = Told(watch), timeframe_ns(market.timeframe)
    with Spool(workspace, chosen, market) as spool:
        spool.expect(_damaged(folder, market))
        lost = spool.pending
        gone = bool(lost) and not (folder / MANIFEST).exists()
        removed = () if gone else repair_dataset(workspace, *names)
        before = _bars(folder)
        spans = joined([*lost, *holes(folder, interval)], APART * interval // MS)
        if not spans:
            return RepairResult(removed, None, before, before, 0, 0, False, folder)
        opened = open_source(chosen, market, told.retry(retry or Retry()))
        closed = opened.closed(spans[0][0])
        spans = joined([(start, min(stop, closed)) for start, stop in spans])
        done = take_in(workspace, market, spool, opened, spans, told)
        spool.remove()
    result = done.result
    return RepairResult(
        removed=removed,
        source=chosen,
        before=before,
        after=_bars(folder),
        revised=0 if result is None else result.replaced,
        absent=done.absent,
        changed=result is not None and result.changed,
        path=folder,
    )


def _damaged(folder: Path, market: Market) -> list[Range]:
    """Ranges (Unix ms) of the parts that cannot be read; none where no manifest says what was."""
    try:
        read_manifest(folder)
    except ArtifactError as error:
        if (folder / MANIFEST).exists():
            _log.warning(
                "nothing says any more which bars there were: `ares load` fetches them anew (%s)",
                error,
            )
        return []
    with lock_of(folder):  # a part that a writer has replaced is not damaged
        return _unreadable(folder, market)


def _unreadable(folder: Path, market: Market) -> list[Range]:
    found = []
    for part in read_manifest(folder).parts:
        try:
            read_part(folder, part, COLUMNS)
        except ArtifactError:
            stop = part.last // MS + timeframe_ns(market.timeframe) // MS
            found.append((part.first // MS, stop))
    return found


def _bars(folder: Path) -> int:
    return read_manifest(folder).rows if (folder / MANIFEST).exists() else 0
