"""Chunks of points to workers and back: pace, missing data, and workers that die."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Protocol, TypeAlias

from ares.core.errors import AresError
from ares.search.workers.worker import Answer, Need, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable

    from ares.search.workers.worker import Task

Fate: TypeAlias = Literal["died", "lost", "refused"]
"""What the error of a task means: its worker died and the crew goes on; the crew is gone, maybe
killed by what it did; or the crew cannot work, and nothing was killed."""

CHUNK_SECONDS: Final = 0.25
"""What a chunk should take in another process."""
_FIRST_CHUNK: Final = 8
_PIECES: Final = 16
"""A chunk whose worker died is cut into so many: tasks are cheaper than new workers."""
_POINT_DEATHS: Final = 3
_MAX_DEATHS_IN_A_ROW: Final = 60
_SILENCE: Final = 5.0
_SHARED_SECONDS: Final = 0.5
"""What a chunk should take at most in this process: long ones would keep Ctrl-C waiting."""


class Crew(Protocol):
    """Where chunks run."""

    @property
    def size(self) -> int:
        """Chunks that run at one time."""

    @property
    def shared(self) -> bool:
        """Whether the workers share this memory."""

    @property
    def blames(self) -> bool:
        """Whether a death names the chunk that ran; else accused chunks run one by one, alone."""

    def submit(self, task: Task, *, carry: bool, worker: str) -> Future[Any]:
        """Start a task; with its data, where `carry`, and then at `worker`, if that can be chosen.

        It answers `Need` or `Answer`, maybe packed.
        """

    def fate(self, error: BaseException) -> Fate:
        """What an error of a task, or of submitting one, means."""

    def check(self) -> None:
        """Called where nothing was heard for a while; raises where nothing can come any more."""


class CrewLostError(Exception):
    """The crew as a whole is of no use any more.

    Attributes:
        died: Whether a worker may have been killed by what it did.
    """

    def __init__(self, error: BaseException, *, died: bool) -> None:
        super().__init__(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        self.died = died


class CannotLoadError(Exception):
    """Workers cannot load the problem."""


@dataclasses.dataclass
class Pace:
    """Seconds per point, as measured so far."""

    points: int = 0
    seconds: float = 0.0

    def note(self, points: int, seconds: float) -> None:
        """Count a chunk; what is long ago counts less."""
        self.points = self.points // 2 + points
        self.seconds = self.seconds / 2 + seconds

    def size(self, target: float) -> int:
        """Points that take `target` seconds."""
        if not self.points:
            return _FIRST_CHUNK
        return max(1, int(target / max(self.seconds / self.points, 1e-9)))


@dataclasses.dataclass
class _Chunk:
    first: int
    stop: int
    deaths: int = 0
    carries_to: str | None = None

    def pieces(self) -> list[_Chunk]:
        """Parts to run apart; each takes along that it died once."""
        count = min(self.stop - self.first, _PIECES)
        borders = [self.first + (self.stop - self.first) * i // count for i in range(count + 1)]
        return [_Chunk(*pair, deaths=1) for pair in itertools.pairwise(borders)]


class Dispatch:
    """One batch of points on its way; the results do not depend on chunks, crew or order.

    Args:
        task: What is asked, with all points.
        crew: Where it runs; `run` may be called again with another crew after a `CrewLostError`.
        pace: What is known about the time of such points; it is kept up to date.
        target: Seconds that a chunk should take.
        hear: Called with every answer.
    """

    def __init__(
        self,
        task: Task,
        crew: Crew,
        pace: Pace,
        *,
        target: float = CHUNK_SECONDS,
        hear: Callable[[Answer], None] = lambda _: None,
    ) -> None:
        self.crew = crew
        self.chunks = 0
        self.dead: list[int] = []
        self._task = task
        self._pace = pace
        self._target = target
        self._hear = hear
        self._values: dict[int, Any] = {}
        self._next = self._round_ends = self._share = 0
        self._again: deque[_Chunk] = deque()
        self._accused: deque[_Chunk] = deque()
        self._flying: dict[Future[Any], _Chunk] = {}
        self._errors: dict[int, Exception] = {}
        self._lacking: dict[str, None] = {}
        self._answered = pace.points > 0  # they hold the data since the last batch
        self._deaths = 0

    @property
    def suspected(self) -> bool:
        """Whether something of what remains may have killed a worker."""
        return any(chunk.deaths for chunk in (*self._accused, *self._again))

    def run(self) -> list[tuple[int, Any]]:
        """Values of chunks with the place of their first point, in order; `dead` has none.

        Raises:
            CrewLostError: the crew is gone; what was in the air is kept for another.
            CannotLoadError: the workers cannot load the problem.
            Exception: what the evaluator raised at the first point that made it raise.
        """
        try:
            while self._fill():
                done, _ = wait(self._flying, _SILENCE, return_when=FIRST_COMPLETED)
                if not done:
                    self._check()
                for future in sorted(done, key=lambda f: self._flying[f].first):
                    self._land(future, self._flying[future])
                    del self._flying[future]
        except BaseException:
            for future in self._flying:
                future.cancel()
            raise
        if self._errors:
            raise self._errors[min(self._errors)]
        return sorted(self._values.items())

    def _fill(self) -> bool:
        """Keep the crew busy; whether anything is in the air."""
        # Until someone answered, more than one chunk a worker would only ask for the same data.
        limit = self.crew.size * (2 if self._answered else 1)
        while len(self._flying) < limit and not self._errors:
            chunk = self._choose()
            if chunk is None:
                break
            task = dataclasses.replace(
                self._task, points=self._task.points[chunk.first : chunk.stop]
            )
            carry = chunk.carries_to is not None
            try:
                future = self.crew.submit(task, carry=carry, worker=chunk.carries_to or "")
            except Exception as error:  # noqa: BLE001  # pools break in many ways
                self._lose(error, chunk)
            self._flying[future] = chunk
            self.chunks += 1
        return bool(self._flying)

    def _choose(self) -> _Chunk | None:
        if self._again:
            if self._lacking:
                chunk = self._again.popleft()
                chunk.carries_to = self._lacking.popitem()[0]
                return chunk
            if self._answered or not self._flying:
                return self._again.popleft()
            return None
        total = len(self._task.points)
        if self._next < total:
            chunk = _Chunk(self._next, min(total, self._next + self._size(total)))
            self._next = chunk.stop
            return chunk
        if self._accused and (self.crew.blames or not self._flying):
            return self._accused.popleft()
        return None

    def _size(self, total: int) -> int:
        """Points of the next chunk: even shares, in as few rounds as the pace allows.

        A point of a larger chunk costs less, so smaller ones near the end would not pay.
        """
        if self.crew.shared and self.crew.size == 1:
            return total
        if self._next >= self._round_ends:
            left = total - self._next
            most = left
            if self._pace.points or not self.crew.shared:
                most = self._pace.size(_SHARED_SECONDS if self.crew.shared else self._target)
            rounds = math.ceil(left / (self.crew.size * most))
            self._share = math.ceil(left / (self.crew.size * rounds))
            self._share = min(self._share, most)
            self._round_ends = self._next + self._share * self.crew.size
        return self._share

    def _land(self, future: Future[Any], chunk: _Chunk) -> None:
        try:
            found = future.result()
            answer: Need | Answer = unpacked(found) if isinstance(found, bytes) else found
        except Exception as error:  # noqa: BLE001  # pools break in many ways
            if self.crew.fate(error) != "died":
                self._lose(error, chunk)
            self._mourn(chunk)
            return
        if isinstance(answer, Need):
            if all(c.carries_to != answer.worker for c in self._flying.values()):
                self._lacking[answer.worker] = None
            chunk.carries_to = None
            self._again.append(chunk)
            return
        if answer.unloadable:
            raise CannotLoadError(f"{type(answer.error).__name__}: {answer.error}")
        self._answered, self._deaths = True, 0
        if answer.error is not None:
            self._errors[chunk.first] = answer.error
            return
        self._pace.note(chunk.stop - chunk.first, answer.seconds)
        self._values[chunk.first] = answer.value
        self._hear(answer)

    def _check(self) -> None:
        try:
            self.crew.check()
        except Exception as error:  # noqa: BLE001  # pools break in many ways
            self._lose(error, None)

    def _mourn(self, chunk: _Chunk) -> None:
        """A worker died over this chunk: again, in pieces; a point that kills has no value."""
        self._deaths += 1
        if self._deaths > _MAX_DEATHS_IN_A_ROW:
            raise AresError(
                "workers must live long enough to answer",
                value=f"{self._deaths} died one after the other",
                remedy="Look for what kills them: memory (dmesg), or a crash in the strategy.",
            )
        chunk.deaths += 1
        chunk.carries_to = None
        if chunk.stop - chunk.first > 1:
            self._accused.extend(chunk.pieces())
        elif chunk.deaths < _POINT_DEATHS:
            self._accused.append(chunk)
        else:
            self.dead.append(chunk.first)

    def _lose(self, error: BaseException, chunk: _Chunk | None) -> NoReturn:
        """Give up this crew; whatever is in the air goes back."""
        died = self.crew.fate(error) == "lost"
        air = list(self._flying.values())
        if chunk is not None and chunk not in air:
            air.append(chunk)
        for future in self._flying:
            future.cancel()
        self._flying, self._lacking, self._answered = {}, {}, False
        for lost in air:
            lost.carries_to = None
            lost.deaths = max(lost.deaths, int(died))
            (self._accused if lost.deaths else self._again).append(lost)
        raise CrewLostError(error, died=died) from error
