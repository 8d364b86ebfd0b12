"""The end of the process that started the workers, by SIGKILL and by Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import risky_strategies

TESTS = Path(risky_strategies.__file__).parent


def started(workers):
    """A process in the middle of its work, and its workers."""
    process = subprocess.Popen(
        [sys.executable, risky_strategies.__file__, workers],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )  # fmt: skip
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert pids or workers == "threads", process.communicate()[1]
    children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert set(pids) <= set(children)
    time.sleep(0.3)
    return process, children


def alive(pids):
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def left_after(seconds, pids):
    deadline = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive(pids)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["processes", "dask"])
def test_a_killed_parent_leaves_no_worker_behind(workers):
    process, children = started(workers)
    process.kill()
    process.communicate()
    assert left_after(5, children) == []


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["threads", "processes", "dask"])
def test_ctrl_c_ends_quickly_without_a_word_from_the_workers(workers):
    process, children = started(workers)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    begun = time.monotonic()
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - begun < 5
    assert process.returncode == 130
    assert said == ""
    assert left_after(5, children) == []
