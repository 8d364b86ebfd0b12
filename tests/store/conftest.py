"""Child processes that run a few lines of Python, with or without a planned crash."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

import pytest

from ares.store.faults import VARIABLE, reset_faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class Child(Protocol):
    def __call__(
        self, code: str, *arguments: object, fault: str = "", **environ: str
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def child() -> Child:
    """Run `code` to its end in a process of its own; `arguments` are its sys.argv[1:]."""

    def run(
        code: str, *arguments: object, fault: str = "", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
            env={**os.environ, VARIABLE: fault, **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


# Forks once per folder, so that the imports are paid for once.
CRASHES = """
import json, os, sys
code, variable, folders = sys.argv[1], sys.argv[2], sys.argv[3:]
import ares.store, ares.store.runs
results = []
for n, folder in enumerate(folders, 1):
    process = os.fork()
    if process == 0:
        os.environ[variable] = f"*:{n}:kill"
        sys.argv = ["crash", folder]
        exec(code)
        os._exit(0)
    results.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
print(json.dumps(results))
"""


class Crashes(Protocol):
    def __call__(self, code: str, folders: Sequence[Path]) -> int: ...


@pytest.fixture
def crashes(child: Child) -> Crashes:
    """Run `code` once per folder (its sys.argv[1]) and kill it at point 1, 2, 3, ...

    Returns how many points there were; the runs after the last point ended well.
    """

    def run(code: str, folders: Sequence[Path]) -> int:
        done = child(CRASHES, code, VARIABLE, *folders, OPENBLAS_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        codes = json.loads(done.stdout)
        points = codes.count(-signal.SIGKILL)
        assert points < len(folders), "there are more points than folders"
        assert codes == [-signal.SIGKILL] * points + [0] * (len(folders) - points), done.stderr
        return points

    return run


class _Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (self.path, "w"))


@pytest.fixture
def bomb(tmp_path: Path) -> Iterator[bytes]:
    """A pickle that makes a file when it is loaded; at the end that file must not be there."""
    canary = tmp_path / "canary"
    yield pickle.dumps(_Bomb(str(canary)))
    assert not canary.exists()


@pytest.fixture(autouse=True)
def _no_planned_fault(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(VARIABLE, raising=False)
    reset_faults()
    yield
    reset_faults()
