"""R16: nothing lies in /dev/shm, so it may be small or absent."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_SHM = Path("/dev/shm")


def command(home: Path, trials: int) -> list[str]:
    return [
        sys.executable, "-m", "ares.ares_launcher", "optimize", "--home", str(home), "-j", "2",
        "--engine", "processes", "--trials", str(trials),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("size", ["size=64m", "ro,size=4k"])
def test_a_search_in_processes_needs_no_shared_memory(tmp_path: Path, size: str) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("no mount of its own here")
    mount = f'mount -t tmpfs -o {size} none /dev/shm && "$@" && echo LEFT: && ls -A /dev/shm'
    done = subprocess.run(
        [unshare, "-m", "sh", "-c", mount, "sh", *command(tmp_path / "home", 32)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount of its own here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert "32 points" in done.stdout
    assert "run serially" not in done.stdout + done.stderr
    assert "ares" not in done.stdout.partition("LEFT:")[2]


@pytest.mark.slow
@pytest.mark.skipif(not _SHM.is_dir(), reason="this system has no /dev/shm")
def test_a_killed_search_leaves_nothing_in_shared_memory(tmp_path: Path) -> None:
    before = {path.name for path in _SHM.iterdir()}
    running = subprocess.Popen(
        command(tmp_path / "home", 4096),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        work = tmp_path / "home" / ".ares" / "work"
        until = time.monotonic() + 120
        while not list(work.rglob("*.sqlite")) and time.monotonic() < until:
            assert running.poll() is None
            time.sleep(0.2)
        time.sleep(2.0)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    left = {path.name for path in _SHM.iterdir()} - before
    assert not [name for name in left if name.startswith("ares")]
