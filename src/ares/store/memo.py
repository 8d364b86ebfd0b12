"""Values that pure functions of bars gave before, by content address: what `ares precompute` made.

They lie in the store of the steps' results and share its checks and its garbage collection. A
value is found by what went into it and by the code; whatever is not found is computed. Only
`remember` writes: a pipeline that was not prepared pays for no file.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ares.core.environment import code_digest
from ares.core.identity import fingerprint
from ares.store.store import MISS, Store

__all__ = ["MISS", "Memo", "active", "memo_counts", "remembering"]

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Memo:
    """The memory of one command.

    Attributes:
        store: Where values lie.
        recalled: Values that were found.
        made: Values that were asked for and not found.
    """

    store: Store
    recalled: int = 0
    made: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, *parts: object) -> Any:
        """The value of the function and arguments that `parts` name, or `MISS`."""
        return self.store.get(_key(parts))

    def remember(self, value: object, *parts: object) -> None:
        """Keep a value.

        Raises:
            StoreError: the store cannot be written.
        """
        self.store.put(_key(parts), value)

    def count(self, *, found: bool) -> None:
        """Note that a value was asked for."""
        with self._lock:
            self.recalled += found
            self.made += not found


_active: list[Memo] = []


def active() -> Memo | None:
    """The memory that is in use, where one is."""
    return _active[-1] if _active else None


def memo_counts() -> dict[str, int]:
    """Values `recalled` and `made` by the memory in use, for `run_info.json`; empty without one."""
    memo = active()
    return {} if memo is None else {"recalled": memo.recalled, "made": memo.made}


@contextlib.contextmanager
def remembering(store: Store | None) -> Iterator[Memo | None]:
    """Use a store as memory in all threads of this process; None: use none.

    It never changes what a function returns, only how long it takes.
    """
    if store is None:
        yield None
        return
    memo = Memo(store)
    _active.append(memo)
    try:
        yield memo
    finally:
        _active.remove(memo)


def _key(parts: tuple[object, ...]) -> str:
    return fingerprint(("memo", code_digest(), parts))
