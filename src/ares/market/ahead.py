"""Work done ahead of its consumer, in a thread."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

T = TypeVar("T")

_AHEAD: Final = 2


def ahead(items: Iterator[T], depth: int = _AHEAD) -> Generator[T, None, None]:
    """The same items, made in a thread of their own while the caller works on those before."""
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                ready.put((item, error), timeout=0.1)
                return

    def run() -> None:
        error: BaseException = StopIteration()
        try:
            for item in items:
                put(item, None)
                if stop.is_set():
                    return
        except BaseException as caught:  # noqa: BLE001  # raised where the items are wanted
            error = caught
        put(None, error)

    thread = threading.Thread(target=run, name="ares-read", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]  # None only comes with an error
    finally:
        stop.set()
        with contextlib.suppress(queue.Empty):
            while True:
                ready.get_nowait()  # or a full queue would keep the thread until its next look
        thread.join()
