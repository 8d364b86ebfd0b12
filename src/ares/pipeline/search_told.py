"""How far a search is: passed on, remembered, and said where it is interrupted."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ares.core.errors import InterruptedRunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ares.search.result import Progress


class Told:
    """Passes progress on.

    Attributes:
        last: What was told last.
        resumed: Points that came from the ledger.
        seconds: Time until `stop`.
    """

    def __init__(self, progress: Callable[[Progress], None]) -> None:
        self._progress = progress
        self.last: Progress | None = None
        self.resumed = 0
        self.seconds = 0.0
        self._began = time.perf_counter()

    def __call__(self, now: Progress) -> None:
        """Take in one generation and pass it on."""
        self.last = now
        if now.resumed:
            self.resumed = now.trials
        self._progress(now)

    def stop(self) -> None:
        """The search is over."""
        self.seconds = time.perf_counter() - self._began


@contextmanager
def told_of(progress: Callable[[Progress], None], *, kept: bool) -> Iterator[Told]:
    """An interruption says how far the search was, and what to do."""
    told = Told(progress)
    try:
        yield told
    except KeyboardInterrupt:
        last = told.last
        far = f" after {last.trials} of {last.budget} points" if last else ""
        remedy = "They are kept: the same command goes on from there."
        if not kept:
            remedy = "Nothing is kept, as the strategy or the objective has no identity."
        elif last is None:
            remedy = "The same command goes on with what the cache holds."
        raise InterruptedRunError(f"the search was interrupted{far}", remedy=remedy) from None
