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
from ares.learn.features_trend import TREND_FEATURES
from ares.learn.features_volume import VOLUME_FEATURES
from ares.learn.splits import stretches
from ares.store.codecs import register
from ares.store.memo import active

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ares.core.types import BoolArray, Float64Array
    from ares.market.bars import Bars
    from ares.store.memo import Memo

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
    features = [_known(name) for name in chosen]
    check_talib()
    memo = active()
    if memo is not None and (kept := _recalled(memo, bars, chosen, max_gap)) is not None:
        return kept
    matrix = np.full((len(bars), len(features)), np.nan)
    for stretch in stretches(bars, max_gap):
        for column, feature in enumerate(features):
            if stretch.stop - stretch.start > feature.warmup:
                inputs = (getattr(bars, name)[stretch] for name in feature.inputs)
                values = feature.function(*inputs)
                defined = slice(stretch.start + feature.warmup, stretch.stop)
                matrix[defined, column] = values[feature.warmup :]
    return FeatureSet(chosen, matrix)


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
