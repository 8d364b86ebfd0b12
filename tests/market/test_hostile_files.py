"""Files made to hurt are refused clearly, at once, and within a bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import hostile_files

READER = Path(__file__).resolve().parents[1] / "hostile_reader.py"
IMPOSSIBLE_ROWS = {
    "csv: 1e999",
    "csv: a decimal of 60,000 digits",
    "csv: a time of 60,000 digits",
    "csv: an exponent of many digits",
}
"""A check counts an impossible row; a stream gives out rows unchecked, as it says."""
HASHED_PER_SECOND = 200e6
"""An import takes the digest of the whole file first."""


@pytest.mark.parametrize("kind", sorted({name.split(":")[0] for name in hostile_files.HOSTILE}))
def test_hostile_files_are_refused_in_two_seconds_and_200_mb(tmp_path, kind):
    paths = {}
    for number, (name, build) in enumerate(hostile_files.HOSTILE.items()):
        if name.split(":")[0] == kind:
            folder = tmp_path / str(number)
            folder.mkdir()
            paths[name] = build(folder)
    output = tmp_path / "found.json"
    arguments = [f"{name}={path}" for name, path in paths.items()]
    done = subprocess.run(
        [sys.executable, str(READER), str(output), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(output.read_text())
    assert len(found) == 4 * len(paths)
    failures = []
    for case, (outcome, seconds, peak) in found.items():
        name, reader = case.rsplit(" / ", 1)
        wanted = outcome.startswith("refused: ") and str(paths[name]) in outcome
        may_be_read = name in IMPOSSIBLE_ROWS and reader in {"check", "stream"}
        fits = (wanted or may_be_read) and "\n" not in outcome
        hashing = paths[name].stat().st_size / HASHED_PER_SECOND * (reader == "import")
        if not fits or seconds > 2 + hashing or peak > 200e6:
            failures.append(f"{case}: {outcome[:200]} ({seconds:.2f} s, {peak / 1e6:.0f} MB)")
    assert not failures, "\n".join(failures)
