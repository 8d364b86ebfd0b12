"""Full disks, folders that cannot be written, odd names and links: R9 and R24, really done."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from command_line import call_ares
from small_runs import artifacts, difference, only_run, train_apart

if TYPE_CHECKING:
    from collections.abc import Iterator

    from small_runs import Finished

_TESTS = Path(__file__).parents[1]
_LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = [sys.argv[2], *sys.argv[3:]]
sys.path.insert(0, {tests!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def train_limited(home: Path, csv: Path, limit: int) -> subprocess.CompletedProcess[str]:
    """Train where no file may grow beyond `limit` bytes."""
    script = _LIMITED.format(tests=str(_TESTS))
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ARES_", "COV"))}
    return subprocess.run(
        [sys.executable, "-c", script, str(limit), str(_TESTS / "small_runs.py"), home, csv],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=inherited,
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of three megabytes, where the machine lets one be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only the superuser mounts disks")
    made = [mount, "-t", "tmpfs", "-o", "size=3m", "none", str(folder)]
    if subprocess.run(made, capture_output=True, check=False).returncode:
        pytest.skip("this machine mounts no disks")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_stops_a_run_cleanly_and_with_space_it_goes_on(
    finished: Finished, small_disk: Path
) -> None:
    """R9: nothing half written is taken for whole."""
    home = small_disk / "home"
    first = train_apart(home, finished.csv)
    assert first.returncode != 0
    assert "No space left on device" in first.stderr or "disk is full" in first.stderr
    assert "StoreError" in first.stderr
    assert "Free space" in first.stderr
    assert not list((home / "runs").glob("*")) if (home / "runs").exists() else True
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    second = train_apart(home, finished.csv)
    assert second.returncode == 0, second.stderr
    assert difference(artifacts(only_run(home)), artifacts(finished.run_dir)) == []


@pytest.mark.slow
def test_a_cache_that_cannot_grow_is_one_warning_and_the_run_goes_on(
    finished: Finished, tmp_path: Path, small_disk: Path
) -> None:
    """R9: step results are a cache, and are done without. Here they alone lie on a full disk."""
    home = tmp_path / "home"
    (home / ".ares").mkdir(parents=True)
    (home / ".ares" / "store").symlink_to(small_disk, target_is_directory=True)
    subprocess.run(["mount", "-o", "remount,size=300k", str(small_disk)], check=True)
    done = train_apart(home, finished.csv)
    assert done.returncode == 0, done.stderr
    told = json.loads((only_run(home) / "run_info.json").read_text())["fallbacks"]
    assert sum(note.startswith("results are not kept") for note in told) == 1
    assert difference(artifacts(only_run(home)), artifacts(finished.run_dir)) == []


@pytest.mark.slow
def test_a_run_that_cannot_be_published_stops_cleanly_and_is_published_later(
    finished: Finished, tmp_path: Path
) -> None:
    """R9: the ledger or a file of the run does not fit."""
    home = tmp_path / "home"
    done = train_limited(home, finished.csv, 20_000)
    assert done.returncode != 0
    assert "StoreError" in done.stderr
    assert "Free space" in done.stderr
    assert not [path for path in (home / "runs").glob("*") if path.is_dir()]
    again = train_apart(home, finished.csv)
    assert again.returncode == 0, again.stderr
    assert difference(artifacts(only_run(home)), artifacts(finished.run_dir)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["with some spaces", "übergröße-データ-🐎", "-starts 'odd\" & $(x)"]
)
def test_a_workspace_may_have_any_name(finished: Finished, tmp_path: Path, name: str) -> None:
    """R24."""
    folder = tmp_path / name
    folder.mkdir()
    csv = shutil.copy(finished.csv, folder / f"{name}.csv")
    done = train_apart(folder / "home", Path(csv))
    assert done.returncode == 0, done.stderr
    assert difference(artifacts(only_run(folder / "home")), artifacts(finished.run_dir)) == []
    shown = call_ares(folder, "runs", "list", home=folder / "home")
    assert shown.code == 0
    assert only_run(folder / "home").name in shown.out


@pytest.mark.slow
def test_a_workspace_may_be_a_link(finished: Finished, tmp_path: Path) -> None:
    """R24."""
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real", target_is_directory=True)
    done = train_apart(tmp_path / "linked", finished.csv)
    assert done.returncode == 0, done.stderr
    assert difference(artifacts(only_run(tmp_path / "real")), artifacts(finished.run_dir)) == []


def test_a_file_is_no_workspace_and_a_link_to_nowhere_is_followed(tmp_path: Path) -> None:
    """R24."""
    (tmp_path / "file").write_text("no folder")
    done = call_ares(tmp_path, "train", "--until", "1", home=tmp_path / "file")
    assert done.code == 2, done.err
    assert str(tmp_path / "file") in done.err
    assert (tmp_path / "file").read_text() == "no folder"
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent" / "deeper", target_is_directory=True)
    done = call_ares(tmp_path, "train", "--until", "1", home=tmp_path / "nowhere")
    assert done.code == 0, done.err
    assert (tmp_path / "absent" / "deeper" / ".ares" / "store").is_dir()


def test_a_missing_data_file_and_a_missing_run_are_named(tmp_path: Path) -> None:
    """R24."""
    absent = tmp_path / "no such file.csv"
    done = call_ares(tmp_path, "train", "--data", absent)
    assert done.code == 2
    assert "no such file.csv" in done.err
    shown = call_ares(tmp_path, "runs", "show", "absent-run")
    assert shown.code == 2
    assert "absent-run" in shown.err


def test_a_workspace_that_cannot_be_written_says_so(finished: Finished, tmp_path: Path) -> None:
    """R24: read-only, in a mount of its own, since the superuser writes everywhere else."""
    unshare = shutil.which("unshare")
    home = tmp_path / "home"
    home.mkdir()
    command = [
        sys.executable, "-m", "ares.ares_launcher", "train", "--data", str(finished.csv),
        "--symbol", "IXIC", "--exchange", "nasdaq", "--timeframe", "1d", "--home", str(home),
    ]  # fmt: skip
    if os.geteuid() == 0:
        if unshare is None:
            pytest.skip("no mount of its own here")
        bind = f"mount --bind '{home}' '{home}' && mount -o remount,ro,bind '{home}' && exec \"$@\""
        command = [unshare, "-m", "sh", "-c", bind, "sh", *command]
    else:
        home.chmod(0o555)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no read-only mount here: {done.stderr}")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "must be writable" in done.stderr
    assert str(home) in done.stderr
    assert list(home.iterdir()) == []
