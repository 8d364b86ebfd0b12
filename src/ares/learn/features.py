"""The feature registry, and feature matrices of bars.

Every feature is scale-free (no price or volume level), finite after its warm-up whatever the bars
are, and obeys `f(bars[:k]) == f(bars)[:k]` bit for bit. A long gap starts everything anew.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.core.errors import ConfigError
from ares.core.types import readonly
from ares.learn.features_core import Feature, check_talib
from ares.learn.features_price import PRICE_FEATURES
from ares.learn.features_series import Carried, Recursive
from ares.learn.features_trend import TREND_FEATURES
from ares.learn.features_volume import VOLUME_FEATURES
from ares.learn.splits import stretches
from ares.store.codecs import register
from ares.store.memo import active
from ares.store.scratch import relax

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ares.core.types import BoolArray, Float64Array
    from ares.market.bars import Bars
    from ares.store.memo import Memo

PIECE: Final = 16_384
"""Rows that are computed at a time: 8 MB of features, and no result depends on it."""
_RELAXED: Final = 8
"""Pieces after which maps let go of their pages."""

FEATURES: Final[Mapping[str, Feature]] = MappingProxyType(
    {feature.name: feature for feature in (*PRICE_FEATURES, *TREND_FEATURES, *VOLUME_FEATURES)}
)
"""All features by name, in the order of a matrix."""


@register(schema=1)
@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of bars.

    Attributes:
        names: Names of the columns.
        matrix: float64 (n, k), row t known at the close of bar t; NaN while a feature warms up,
            at the start and after each long gap. Read-only.
    """

    names: tuple[str, ...]
    matrix: Float64Array

    def __post_init__(self) -> None:
        readonly(self.matrix)

    def complete(self) -> BoolArray:
        """Which rows have every feature, bool (n,)."""
        return np.asarray(np.isfinite(self.matrix).all(axis=1))

    def select(self, names: Sequence[str]) -> FeatureSet:
        """The columns `names`, in that order."""
        columns = [self.names.index(name) for name in names]
        return FeatureSet(tuple(names), np.ascontiguousarray(self.matrix[:, columns]))


def feature_names(interval_ns: int) -> tuple[str, ...]:
    """Names of the features that vary on bars of this length: hours do not on daily bars."""
    return tuple(
        name
        for name, feature in FEATURES.items()
        if not feature.below or interval_ns < feature.below
    )


def compute_features(
    bars: Bars, names: Sequence[str] | None = None, *, max_gap: int | None
) -> FeatureSet:
    """Compute features at every close.

    Args:
        bars: Bars of any timeframe.
        names: Features in the order of the columns; None: all that vary on such bars.
        max_gap: Longest gap, in expected bars, that a feature may span; None: any.

    Raises:
        ConfigError: an unknown feature, or TA-Lib's process-wide switches were changed.
    """
    chosen = feature_names(bars.interval_ns) if names is None else tuple(names)
    matrix = np.empty((len(bars), len(chosen)))
    for start, piece in feature_pieces(bars, chosen, max_gap=max_gap):
        matrix[start : start + len(piece)] = piece
    return FeatureSet(chosen, matrix)


def feature_pieces(
    bars: Bars, names: Sequence[str] | None = None, *, max_gap: int | None, size: int = PIECE
) -> Iterator[tuple[int, Float64Array]]:
    """The matrix of `compute_features` as pieces of `size` rows, oldest first, bit for bit.

    Args:
        bars: As for `compute_features`, like `names` and `max_gap`.
        names: Likewise.
        max_gap: Likewise.
        size: Rows of a piece; the last one may be shorter.

    Yields:
        Row at which the piece begins, and the piece, float64 (rows, k).

    Raises:
        ConfigError: as `compute_features`.
    """
    chosen = feature_names(bars.interval_ns) if names is None else tuple(names)
    features = [_known(name) for name in chosen]
    check_talib()
    memo = active()
    if memo is not None and (kept := _recalled(memo, bars, chosen, max_gap)) is not None:
        yield from ((at, kept.matrix[at : at + size]) for at in range(0, len(bars), size))
        return
    cuts = [_Stretch(bars, features, cut) for cut in stretches(bars, max_gap)]
    for start in range(0, len(bars), size):
        stop = min(start + size, len(bars))
        piece = np.full((stop - start, len(features)), np.nan)
        while cuts and cuts[0].start < stop:
            cuts[0].fill(piece, start, stop)
            if cuts[0].stop > stop:
                break
            cuts.pop(0)
        yield start, piece
        if start // size % _RELAXED == _RELAXED - 1:
            relax()


def in_pieces(start: int, stop: int) -> Iterator[slice]:
    """Rows [start, stop) as slices of `PIECE` rows; what lies behind need not stay in memory."""
    for count, begin in enumerate(range(start, stop, PIECE), start=1):
        yield slice(begin, min(begin + PIECE, stop))
        if count % _RELAXED == 0:
            relax()


class _Stretch:
    """Features of the bars between two long gaps, made in the order of the bars."""

    def __init__(self, bars: Bars, features: Sequence[Feature], cut: slice) -> None:
        self.start, self.stop = cut.start, cut.stop
        self._bars = bars
        self._features = features
        self._overlap = max((feature.warmup for feature in features), default=0)
        recursive = [f.function for f in features if isinstance(f.function, Recursive)]
        self._series = tuple(dict.fromkeys(name for f in recursive for name in f.series))
        self._carried: Carried | None = None
        self._whole: dict[str, Float64Array] = {}

    def fill(self, piece: Float64Array, start: int, stop: int) -> None:
        """Write the rows of this stretch that lie in `piece`, which is bars [start, stop)."""
        begin, end = max(start, self.start), min(stop, self.stop)
        if self._carried is None:
            self._carried = Carried(self._series, self._overlap)
        bars = self._bars
        new = slice(begin, end)
        series = self._carried.push(bars.high[new], bars.low[new], bars.close[new])
        for column, feature in enumerate(self._features):
            first = max(begin, self.start + feature.warmup)
            if first < end:
                values = self._values(feature, series, max(self.start, begin - feature.warmup), end)
                piece[first - start : end - start, column] = values[len(values) - (end - first) :]

    def _values(
        self, feature: Feature, series: dict[str, Float64Array], begin: int, end: int
    ) -> Float64Array:
        """The feature at bars [begin, end) of the bars before `end`; its last rows are right."""
        function = feature.function
        if isinstance(function, Recursive):
            columns = [getattr(self._bars, name)[begin:end] for name in function.inputs]
            carried = [series[name][begin - end :] for name in function.series]
            return function.window(*columns, *carried)
        if feature.carried:
            return function(*(getattr(self._bars, name)[begin:end] for name in feature.inputs))
        if feature.name not in self._whole:
            cut = slice(self.start, self.stop)
            self._whole[feature.name] = function(
                *(getattr(self._bars, name)[cut] for name in feature.inputs)
            )
        return self._whole[feature.name][begin - self.start : end - self.start]


def kept_under(digest: str, names: tuple[str, ...], max_gap: int | None) -> tuple[object, ...]:
    """Under what the features of the bars with this digest are kept (`ares.store.memo`)."""
    return "features", digest, names, max_gap


def _recalled(
    memo: Memo, bars: Bars, names: tuple[str, ...], max_gap: int | None
) -> FeatureSet | None:
    """What was kept of these bars, or of longer ones that begin with them; None: nothing whole."""
    found = memo.get(*kept_under(bars.digest, names, max_gap))
    if isinstance(found, dict):
        found = memo.get(*kept_under(found["whole"], names, max_gap))
    usable = isinstance(found, FeatureSet) and len(found.matrix) >= len(bars)
    memo.count(found=usable)
    if not usable:
        return None
    matrix = found.matrix[: len(bars)]
    return found if len(matrix) == len(found.matrix) else FeatureSet(names, matrix)


def _known(name: str) -> Feature:
    feature = FEATURES.get(name)
    if feature is None:
        near = difflib.get_close_matches(name, list(FEATURES), 1, 0.0)
        raise ConfigError(
            "this feature is not known", value=name, remedy=f"Did you mean {near[0]}?"
        )
    return feature
