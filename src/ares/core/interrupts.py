"""Ctrl-C ends the work even where something on the way swallows it, and nothing is kept after it.

Python raises `KeyboardInterrupt` wherever the main thread stands. Compiled code makes a
`SystemError` of it, functions of Cython that cannot raise drop it and leave half a table, and a
user's `except:` goes on with whatever it likes. What is computed from then on cannot be trusted.
So within `interruptible` an interruption is remembered, and whoever is about to keep something
asks `check_interrupted` first.
"""

from __future__ import annotations

import signal
import threading
import traceback
from contextlib import ContextDecorator
from typing import TYPE_CHECKING, Any, Final

from ares.core.errors import InterruptedRunError

if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Self

__all__ = ["check_interrupted", "interruptible"]


def interruptible(*more: signal.Signals) -> _Scope:
    """Remember an interruption until the outermost scope ends; also a decorator.

    The scope ends with `KeyboardInterrupt` where one was swallowed, or came out as another error.
    In other threads than the main one, where Python raises none, this does nothing.

    Args:
        more: Signals besides SIGINT that interrupt, too. One that is ignored stays ignored.
    """
    return _Scope((signal.SIGINT, *more))


def check_interrupted() -> None:
    """Raise the interruption that came within `interruptible`, in any thread.

    Raises:
        KeyboardInterrupt: there was one.
    """
    if any(scope.outermost.asked for scope in tuple(_scopes)):
        raise KeyboardInterrupt


class _Scope(ContextDecorator):
    """What `interruptible` returns; what is remembered goes with the outermost one."""

    def __init__(self, signals: tuple[signal.Signals, ...]) -> None:
        self.asked = False
        self.outermost = self
        self._signals = signals
        self._found: list[tuple[signal.Signals, Any]] = []

    def _recreate_cm(self) -> Self:
        return type(self)(self._signals)  # each call of a decorated function has its own

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self.outermost = _scopes[0].outermost if _scopes else self
        for number in self._signals:
            self._take_over(number)
        _scopes.append(self)
        if self.outermost.asked:
            self.__exit__(None, None, None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self in _scopes:
            _scopes.remove(self)
        while self._found:
            signal.signal(*self._found.pop())
        told = isinstance(error, InterruptedRunError) or not isinstance(error, Exception | None)
        if not told and self.outermost.asked:
            raise KeyboardInterrupt from error

    def _take_over(self, number: signal.Signals) -> None:
        """Let the signal interrupt as it did, and remember that."""
        found = signal.getsignal(number)
        if callable(found):
            before = found
        elif found is signal.SIG_DFL and number is not signal.SIGINT:
            before = signal.default_int_handler
        else:
            return  # ignored, or not Python's

        def interrupt(given: int, frame: FrameType | None) -> None:
            try:
                before(given, frame)
            except KeyboardInterrupt:
                self.outermost.asked = True
                # Entering and leaving a scope are done as a whole, and look at what came meanwhile.
                if not any(at.f_code in _WHOLE for at, _ in traceback.walk_stack(frame)):
                    raise

        self._found.append((number, found))
        signal.signal(number, interrupt)


# Of the process, as signals are. Only the main thread handles signals and enters a scope.
_scopes: Final[list[_Scope]] = []
_WHOLE: Final = {_Scope.__enter__.__code__, _Scope.__exit__.__code__}
