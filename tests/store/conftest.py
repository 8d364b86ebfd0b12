"""A child process that runs a few lines of Python, with or without a planned fault."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

import pytest

from ares.store.faults import VARIABLE, reset_faults

if TYPE_CHECKING:
    from collections.abc import Iterator


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


@pytest.fixture(autouse=True)
def _no_planned_fault(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(VARIABLE, raising=False)
    reset_faults()
    yield
    reset_faults()
