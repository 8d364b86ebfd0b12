"""Mutated files of bars: each is read as a naive reader reads it, or is a clear error."""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "fuzz_files.py"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
LAWS = os.environ.get("HYPOTHESIS_PROFILE") == "laws"
CASES = 10_000 if LAWS else 240
BATCH = 1000 if LAWS else 240


def cases(tmp_path, first):
    """Outcome of each case of one batch, run in a process of its own: a crash is seen, too."""
    output = tmp_path / f"{first}.jsonl"
    command = [sys.executable, str(SCRIPT), str(output), str(first), str(BATCH)]
    command += [str(SHARED)] if SHARED.is_dir() else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert done.returncode == 0, (done.returncode, lines[-1], done.stderr[-2000:])
    return [line for line in lines if "outcome" in line]


@pytest.mark.laws
@pytest.mark.timeout(7200 if LAWS else 600)
def test_a_mutated_file_is_read_as_a_naive_reader_reads_it_or_refused(tmp_path):
    found = [case for first in range(0, CASES, BATCH) for case in cases(tmp_path, first)]
    assert len(found) == CASES
    wrong = [case for case in found if case["outcome"] not in {"equal", "refused", "unknown"}]
    assert not wrong, wrong[:5]
    counted = collections.Counter((case["kind"], case["outcome"]) for case in found)
    print(sorted(counted.items()))
    for kind in ("csv", "gz", "parquet", "feather"):
        total = sum(n for (k, _), n in counted.items() if k == kind)
        assert counted[kind, "equal"] > 0.1 * total, counted  # most must not be refused for nothing
        assert counted[kind, "unknown"] < 0.05 * total, counted
