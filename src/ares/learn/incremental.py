"""Incremental training: more trees continue a cached model, fewer are a prefix of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ares.core.config import TrackConfig
from ares.core.errors import ConfigError, DataError
from ares.core.identity import fingerprint
from ares.learn.boosting import (
    BoostedTrees,
    as_matrix,
    draws_random,
    native_parameters,
    normalise_parameters,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ares.core.types import Float64Array


@dataclass(frozen=True)
class _Sample:
    """Checked training data."""

    X: Float64Array
    y: Float64Array
    weight: Float64Array | None
    names: tuple[str, ...]

    @property
    def missing(self) -> bool:
        return bool(np.isnan(self.X).any())

    def digest(self, rows: int | None = None) -> str:
        weight = None if self.weight is None else self.weight[:rows]
        return fingerprint((self.X[:rows], self.y[:rows], weight, self.names))


@dataclass
class _Growing:
    """A model that can grow: the live booster, and how many of its trees came from older data."""

    booster: Any
    rows: int
    digest: str
    kept: int = 0
    share: float = 1.0
    finished: bool = False

    def target(self, trees: int) -> int:
        return self.kept + max(1, round(trees * self.share))


class IncrementalTrainer:
    """Trains boosted trees and reuses what it trained before.

    Models are known by the parameters that shape each tree and by the digest of the data. For
    parameters that draw no random numbers, asking for more trees continues from the cached model,
    and asking for fewer takes a prefix: both equal training from scratch bit for bit. Parameters
    that draw (bagging, feature fractions, GOSS, DART, random forests, extra trees) train anew;
    only the very same request is a hit.

    Data that extend the data of a cached model at the end follow `on_append`:

    - `"refit"` (default): they are new data, and the model is trained from scratch. The result
      depends on nothing but the arguments.
    - `"continue"`: the cached trees are kept, and `round(trees * appended rows / all rows)` trees,
      at least one, are added, fitted on all rows. Faster; the result depends on the earlier calls.

    Args:
        base_model_config: Parameters of every model, as a mapping (names of LightGBM or their
            aliases, `trees` or `n_estimators` for the rounds) or a `TrackConfig`.
        on_append: The policy above.
        max_models: Models kept; the least recently used one goes first.

    Raises:
        ConfigError: an unknown parameter or policy, or a value outside its range.
    """

    def __init__(
        self,
        base_model_config: Mapping[str, Any] | TrackConfig | None = None,
        *,
        on_append: Literal["refit", "continue"] = "refit",
        max_models: int = 8,
    ) -> None:
        if on_append not in {"refit", "continue"}:
            raise ConfigError("must be refit or continue", value=on_append, where="on_append")
        if max_models < 1:
            raise ConfigError("must be at least 1", value=max_models, where="max_models")
        base = base_model_config
        self._base: Mapping[str, Any] = (
            tree_parameters(base) if isinstance(base, TrackConfig) else dict(base or {})
        )
        normalise_parameters(self._base)
        self._on_append = on_append
        self._max_models = max_models
        self._models: OrderedDict[tuple[str, ...], _Growing | BoostedTrees] = OrderedDict()
        self._lock = threading.RLock()
        self._counts = dict.fromkeys(
            ("hits", "prefixes", "grown", "scratch", "retrained", "continued", "evictions"), 0
        )

    def train_incrementally(
        self, params: Mapping[str, Any] | None, X: Any, y: Any, weight: Any = None
    ) -> BoostedTrees:
        """Train, grow or look up the model of these parameters and data.

        Args:
            params: Parameters of this model; they win over the base configuration. Without an
                `objective`, labels of 0 and 1 are `"binary"`, others `"regression"`.
            X: (rows, features) array or DataFrame; NaN is a missing value, infinity an error.
            y: (rows,) labels, finite.
            weight: (rows,) weights, finite, not negative, not all zero; None: all equal.

        Returns:
            The model. It may have fewer trees than asked where no further split is possible.

        Raises:
            ConfigError: an unknown parameter or a value outside its range.
            DataError: data of other shapes or with forbidden values.
        """
        sample = _checked_sample(X, y, weight)
        shape = normalise_parameters(self._base, params or {})
        trees = int(shape.pop("trees"))
        shape.setdefault("objective", "binary" if _is_binary(sample.y) else "regression")
        if shape["objective"] == "binary" and not _is_binary(sample.y):
            raise DataError("labels of a binary model must be 0 and 1", where="y")
        with self._lock:
            if draws_random(shape):
                return self._exact(shape, trees, sample)
            entry = self._entry(shape, trees, sample)
            return self._grown(entry, shape, trees, sample)

    def stats(self) -> dict[str, int]:
        """How often each path was taken, and the number of models kept."""
        with self._lock:
            return {**self._counts, "models": len(self._models)}

    def clear(self) -> None:
        """Forget all models."""
        with self._lock:
            self._models.clear()

    def _exact(self, shape: dict[str, Any], trees: int, sample: _Sample) -> BoostedTrees:
        key = (fingerprint(shape), sample.digest(), str(trees))
        known = self._models.get(key)
        if isinstance(known, BoostedTrees):
            self._counts["hits"] += 1
            self._models.move_to_end(key)
            return known
        booster = _new_booster(shape, sample)
        _grow(booster, trees)
        self._counts["retrained"] += 1
        model = BoostedTrees.from_booster(booster, shape, sample.names, missing=sample.missing)
        self._keep(key, model)
        return model

    def _entry(self, shape: dict[str, Any], trees: int, sample: _Sample) -> _Growing:
        """The growing model of these parameters and data, made where it is not cached."""
        shape_digest, digest = fingerprint(shape), sample.digest()
        key = (shape_digest, digest)
        known = self._models.get(key)
        if isinstance(known, _Growing):
            self._models.move_to_end(key)
            return known
        older = self._appended_to(shape_digest, sample) if self._on_append == "continue" else None
        if older is None:
            self._counts["scratch"] += 1
            entry = _Growing(_new_booster(shape, sample), len(sample.y), digest)
        else:
            self._counts["continued"] += 1
            entry = _continued(older, shape, trees, sample, digest)
        self._keep(key, entry)
        return entry

    def _appended_to(self, shape_digest: str, sample: _Sample) -> _Growing | None:
        """The cached model with the most rows that are the first rows of `sample`."""
        entries = [
            entry
            for key, entry in self._models.items()
            if isinstance(entry, _Growing) and key[0] == shape_digest
        ]
        for entry in sorted(entries, key=lambda item: -item.rows):
            if entry.rows < len(sample.y) and sample.digest(entry.rows) == entry.digest:
                return entry
        return None

    def _grown(
        self, entry: _Growing, shape: dict[str, Any], trees: int, sample: _Sample
    ) -> BoostedTrees:
        target = entry.target(trees)
        have = int(entry.booster.current_iteration())
        if have >= target:
            self._counts["hits" if have == target else "prefixes"] += 1
        elif entry.finished:
            self._counts["hits"] += 1
        else:
            self._counts["grown"] += have > 0
            entry.finished = _grow(entry.booster, target - have)
        return BoostedTrees.from_booster(
            entry.booster, shape, sample.names, trees=target, missing=sample.missing
        )

    def _keep(self, key: tuple[str, ...], entry: _Growing | BoostedTrees) -> None:
        self._models[key] = entry
        while len(self._models) > self._max_models:
            self._models.popitem(last=False)
            self._counts["evictions"] += 1


def tree_parameters(config: TrackConfig) -> dict[str, Any]:
    """The boosting parameters of a track's configuration."""
    return {
        "trees": config.trees,
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": config.min_leaf,
    }


def _checked_sample(X: Any, y: Any, weight: Any) -> _Sample:
    matrix, names = as_matrix(X)
    labels = np.ascontiguousarray(y, dtype=np.float64)
    weights = None if weight is None else np.ascontiguousarray(weight, dtype=np.float64)
    if len(matrix) == 0:
        raise DataError("training needs at least one row", where="X")
    if np.isinf(matrix).any():
        raise DataError("features must not be infinite", where="X")
    for where, column in (("y", labels), ("weight", weights)):
        if column is None:
            continue
        if column.shape != (len(matrix),):
            raise DataError("must have one value per row", value=column.shape, where=where)
        if not np.isfinite(column).all():
            raise DataError("must be finite", where=where)
    if weights is not None and (weights.min() < 0 or weights.sum() <= 0):
        raise DataError("must not be negative, nor all zero", where="weight")
    default = tuple(f"Column_{i}" for i in range(matrix.shape[1]))
    return _Sample(matrix, labels, weights, names or default)


def _is_binary(y: Float64Array) -> bool:
    return bool(np.isin(y, (0.0, 1.0)).all())


def _dataset(sample: _Sample, parameters: Mapping[str, Any]) -> Any:
    import lightgbm

    # The raw matrix carries no names: they stay outside the text, where no parser meets them.
    return lightgbm.Dataset(sample.X, sample.y, weight=sample.weight, params=dict(parameters))


def _new_booster(shape: Mapping[str, Any], sample: _Sample) -> Any:
    import lightgbm

    parameters = native_parameters(shape)
    return lightgbm.Booster(params=parameters, train_set=_dataset(sample, parameters))


def _grow(booster: Any, trees: int) -> bool:
    """Add up to `trees` trees; whether no further split was possible."""
    return any(booster.update() for _ in range(trees))


def _continued(
    older: _Growing, shape: Mapping[str, Any], trees: int, sample: _Sample, digest: str
) -> _Growing:
    """A live booster over all rows that starts with the trees of `older`."""
    import lightgbm

    rows = len(sample.y)
    share = (rows - older.rows) / rows
    parameters = native_parameters(shape)
    kept = int(older.booster.current_iteration())
    booster = lightgbm.train(
        parameters,
        _dataset(sample, parameters),
        num_boost_round=max(1, round(trees * share)),
        init_model=lightgbm.Booster(model_str=older.booster.model_to_string(num_iteration=-1)),
        keep_training_booster=True,
    )
    return _Growing(booster, rows, digest, kept=kept, share=share)
