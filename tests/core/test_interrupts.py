"""An interruption is never lost, whatever stands between it and the one who waits for it."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from ares.core.errors import InterruptedRunError
from ares.core.interrupts import check_interrupted, interruptible

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def interrupt(number: signal.Signals = signal.SIGINT) -> None:
    signal.raise_signal(number)


def swallow() -> None:
    with contextlib.suppress(BaseException):  # as functions of Cython do that cannot raise
        interrupt()


def disguise() -> None:
    try:
        interrupt()
    except KeyboardInterrupt as error:
        raise SystemError("a result with an exception set") from error


def follow_up() -> None:
    swallow()
    raise ValueError("the table is only half there")


@pytest.mark.parametrize("way", [interrupt, swallow, disguise, follow_up])
def test_the_scope_ends_with_it(way: Callable[[], None]) -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        way()


@pytest.mark.parametrize("way", [swallow, disguise])
def test_so_does_a_scope_within_a_scope_and_a_decorated_function(way: Callable[[], None]) -> None:
    @interruptible()
    def work() -> None:
        with pytest.raises(KeyboardInterrupt), interruptible():
            way()
        with pytest.raises(KeyboardInterrupt):
            check_interrupted()

    with pytest.raises(KeyboardInterrupt):
        work()
    check_interrupted()


def test_what_is_kept_afterwards_asks_first_in_any_thread() -> None:
    seen: list[type[BaseException]] = []

    def keep() -> None:
        try:
            check_interrupted()
        except BaseException as error:  # noqa: BLE001  # whatever it is
            seen.append(type(error))

    @interruptible()
    def work() -> None:
        check_interrupted()
        swallow()
        thread = threading.Thread(target=keep)
        thread.start()
        thread.join()

    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen == [KeyboardInterrupt]


def test_who_tells_it_in_own_words_is_heard() -> None:
    @interruptible()
    def work() -> None:
        try:
            interrupt()
        except KeyboardInterrupt:
            raise InterruptedRunError("after two points") from None

    with pytest.raises(InterruptedRunError, match="after two points"):
        work()


def test_other_errors_pass() -> None:
    with pytest.raises(SystemError, match="broken"), interruptible():
        raise SystemError("broken") from ValueError("value")


def test_everything_is_as_before_when_the_scope_is_left() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), interruptible(signal.SIGTERM):
        interrupt(signal.SIGTERM)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with interruptible():
        check_interrupted()
        assert signal.getsignal(signal.SIGTERM) is before[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_ignored_stays_ignored(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with interruptible(signal.SIGTERM):
            interrupt(number)
    finally:
        signal.signal(number, before)


def test_a_handler_of_the_users_that_goes_on_is_no_interruption() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        with interruptible():
            interrupt()
            check_interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]


def test_another_thread_does_nothing_of_it() -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with interruptible(signal.SIGTERM):
                check_interrupted()
        except BaseException as error:  # noqa: BLE001  # whatever it is
            failed.append(error)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failed == []
    assert signal.getsignal(signal.SIGTERM) is before


@interruptible(signal.SIGTERM)
def nested() -> None:
    with interruptible():
        check_interrupted()


def at_line(number: int, work: Callable[[], None]) -> bool:
    """Call `work` with an interruption right before its so manieth line; whether it has so many.

    Only lines within `with` statements count: Python looks at signals where functions begin, where
    they return to, and where loops turn, so not between a block and `__exit__`.
    """
    left = number

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal left
        left -= event == "line" and frame.f_code.co_filename not in {__file__, contextlib.__file__}
        if left == 0:
            sys.settrace(before)
            interrupt()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]  # what it returns is itself
    try:
        work()
    finally:
        sys.settrace(before)
    return left <= 0


def test_wherever_it_comes_it_is_raised_and_leaves_nothing_behind() -> None:
    """In each line of entering and leaving, too: a later run must not hear of an old one."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    line, ended = 0, False
    while not ended:
        line += 1
        with contextlib.suppress(KeyboardInterrupt):
            ended = not at_line(line, nested)
            assert ended, f"lost at line {line}"
        try:
            check_interrupted()
        except KeyboardInterrupt:
            pytest.fail(f"still there after line {line}")
        after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        assert after == before, line
    assert line > 50


def test_a_handler_of_the_users_that_waits_is_interrupted_by_the_next_one() -> None:
    def wait(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        interrupt(signal.SIGTERM)
        pytest.fail("it was interrupted")

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, wait)
    try:
        with pytest.raises(KeyboardInterrupt), interruptible():
            interrupt()
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
