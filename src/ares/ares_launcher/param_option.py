"""`--param`: fix or narrow one parameter of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ares.backtest.space import Parameter, ParameterSpace

Param = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        "-p",
        metavar="NAME=VALUES",
        help="Search one parameter in other bounds, or fix it: fast=5:50, stop_loss=0.005:0.1:log, "
        "direction=long,short,both, slow=100. Common parameters (direction, stop_loss, "
        "take_profit, stop_unit, max_hold, size, cooldown) join the search when they are named. "
        "Repeatable.",
    ),
]

_FORMS = "--param takes NAME=VALUE, NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=CHOICE,CHOICE"
_OPTIONS = ("fee", "slippage", "fill")


def searched_space(space: ParameterSpace, pairs: list[str] | None) -> ParameterSpace:
    """`space` as `--param` changes it.

    Raises:
        ParameterError: an unreadable pair, an unknown name (with the nearest one), bounds outside
            the valid domain, or bounds in which no point is allowed.
    """
    from ares.core.errors import ParameterError

    bounds: dict[str, Any] = {}
    for pair in pairs or []:
        name, sign, text = (part.strip() for part in pair.partition("="))
        if not sign or not name or not text:
            raise ParameterError(_FORMS, value=pair, remedy="E.g. --param fast=5:50.")
        if name in _OPTIONS and name not in space.names:
            raise ParameterError(
                "--param gives parameters of the strategy",
                value=name,
                remedy=f"This one is an option of its own: --{name} {text}.",
            )
        if name in bounds:
            raise ParameterError("--param names each parameter once", value=pair)
        bounds[name] = _bound(name, space.parameter(name), text)
    changed = space.with_bounds(bounds)
    _check_possible(changed)
    return changed


def shown_range(parameter: Parameter) -> str:
    """The searched range in words."""
    choices = getattr(parameter, "choices", None)
    if choices is not None:
        return "fixed" if len(choices) == 1 else ", ".join(map(str, choices))
    low, high = parameter.low, parameter.high  # type: ignore[union-attr]  # no Categorical here
    if low == high:
        return "fixed"
    return f"{low:g} to {high:g}" + (", log" if parameter.log else "")  # type: ignore[union-attr]  # as above


def _bound(name: str, known: Parameter, text: str) -> Any:
    """Bounds as `ParameterSpace.with_bounds` takes them. The scale stays unless it is said."""
    from ares.backtest.space import Categorical
    from ares.core.errors import ParameterError

    if isinstance(known, Categorical):
        return list(dict.fromkeys(_choice(known, part.strip()) for part in text.split(",")))
    low, *rest = (part.strip() for part in text.split(":"))
    scale = rest[1] if len(rest) == 2 else None
    if len(rest) > 2 or scale not in {None, "log", "linear"}:
        raise ParameterError(_FORMS, value=f"{name}={text}", remedy=f"E.g. --param {name}=5:50.")
    if "," in text:
        raise ParameterError(
            f"{name} is a number: it takes one value or LOW:HIGH", value=f"{name}={text}"
        )
    ends = _number(low), _number(rest[0] if rest else low)
    log = scale == "log" or (scale is None and known.log)
    positive = all(isinstance(end, int | float) and end > 0 for end in ends)
    return (*ends, "log") if scale == "log" or (log and positive) else ends


def _choice(known: Any, text: str) -> Any:
    return next((c for c in known.choices if str(c).lower() == text.lower()), text)


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text  # the space says what is wrong with it


def _check_possible(space: ParameterSpace) -> None:
    """Refuse bounds without an allowed point, and points that no run accepts."""
    from ares.core.errors import ParameterError

    for rule in space.constraints:
        left, right = (space.parameters.get(name) for name in (rule.left, rule.right))
        low, high = getattr(left, "low", None), getattr(right, "high", None)
        if low is not None and high is not None and low >= high:
            raise ParameterError(
                f"{rule.left} must be below {rule.right}: these bounds hold no such point",
                value={rule.left: _ends(left), rule.right: _ends(right)},
            )
    stop = space.parameters.get("stop_loss")
    units = getattr(space.parameters.get("stop_unit"), "choices", ("fraction",))
    if stop is not None and "fraction" in units and float(getattr(stop, "high", 0.0)) >= 1.0:
        raise ParameterError(
            "stop_loss must be below 1 where stop_unit is fraction",
            value=_ends(stop),
            remedy="3 % are 0.03; --param stop_unit=atr counts in average true ranges.",
        )


def _ends(parameter: Any) -> str:
    return f"{parameter.low:g}:{parameter.high:g}"
