"""A parameter space as coordinates: keys (one tuple per point) and the unit cube."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ares.backtest.space import Categorical, Float, Int, Parameter, ParameterSpace
from ares.core.errors import ParameterError
from ares.core.identity import _make_hashable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ares.core.types import Float64Array

Key: TypeAlias = tuple[int | float, ...]
"""One entry per searched parameter: the number, or the index of the category."""

_MAX_LEVELS: Final = 32


@dataclass(frozen=True)
class Groups:
    """Which searched parameters (by index) are of which kind for CMA-ES."""

    continuous: tuple[int, ...]
    discrete: tuple[int, ...]
    categorical: tuple[int, ...]


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
        self.groups = self._grouped()

    def size(self, index: int) -> int:
        """How many values parameter `index` (no float) can take."""
        dimension = self._dimensions[index]
        if isinstance(dimension, Categorical):
            return len(dimension.choices)
        return int(dimension.high) - int(dimension.low) + 1

    def level(self, index: int, key: Key) -> int:
        """Position of a key's value among the values of parameter `index`."""
        dimension = self._dimensions[index]
        return int(key[index]) - (int(dimension.low) if isinstance(dimension, Int) else 0)

    def levels(self, index: int) -> list[float]:
        """Unit coordinates of the values of parameter `index`."""
        dimension = self._dimensions[index]
        first = dimension.low if isinstance(dimension, Int) else 0
        return [self._unit(index, first + i) for i in range(self.size(index))]

    def from_unit(self, unit: Float64Array) -> Key:
        """The point at `unit`, shape (parameters,), each in [0, 1]."""
        return tuple(self._value(i, min(max(float(u), 0.0), 1.0)) for i, u in enumerate(unit))

    def unit(self, key: Key) -> tuple[float, ...]:
        """Inverse of `from_unit`: the middle of the cell that holds the point."""
        return tuple(self._unit(i, value) for i, value in enumerate(key))

    def point(self, key: Key) -> dict[str, Any]:
        """The parameters of a key, by name."""
        values = dict(self._fixed)
        for name, dimension, value in zip(self.names, self._dimensions, key, strict=True):
            chosen = dimension.choices[int(value)] if isinstance(dimension, Categorical) else value
            values[name] = chosen
        return dict(sorted(values.items()))

    def key(self, point: Mapping[str, Any]) -> Key:
        """The key of given parameters; 10 and 10.0 of an integer are one.

        Raises:
            ParameterError: a searched parameter is missing, or a value is of no known kind.
        """
        values: list[int | float] = []
        for name, dimension in zip(self.names, self._dimensions, strict=True):
            if name not in point:
                raise ParameterError("every searched parameter needs a value", where=name)
            values.append(_coded(name, dimension, point[name]))
        return tuple(values)

    def feasible(self, key: Key) -> bool:
        """Whether the point meets the constraints of its space."""
        return self._space.allows(self.point(key))

    def _grouped(self) -> Groups:
        continuous, discrete, categorical = [], [], []
        for i, dimension in enumerate(self._dimensions):
            if isinstance(dimension, Float) or (
                isinstance(dimension, Int) and self.size(i) > _MAX_LEVELS
            ):
                continuous.append(i)
            elif isinstance(dimension, Int) and self.size(i) > 2:
                discrete.append(i)
            else:
                categorical.append(i)
        return Groups(tuple(continuous), tuple(discrete), tuple(categorical))

    def _value(self, index: int, unit: float) -> int | float:
        dimension = self._dimensions[index]
        if isinstance(dimension, Float):
            low, high = float(dimension.low), float(dimension.high)
            value = _stretched(unit, low, high) if dimension.log else low + unit * (high - low)
            return min(max(value, low), high)
        size = self.size(index)
        if isinstance(dimension, Categorical):
            return min(int(unit * size), size - 1)
        low, last = int(dimension.low), int(dimension.high)
        if dimension.log:
            return min(max(int(_stretched(unit, low, last + 1)), low), last)
        return low + min(int(unit * size), size - 1)

    def _unit(self, index: int, value: float) -> float:
        dimension = self._dimensions[index]
        if isinstance(dimension, Categorical):
            share = (value + 0.5) / self.size(index)
        elif isinstance(dimension, Float):
            low, high = float(dimension.low), float(dimension.high)
            share = _share(value, low, high, log=dimension.log)
        else:
            share = _share(value + 0.5, dimension.low, dimension.high + 1, log=dimension.log)
        return min(max(share, 0.0), 1.0)


def _stretched(unit: float, low: float, high: float) -> float:
    return math.exp(math.log(low) + unit * (math.log(high) - math.log(low)))


def _share(value: float, low: float, high: float, *, log: bool) -> float:
    if log:
        return math.log(value / low) / math.log(high / low) if value > 0 else 0.0
    return (value - low) / (high - low)


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
        return number
    if number != int(number):
        raise ParameterError("the value must be an integer", where=name, value=value)
    return int(number)
