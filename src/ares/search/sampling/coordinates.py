"""A parameter space as coordinates: keys (one tuple per point) and the unit cube."""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Hashable
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from ares.backtest.space import Categorical, Float, Int, Parameter, ParameterSpace
from ares.core.errors import ParameterError
from ares.core.identity import _make_hashable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ares.core.types import BoolArray, Float64Array

Key: TypeAlias = tuple[int | float, ...]
"""One entry per searched parameter: the number, or the index of the category."""

_EXACT: Final = 2**52  # integers of a range that float64 holds, with room
_SIDE: Final = math.sqrt(0.5)  # two categories are one unit apart


class Coordinates:
    """The searched parameters of a space, in order of their names.

    Parameters whose range holds one value are fixed: they are in every point and in no key.
    """

    def __init__(self, space: ParameterSpace) -> None:
        self._space = space
        self._fixed: dict[str, Any] = {}
        self._dimensions: list[Parameter] = []
        names = []
        for name in sorted(space.parameters):
            dimension = space.parameters[name]
            if _single(dimension):
                self._fixed[name] = _only(dimension)
            else:
                names.append(name)
                self._dimensions.append(dimension)
        self.names = tuple(names)
        self.categorical = np.array(
            [isinstance(d, Categorical) for d in self._dimensions], dtype=np.bool_
        )
        widths = [len(d.choices) if isinstance(d, Categorical) else 1 for d in self._dimensions]
        self.owners = np.repeat(np.arange(len(widths)), widths)
        self._template = dict.fromkeys(sorted(space.parameters))
        self._template.update(self._fixed)
        self._codes: list[dict[tuple[type, Any], int] | None] = [
            {(type(c), c): at for at, c in enumerate(d.choices)}
            if isinstance(d, Categorical)
            else None
            for d in self._dimensions
        ]
        kinds = "".join("d" if isinstance(d, Float) else "q" for d in self._dimensions)
        self._values = [_value_at(dimension) for dimension in self._dimensions]
        self._packer = struct.Struct("<" + kinds)
        self._rules = [rule for rule in space.constraints if self._concerns(rule)]
        self._sides = [(self._side(rule.left), self._side(rule.right)) for rule in self._rules]

    def size(self, index: int) -> int:
        """How many values parameter `index` (no float) can take."""
        dimension = self._dimensions[index]
        if isinstance(dimension, Categorical):
            return len(dimension.choices)
        return int(dimension.high) - int(dimension.low) + 1

    def from_unit(self, unit: Float64Array) -> Key:
        """The point at `unit`, shape (parameters,), each in [0, 1]."""
        return tuple(
            [
                value_at(min(max(u, 0.0), 1.0))
                for value_at, u in zip(self._values, unit.tolist(), strict=True)
            ]
        )

    def keys(self, units: Float64Array) -> list[Key]:
        """The points at rows of units (n, parameters), each in [0, 1]."""
        columns: list[list[Any]] = []
        for i, dimension in enumerate(self._dimensions):
            column = np.clip(units[:, i], 0.0, 1.0)
            if isinstance(dimension, Int) and self.size(i) > _EXACT:
                columns.append(list(map(self._values[i], column.tolist())))
            elif isinstance(dimension, Categorical):
                size = len(dimension.choices)
                chosen = np.minimum(np.floor(column * size), size - 1)
                columns.append(chosen.astype(np.int64).tolist())
            elif isinstance(dimension, Int):
                columns.append(self._column(units, i).astype(np.int64).tolist())
            else:
                # The ends are themselves: exp(log(low)) is not always low.
                low, high = float(dimension.low), float(dimension.high)
                inner = np.where(column <= 0.0, low, self._column(units, i))
                columns.append((np.where(column >= 1.0, high, inner) + 0.0).tolist())
        return list(zip(*columns, strict=True)) if columns else [()] * len(units)

    def units_of(self, columns: Mapping[str, Any], count: int) -> Float64Array:
        """`units` of `count` points that are given as one sequence of values per parameter, by name.

        Raises:
            ParameterError: as `key`, or a column of another length.
        """
        keys = np.empty((count, len(self.names)))
        for i, (name, dimension, codes) in enumerate(
            zip(self.names, self._dimensions, self._codes, strict=True)
        ):
            if name not in columns or len(columns[name]) != count:
                raise ParameterError("every searched parameter needs a value", where=name)
            if codes is None:
                keys[:, i] = columns[name]
            else:
                keys[:, i] = [
                    codes[type(value), value]
                    if (type(value), value) in codes
                    else _coded(name, dimension, value)
                    for value in columns[name]
                ]
        return self.units(keys)

    def units(self, keys: Sequence[Key] | Float64Array) -> Float64Array:
        """Inverse of `from_unit`, one row per key: the middle of the cell that holds the point."""
        columns = np.array(keys, dtype=np.float64).reshape(len(keys), len(self.names))
        for i, dimension in enumerate(self._dimensions):
            column = columns[:, i]
            if isinstance(dimension, Categorical):
                column[:] = (column + 0.5) / len(dimension.choices)
                continue
            whole = isinstance(dimension, Int)
            low, high = float(dimension.low), float(dimension.high) + whole
            if dimension.log:
                middles = np.maximum(column + 0.5 * whole, low)
                column[:] = np.log(middles / low) / math.log(high / low)
            else:
                column[:] = (column + 0.5 * whole - low) / (high - low)
        return np.clip(columns, 0.0, 1.0)

    def snap(self, units: Float64Array) -> Float64Array:
        """Rows of units (n, parameters), each at the middle of its cell; floats stay."""
        snapped = np.clip(units, 0.0, 1.0)
        for i, dimension in enumerate(self._dimensions):
            column = snapped[:, i]
            if isinstance(dimension, Float):
                continue
            if isinstance(dimension, Int) and dimension.log:
                low, high = math.log(dimension.low), math.log(dimension.high + 1)
                values = self._column(snapped, i)
                column[:] = (np.log(values + 0.5) - low) / (high - low)
            else:
                size = float(self.size(i))
                column[:] = (np.minimum(np.floor(column * size), size - 1) + 0.5) / size
        return snapped

    def features(self, units: Float64Array) -> Float64Array:
        """Rows of units with a column per category, (n, len(owners)): distances make sense."""
        columns = []
        for i, dimension in enumerate(self._dimensions):
            column = units[:, i : i + 1]
            if isinstance(dimension, Categorical):
                size = len(dimension.choices)
                chosen = np.minimum(np.floor(column * size), size - 1)
                column = _SIDE * (chosen == np.arange(size))
            columns.append(column)
        return np.hstack(columns) if columns else np.empty((len(units), 0))

    def point(self, key: Key) -> dict[str, Any]:
        """The parameters of a key, by name."""
        point = self._template.copy()
        for name, dimension, value in zip(self.names, self._dimensions, key, strict=True):
            point[name] = (
                dimension.choices[value] if isinstance(dimension, Categorical) else value  # type: ignore[index]
            )
        return point

    def key(self, point: Mapping[str, Any]) -> Key:
        """The key of given parameters; 10 and 10.0 of an integer are one.

        Raises:
            ParameterError: a searched parameter is missing, or a value is of no known kind.
        """
        values: list[int | float] = []
        for name, dimension, codes in zip(self.names, self._dimensions, self._codes, strict=True):
            if name not in point:
                raise ParameterError("every searched parameter needs a value", where=name)
            value = point[name]
            kind = type(value)
            if codes is not None and isinstance(value, Hashable) and (kind, value) in codes:
                values.append(codes[kind, value])
            elif kind is (float if isinstance(dimension, Float) else int) and codes is None:
                values.append(value + 0)  # -0.0 becomes 0.0
            else:
                values.append(_coded(name, dimension, value))
        return tuple(values)

    def packed(self, key: Key) -> bytes | Key:
        """The key in few bytes; itself where an integer does not fit."""
        try:
            return self._packer.pack(*key)
        except struct.error:
            return key

    def feasible(self, key: Key) -> bool:
        """Whether the point meets the constraints of its space."""
        for left, right in self._sides:
            a, b = left(key), right(key)
            if a is not None and b is not None and not a < b:
                return False
        return True

    def _side(self, name: str) -> Callable[[Key], Any]:
        """What one side of a constraint is at a key."""
        if name in self._fixed:
            value = self._fixed[name]
            return lambda _: value
        index = self.names.index(name)
        dimension = self._dimensions[index]
        if isinstance(dimension, Categorical):
            choices = dimension.choices
            return lambda key: choices[int(key[index])]
        return operator.itemgetter(index)

    def seem_feasible(self, units: Float64Array) -> BoolArray:
        """Rows of units (n, parameters) that meet the constraints, as far as float64 can tell."""
        good = np.ones(len(units), dtype=np.bool_)
        for rule in self._rules:
            left, right = (self._column_of(units, name) for name in (rule.left, rule.right))
            if left is not None and right is not None:
                good &= np.less(left, right)
        return good

    def _concerns(self, rule: Any) -> bool:
        return rule.left in self._template and rule.right in self._template

    def _column_of(self, units: Float64Array, name: str) -> Float64Array | float | None:
        if name in self._fixed:
            value = self._fixed[name]
            return None if value is None or isinstance(value, str) else float(value)
        index = self.names.index(name)
        return None if self.categorical[index] else self._column(units, index)

    def _column(self, units: Float64Array, index: int) -> Float64Array:
        """Values of a number for each row."""
        dimension = self._dimensions[index]
        assert not isinstance(dimension, Categorical)  # noqa: S101  # the callers see to it
        whole = isinstance(dimension, Int)
        low, high = float(dimension.low), float(dimension.high) + whole
        share = units[:, index]
        if dimension.log:
            values = np.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            values = low + share * (high - low)
        found: Float64Array = np.clip(np.floor(values) if whole else values, low, high - whole)
        return found


def _value_at(dimension: Parameter) -> Callable[[float], int | float]:
    """The value of a parameter at a unit coordinate in [0, 1]; the index of a category."""
    if isinstance(dimension, Categorical):
        size = len(dimension.choices)
        return lambda unit: min(int(unit * size), size - 1)
    if isinstance(dimension, Float):
        return _float_at(float(dimension.low), float(dimension.high), log=dimension.log)
    low, last = int(dimension.low), int(dimension.high)
    if dimension.log:
        base, span = math.log(low), math.log(last + 1) - math.log(low)
        return lambda unit: min(max(int(math.exp(base + unit * span)), low), last)
    size = last - low + 1
    return lambda unit: low + min(int(unit * size), size - 1)


def _float_at(low: float, high: float, *, log: bool) -> Callable[[float], float]:
    # The ends are themselves: exp(log(low)) is not always low. Adding 0.0 makes 0.0 of -0.0.
    if log:
        base, span = math.log(low), math.log(high) - math.log(low)

        def stretched(unit: float) -> float:
            value = math.exp(base + unit * span) if 0.0 < unit < 1.0 else high if unit else low
            return min(max(value, low), high) + 0.0

        return stretched

    def between(unit: float) -> float:
        value = low + unit * (high - low) if 0.0 < unit < 1.0 else high if unit else low
        return min(max(value, low), high) + 0.0

    return between


def _single(dimension: Parameter) -> bool:
    if isinstance(dimension, Categorical):
        return len(dimension.choices) == 1
    return bool(dimension.low == dimension.high)


def _only(dimension: Parameter) -> Any:
    return dimension.choices[0] if isinstance(dimension, Categorical) else dimension.low


def _coded(name: str, dimension: Parameter, value: Any) -> int | float:
    if isinstance(dimension, Categorical):
        wanted = _make_hashable(value)
        exact = [i for i, c in enumerate(dimension.choices) if _make_hashable(c) == wanted]
        near = [i for i, c in enumerate(dimension.choices) if c == value]
        if not exact + near:
            raise ParameterError("the value must be one of the choices", where=name, value=value)
        return (exact + near)[0]
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ParameterError("the value must be a number", where=name, value=value) from None
    if isinstance(dimension, Float):
        return number + 0.0
    if not number.is_integer():
        raise ParameterError("the value must be an integer", where=name, value=value)
    return int(value) if isinstance(value, Integral) else int(number)
