"""What each step is predicted to take, so that it is admitted or refused before it begins.

A step takes some bytes for each base bar, which are counted below array by array, and some whatever
the data: a piece of features, and the rows that models are trained on. Results of steps and large
arrays are maps of files, and those that are read piece by piece are let go of on the way.
Resident memory is what counts, maps included: their pages could be taken back, but they are there.
"""

from __future__ import annotations

import contextlib
import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ares.core.config import TrackConfig
from ares.learn.features import FEATURES, PIECE
from ares.learn.track import Track
from ares.market.bars import Bars, Holdout
from ares.market.memory import Demand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ares.market.memory import MemoryManager
    from ares.pipeline.step import Admit, Step
    from ares.pipeline.values import MarketData, Recipe

_BARS: Final = 48
"""Timestamp, open, high, low, close and volume of a bar."""

FILE_ROW_BYTES: Final = 300
"""Bytes for each row of files while they are read and checked."""
DATASET_ROW_BYTES: Final = _BARS + 24
"""The same of a dataset, which was checked when it was imported."""
LOADING: Final = 60 << 20
"""Bytes that reading takes whatever the rows."""

ROW_BYTES: Final[Mapping[int, int]] = MappingProxyType(
    {
        2: _BARS,
        3: _BARS + 4,  # the regime
        4: _BARS + 8,  # as step 8, for the analyst's longer bars
        5: _BARS,
        6: _BARS,
        7: _BARS + 8,
        8: _BARS + 12,  # widths, sides and masks
        9: _BARS + 12,  # pieces of predictions and of their file, and what labels and analyst say
        10: _BARS + 24,  # predictions and their ensemble, piece by piece, at the rows of labels
        11: _BARS + 24,  # the same, and both tracks' probabilities
        12: _BARS + 8 + 28,  # scores; extremes, stale bars, a curve with its times
        13: _BARS + 8 + 28,  # as step 12 of the last window; what windows leave lies in files
        14: _BARS + 8 + 28,  # the same, with noisy prices for one window
        15: _BARS + 16,  # scores and a curve of the holdout alone
        16: _BARS + 16,  # predictions, a row group at a time, and their file
    }
)
"""Bytes of each step for a base bar."""

_TRAINING: Final = frozenset({4, 5, 6, 8, 9})
"""The steps that hold the rows that models are trained on."""
_WINDOWS: Final = 13
"""The step that runs the others again, on fewer bars."""
_OPENED: Final = 15
"""The step that opens the holdout."""

_LIBRARIES: Final = (
    "arch.bootstrap",
    "lightgbm",
    "pandas",
    "plotly.graph_objects",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "scipy.optimize",
    "scipy.stats",
    "sklearn.linear_model",
    "talib",
)
_FIXED: Final = 56 << 20
"""Tables, texts of models, the search's trials and caches, and what allocators hold."""
_COPIES: Final = 6
"""Of the rows that models are trained on: the data set, with regimes, chosen, checked, digested."""


def preload() -> None:
    """Import what the steps import, so that the base of the process is its base."""
    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):  # what stands in for it is said where it is needed
            importlib.import_module(name)


def demand_of(number: int, arguments: Mapping[str, object]) -> Demand:
    """What a step is predicted to take above the base.

    Args:
        number: The step's.
        arguments: Its arguments, by name.
    """
    for value in arguments.values():
        demand = getattr(value, "demand", None)
        if isinstance(demand, Demand):  # the loader of step 1
            return demand
    rows = max((_bars_of(value) for value in arguments.values()), default=0)
    plain = Demand(_fixed(arguments, training=number in _TRAINING), ROW_BYTES.get(number, 0), rows)
    if number != _WINDOWS:
        return plain
    inside = [demand_of(each, arguments) for each in _TRAINING]
    return max(plain, *inside, key=Demand.total)


def admit_all(memory: MemoryManager, data: MarketData, recipe: Recipe) -> None:
    """Refuse now what a later step would refuse, after an hour of work.

    Raises:
        MemoryBudgetError: a step is predicted not to fit; the message is that of the largest.
    """
    seen: dict[bool, object] = {True: data.bars, False: data}  # the last two see the holdout
    demands = {
        number: demand_of(number, {"bars": seen[number < _OPENED], "recipe": recipe})
        for number in ROW_BYTES
    }
    largest = max(demands, key=lambda number: demands[number].total())
    memory.admit(f"step {largest} of the pipeline", demands[largest])


def admission(memory: MemoryManager) -> Admit:
    """Admits each step of a runner before it is computed."""

    def admit(step: Step[Any, Any], arguments: Mapping[str, object]) -> None:
        memory.admit(f"step {step.number}, {step.name},", demand_of(step.number, arguments))

    return admit


def _bars_of(value: object) -> int:
    if isinstance(value, Bars):
        return len(value)
    sealed = getattr(value, "holdout", value)
    return sealed.first_bar + sealed.n_bars if isinstance(sealed, Holdout) else 0


def _fixed(arguments: Mapping[str, object], *, training: bool) -> int:
    """A piece of features three times, and the training rows of the larger track."""
    columns = len(FEATURES) + 6
    most = max((_rows_of(value) for value in arguments.values()), default=0) if training else 0
    return _FIXED + (3 * PIECE + _COPIES * most) * columns * 8


def _rows_of(value: object) -> int:
    """Training rows at most, of a track or of a recipe with two."""
    tracks = [value, *(getattr(value, name, None) for name in ("analyst", "tactician"))]
    configs = [each.config if isinstance(each, Track) else each for each in tracks]
    return max((each.max_rows for each in configs if isinstance(each, TrackConfig)), default=0)
