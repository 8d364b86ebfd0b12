"""Parameter spaces: what a strategy accepts, and the narrower range that samplers search."""

from __future__ import annotations

import difflib
import functools
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ares.core.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REQUIRED: Final = "required"  # a default that says there is none
Value: TypeAlias = int | float | str | bool | None


@dataclass(frozen=True)
class Int:
    """A whole number. `low` to `high` (inclusive) is searched, `minimum` to `maximum` is valid."""

    low: int
    high: int
    log: bool = False
    minimum: int | None = None
    maximum: int | None = None
    default: int | str | None = REQUIRED
    optional: bool = False

    def normalise(self, name: str, value: Any) -> int | None:
        """`value` as an int: 10, 10.0 and numpy's 10 are one.

        Raises:
            ParameterError: not a whole number, or outside the valid domain.
        """
        if value is None and self.optional:
            return None
        number = value if type(value) is int else _as_int(name, value)
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        if not low <= number <= high:
            raise _refused(f"{name} must be {_span(low, high)}", value)
        return number


@dataclass(frozen=True)
class Float:
    """A number. `low` to `high` is searched; the ends of the valid domain may be left out."""

    low: float
    high: float
    log: bool = False
    minimum: float = -math.inf
    maximum: float = math.inf
    without_minimum: bool = False
    without_maximum: bool = False
    default: float | str | None = REQUIRED
    optional: bool = False

    def normalise(self, name: str, value: Any) -> float | None:
        """`value` as a float: 1 and 1.0 are one, and so are 0.0 and -0.0.

        Raises:
            ParameterError: not a finite number, or outside the valid domain.
        """
        if value is None and self.optional:
            return None
        # The common case of a search needs no checks but these two: inf - inf is NaN.
        fine = type(value) is float and value - value == 0.0
        number = value + 0.0 if fine else _as_float(name, value)
        if self.minimum < number < self.maximum:
            return number
        above = operator.gt if self.without_minimum else operator.ge
        below = operator.lt if self.without_maximum else operator.le
        if not (above(number, self.minimum) and below(number, self.maximum)):
            rule = _span(self.minimum, self.maximum, self.without_minimum, self.without_maximum)
            raise _refused(f"{name} must be {rule}", value)
        return number


@dataclass(frozen=True)
class Categorical:
    """One of a few choices."""

    choices: tuple[Value, ...]
    default: Value = REQUIRED

    def normalise(self, name: str, value: Any) -> Value:
        """The choice that equals `value`.

        Raises:
            ParameterError: none does.
        """
        truth = isinstance(value, bool)
        for choice in self.choices:
            if choice == value and isinstance(choice, bool) == truth:
                return choice
        shown = ", ".join(repr(choice) for choice in self.choices)
        raise _refused(f"{name} must be one of {shown}", value)


Parameter: TypeAlias = Int | Float | Categorical


@dataclass(frozen=True)
class LessThan:
    """The constraint `left < right` between two parameters."""

    left: str
    right: str

    def holds(self, point: Mapping[str, Any]) -> bool:
        """Whether `point` obeys; a point that lacks one of the two does."""
        left, right = point.get(self.left), point.get(self.right)
        return left is None or right is None or left < right


COMMON: Final[Mapping[str, Parameter]] = {
    "direction": Categorical(("long", "short", "both"), default="long"),
    "stop_loss": Float(
        0.005, 0.2, log=True, minimum=0, without_minimum=True, default=None, optional=True
    ),
    "take_profit": Float(
        0.005, 0.5, log=True, minimum=0, without_minimum=True, default=None, optional=True
    ),
    "stop_unit": Categorical(("fraction", "atr"), default="fraction"),
    "max_hold": Int(1, 500, log=True, minimum=1, default=None, optional=True),
    "size": Float(0.05, 1.0, minimum=0, maximum=1, without_minimum=True, default=1.0),
    "cooldown": Int(0, 50, minimum=0, default=0),
}


@dataclass(frozen=True)
class ParameterSpace:
    """The parameters of a strategy: its own, which samplers search, and the common ones.

    A common parameter (direction, stop_loss, take_profit, stop_unit, max_hold, size, cooldown)
    that is listed in `parameters` is searched, too; otherwise it has its default unless given.

    Attributes:
        parameters: Name to parameter, in the order of the search's dimensions.
        constraints: What must hold between them.

    Raises:
        ParameterError: a value that is no parameter, or a constraint on an unknown name.
    """

    parameters: Mapping[str, Parameter]
    constraints: tuple[LessThan, ...] = field(default=())

    def __post_init__(self) -> None:
        for name, parameter in self.parameters.items():
            if not isinstance(parameter, Int | Float | Categorical):
                raise _refused(
                    f"{name} must be an Int, a Float or a Categorical",
                    parameter,
                    "ParameterSpace.from_bounds reads plain bounds.",
                )
        for rule in self.constraints:
            for name in (rule.left, rule.right):
                self.parameter(name)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """All names that are known, the searched ones first."""
        return (*self.parameters, *(name for name in COMMON if name not in self.parameters))

    @functools.cached_property
    def _defaults(self) -> dict[str, Any]:
        """The default of every name that has one, in canonical type."""
        known = ((name, self.parameter(name)) for name in self.names)
        return {
            name: parameter.normalise(name, parameter.default)
            for name, parameter in known
            if parameter.default != REQUIRED
        }

    @functools.cached_property
    def _checks(self) -> dict[str, Callable[[str, Any], Value]]:
        """What normalises the value of each name."""
        return {name: self.parameter(name).normalise for name in self.names}

    @functools.cached_property
    def _required(self) -> tuple[str, ...]:
        """The names that have no default."""
        return tuple(name for name in self.names if name not in self._defaults)

    def parameter(self, name: str) -> Parameter:
        """The parameter called `name`.

        Raises:
            ParameterError: there is none; the message has the nearest name.
        """
        found = self.parameters.get(name) or COMMON.get(name)
        if found is None:
            near = difflib.get_close_matches(str(name).lower(), self.names, 1, 0.0)[0]
            known = ", ".join(self.names)
            raise _refused(
                "this parameter is not known", name, f"Did you mean {near}? Known are {known}."
            )
        return found

    def normalise(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The point in full: every name, canonical types, defaults filled in.

        Raises:
            ParameterError: an unknown name, a missing value, a value outside the valid domain, or
                a broken constraint; or `params` is no mapping.
        """
        if not isinstance(params, Mapping):
            raise _refused("parameters are a dict of names and values", params)
        checks, defaults = self._checks, self._defaults
        point: dict[str, Any] = dict.fromkeys(self.names)
        point.update(defaults)
        for name, value in params.items():
            if name not in defaults or value is not defaults[name]:
                check = checks.get(name) or self.parameter(name).normalise
                point[name] = check(name, value)
        for name in self._required:
            if name not in params:
                raise _refused("this parameter must be given", name)
        for rule in self.constraints:
            if not rule.holds(point):
                pair = {rule.left: point[rule.left], rule.right: point[rule.right]}
                raise _refused(f"{rule.left} must be below {rule.right}", pair)
        if point["stop_unit"] == "fraction" and (point["stop_loss"] or 0.0) >= 1.0:
            raise _refused(
                "stop_loss must be below 1 where stop_unit is fraction",
                point["stop_loss"],
                "3 % are 0.03; stop_unit=atr counts in average true ranges.",
            )
        return point

    def allows(self, point: Mapping[str, Any]) -> bool:
        """Whether `point` obeys the constraints (values are not checked)."""
        return all(rule.holds(point) for rule in self.constraints)

    def with_bounds(self, bounds: Mapping[str, Any]) -> ParameterSpace:
        """Another search range for the parameters in `bounds`; common ones join the search.

        Raises:
            ParameterError: unreadable bounds, or bounds outside the valid domain.
        """
        changed: dict[str, Parameter] = dict(self.parameters)
        for name, bound in bounds.items():
            changed[name] = _narrowed(name, self.parameter(name), bound)
        return replace(self, parameters=changed)

    @staticmethod
    def from_bounds(
        bounds: Mapping[str, Any], constraints: Sequence[LessThan] = ()
    ) -> ParameterSpace:
        """A space from plain bounds, which are its valid domain as well.

        Args:
            bounds: Name to `(int, int)` (integer), `(float, float)` (float), both inclusive,
                `(low, high, "log")`, or a list of choices. Names of common parameters keep their
                valid domain.
            constraints: What must hold between them.

        Raises:
            ParameterError: bounds that cannot be read.
        """
        parameters = {
            name: _narrowed(name, COMMON[name], bound) if name in COMMON else _parse(name, bound)
            for name, bound in bounds.items()
        }
        return ParameterSpace(parameters, tuple(constraints))


def _parse(name: str, bound: Any) -> Parameter:
    if isinstance(bound, Int | Float | Categorical):
        return bound
    if isinstance(bound, list):
        if not bound:
            raise ParameterError("a list of choices cannot be empty", value=bound, where=name)
        return Categorical(tuple(bound))
    log = isinstance(bound, tuple) and len(bound) == 3 and bound[2] == "log"
    if not isinstance(bound, tuple) or not (len(bound) == 2 or log):
        raise ParameterError(
            'bounds are (low, high), (low, high, "log") or a list of choices',
            value=bound,
            where=name,
        )
    whole = all(isinstance(end, Integral) and not isinstance(end, bool) for end in bound[:2])
    low, high = (_as_float(name, end) for end in bound[:2])
    if low > high:
        raise ParameterError(
            "low must not exceed high",
            value=bound[:2],
            where=name,
            remedy=f"The lower bound comes first: {bound[1]}, {bound[0]}.",
        )
    if log and low <= 0:
        raise ParameterError("log needs low > 0", value=bound, where=name)
    if whole:
        return Int(int(low), int(high), log=log, minimum=int(low), maximum=int(high))
    return Float(low, high, log=log, minimum=low, maximum=high)


def _narrowed(name: str, known: Parameter, bound: Any) -> Parameter:
    """`known` with the search range of `bound`, its valid domain kept."""
    wanted = _parse(name, bound)
    match known, wanted:
        case Categorical(), Categorical():
            choices = tuple(known.normalise(name, choice) for choice in wanted.choices)
            default = known.default if known.default in choices else choices[0]
            return Categorical(choices, default=default)
        case Int(), Int() | Float():
            ends = known.normalise(name, wanted.low), known.normalise(name, wanted.high)
            return replace(known, low=ends[0] or 0, high=ends[1] or 0, log=wanted.log)
        case Float(), Int() | Float():
            limits = known.normalise(name, wanted.low), known.normalise(name, wanted.high)
            return replace(known, low=limits[0] or 0.0, high=limits[1] or 0.0, log=wanted.log)
        case _:
            raise ParameterError("these bounds do not fit the parameter", value=bound, where=name)


def _as_int(name: str, value: Any) -> int:
    number = _as_float(name, value)
    if not number.is_integer():
        raise _refused(f"{name} must be a whole number", value)
    return int(number)


def _as_float(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise _refused(f"{name} must be a finite number", value)
    return number + 0.0  # -0.0 becomes 0.0


def _refused(rule: str, value: Any, remedy: str = "") -> ParameterError:
    shown = "None" if value is None else value  # an error says nothing of a value of None
    return ParameterError(rule, value=shown, where="parameters", remedy=remedy)


def _span(low: float, high: float, open_low: bool = False, open_high: bool = False) -> str:
    parts = []
    if low > -math.inf:
        parts.append(f"{'above' if open_low else 'at least'} {low:g}")
    if high < math.inf:
        parts.append(f"{'below' if open_high else 'at most'} {high:g}")
    return " and ".join(parts)
