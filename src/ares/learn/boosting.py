"""Boosted trees as a value: parameters under one name each, models as text, rows predicted alone.

LightGBM is always run deterministically: one thread, row-wise histograms, fixed seeds, no feature
filter that depends on other parameters. Its messages are silenced by a parameter of each call.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import ConfigError, DataError
from ares.core.types import readonly
from ares.learn.model_text import ModelShape, canonical_text, check_model_text
from ares.store.codecs import register

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ares.core.types import Float64Array

_CHUNK: Final = 65_536
_SEED_LIMIT: Final = 2**31

ALIASES: Final = {
    "n_estimators": "trees",
    "num_iterations": "trees",
    "num_boost_round": "trees",
    "num_trees": "trees",
    "n_iter": "trees",
    "leaves": "num_leaves",
    "max_leaves": "num_leaves",
    "min_leaf": "min_data_in_leaf",
    "min_child_samples": "min_data_in_leaf",
    "min_samples_leaf": "min_data_in_leaf",
    "min_child_weight": "min_sum_hessian_in_leaf",
    "min_split_gain": "min_gain_to_split",
    "eta": "learning_rate",
    "shrinkage_rate": "learning_rate",
    "reg_alpha": "lambda_l1",
    "reg_lambda": "lambda_l2",
    "subsample": "bagging_fraction",
    "subsample_freq": "bagging_freq",
    "colsample_bytree": "feature_fraction",
    "boosting_type": "boosting",
    "random_state": "seed",
}
IGNORED: Final = frozenset(
    {"n_jobs", "num_threads", "nthread", "verbosity", "verbose", "silent", "metric"}
    | {"deterministic", "force_row_wise", "force_col_wise", "feature_pre_filter"}
)


@dataclass(frozen=True)
class _Rule:
    """Kind and inclusive range of a number, or the allowed words."""

    kind: type
    low: float = 0.0
    high: float = float("inf")
    words: tuple[str, ...] = ()


_RULES: Final = {
    "trees": _Rule(int, 1, 20_000),
    "objective": _Rule(str, words=("binary", "regression")),
    "learning_rate": _Rule(float, 1e-6, 1.0),
    "num_leaves": _Rule(int, 2, 65_536),
    "max_depth": _Rule(int, -1, 63),
    "min_data_in_leaf": _Rule(int, 1, 2**30),
    "min_sum_hessian_in_leaf": _Rule(float),
    "lambda_l1": _Rule(float),
    "lambda_l2": _Rule(float),
    "min_gain_to_split": _Rule(float),
    "max_bin": _Rule(int, 2, 65_535),
    "min_data_in_bin": _Rule(int, 1, 2**30),
    "max_delta_step": _Rule(float),
    "scale_pos_weight": _Rule(float, 1e-9),
    "boost_from_average": _Rule(bool),
    "seed": _Rule(int, 0, 2**63),
    "bagging_fraction": _Rule(float, 1e-6, 1.0),
    "bagging_freq": _Rule(int, 0, 2**30),
    "feature_fraction": _Rule(float, 1e-6, 1.0),
    "feature_fraction_bynode": _Rule(float, 1e-6, 1.0),
    "extra_trees": _Rule(bool),
    "boosting": _Rule(str, words=("gbdt", "dart", "rf")),
    "data_sample_strategy": _Rule(str, words=("bagging", "goss")),
}
_DEFAULTS: Final[dict[str, Any]] = {
    "trees": 100,
    "learning_rate": 0.1,
    "num_leaves": 31,
    "min_data_in_leaf": 20,
    "seed": 0,
}
_FIXED: Final[dict[str, Any]] = {
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "feature_pre_filter": False,
    "verbosity": -1,
}


def normalise_parameters(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """One name, type and range per parameter; later layers win over earlier ones.

    Known aliases of LightGBM and scikit-learn are accepted; those that shape no tree (threads,
    verbosity, metrics) are dropped.

    Raises:
        ConfigError: an unknown name, or a value of the wrong kind or outside its range.
    """
    merged: dict[str, Any] = dict(_DEFAULTS)
    for layer in layers:
        for given, value in layer.items():
            name = ALIASES.get(given, given)
            if name in IGNORED or value is None:
                continue
            merged[name] = _checked(given, name, value)
    merged["seed"] %= _SEED_LIMIT
    return merged


def _checked(given: str, name: str, value: Any) -> Any:
    rule = _RULES.get(name)
    if rule is None:
        near = difflib.get_close_matches(given, [*_RULES, *ALIASES], 1, 0.0)
        raise ConfigError(
            "a tree parameter must be known", value=given, remedy=f"Did you mean {near[0]!r}?"
        )
    if rule.words:
        ok = value in rule.words
        limits = "one of " + ", ".join(rule.words)
    else:
        limits = f"{rule.kind.__name__} in [{rule.low:g}, {rule.high:g}]"
        ok = isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating))
        ok = ok and bool(rule.low <= value <= rule.high and value == rule.kind(value))
    if not ok:
        raise ConfigError(f"must be {limits}", value=value, where=given)
    return rule.kind(value)


def draws_random(parameters: Mapping[str, Any]) -> bool:
    """Whether growing trees with these parameters draws random numbers, or rewrites old trees."""
    bags = parameters.get("bagging_freq", 0) > 0 and parameters.get("bagging_fraction", 1.0) < 1
    drops = any(
        parameters.get(name, 1.0) < 1 for name in ("feature_fraction", "feature_fraction_bynode")
    )
    return bool(
        bags
        or drops
        or parameters.get("extra_trees", False)
        or parameters.get("boosting", "gbdt") != "gbdt"
        or parameters.get("data_sample_strategy", "bagging") == "goss"
    )


def native_parameters(shape: Mapping[str, Any]) -> dict[str, Any]:
    """What LightGBM is told: `shape` and the fixed switches that make it deterministic."""
    return {**shape, **_FIXED}


def as_matrix(X: Any) -> tuple[Float64Array, tuple[str, ...] | None]:
    """Float64 C-ordered (rows, columns) of an array or a DataFrame, and its column names.

    Raises:
        DataError: not two-dimensional, no column, or a column that is not numeric.
    """
    columns = getattr(X, "columns", None)
    names = None if columns is None else tuple(str(column) for column in columns)
    try:
        matrix = np.ascontiguousarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("features must be numbers", value=str(error)) from error
    if np.ndim(X) != 2 or matrix.shape[1] == 0:
        raise DataError("features must have rows and at least one column", value=np.shape(X))
    return matrix, names


@register(schema=1)
@dataclass(frozen=True)
class BoostedTrees:
    """Boosted trees for one output.

    Attributes:
        text: The model, canonical: equal models are equal text.
        feature_names: Names of the columns, in order.
        missing: Whether undefined features are input like any other. False: a row with one has no
            prediction.
    """

    text: str
    feature_names: tuple[str, ...]
    missing: bool = False

    @classmethod
    def from_booster(
        cls,
        booster: Any,
        shape: Mapping[str, Any],
        names: tuple[str, ...],
        *,
        trees: int = -1,
        missing: bool = False,
    ) -> BoostedTrees:
        """The first `trees` trees of a LightGBM booster (-1: all)."""
        text = booster.model_to_string(num_iteration=trees, start_iteration=0)
        return cls(canonical_text(text, shape), names, missing)

    @cached_property
    def shape(self) -> ModelShape:
        """Checked content of the text.

        Raises:
            ArtifactError: the text is not a well-formed model.
        """
        return check_model_text(self.text, len(self.feature_names))

    @cached_property
    def _booster(self) -> Any:
        import lightgbm

        _ = self.shape  # LightGBM must never see an unchecked text
        return lightgbm.Booster(model_str=self.text)

    def num_trees(self) -> int:
        """Number of trees."""
        return self.shape.trees

    def importance(self) -> Float64Array:
        """Total split gain of each feature, (features,)."""
        gains = np.array(self.shape.gains, dtype=np.float64)
        readonly(gains)
        return gains

    def predict(self, X: Any) -> Float64Array:
        """Predict each row alone: probability of class 1 (binary) or the value (regression).

        The result of a row does not depend, bit for bit, on the rows beside it.

        Args:
            X: (rows, features) array, or DataFrame with at least the model's columns.

        Returns:
            (rows,); NaN where a feature is undefined (NaN or infinite), unless `missing`.

        Raises:
            DataError: other columns than the model's.
            ArtifactError: the text is not a well-formed model.
        """
        matrix = self._columns(X)
        result = np.full(len(matrix), np.nan)
        for start in range(0, len(matrix), _CHUNK):
            part = matrix[start : start + _CHUNK]
            usable = ~np.isinf(part).any(axis=1) if self.missing else np.isfinite(part).all(axis=1)
            if usable.any():
                rows = part if usable.all() else part[usable]
                raw = self._booster.predict(rows, num_threads=1)
                result[start : start + _CHUNK][usable] = raw
        return result

    def _columns(self, X: Any) -> Float64Array:
        columns = getattr(X, "columns", None)
        if columns is not None:
            absent = sorted(set(self.feature_names) - {str(column) for column in columns})
            if absent:
                raise DataError("all features of the model must be given", value=absent[:5])
            order = {str(column): at for at, column in enumerate(columns)}
            X = X.iloc[:, [order[name] for name in self.feature_names]]
        matrix, _ = as_matrix(X)
        if matrix.shape[1] != len(self.feature_names):
            raise DataError(
                "the number of columns must be the model's",
                value=matrix.shape[1],
                remedy=f"The model has {len(self.feature_names)} features.",
            )
        return matrix
