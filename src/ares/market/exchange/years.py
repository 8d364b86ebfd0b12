"""Fetched bars as one Parquet file per calendar year: what the dataset lacks or has otherwise."""

from __future__ import annotations

import io
import logging
import shutil
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from ares.market.checking.faults import describe_impossible_row, impossible_rows
from ares.market.exchange.source import MS
from ares.market.raw import COLUMNS, RawBars
from ares.market.stored.datasets import load_dataset
from ares.market.stored.partitions import MANIFEST, read_manifest
from ares.store.atomic import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from ares.core.types import BoolArray, Float64Array, Int64Array
    from ares.market.bars import Bars
    from ares.market.exchange.source import Market
    from ares.store.workspace import Workspace

_log = logging.getLogger("ares.market.exchange")

_EXAMPLES: Final = 3


class YearFiles:
    """Collects rows in time order and writes a file whenever a year is over.

    A row that the dataset has already is left out. Where new rows do not lie together, those
    around them stay: the door judges bars by their neighbours.

    Args:
        workspace: Where the dataset lies.
        market: Whose bars these are.
        folder: Folder whose subfolder `import` holds the files until the end of the `with`.
        source: Name of the source; files are named by it.
    """

    def __init__(self, workspace: Workspace, market: Market, folder: Path, source: str) -> None:
        self.rows = 0
        self.impossible = 0
        self._workspace, self._market, self._source = workspace, market, source
        self._folder = folder / "import"
        self._year = 0
        self._parts: list[Float64Array] = []
        self._files: list[Path] = []

    def __enter__(self) -> Self:
        shutil.rmtree(self._folder, ignore_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, rows: Float64Array) -> None:
        """Take rows of a page: float64 (n, 6), times in ms, after all rows before."""
        years = rows[:, 0].astype("datetime64[ms]").astype("datetime64[Y]").astype(np.int64) + 1970
        for year in np.unique(years).tolist():
            if year != self._year:
                self._flush()
                self._year = year
            self._parts.append(rows[years == year])

    def finish(self) -> list[Path]:
        """The files, oldest first; none where the dataset has it all."""
        self._flush()
        return self._files

    def _flush(self) -> None:
        if not self._parts:
            return
        rows = np.concatenate(self._parts)
        self._parts.clear()
        self.rows += len(rows)
        rows = rows[self._possible(rows)]
        rows = rows[self._news(rows)]
        if len(rows):
            path = self._folder / f"{self._source}-{self._year}.parquet"
            write_atomic(path, _parquet(rows))
            self._files.append(path)

    def _possible(self, rows: Float64Array) -> BoolArray:
        """Rows that can be bars; of the others there is one warning."""
        raw = RawBars(
            **dict(zip(COLUMNS, (_ns(rows), *rows.T[1:]), strict=True)), files=(self._source,)
        )
        bad = impossible_rows(raw)
        if bad.any():
            self.impossible += int(bad.sum())
            _log.warning(
                "%d bars of %d that the exchange gave are impossible and left out, for example %s",
                bad.sum(),
                self._year,
                "; ".join(
                    describe_impossible_row(raw, int(k)) for k in np.flatnonzero(bad)[:_EXAMPLES]
                ),
            )
        return ~bad

    def _news(self, rows: Float64Array) -> BoolArray:
        """Rows that the dataset lacks or has otherwise, and what the door needs beside them."""
        fresh = ~self._stored(rows)
        places = np.flatnonzero(fresh)
        if len(places) and places[-1] - places[0] + 1 > len(places):
            beside = fresh.copy()
            beside[1:] |= fresh[:-1]
            beside[:-1] |= fresh[1:]
            return beside
        return fresh

    def _stored(self, rows: Float64Array) -> BoolArray:
        same = np.zeros(len(rows), dtype=np.bool_)
        bars = self._stored_year() if len(rows) else None
        if bars is None:
            return same
        times = _ns(rows)
        place = np.searchsorted(bars.timestamp, times)
        place[place == len(bars)] = 0
        same = np.asarray(bars.timestamp[place] == times)
        for name, column in zip(COLUMNS[1:], rows.T[1:], strict=True):
            same &= getattr(bars, name)[place] == column
        return same

    def _stored_year(self) -> Bars | None:
        """The dataset's bars of the year; None where it has none."""
        market = self._market
        folder = self._workspace.dataset(market.exchange, market.symbol, market.timeframe)
        if not (folder / MANIFEST).exists():
            return None
        start, stop = _year_start(self._year), _year_start(self._year + 1)
        parts = read_manifest(folder).parts
        if not any(part.last >= start * MS and part.first < stop * MS for part in parts):
            return None
        names = (market.symbol, market.exchange, market.timeframe)
        return load_dataset(self._workspace, *names, f"{start:013d}-{stop:013d}")


def _year_start(year: int) -> int:
    return int(np.datetime64(str(year), "ms").astype(np.int64))


def _ns(rows: Float64Array) -> Int64Array:
    return rows[:, 0].astype(np.int64) * MS


def _parquet(rows: Float64Array) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    times = pa.array(_ns(rows)).cast(pa.timestamp("ns", "UTC"))
    columns = [times, *(np.ascontiguousarray(column) for column in rows.T[1:])]
    sink = io.BytesIO()
    pq.write_table(pa.table(dict(zip(COLUMNS, columns, strict=True))), sink, compression="zstd")
    return sink.getvalue()
