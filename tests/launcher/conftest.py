"""`ares` in a process of its own, in a workspace of its own."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from command_line import Ares, bars, call_ares, call_here, write_bars


@pytest.fixture
def ares(tmp_path: Path) -> Ares:
    """Call `ares` with arguments; files are looked for in the test's folder."""

    return functools.partial(call_ares, tmp_path)


@pytest.fixture
def ares_here(tmp_path: Path) -> Ares:
    """The same without a process of its own."""
    return functools.partial(call_here, tmp_path)


@pytest.fixture
def minute_csv(tmp_path: Path) -> Path:
    """Two days of minute bars with a header."""
    return write_bars(tmp_path / "bars.csv", bars(2880))
