"""Where step 1's bars come from, and the digest that identifies them without reading them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ares.core.errors import DataError
from ares.core.identity import fingerprint
from ares.market.files import source_files
from ares.market.memory import Demand
from ares.market.sources import SAMPLE
from ares.market.stored.datasets import file_digest, has_dataset
from ares.market.stored.partitions import MANIFEST, read_manifest
from ares.market.timerange import parse_timerange
from ares.pipeline.footprint import DATASET_ROW_BYTES, FILE_ROW_BYTES, LOADING
from ares.pipeline.steps import Loader

_LINE = 60
"""Bytes of a line of text, about."""
_PACKED = 3
"""Bytes of text in a byte of gzip, about."""

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ares.core.config import DataConfig
    from ares.market.bars import Bars
    from ares.store.workspace import Workspace


@dataclass(frozen=True)
class Source:
    """What step 1 reads.

    Attributes:
        identity: Digest of the files' content and of how they are read; no path is in it.
        loader: Reads them.
    """

    identity: str
    loader: Loader


def find_source(config: DataConfig, workspace: Workspace, load: Callable[[], Bars]) -> Source:
    """Say what (symbol, exchange, timeframe) of the configuration means.

    Raises:
        DataError: named files are missing; from the loader, too, where what is read is no more
            what this function saw.
    """
    how = config.model_dump(exclude={"data", "holdout"})
    market = (config.symbol, config.exchange, config.timeframe)
    files: list[Path] = []
    read: list[Path] = []  # what the bars are a function of
    before: list[str] = []
    content: Any = ("unknown",)
    if config.data:
        files = read = source_files(list(config.data))
        before = _digests(read)
        content = ("files", before)
    elif has_dataset(workspace, *market):
        read = [workspace.dataset(config.exchange, config.symbol, config.timeframe) / MANIFEST]
        before = _digests(read)
        content = ("dataset", *before)
    elif market == SAMPLE:
        content = ("sample", fingerprint(load()))
    else:
        load()  # it says what is missing and how to load it

    def checked() -> Bars:
        bars = load()
        if _digests(read) != before:
            raise DataError(
                "the data may not be changed while they are read",
                where=", ".join(str(path) for path in read[:3]),
                remedy="Start again when they are complete.",
            )
        return without_names(bars, files)

    loader = Loader(checked, _demand(workspace, config, files))
    return Source(fingerprint((content, how)), loader)


def _digests(paths: list[Path]) -> list[str]:
    return [file_digest(path) for path in paths]


def _demand(workspace: Workspace, config: DataConfig, files: list[Path]) -> Demand:
    """What reading is predicted to take: what is known of the rows before they are read."""
    market = (config.symbol, config.exchange, config.timeframe)
    if files:
        return Demand(LOADING, FILE_ROW_BYTES, sum(_rows_of(path) for path in files))
    if has_dataset(workspace, *market):
        folder = workspace.dataset(config.exchange, config.symbol, config.timeframe)
        span = parse_timerange(config.timerange)
        parts = [p for p in read_manifest(folder).parts if p.last >= span[0] and p.first < span[1]]
        return Demand(LOADING, DATASET_ROW_BYTES, sum(part.rows for part in parts))
    return Demand(LOADING)


def _rows_of(path: Path) -> int:
    """Rows of a file: what its footer says, or what so many bytes of text usually hold."""
    size = path.stat().st_size
    if path.suffix in {".parquet", ".pq"}:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return int(pq.read_metadata(path).num_rows)
        except (pa.ArrowException, OSError):
            return 0  # reading it will say what is wrong
    packed = path.suffix == ".gz"
    return size * (_PACKED if packed else 1) // _LINE


def without_names(bars: Bars, files: list[Path]) -> Bars:
    """Number the files in the quality report: results do not depend on what files are called."""
    if bars.quality is None:
        return bars

    def shorten(text: str) -> str:
        for number, path in enumerate(files, start=1):
            name = f"file {number}"
            text = text.replace(str(path), name).replace(path.name, name)
        return text

    findings = tuple(
        replace(finding, examples=tuple(shorten(example) for example in finding.examples))
        for finding in bars.quality.findings
    )
    return replace(bars, quality=replace(bars.quality, findings=findings))
