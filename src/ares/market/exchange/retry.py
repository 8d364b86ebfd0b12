"""Trying again: exponential backoff with full jitter, and never before the server allows it.

Jitter decides when something is asked, never what is kept of the answer.
"""

from __future__ import annotations

import email.utils
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from ares.core.errors import OutageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

R = TypeVar("R")

_GO_ON: Final = "The same command goes on from where it stopped."


class TransientError(Exception):
    """What may pass by itself: a broken connection, an overloaded server, a cut answer.

    Args:
        reason: What happened, without secrets.
        retry_after: Seconds that the server asked to wait.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True)
class Retry:
    """How often and how long.

    Attributes:
        attempts: Calls at most, the first one included.
        base: Upper limit of the first wait in seconds; it doubles with each failure.
        cap: Upper limit of every wait that the server did not ask for.
        longest: A longer wait that a server asks for ends the work with an error.
        sleep: Waits.
        waiting: Told of each wait in words: which attempt failed, when the next one is, and why.
    """

    attempts: int = 8
    base: float = 0.5
    cap: float = 30.0
    longest: float = 900.0
    sleep: Callable[[float], object] = time.sleep
    waiting: Callable[[str], object] | None = None

    def call(self, call: Callable[[], R], *, where: str) -> R:
        """What `call` returns, tried again while it raises `TransientError`.

        Raises:
            OutageError: It failed `attempts` times, or the server asks for too long a wait.
        """
        for failures in range(1, self.attempts + 1):
            try:
                return call()
            except TransientError as error:
                if failures == self.attempts:
                    raise OutageError(
                        f"it failed {failures} times, the last time: {error.reason}",
                        where=where,
                        remedy=f"Check the network, and whether the server is up. {_GO_ON}",
                    ) from None
                self._wait(failures, error, where)
        raise AssertionError("unreachable")

    def _wait(self, failures: int, error: TransientError, where: str) -> None:
        seconds = random.uniform(0, min(self.cap, self.base * 2 ** (failures - 1)))
        if error.retry_after is not None:
            if error.retry_after > self.longest:
                raise OutageError(
                    f"the server asks to wait {error.retry_after:.0f} seconds",
                    where=where,
                    remedy=f"Wait that long. {_GO_ON}",
                )
            seconds += error.retry_after
        if self.waiting is not None:
            failed = f"attempt {failures} of {self.attempts} failed"
            self.waiting(f"{failed}, the next one in {seconds:.1f} s: {error.reason}")
        self.sleep(seconds)


def retry_after(header: str | None, date: str | None = None) -> float | None:
    """Seconds that a `Retry-After` header means: a number, or a date seen from the `Date` header."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    until, now = http_time(text), http_time(date)
    if until is None:
        return None
    return max(0.0, until - (time.time() if now is None else now))


def told_reset(headers: Mapping[str, str]) -> float | None:
    """Seconds until questions are counted anew, as exchanges say that do not send `Retry-After`.

    KuCoin says in how many milliseconds, Bybit at which one by the clock of its `Date`. Both send the
    headers with every answer, so they only mean something where one asked too much.

    Args:
        headers: Names in small letters.
    """
    until, moment = headers.get("gw-ratelimit-reset"), headers.get("x-bapi-limit-reset-timestamp")
    if until is not None and until.isascii() and until.isdigit() and len(until) < 12:
        return int(until) / 1000
    if moment is not None and moment.isascii() and moment.isdigit() and len(moment) < 15:
        now = http_time(headers.get("date"))
        return max(0.0, int(moment) / 1000 - (time.time() if now is None else now))
    return None


def http_time(header: str | None) -> float | None:
    """Unix time in seconds of an HTTP date; None where there is none."""
    try:
        return email.utils.parsedate_to_datetime(header or "").timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
