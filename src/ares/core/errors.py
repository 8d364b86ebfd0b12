"""The error tree. Each class carries the exit code of the command that meets it.

    AresError                      1   something went wrong inside
    +-- InputError                 2   what the user gave cannot be used
    |   +-- DataError              2   bars: missing, malformed, impossible
    |   +-- ConfigError            2   a configuration key or value
    |   +-- ParameterError         2   a strategy parameter outside its valid domain
    |   +-- ArtifactError          2   a run, model or file that is damaged, foreign or unsafe
    |   +-- BusyError              2   another process holds the lock
    |   +-- MemoryBudgetError      2   the work does not fit into the memory budget
    +-- FingerprintError           1   a value without a canonical encoding
    +-- StoreError                 1   the store cannot write (full, read-only)
    +-- OutageError                1   a server or the network to it does not answer
    +-- LeakageError               1   a value at t changed when bars after t changed
    +-- ReplayError                1   the winner's cold replay differs from the search
    +-- InterruptedRunError      130   Ctrl-C or SIGTERM; the run can be resumed

A message names, in this order, where (file, row, column or key), the rule, the value and the
remedy. Expected numerical failures are not exceptions but values (`Outcome`).
"""

from __future__ import annotations

from typing import ClassVar, Final

from ares.core.secrets import redact

_MAX_VALUE_LENGTH: Final = 200
_MOST_READ: Final = 10_000
_MOST_SAID: Final = 2_000


class AresError(Exception):
    """Root of all errors that Ares raises on purpose.

    Args:
        rule: What must hold, as a sentence.
        value: The offending value, shown with `repr` and cut to 200 characters.
        where: File, row, column or configuration key.
        remedy: What the user can do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self, rule: str, *, value: object = None, where: str = "", remedy: str = ""
    ) -> None:
        self.rule = rule
        self.value = value
        self.where = where
        self.remedy = remedy
        super().__init__(self._message())

    def _message(self) -> str:
        parts = [f"{self.where}: {self.rule}" if self.where else self.rule]
        if self.value is not None:
            shown = repr(self.value)
            if len(shown) > _MAX_VALUE_LENGTH:
                shown = shown[:_MAX_VALUE_LENGTH] + "..."
            parts.append(f"got {shown}")
        text = "; ".join(parts)
        return one_line(f"{text}. {self.remedy}" if self.remedy else text)

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders; keyword-only arguments need help.
        return (_rebuild, (type(self), self.rule, self.value, self.where, self.remedy))


def one_line(text: str) -> str:
    """`text` on one line that drives no terminal, whatever files and columns are called."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def said_by(error: BaseException) -> str:
    """What an exception of others says: `str` of it without secrets, cut; it never raises."""
    try:
        return redact(str(error)[:_MOST_READ])[:_MOST_SAID]  # no secret is cut to a part of it
    except Exception as worse:  # noqa: BLE001  # a user's `__str__` may raise anything
        return f"(its message raises {type(worse).__name__})"


def _rebuild(cls: type[AresError], rule: str, value: object, where: str, remedy: str) -> AresError:
    return cls(rule, value=value, where=where, remedy=remedy)


class InputError(AresError, ValueError):
    """What the user gave cannot be used."""

    exit_code = 2


class DataError(InputError):
    """Bars are missing, malformed or impossible."""


class ConfigError(InputError):
    """A configuration key or value is not allowed."""


class ParameterError(InputError):
    """A strategy parameter lies outside its valid domain."""


class ArtifactError(InputError):
    """A run, model or stored file is damaged, foreign or unsafe."""


class BusyError(InputError):
    """Another process holds the lock."""


class MemoryBudgetError(InputError, MemoryError):
    """The work does not fit into the memory budget."""


class FingerprintError(AresError, TypeError):
    """A value has no canonical encoding."""


class StoreError(AresError, OSError):
    """The store cannot write."""


class OutageError(AresError, ConnectionError):
    """A server, or the network to it, does not answer: no fault of what the user gave."""


class LeakageError(AresError):
    """A value at t changed when bars after t changed."""


class ReplayError(AresError):
    """The winner's cold replay differs from what the search saw."""


class InterruptedRunError(AresError):
    """The run was interrupted and can be resumed."""

    exit_code = 130
