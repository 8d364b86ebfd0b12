"""What a worker does: chunks of points on problems that it was sent once and keeps.

A task names its problem by the digest of what would have to be sent. A worker that does not hold
the problem answers `Need`, and is asked again with the cargo. It then prepares (indicators, arenas)
once, and keeps the last few problems.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import platform
import sys
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from ares.backtest.user import import_file
from ares.core.environment import code_digest, environment_salt
from ares.core.errors import AresError, InputError
from ares.search.blocks import BlockTable
from ares.search.evaluator import problem_of
from ares.search.objective import Score

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ares.core.types import Float64Array, Int64Array
    from ares.search.evaluator import BacktestEvaluator

MAX_PROBLEMS: Final = 4
"""Problems that a worker keeps; the one used longest ago goes first."""


@dataclass(frozen=True)
class Task:
    """A chunk of points of one problem.

    Attributes:
        digest: Names the problem.
        points: Parameters by name.
        kind: "scores" (`evaluate`) or "returns" (`daily_returns`).
        blocks: As in `Evaluator.evaluate`.
        of: As in `Evaluator.evaluate`.
    """

    digest: str
    points: Sequence[Mapping[str, Any]]
    kind: Literal["scores", "returns"] = "scores"
    blocks: Sequence[int] | None = None
    of: int | None = None

    def run(self, evaluator: BacktestEvaluator) -> Any:
        """The scores, or the array of daily returns, of the points."""
        if self.kind == "returns":
            return evaluator.daily_returns(self.points)
        return evaluator.evaluate(self.points, self.blocks, of=self.of)


@dataclass(frozen=True)
class Need:
    """The worker does not hold the problem of a task."""

    worker: str


@dataclass(frozen=True)
class Answer:
    """What a worker made of a task.

    Attributes:
        value: One entry per point; None where `error` is not.
        error: What the evaluator raised.
        seconds: Of the evaluation alone.
        worker: Who answers.
        salt: The worker's environment salt: kind of processor and code.
        warnings: Logger, level, template and text of what the worker would have logged.
        unloadable: Whether the error is that the cargo cannot be loaded there.
    """

    value: Any = None
    error: Exception | None = None
    seconds: float = 0.0
    worker: str = ""
    salt: str = ""
    warnings: tuple[tuple[str, int, str, str], ...] = ()
    unloadable: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        fields = [getattr(self, f.name) for f in dataclasses.fields(self)]
        return _arrived, (_in_columns(fields[0]), *fields[1:])


@dataclass(frozen=True)
class _ScoreColumns:
    """Scores over the same blocks on their way: one by one they would take ten times as long."""

    n: Int64Array
    measures: Float64Array
    trades: Int64Array
    rest: list[tuple[Any, ...]]

    def scores(self) -> list[Score]:
        """The scores, as they were."""
        results = BlockTable(self.n, self.measures, self.trades).results()
        return [
            Score(value, outcome, blocks, *others)
            for (value, outcome, *others), blocks in zip(self.rest, results, strict=True)
        ]


def _in_columns(value: Any) -> Any:
    """A list of scores as columns, where they share their blocks; anything else as it is."""
    if not (isinstance(value, list) and value and isinstance(value[0], Score)):
        return value
    n = value[0].blocks.n
    if any(score.blocks.n is not n for score in value):
        return value
    table = BlockTable.of([score.blocks for score in value])
    rest = [
        (s.value, s.outcome, s.error, s.stage, s.revealed, s.audit, s.source, s.reason)
        for s in value
    ]
    return _ScoreColumns(n, table.measures, table.trades, rest)


def _arrived(value: Any, *fields: Any) -> Answer:
    return Answer(value.scores() if isinstance(value, _ScoreColumns) else value, *fields)


@dataclass(frozen=True)
class Cargo:
    """A problem, ready to be sent.

    Attributes:
        digest: Of the body.
        body: The evaluator.
        code: Digest of the code of Ares and its libraries that the worker must have, too.
        identity: Of the problem, with the files of a user's strategy; None: it has none.
        objective: File of a user's objective, and the digest of it; None: it has none.
    """

    digest: str
    body: bytes
    code: str
    identity: str | None
    objective: tuple[str, str] | None = None

    @staticmethod
    def of(evaluator: BacktestEvaluator) -> Cargo:
        """Pack an evaluator.

        Raises:
            Exception: whatever its parts raise where they cannot be packed.
        """
        problem = problem_of(evaluator)
        body = packed(evaluator)
        digest = _digest(body)
        if problem is None:
            return Cargo(digest, body, code_digest(), None)
        source = _user_file(problem.objective.statistic)
        objective = None if source is None else (str(source), _digest(source.read_bytes()))
        # A strategy may have remembered something since the problem's identity was taken.
        identity = dataclasses.replace(problem).identity
        return Cargo(digest, body, code_digest(), identity, objective)

    def unpack(self) -> BacktestEvaluator:
        """The evaluator, in the process of a worker.

        Raises:
            InputError: this process runs other code than the one that packed it.
        """
        if code_digest() != self.code:
            raise InputError(
                "workers must have the same versions of Ares, Python and numeric libraries",
                where=f"worker {here()}",
                remedy="Install the same environment there (requirements.lock pins it).",
            )
        if self.objective is not None:
            self._import_objective(Path(self.objective[0]))
        evaluator: BacktestEvaluator = unpacked(self.body)
        problem = problem_of(evaluator)
        if problem is not None and problem.identity != self.identity:
            raise InputError(
                "a strategy must have the same code in every worker",
                value=getattr(problem.strategy, "name", type(problem.strategy).__name__),
                where=f"worker {here()}",
                remedy="Its file, or one that it imports, was changed or is another there.",
            )
        return evaluator

    def _import_objective(self, file: Path) -> None:
        if not file.is_file() or self.objective != (str(file), _digest(file.read_bytes())):
            raise InputError(
                "an objective's file must be the same in every worker",
                where=str(file),
                remedy="Workers on other machines need it at this path.",
            )
        import_file(file)


def _user_file(function: Any) -> Path | None:
    """The file of a user's function that is no importable module's."""
    module = sys.modules.get(getattr(function, "__module__", ""))
    if module is None or not module.__name__.startswith("ares_user_"):
        return None
    return Path(str(module.__file__))


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=20).hexdigest()


@dataclass
class _Shelf:
    """Problems that this process holds; least recently used first out."""

    held: OrderedDict[str, BacktestEvaluator] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, digest: str) -> BacktestEvaluator | None:
        with self.lock:
            if digest in self.held:
                self.held.move_to_end(digest)
            return self.held.get(digest)

    def put(self, digest: str, evaluator: BacktestEvaluator) -> BacktestEvaluator:
        with self.lock:
            kept = self.held.setdefault(digest, evaluator)
            self.held.move_to_end(digest)
            while len(self.held) > MAX_PROBLEMS:
                self.held.popitem(last=False)
            return kept


_shelf: Final = _Shelf()


def packed(value: Any) -> bytes:
    """A value on its way between processes of one search."""
    return bytes(ForkingPickler.dumps(value))


def unpacked(body: bytes) -> Any:
    """Inverse of `packed`."""
    return ForkingPickler.loads(body)


def here() -> str:
    """Name of this process among all workers."""
    return f"{platform.node()}:{os.getpid()}"


def work(task: Task, cargo: Cargo | None = None, name: Callable[[], str] = here) -> Need | Answer:
    """Do a task, in the process of a worker.

    Args:
        task: What is asked.
        cargo: Its problem; None where the worker is believed to hold it.
        name: Tells who this worker is.
    """
    evaluator = _shelf.get(task.digest)
    if evaluator is None and cargo is None:
        return Need(name())
    with _Listening() as heard:
        if evaluator is None and cargo is not None:
            try:
                evaluator = _shelf.put(task.digest, cargo.unpack())
            except Exception as error:  # noqa: BLE001  # classes that this process cannot import
                known = isinstance(error, AresError)
                return Answer(error=_sendable(error), worker=name(), unloadable=not known)
        done = answer(task, evaluator, name())
    return Answer(
        done.value, done.error, done.seconds, done.worker, environment_salt(), tuple(heard.records)
    )


def answer(task: Task, evaluator: Any, worker: str = "") -> Answer:
    """Do a task with an evaluator at hand; what it raises becomes a part of the answer."""
    begun = time.perf_counter()
    try:
        value, error = task.run(evaluator), None
    except Exception as raised:  # noqa: BLE001  # it is raised again where the task came from
        value, error = None, raised if not worker else _sendable(raised)
    return Answer(value, error, time.perf_counter() - begun, worker)


def _sendable(error: Exception) -> Exception:
    """The error, or what it says, where it cannot travel."""
    try:
        unpacked(packed(error))
    except Exception:  # noqa: BLE001  # exceptions of users may refuse in any way
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _Listening(logging.Handler):
    """Keeps the warnings of this thread: the parent says them, once for all workers."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[tuple[str, int, str, str]] = []
        self._thread = threading.get_ident()

    def __enter__(self) -> Self:
        logger = logging.getLogger("ares")
        logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("ares").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what it says; objects of a record need not travel."""
        if record.thread == self._thread:
            said = (record.name, record.levelno, str(record.msg), record.getMessage())
            self.records.append(said)
