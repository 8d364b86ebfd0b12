"""Probability calibration: identity, Platt or isotonic, chosen by later log loss; and its scores.

Platt, "Probabilistic outputs for support vector machines" (1999), with his smoothed targets;
isotonic regression by pooling adjacent violators, interpolated linearly between its knots.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from ares.core.errors import DataError
from ares.core.types import readonly
from ares.kernels.rowwise import interpolate_rows, isotonic_rows, logistic_rows, logit_rows
from ares.learn.logistic import fit_logistic
from ares.store.codecs import register

if TYPE_CHECKING:
    from ares.core.config import CalibrationConfig
    from ares.core.types import BoolArray, Float64Array, Int8Array, Int64Array

    AnyArray: TypeAlias = Float64Array | Int64Array | Int8Array | BoolArray

Kind = Literal["identity", "platt", "isotonic"]
KINDS: Final[tuple[Kind, ...]] = ("identity", "platt", "isotonic")
EPS: Final = 1e-6
_HELD_OUT: Final = 1 / 3


def _nothing() -> Float64Array:
    empty = np.zeros(0)
    readonly(empty)
    return empty


@register(schema=1)
@dataclass(frozen=True)
class Calibrator:
    """A rising map from raw to calibrated probability, as plain numbers.

    Attributes:
        kind: `identity`, `platt` (logistic in the log odds) or `isotonic`.
        slope: Of the log odds, not negative (`platt`).
        intercept: Of the log odds (`platt`).
        knots: Rising raw probabilities (`isotonic`).
        values: Calibrated probabilities at the knots, not falling (`isotonic`).
        eps: Results lie in [eps, 1 - eps].
        reason: Why this kind.
        rows: Rows that it was fitted on.
        held_out: Log loss on the later part, by kind; only kinds that were compared.
        before: Log loss of the raw probabilities on all rows.
        after: Log loss of the calibrated ones on the same rows; never above `before`.
    """

    kind: Kind
    slope: float = 1.0
    intercept: float = 0.0
    knots: Float64Array = field(default_factory=_nothing)
    values: Float64Array = field(default_factory=_nothing)
    eps: float = EPS
    reason: str = ""
    rows: int = 0
    held_out: tuple[tuple[str, float], ...] = ()
    before: float = float("nan")
    after: float = float("nan")

    def predict(self, p: Float64Array) -> Float64Array:
        """Calibrated probability of each row alone: (rows,) in [eps, 1 - eps], NaN stays NaN.

        Raises:
            DataError: not one-dimensional, or outside [0, 1].
        """
        p = _probabilities(p)
        if self.kind == "platt":
            rows = logit_rows(p, EPS).reshape(-1, 1)
            p = logistic_rows(rows, np.array([self.slope]), self.intercept)
        elif self.kind == "isotonic":
            p = interpolate_rows(p, self.knots, self.values)
        return np.clip(p, self.eps, 1.0 - self.eps)


def fit_calibrator(
    p: Float64Array,
    y: AnyArray,
    weight: Float64Array | None,
    t: Int64Array,
    config: CalibrationConfig,
    *,
    t1: Int64Array | None = None,
) -> Calibrator:
    """Choose and fit a calibrator on chained predictions.

    Fewer than `min_rows` rows or one class only: identity. Fewer than `min_isotonic`: Platt.
    Otherwise the kind with the least log loss on the last third in time, fitted on the rows before
    it, is fitted again on all rows. A fit that would be worse than the raw probabilities on its own
    rows is dropped for the identity.

    Args:
        p: (rows,) raw probabilities; NaN rows do not count.
        y: (rows,) labels 0 or 1.
        weight: (rows,) weights, not negative; None: ones.
        t: (rows,) time or bar index of each row.
        config: Rows needed.
        t1: (rows,) end of each label, same unit as `t`; rows whose label reaches into the held-out
            part are purged from the part before it. None: labels end at once.

    Raises:
        DataError: other lengths, labels other than 0 and 1, or probabilities outside [0, 1].
    """
    p, labels, w = _checked(p, y, weight)
    start = np.asarray(t, dtype=np.int64)
    end = start if t1 is None else np.asarray(t1, dtype=np.int64)
    if start.shape != p.shape or end.shape != p.shape:
        raise DataError("times must have one value per row", value=(start.shape, end.shape))
    use = ~np.isnan(p) & (w > 0)
    order = np.argsort(start[use], kind="stable")
    p, labels, w = p[use][order], labels[use][order], w[use][order]
    start, end = start[use][order], end[use][order]
    n = len(p)
    if n < config.min_rows:
        return _identity(p, labels, w, f"{n} rows, {config.min_rows} needed")
    if labels.min() == labels.max():
        return _identity(p, labels, w, "the calibration rows have one class only")
    if n < config.min_isotonic:
        return _guarded("platt", p, labels, w, f"fewer than {config.min_isotonic} rows", ())
    held_out, reason = _compare(p, labels, w, start, end)
    kind: Kind = "platt"
    if held_out:
        losses = dict(held_out)
        kind = min(KINDS, key=lambda k: losses[k])
    return _guarded(kind, p, labels, w, reason, held_out)


def _compare(
    p: Float64Array, y: Float64Array, w: Float64Array, start: Int64Array, end: Int64Array
) -> tuple[tuple[tuple[str, float], ...], str]:
    """Log loss of each kind on the last third; none where it cannot be measured, and why."""
    border = start[int(len(p) * (1 - _HELD_OUT))]
    early, late = (start < border) & (end < border), start >= border
    for part in (early, late):
        if not part.any() or y[part].min() == y[part].max():
            return (), "the parts before and after the cut do not both have two classes"
    losses = []
    for kind in KINDS:
        fitted = _fit(kind, p[early], y[early], w[early])
        losses.append((kind, log_loss(fitted.predict(p[late]), y[late], w[late])))
    return tuple(losses), "least log loss on the last third"


def _guarded(
    kind: Kind,
    p: Float64Array,
    y: Float64Array,
    w: Float64Array,
    reason: str,
    held_out: tuple[tuple[str, float], ...],
) -> Calibrator:
    fitted = _fit(kind, p, y, w)
    before, after = _identity_loss(p, y, w), log_loss(fitted.predict(p), y, w)
    if after > before:
        return _identity(p, y, w, f"{kind} would raise the log loss of its own rows", held_out)
    return Calibrator(
        kind,
        fitted.slope,
        fitted.intercept,
        fitted.knots,
        fitted.values,
        fitted.eps,
        reason,
        len(p),
        held_out,
        before,
        after,
    )


def _identity_loss(p: Float64Array, y: Float64Array, w: Float64Array) -> float:
    return log_loss(Calibrator("identity").predict(p), y, w)


def _identity(
    p: Float64Array,
    y: Float64Array,
    w: Float64Array,
    reason: str,
    held_out: tuple[tuple[str, float], ...] = (),
) -> Calibrator:
    loss = _identity_loss(p, y, w)
    return Calibrator(
        "identity", reason=reason, rows=len(p), held_out=held_out, before=loss, after=loss
    )


def _fit(kind: Kind, p: Float64Array, y: Float64Array, w: Float64Array) -> Calibrator:
    if kind == "identity":
        return Calibrator("identity")
    if kind == "platt":
        slope, intercept = _fit_platt(p, y, w)
        return Calibrator("platt", slope, intercept)
    knots, values = _fit_isotonic(p, y, w)
    # What n rows cannot show: a probability nearer to 0 or 1 than one more row would move it.
    return Calibrator("isotonic", knots=knots, values=values, eps=max(EPS, 1.0 / (len(p) + 2.0)))


def _fit_platt(p: Float64Array, y: Float64Array, w: Float64Array) -> tuple[float, float]:
    positive, negative = float(w[y == 1].sum()), float(w[y == 0].sum())
    target = np.where(y == 1, (positive + 1.0) / (positive + 2.0), 1.0 / (negative + 2.0))
    x = logit_rows(p, EPS).reshape(-1, 1)
    if np.ptp(x) < 1e-9:
        return 0.0, _base_rate(target, w)
    slope, intercept = fit_logistic(x, target, w, l2=0.0)
    if slope < 0.0:  # a calibrator never turns the order around
        return 0.0, _base_rate(target, w)
    return float(slope), float(intercept)


def _base_rate(target: Float64Array, w: Float64Array) -> float:
    rate = float((target * w).sum() / w.sum())
    return float(np.log(rate / (1.0 - rate)))


def _fit_isotonic(
    p: Float64Array, y: Float64Array, w: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Knots and values: equal probabilities are one point, flat stretches keep their two ends."""
    x, where = np.unique(p, return_inverse=True)
    mass = np.bincount(where, weights=w, minlength=len(x))
    mean = np.bincount(where, weights=w * y, minlength=len(x)) / mass
    fit = isotonic_rows(mean, mass)
    keep = np.ones(len(x), dtype=np.bool_)
    keep[1:-1] = (fit[1:-1] != fit[:-2]) | (fit[1:-1] != fit[2:])
    knots, values = x[keep], fit[keep]
    readonly(knots)
    readonly(values)
    return knots, values


def brier(p: Float64Array, y: AnyArray, weight: Float64Array | None = None) -> float:
    """Weighted mean of (p - y)^2 over rows with a prediction; NaN where there is none."""
    p, labels, w = _scored(p, y, weight)
    return float((w * (p - labels) ** 2).sum() / w.sum()) if len(p) else float("nan")


def log_loss(p: Float64Array, y: AnyArray, weight: Float64Array | None = None) -> float:
    """Weighted mean of -log of the probability of what happened, p clipped to 1e-15 off 0 and 1.

    Rows without a prediction do not count; NaN where there is none.
    """
    p, labels, w = _scored(p, y, weight)
    if not len(p):
        return float("nan")
    p = np.clip(p, 1e-15, 1.0 - 1e-15)
    return float(-(w * np.log(np.where(labels == 1, p, 1.0 - p))).sum() / w.sum())


@register(schema=1)
@dataclass(frozen=True)
class ReliabilityTable:
    """Equal-width bins of probability; bins without rows are NaN in both means.

    Attributes:
        low: (bins,) lower borders, inclusive.
        high: (bins,) upper borders, exclusive but for the last.
        rows: (bins,) number of rows.
        weight: (bins,) sum of weights.
        mean_p: (bins,) mean probability.
        mean_y: (bins,) observed frequency.
    """

    low: Float64Array
    high: Float64Array
    rows: Int64Array
    weight: Float64Array
    mean_p: Float64Array
    mean_y: Float64Array


def reliability_table(
    p: Float64Array, y: AnyArray, bins: int = 10, weight: Float64Array | None = None
) -> ReliabilityTable:
    """Observed frequency against probability in `bins` bins of equal width."""
    p, labels, w = _scored(p, y, weight)
    edges = np.arange(bins + 1) / bins
    where = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, bins - 1)
    mass = np.bincount(where, weights=w, minlength=bins).astype(np.float64)
    safe = np.where(mass > 0, mass, np.nan)
    table = ReliabilityTable(
        low=edges[:-1].copy(),
        high=edges[1:].copy(),
        rows=np.bincount(where, minlength=bins).astype(np.int64),
        weight=mass,
        mean_p=np.bincount(where, weights=w * p, minlength=bins) / safe,
        mean_y=np.bincount(where, weights=w * labels, minlength=bins) / safe,
    )
    for column in (table.low, table.high, table.rows, table.weight, table.mean_p, table.mean_y):
        readonly(column)
    return table


def expected_calibration_error(
    p: Float64Array,
    y: AnyArray,
    bins: int = 10,
    weight: Float64Array | None = None,
    *,
    norm: Literal["l1", "l2", "max"] = "l1",
) -> float:
    """Gap between frequency and probability over equal-width bins.

    `l1` is the weighted mean, `l2` the weighted root mean square, `max` the largest gap of a bin.
    NaN where no row has a prediction.
    """
    table = reliability_table(p, y, bins, weight)
    used = table.weight > 0
    if not used.any():
        return float("nan")
    gap = np.abs(table.mean_p[used] - table.mean_y[used])
    share = table.weight[used] / table.weight[used].sum()
    if norm == "max":
        return float(gap.max())
    return float((share * gap).sum() if norm == "l1" else np.sqrt((share * gap**2).sum()))


def _probabilities(p: Float64Array) -> Float64Array:
    p = np.ascontiguousarray(p, dtype=np.float64)
    if p.ndim != 1:
        raise DataError("probabilities must be one-dimensional", value=p.shape)
    if ((p < 0) | (p > 1)).any():
        raise DataError("probabilities must lie in [0, 1]", where="p")
    return p


def _checked(
    p: Float64Array, y: AnyArray, weight: Float64Array | None
) -> tuple[Float64Array, Float64Array, Float64Array]:
    p = _probabilities(p)
    labels = np.asarray(y, dtype=np.float64)
    w = np.ones(len(p)) if weight is None else np.asarray(weight, dtype=np.float64)
    if labels.shape != p.shape or w.shape != p.shape:
        raise DataError("labels and weights must have one value per row", value=labels.shape)
    if not np.isin(labels[~np.isnan(p)], (0.0, 1.0)).all():
        raise DataError("labels must be 0 and 1", where="y")
    if not np.isfinite(w).all() or (w < 0).any():
        raise DataError("must be finite and not negative", where="weight")
    return p, labels, w


def _scored(
    p: Float64Array, y: AnyArray, weight: Float64Array | None
) -> tuple[Float64Array, Float64Array, Float64Array]:
    p, labels, w = _checked(p, y, weight)
    use = ~np.isnan(p) & (w > 0)
    return p[use], labels[use], w[use]
