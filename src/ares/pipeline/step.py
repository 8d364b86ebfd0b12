"""The mechanism: a `Step` is a marked function, a `Runner` calls it once per distinct question.

A step's key is the digest of (number, name, code, arguments). Its result is in the store, or it is
computed and committed atomically. Resume, `until`, progress, timing, peak memory and early cut-off
all come from this one seam. Nothing here knows about trading.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeAlias, TypeVar

from ares.core.environment import code_digest
from ares.core.errors import FingerprintError, StoreError
from ares.core.identity import fingerprint
from ares.market.budget import give_back
from ares.market.memory import MemoryManager
from ares.store.codecs import encode_parts
from ares.store.store import MISS, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger("ares.pipeline")


class Volatile:
    """Base of arguments that never shape a result (workers, caches, callbacks).

    They stay out of the step's key.
    """


@dataclass(frozen=True)
class Step(Generic[P, R]):
    """A numbered, named function whose result may be reused."""

    number: int
    name: str
    function: Callable[P, R]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute, without any memory."""
        return self.function(*args, **kwargs)


def step(number: int, name: str) -> Callable[[Callable[P, R]], Step[P, R]]:
    """Mark a function as step `number` of the pipeline."""

    def mark(function: Callable[P, R]) -> Step[P, R]:
        return Step(number, name, function)

    return mark


@dataclass(frozen=True)
class StepRecord:
    """How one call of a step went: volatile facts, kept out of hashed content.

    Attributes:
        scope: "" for the pipeline's own steps, "window k" for a refit inside step 13.
        seconds: Wall time, including reading or writing the store.
        peak_memory_bytes: Highest resident memory seen during the call.
        digest: Content digest of the result.
    """

    number: int
    name: str
    scope: str
    cached: bool
    seconds: float
    peak_memory_bytes: int
    digest: str


Admit: TypeAlias = "Callable[[Step[Any, Any], Mapping[str, object]], None]"


class UntilReached(Exception):  # noqa: N818  # a signal of the runner, not an error
    """Raised after the step at which the run was asked to end."""


@dataclass
class _Kept:
    """The store, which a runner shares with those of its windows."""

    store: Store | None


class Runner:
    """Calls steps, and remembers.

    Args:
        store: Where results are kept; None computes everything and keeps nothing.
        fresh: Compute even where the store has a result.
        until: Raise `UntilReached` after this step.
        on_start: Called with (step number, name, scope) before a step.
        on_end: Called with the record after a step.
        scope: Prefix for records, see `StepRecord`.
        memory: Measures each step; None: one without a budget.
        admit: Called with (step, its arguments by name) before a step is computed; it may refuse.
    """

    def __init__(
        self,
        store: Store | None,
        *,
        fresh: bool = False,
        until: int | None = None,
        on_start: Callable[[int, str, str], None] = lambda *_: None,
        on_end: Callable[[StepRecord], None] = lambda _: None,
        scope: str = "",
        memory: MemoryManager | None = None,
        admit: Admit = lambda *_: None,
    ) -> None:
        self.records: list[StepRecord] = []
        self.fallbacks: list[str] = []
        self._kept = _Kept(store)
        self._fresh = fresh
        self._until = until
        self._on_start = on_start
        self._on_end = on_end
        self._scope = scope
        self._memory = memory or MemoryManager(enforced=False)
        self._admit = admit
        if store is not None:
            self._memory.register(store.maps)
        self._known: dict[int, tuple[object, str]] = {}  # id -> (value kept alive, digest)

    @property
    def store(self) -> Store | None:
        """Where results are kept; None: nowhere, or no longer."""
        return self._kept.store

    def scoped(self, scope: str) -> Runner:
        """Return a runner for nested steps: same store and callbacks, records of its own scope."""
        inner = Runner(
            None,
            fresh=self._fresh,
            on_start=self._on_start,
            on_end=self._on_end,
            scope=scope,
            memory=self._memory,
            admit=self._admit,
        )
        inner.records = self.records
        inner.fallbacks = self.fallbacks
        inner._kept = self._kept  # a store that fails in a window has failed for all
        return inner

    def run(self, step: Step[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Answer `step(*args, **kwargs)`, from the store where it is known."""
        self._on_start(step.number, step.name, self._scope)
        started = time.perf_counter()
        with self._memory.stage(step.name) as stage:
            bound = inspect.signature(step.function).bind(*args, **kwargs)
            bound.apply_defaults()
            key = self._key(step, bound.arguments)
            if self._kept.store is not None:
                self._kept.store.maps.evict()  # a digest reads all there is
            value, digest = self._recall(key)
            cached = value is not MISS
            if not cached:
                self._admit(step, bound.arguments)
                value = step(*args, **kwargs)
                self._rest()
                digest = self._commit(key, value)
                value = self._kept_value(digest, value)
        self._rest()
        self._known[id(value)] = (value, digest)
        record = StepRecord(
            step.number,
            step.name,
            self._scope,
            cached,
            time.perf_counter() - started,
            stage.peak_bytes,
            digest,
        )
        self.records.append(record)
        how = "kept" if cached else f"made in {record.seconds:.2f} s"
        place = self._scope or "pipeline"
        _log.info("%s step %d, %s: %s", place, step.number, step.name, how)
        self._on_end(record)
        if self._until == step.number and not self._scope:
            raise UntilReached
        return value  # type: ignore[return-value]  # the key says which step made it

    def _key(self, step: Step[Any, Any], arguments: Mapping[str, object]) -> str:
        shaping = {
            name: self._digest_of(value)
            for name, value in arguments.items()
            if not isinstance(value, Volatile)
        }
        return fingerprint(("step", step.number, step.name, code_digest(), shaping))

    def _digest_of(self, value: object) -> str:
        """Digest of an argument; what this runner answered before has the digest of its content."""
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = [f.name for f in dataclasses.fields(value) if f.compare]
            parts = {name: self._digest_of(getattr(value, name)) for name in fields}
            digest = fingerprint((type(value).__qualname__, parts))
        elif isinstance(value, tuple):
            digest = fingerprint(tuple(self._digest_of(item) for item in value))
        else:
            try:
                digest = fingerprint(value)
            except FingerprintError:  # a frame has the digest of its stored bytes
                digest = _content_digest(value)
        self._known[id(value)] = (value, digest)
        return digest

    def _recall(self, key: str) -> tuple[object, str]:
        store = self._kept.store
        if store is None or self._fresh:
            return MISS, ""
        value = store.get(key)
        return value, "" if value is MISS else store.digest_of(key) or ""

    def _commit(self, key: str, value: object) -> str:
        if self._kept.store is not None:
            try:
                return self._kept.store.put(key, value)
            except (StoreError, OSError) as error:
                self._degrade(f"results are not kept: {error}")
        return _content_digest(value)

    def _kept_value(self, digest: str, value: object) -> object:
        """The value as the store has it: what is large then takes memory only where it is read."""
        if self._kept.store is None:
            return value
        again = self._kept.store.load(digest)
        return value if again is MISS else again

    def _rest(self) -> None:
        """Let go of what the step behind needed."""
        if self._kept.store is not None:
            self._kept.store.maps.evict()
        give_back()

    def _degrade(self, message: str) -> None:
        self._kept.store = None
        self.fallbacks.append(message)
        _log.warning("%s", message)


def _content_digest(value: object) -> str:
    """Digest of the encoded value: the store's, without a store."""
    digest: bytes = encode_parts(value)[-1]
    return digest.hex()
