"""Measure peak resident memory while a block of code runs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from ares.market.memory import tree_bytes

if TYPE_CHECKING:
    from types import TracebackType


class Meter:
    """Context manager that samples the process tree's resident memory.

    Args:
        interval: Seconds between samples.

    Attributes:
        peak_bytes: Highest sum of resident memory seen, in bytes.
    """

    def __init__(self, interval: float = 0.1) -> None:
        self.peak_bytes = 0
        self._interval = interval
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ares-meter", daemon=True)

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._done.wait(self._interval):
            self._sample()

    def _sample(self) -> None:
        self.peak_bytes = max(self.peak_bytes, tree_bytes())
