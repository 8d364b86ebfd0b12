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
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from ares.core.errors import InterruptedRunError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["check_interrupted", "interruptible"]

# Of the process, as signals are. Only the main thread handles signals and enters the scope.
_asked: Final = threading.Event()
_scopes: Final[list[None]] = []


@contextmanager
def interruptible(*more: signal.Signals) -> Iterator[None]:
    """Remember an interruption until the outermost scope ends; also a decorator.

    The scope ends with `KeyboardInterrupt` where one was swallowed, or came out as another error.
    In other threads than the main one, where Python raises none, this does nothing.

    Args:
        more: Signals besides SIGINT that interrupt, too. One that is ignored stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with ExitStack() as restore:
        for number in (signal.SIGINT, *more):
            _take_over(number, restore)
        _scopes.append(None)
        try:
            yield
            check_interrupted()
        except InterruptedRunError:
            raise
        except Exception as error:
            if _asked.is_set():
                raise KeyboardInterrupt from error
            raise
        finally:
            _scopes.pop()
            if not _scopes:
                _asked.clear()


def check_interrupted() -> None:
    """Raise the interruption that came within `interruptible`, in any thread.

    Raises:
        KeyboardInterrupt: there was one.
    """
    if _asked.is_set():
        raise KeyboardInterrupt


def _take_over(number: signal.Signals, restore: ExitStack) -> None:
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
            _asked.set()
            raise

    restore.callback(signal.signal, number, found)
    signal.signal(number, interrupt)
