"""`ares` in a process of its own, in a workspace of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import Ares, Done, bars, write_bars


@pytest.fixture
def ares(tmp_path: Path) -> Ares:
    """Call `ares` with arguments; files are looked for in the test's folder."""

    def call(*arguments: object, home: Path | None = None, **environ: str) -> Done:
        # Without compiled bytecode every process would compile Ares anew.
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("ARES_", "PYTHONDONT"))}
        given = {**clean, "ARES_HOME": str(home or tmp_path / "home"), "COLUMNS": "200", **environ}
        done = subprocess.run(
            [sys.executable, "-m", "ares.ares_launcher", *map(str, arguments)],
            cwd=tmp_path,
            env=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert "Traceback" not in done.stderr + done.stdout
        return Done(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def minute_csv(tmp_path: Path) -> Path:
    """Two days of minute bars with a header."""
    return write_bars(tmp_path / "bars.csv", bars(2880))
