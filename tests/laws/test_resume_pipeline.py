"""A run that is killed goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from small_runs import artifacts, difference, only_run, train_apart

if TYPE_CHECKING:
    from pathlib import Path

    from small_runs import Finished

pytestmark = [pytest.mark.slow, pytest.mark.laws]


def test_three_kills_and_a_last_run_make_the_uninterrupted_artifacts(
    finished: Finished, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    for kill in ("5", "12", "7@window 1"):
        done = train_apart(home, finished.csv, f"--kill={kill}")
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not list((home / "runs").glob("*"))
    done = train_apart(home, finished.csv)
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout)["steps"]
    assert not difference(artifacts(finished.run_dir), artifacts(only_run(home)))
    remembered = {(scope, number) for scope, number, cached in steps if cached}
    assert {("", n) for n in range(1, 13)} <= remembered
    assert {("window 0", n) for n in range(2, 13)} <= remembered
    assert ("window 1", 6) in remembered
    assert ("window 1", 7) not in remembered
    assert not list((home / ".ares" / "work").glob("*/*"))  # nothing is left unfinished


@pytest.mark.parametrize(
    "fault",
    [
        "write.synced:40:kill",  # while a result is committed, about step 9
        "publish.synced:1:kill",  # before the folder gets its name
        "publish.renamed:1:kill",  # after it
    ],
)
def test_a_kill_inside_a_commit_leaves_whole_runs_only(
    finished: Finished, tmp_path: Path, fault: str
) -> None:
    home = tmp_path / "home"
    done = train_apart(home, finished.csv, environ={"ARES_FAULT": fault})
    assert done.returncode == -signal.SIGKILL, done.stderr
    done = train_apart(home, finished.csv)
    assert done.returncode == 0, done.stderr
    runs = [path for path in (home / "runs").iterdir() if path.is_dir()]
    assert len(runs) == (2 if fault.startswith("publish.renamed") else 1)
    for run_dir in runs:
        assert not difference(artifacts(finished.run_dir), artifacts(run_dir))
