"""Why points have no score: what the user's code, or the engine's rules, raised on them."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ares.core.errors import AresError, one_line, said_by
from ares.core.secrets import redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]+")
_VARYING: Final = re.compile(r"\d+")
_LONGEST: Final = 300


class Reason(NamedTuple):
    """Why one point has no score.

    Attributes:
        kind: Name of the exception's type.
        where: File and line of the user's code, or what else is known of the place; may be empty.
        said: What was raised, in a sentence, without addresses in memory: equal on every machine.
    """

    kind: str
    where: str
    said: str

    @staticmethod
    def of(error: Exception, who: str, where: str = "") -> Reason:
        """The reason that an error is.

        Args:
            error: What was raised.
            who: Whose code raised it, where the error does not say.
            where: Where that code is, where the error does not say.
        """
        if isinstance(error, AresError):
            cause = error if error.__cause__ is None else error.__cause__
            where = str(error.where or where)
            said = str(AresError(error.rule, value=error.value, remedy=error.remedy))
        else:
            cause, said = error, f"{who} raised {type(error).__name__}"
            text = said_by(error)
            said += f": {text}" if text else ""
        said = _ADDRESS.sub("0x...", redact(one_line(said.removesuffix("."))))
        if len(said) > _LONGEST:
            said = said[:_LONGEST] + "..."
        return Reason(one_line(type(cause).__name__), one_line(where), said)

    @property
    def text(self) -> str:
        """Place and sentence."""
        return f"{self.where}: {self.said}" if self.where else self.said

    @property
    def fault(self) -> tuple[str, str, str]:
        """What points share that failed alike: numbers in a message tell points, not faults."""
        return self.kind, self.where, _VARYING.sub("#", self.said)


@dataclass(frozen=True)
class Failure:
    """Points of a search that failed alike.

    Attributes:
        reason: That of the first one.
        params: Its parameters.
        numbers: The trial numbers of all.
    """

    reason: Reason
    params: Mapping[str, Any]
    numbers: tuple[int, ...]

    @property
    def example(self) -> str:
        """The first point in words."""
        return ", ".join(f"{name}={value}" for name, value in self.params.items())


class Failures:
    """Collects what failed, in the order of the trials."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], tuple[Reason, Mapping[str, Any], list[int]]] = {}

    def add(self, number: int, reason: Reason, params: Mapping[str, Any]) -> None:
        """Take in one point."""
        self._found.setdefault(reason.fault, (reason, params, []))[2].append(number)

    def result(self) -> tuple[Failure, ...]:
        """The kinds of failures, the most frequent one first."""
        found = [Failure(r, dict(p), tuple(numbers)) for r, p, numbers in self._found.values()]
        return tuple(sorted(found, key=lambda one: (-len(one.numbers), one.numbers[0])))


def told(failures: Sequence[Failure]) -> str:
    """How many points failed, and the most frequent reason with its first point.

    Args:
        failures: At least one.
    """
    worst, *others = failures
    total = sum(len(one.numbers) for one in failures)
    most = f", {len(worst.numbers):,} of them alike" if others else ""
    points = "point failed" if total == 1 else "points failed"
    said = f"{total:,} {points}{most}: {worst.reason.text}; first at {worst.example}."
    if not others:
        return said
    if len(others) == 1:
        return f"{said} There is 1 other kind of error."
    return f"{said} There are {len(others)} other kinds of errors."


def place_of(function: Any, error: Exception) -> str:
    """File, line and name of a user's function: the line that raised, or that of the function."""
    code = getattr(function, "__code__", None)
    if code is None:
        return ""
    walked = traceback.walk_tb(error.__traceback__)
    lines = [at for frame, at in walked if frame.f_code.co_filename == code.co_filename]
    line = lines[-1] if lines else code.co_firstlineno
    return f"{code.co_filename}:{line}: {function.__qualname__}"
