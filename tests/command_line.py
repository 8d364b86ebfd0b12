"""Run `ares` as a person would, and small files of bars to run it on."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Done:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON object that it must be."""
        return json.loads(self.out)


Ares = Callable[..., Done]


def call_ares(
    folder: Path,
    *arguments: object,
    home: Path | None = None,
    python: str | Path = sys.executable,
    **environ: str,
) -> Done:
    """Call `ares` in `folder`, in a process and a workspace of its own."""
    # Without compiled bytecode every process would compile Ares anew.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ARES_", "PYTHONDONT"))}
    given = {**clean, "ARES_HOME": str(home or folder / "home"), "COLUMNS": "200", **environ}
    done = subprocess.run(
        [str(python), "-m", "ares.ares_launcher", *map(str, arguments)],
        cwd=folder,
        env=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "Traceback" not in done.stderr + done.stdout
    return Done(done.returncode, done.stdout, done.stderr)


def call_here(folder: Path, *arguments: object, home: Path | None = None, **environ: str) -> Done:
    """The same in this process, which saves the imports: for tests that call often."""
    from typer.testing import CliRunner

    from ares.ares_launcher.app import build_app

    clean = {k: v for k, v in os.environ.items() if not k.startswith("ARES_")}
    given = {**clean, "ARES_HOME": str(home or folder / "home"), "COLUMNS": "200", **environ}
    logger = logging.getLogger("ares")
    before = logger.handlers[:]
    with contextlib.chdir(folder), mock.patch.dict(os.environ, given, clear=True):
        done = CliRunner().invoke(build_app(), [str(a) for a in arguments])
    logger.handlers[:] = before  # a command's warnings are for its own standard error
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


Row = list[Any]
HEADER = "timestamp,open,high,low,close,volume"


def bars(count: int, seed: int = 0) -> list[Row]:
    """Rows of a random walk: time in ms, prices with two decimals."""
    generator = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(generator.normal(0, 1e-3, count)))
    rows: list[Row] = []
    before = 100.0
    for i, price in enumerate(close):
        o, c = round(before, 2), round(float(price), 2)
        high, low = round(max(o, c) + 0.03, 2), round(min(o, c) - 0.03, 2)
        rows.append([1_577_836_800_000 + 60_000 * i, o, high, low, c, 1.5])
        before = price
    return rows


def write_bars(path: Path, rows: list[Row], header: str | None = HEADER) -> Path:
    """Write rows as CSV."""
    lines = [header] if header else []
    lines += [",".join(str(cell) for cell in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path
