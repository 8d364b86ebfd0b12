"""Compiled kernels are kept outside the installation and never served after an edit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ares

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from ares.kernels import position, simulate
one = np.ones(3)
rates = np.array([np.nan, np.nan, 1.0, 0.5, 0.0, 0.0])
plan = np.array([0, 3, 0, position.NEVER, 0, 0, 1, 15, 1])
none = np.empty(0)
books = (np.empty(7), np.empty(9, dtype=np.int64), np.empty((3, 5)), np.empty((3, 4), dtype=np.int64))
flags, stale = np.array([1, 0, 0], dtype=np.uint8), np.zeros(3, dtype=np.uint8)
time = np.arange(3)
rules = (rates, plan, none.astype(np.int64), none)
simulate.walk((one, one, one, one, time), flags, stale, none, rules, books, np.empty(3))
print(books[2][0, position.T_FEES], position.__file__)
"""


def run(package, cache):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(package)],
        env={"HOME": str(cache), "XDG_CACHE_HOME": str(cache), "PATH": os.environ["PATH"],
             "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    fees, file = done.stdout.split()
    assert file.startswith(str(package))
    return float(fees)


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.slow
@pytest.mark.compiled
def test_an_edit_of_a_kernel_reaches_the_kernels_that_call_it(tmp_path):
    package, cache = tmp_path / "package", tmp_path / "cache"
    source = Path(ares.__file__).parent
    shutil.copytree(source, package / "ares", ignore=shutil.ignore_patterns("__pycache__"))
    before = files(package)
    fees = run(package, cache)
    assert fees > 0
    assert files(package) == before  # an installation that cannot be written to works
    kept = files(cache)
    assert any("simulate.walk" in name for name in kept)
    assert run(package, cache) == fees
    assert files(cache) == kept  # nothing was compiled again
    position = package / "ares" / "kernels" / "position.py"
    text = position.read_text()
    edited = text.replace("fees = book[FEES] + fee\n", "fees = 10.0 * (book[FEES] + fee)\n")
    assert edited != text
    position.write_text(edited)
    assert run(package, cache) == pytest.approx(10 * fees)


@pytest.mark.parametrize("where", ["file", "nowhere"])
def test_without_a_folder_of_its_own_a_process_compiles_into_a_temporary_one(tmp_path, where):
    taken = tmp_path / "file"
    taken.touch()
    base = taken if where == "file" else Path("/proc/nowhere")
    done = subprocess.run(
        [sys.executable, "-c", "import ares.kernels, numba; print(numba.config.CACHE_DIR)"],
        env={"XDG_CACHE_HOME": str(base), "HOME": str(base), "TMPDIR": str(tmp_path),
             "PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "ares-kernels-"))
