"""From an exchange into the dataset store: what is missing is fetched, then imported at once.

Pages go to the spool as they come. When all are there, one Parquet file per calendar year is
written of the bars that the dataset lacks or has otherwise, and `import_files` takes them in. No
page boundary, time or attempt reaches what is stored, so a download that was killed any number of
times stores the bytes of one that was not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ares.core.errors import ArtifactError, DataError, OutageError
from ares.market.exchange.holes import APART, absent_bars, holes, joined
from ares.market.exchange.opening import open_source
from ares.market.exchange.retry import Retry
from ares.market.exchange.source import MS
from ares.market.exchange.spool import Spool
from ares.market.exchange.years import YearFiles
from ares.market.quality import time_text
from ares.market.stored.datasets import has_dataset, import_files, refuse_derived
from ares.market.stored.partitions import MANIFEST, consistent, read_manifest, verify
from ares.market.stored.parts import naming_repair
from ares.market.timeframe import timeframe_ns
from ares.market.timerange import FOREVER, parse_timerange
from ares.store.atomic import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ares.market.exchange.source import Market, Source
    from ares.market.exchange.spool import Range
    from ares.market.quality import QualityReport
    from ares.market.stored.datasets import DoorOptions, ImportResult
    from ares.store.workspace import Workspace

_log = logging.getLogger("ares.market.exchange")

OVERLAP: Final = 10
"""Bars fetched again before the last stored one: an exchange may have revised them."""
_ORIGIN: Final = "origin.json"
_CALENDAR: Final = "24/7"
_REPAIR: Final = "`ares data repair` takes out what is damaged and fetches it again."


@dataclass(frozen=True)
class Step:
    """How far a download is: times in Unix ms; `waiting` says why nothing moves, and until when."""

    start: int
    stop: int
    reached: int
    bars: int
    waiting: str = ""


Watch = Callable[[Step], object]


@dataclass(frozen=True)
class LoadResult:
    """What a download did.

    Attributes:
        source: Where the bars came from.
        before: Bars in the dataset before.
        after: Bars in it now.
        revised: Bars that the exchange now has otherwise than the dataset had them.
        dropped: Bars that are bad prints beside those of the dataset.
        impossible: Bars of the exchange that no bar can be; they were left out.
        fetched: Bars that were fetched for this, those of an interrupted download included.
        first: Open time of the first bar of the dataset; None where there is none.
        last: Open time of the last one.
        gaps: Runs of bars that the calendar expects and the dataset lacks.
        missing_bars: How many bars those are.
        changed: Whether the dataset is another one than before.
        path: Folder of the dataset.
        asked: The time that was asked for, from the first missing range to the last.
        absent: Bars of it that the calendar expects and the exchange did not send.
        quality: Report of the import on the bars that were new to the dataset; None without any.
        bare_from: The start that was asked for, where the dataset begins later; None elsewhere.
        older: A longer timeframe and the time from which on the exchange has its bars, where that
            shows that it did not send its oldest bars though all were asked for; None elsewhere.
    """

    source: str
    before: int
    after: int
    revised: int
    dropped: int
    impossible: int
    fetched: int
    first: str | None
    last: str | None
    gaps: int
    missing_bars: int
    changed: bool
    path: Path
    asked: str
    absent: int = 0
    quality: QualityReport | None = None
    bare_from: str | None = None
    older: tuple[str, str] | None = None

    @property
    def added(self) -> int:
        """Bars that the dataset has more than before."""
        return max(self.after - self.before, 0)


@dataclass(frozen=True)
class Fetched:
    """What came out of a spool: bars that were left out, and the import, if there was one.

    `absent` counts the bars that were asked for, are expected and were not sent.
    """

    bars: int
    impossible: int
    result: ImportResult | None
    absent: int


def load(
    workspace: Workspace,
    market: Market,
    *,
    source: str = "ccxt",
    timerange: str | None = None,
    watch: Watch | None = None,
    retry: Retry | None = None,
) -> LoadResult:
    """Fetch bars that the dataset lacks, from the exchange into the workspace.

    Without a dataset that is the whole time range, by default all that the exchange has; with one,
    what lies before its first bar (if the time range reaches there) and from a few bars before its
    last one on. Doing it again fetches what has come since. A time range that is given is also asked
    for where the dataset has gaps in it.

    Args:
        workspace: Where the dataset lies.
        market: What to fetch.
        source: "ccxt" or "dumps".
        timerange: "20200101-20210101", end exclusive, either side may be empty.
        watch: Told how far it is.
        retry: How to ask again.

    Raises:
        ArtifactError: The dataset is damaged.
        InputError: A name that cannot be one, or that the exchange does not know.
        DataError: The exchange refuses, or has no bars there.
        OutageError: It does not answer.
        BusyError: Another process is loading this market, or writing its dataset.
        StoreError: The workspace cannot be written.
    """
    folder = workspace.dataset(market.exchange, market.symbol, market.timeframe)
    span = parse_timerange(timerange)
    interval = timeframe_ns(market.timeframe)
    told = Told(watch)
    with Spool(workspace, source, market) as spool:
        stored = _stored_span(folder)
        opened = open_source(source, market, told.retry(retry or Retry()))
        closed = opened.closed(_first_wanted(opened, span, stored))
        wanted = _missing(opened, span, stored, interval, closed)
        if timerange is not None:
            inside = holes(folder, interval, [_limits(opened, span, closed)])
            wanted += joined(inside, APART * interval // MS)
        lost = [(start, min(stop, closed)) for start, stop in spool.pending]
        spans = joined([*wanted, *lost])
        done = take_in(workspace, market, spool, opened, spans, told)
        spool.remove()
        older = _older(folder, opened) if stored is None and timerange is None else None
    if stored is not None and (done.result is None or not done.result.changed):
        _verify(folder)  # an answer of nothing new says that the bars are there
    found = _summary(folder, source, stored, done, _asked(spans))
    bare = None if timerange is None else _bare(folder, spans, interval)
    return replace(found, bare_from=bare, older=older)


def take_in(
    workspace: Workspace,
    market: Market,
    spool: Spool,
    source: Source,
    spans: Sequence[Range],
    told: Told,
) -> Fetched:
    """Fetch what the spool lacks of ascending, disjoint spans of Unix ms, then import it all."""
    for last_try in (False, True):
        _fetch(spool, source, spans, told)
        try:
            with YearFiles(workspace, market, spool.folder, source.name) as years:
                for rows in spool.rows(spans):
                    years.add(rows)
                files = years.finish()
                folder = workspace.dataset(market.exchange, market.symbol, market.timeframe)
                if files or (folder / MANIFEST).exists():
                    _remember_origin(folder, source.name)
                result = _import(workspace, market, files) if files else None
                interval = timeframe_ns(market.timeframe)
                absent = absent_bars(folder, interval, spans, spool.rows(spans))
                return Fetched(years.rows, years.impossible, result, absent)
        except ArtifactError as error:
            # A damaged page has left the spool; a damaged dataset fails a second time.
            if last_try:
                raise ArtifactError(
                    error.rule,
                    value=error.value,
                    where=error.where,
                    remedy=_REPAIR,
                ) from None
    raise AssertionError("unreachable")


def _fetch(spool: Spool, source: Source, spans: Sequence[Range], told: Told) -> None:
    for start, stop in spans:
        cursor = start
        while cursor < stop:
            after = spool.stop_of(cursor)
            bars = 0
            if after is None:
                page = source.page(cursor, stop)
                spool.keep(page)
                after, bars = page.stop, len(page.rows)
            cursor = after
            told.reached(start, stop, min(cursor, stop), bars)


def _verify(folder: Path) -> None:
    with naming_repair(_REPAIR):
        consistent(folder, lambda manifest: verify(folder, manifest))


def _import(workspace: Workspace, market: Market, files: list[Path]) -> ImportResult:
    names = (market.symbol, market.exchange, market.timeframe)
    options: DoorOptions = {} if has_dataset(workspace, *names) else {"calendar": _CALENDAR}
    return import_files(
        workspace,
        files,
        symbol=market.symbol,
        exchange=market.exchange,
        timeframe=market.timeframe,
        options=options,
    )


def _remember_origin(folder: Path, source: str) -> None:
    """Write down beside a dataset where its bars can be fetched again, before they are stored."""
    if origin_of(folder) != source:
        write_json(folder / _ORIGIN, {"source": source})


def origin_of(folder: Path) -> str | None:
    """The source that a dataset was loaded from; None where it came from files."""
    try:
        tree = read_json(folder / _ORIGIN, max_bytes=1 << 12)
    except ArtifactError:
        return None
    return str(tree["source"]) if isinstance(tree, dict) and "source" in tree else None


class Told:
    """Hands progress on: pages as they come, waits as they begin."""

    def __init__(self, watch: Watch | None) -> None:
        self._watch = watch
        self._step = Step(0, 0, 0, 0)

    def retry(self, retry: Retry) -> Retry:
        """The same policy, that also tells of its waits."""
        return replace(retry, waiting=self.waiting)

    def waiting(self, text: str) -> None:
        """Nothing moves for a while."""
        _log.info("%s", text)
        if self._watch is not None:
            self._watch(replace(self._step, waiting=text))

    def reached(self, start: int, stop: int, cursor: int, bars: int) -> None:
        """A page is there."""
        self._step = Step(start, stop, cursor, self._step.bars + bars)
        if self._watch is not None:
            self._watch(self._step)


def _stored_span(folder: Path) -> tuple[int, int, int] | None:
    """Open times (ns) of the first and last bar of a dataset, and its bars."""
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_manifest(folder)
    refuse_derived(manifest, folder)  # before anything is fetched
    return manifest.parts[0].first, manifest.parts[-1].last, manifest.rows


def _missing(
    source: Source,
    span: tuple[int, int],
    stored: tuple[int, int, int] | None,
    interval: int,
    closed: int,
) -> list[Range]:
    """What to fetch, in Unix ms: all of the span but from the dataset's first bar to its last."""
    start, stop = _limits(source, span, closed)
    if stored is None:
        if start >= stop:
            raise DataError(
                "no bar of this time range has closed yet",
                where="timerange",
                value=time_text(start * MS),
                remedy=f"The last one that has opened before {time_text(stop * MS)}.",
            )
        return [(start, stop)]
    first, last = stored[0] // MS, (stored[1] - OVERLAP * interval) // MS
    after = (max(start, last), stop)
    before = (start, min(first, stop)) if span[0] != FOREVER[0] else (0, 0)
    return [before, after]


def _first_wanted(
    source: Source, span: tuple[int, int], stored: tuple[int, int, int] | None
) -> int:
    """Unix ms of the first bar to fetch, as far as that is known before the time is."""
    if span[0] != FOREVER[0]:
        return -(-span[0] // MS)
    return source.earliest if stored is None else stored[1] // MS


def _limits(source: Source, span: tuple[int, int], closed: int) -> Range:
    """The span in Unix ms, within what the source can have."""
    start = source.earliest if span[0] == FOREVER[0] else max(-(-span[0] // MS), source.earliest)
    return start, closed if span[1] == FOREVER[1] else min(-(-span[1] // MS), closed)


def _asked(spans: Sequence[Range]) -> str:
    if not spans:
        return ""
    return f"{time_text(spans[0][0] * MS)} to {time_text(spans[-1][1] * MS)}"


def _bare(folder: Path, spans: Sequence[Range], interval: int) -> str | None:
    """Where the spans begin, if that is a bar or more before the dataset does."""
    first = read_manifest(folder).parts[0].first
    bare = bool(spans) and spans[0][0] * MS <= first - interval
    return time_text(spans[0][0] * MS) if bare else None


def _older(folder: Path, source: Source) -> tuple[str, str] | None:
    """What shows that the exchange kept older bars to itself; a question more must not fail a load."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        found = source.older(read_manifest(folder).parts[0].first // MS)
    except (DataError, OutageError) as error:
        _log.info("whether there are older bars was not answered: %s", error)
        return None
    return found and (found[0], str(time_text(found[1] * MS)))


def _summary(
    folder: Path,
    source: str,
    stored: tuple[int, int, int] | None,
    done: Fetched,
    asked: str,
) -> LoadResult:
    if not (folder / MANIFEST).exists():
        raise DataError(
            "the exchange has no bars there",
            where=folder.name,
            value=asked,
            remedy="Choose another --timerange; some exchanges give out their newest bars only.",
        )
    manifest = read_manifest(folder)
    result = done.result
    return LoadResult(
        source=source,
        before=0 if stored is None else stored[2],
        after=manifest.rows,
        revised=0 if result is None else result.replaced,
        dropped=0 if result is None else result.dropped,
        impossible=done.impossible,
        fetched=done.bars,
        first=time_text(manifest.parts[0].first),
        last=time_text(manifest.parts[-1].last),
        gaps=manifest.quality.gaps,
        missing_bars=manifest.quality.missing_bars,
        changed=result is not None and result.changed,
        path=folder,
        asked=asked,
        absent=done.absent,
        quality=None if result is None else result.quality,
    )
