"""The law of no look-ahead, checked: f(bars[:k]) == f(bars)[:k], bit for bit.

Whatever a function says about bar t must not change when bars after t are taken away. Equal means
equal bits; NaN equals NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ares.core.errors import InputError, LeakageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from ares.core.types import BoolArray, Int64Array


@dataclass(frozen=True)
class Leak:
    """One output that changed when the bars from `cut` on were taken away.

    Attributes:
        name: Of the function.
        output: Which array, tuple item or column; "" for a plain array.
        cut: Number of bars that were left.
        bar: First bar whose value differs.
        n_bars: How many of the `cut` bars differ.
        with_future: Value at `bar` when later bars are there.
        without_future: Value at `bar` when they are not.
    """

    name: str
    output: str
    cut: int
    bar: int
    n_bars: int
    with_future: str
    without_future: str

    def __str__(self) -> str:
        output = f"{self.name}[{self.output}]" if self.output else self.name
        return (
            f"{output} at bar {self.bar} is {self.with_future} with the bars from {self.cut} on"
            f" and {self.without_future} without them ({self.n_bars} of {self.cut} bars differ)"
        )


def random_cuts(n: int, count: int, *, seed: int) -> tuple[int, ...]:
    """`count` different cuts in [1, n), sorted; all of them where there are fewer."""
    if n < 2:
        return ()
    drawn = np.random.default_rng(seed).choice(n - 1, size=min(count, n - 1), replace=False) + 1
    return tuple(sorted(int(cut) for cut in drawn))


def check_prefix(
    function: Callable[[Any], object],
    bars: Any,
    cuts: Sequence[int] | Int64Array,
    *,
    name: str,
) -> list[Leak]:
    """Compare `function(bars[:k])` with `function(bars)[:k]` for every cut k.

    Args:
        function: From bars to one row per bar: an array (rows first), a Series or DataFrame, or
            a tuple, list or dict of these.
        bars: `Bars`, an array or a frame: anything with a length and contiguous slices.
        cuts: In [0, len(bars)].
        name: For the report.

    Returns:
        One `Leak` per cut and output that differs; empty where the law holds.

    Raises:
        InputError: an output without one row per bar, or a cut outside the bars.
    """
    n = len(bars)
    whole = dict(_outputs(function(bars), n, name))
    leaks = []
    for cut in cuts:
        k = int(cut)
        if not 0 <= k <= n:
            raise InputError("a cut lies inside the bars", value=k, where=name)
        part = dict(_outputs(function(_prefix(bars, k)), k, name))
        for output in [*whole, *(key for key in part if key not in whole)]:
            leak = _compared(name, output, k, whole.get(output), part.get(output))
            if leak is not None:
                leaks.append(leak)
    return leaks


def assert_no_leak(
    function: Callable[[Any], object],
    bars: Any,
    cuts: Sequence[int] | Int64Array,
    *,
    name: str,
) -> None:
    """Raise where `check_prefix` finds a leak.

    Raises:
        LeakageError: names the function, the output, the first bar and both values.
    """
    leaks = check_prefix(function, bars, cuts, name=name)
    if leaks:
        raise LeakageError(
            f"a value at t must not change when later bars do: {leaks[0]}",
            value=f"{len(leaks)} leaks",
            where=name,
            remedy="Use windows that end at t; fit scalers and models on earlier bars only.",
        )


def _prefix(bars: Any, k: int) -> Any:
    return bars.iloc[:k] if hasattr(bars, "iloc") else bars[:k]


def _outputs(value: object, n: int, path: str, key: str = "") -> Iterator[tuple[str, Any]]:
    """Flat (label, array) pairs of a result, each checked to have one row per bar."""
    if isinstance(value, Mapping):
        for label, item in value.items():
            yield from _outputs(item, n, path, _label(key, label))
    elif isinstance(value, tuple | list):
        for label, item in enumerate(value):
            yield from _outputs(item, n, path, _label(key, label))
    elif hasattr(value, "columns") and hasattr(value, "iloc"):
        for position, label in enumerate(value.columns):
            yield from _outputs(value.iloc[:, position], n, path, _label(key, label))
    else:
        array = np.asarray(value)
        if array.ndim == 0 or len(array) != n:
            raise InputError(
                "the function must return one row per bar",
                value={"bars": n, "shape": array.shape},
                where=_label(path, key) if key else path,
                remedy="Return arrays, frames, or tuples of them, as long as the bars.",
            )
        yield key, array


def _label(key: str, label: object) -> str:
    return f"{key}.{label}" if key else str(label)


def _compared(
    name: str,
    output: str,
    cut: int,
    whole: npt.NDArray[Any] | None,
    part: npt.NDArray[Any] | None,
) -> Leak | None:
    if whole is None or part is None:
        shown = ["absent" if array is None else "present" for array in (whole, part)]
        return Leak(name, output, cut, 0, cut, *shown)
    if whole.dtype != part.dtype or whole.shape[1:] != part.shape[1:]:
        shown = [f"{array.dtype}{array.shape[1:]}" for array in (whole, part)]
        return Leak(name, output, cut, 0, cut, *shown) if cut else None
    cells = ~_same_bits(whole[:cut], part)
    differs: BoolArray = np.logical_or.reduce(cells, axis=tuple(range(1, cells.ndim)))
    if not differs.any():
        return None
    bar = int(np.argmax(differs))
    count = int(np.count_nonzero(differs))
    return Leak(name, output, cut, bar, count, str(whole[bar]), str(part[bar]))


def _same_bits(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> BoolArray:
    if left.dtype.kind == "O":
        pairs = zip(left.ravel(), right.ravel(), strict=True)
        same = [a is b or bool(a == b) or (a != a and b != b) for a, b in pairs]  # noqa: PLR0124  # NaN
        return np.array(same, dtype=np.bool_).reshape(left.shape)
    equal = np.asarray(left == right, dtype=np.bool_)
    if left.dtype.kind == "f":
        equal &= np.signbit(left) == np.signbit(right)  # 0.0 == -0.0
        equal |= np.isnan(left) & np.isnan(right)
    elif left.dtype.kind in "mM":
        equal |= np.isnat(left) & np.isnat(right)
    return equal
