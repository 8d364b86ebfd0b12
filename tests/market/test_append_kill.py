"""An append that was killed and is started again leaves the bytes of one that was not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ares.market.stored.datasets import import_files
from ares.store.workspace import Workspace
from exchange_server import synthetic_bars, tree

START = 1_609_286_400_000  # 2020-12-30, so that years meet
BARS = 6000
MARKET = {"symbol": "BTCUSD", "exchange": "bitfinex", "timeframe": "1m"}
CHILD = """
import sys
from pathlib import Path
from ares.market.stored.datasets import import_files
from ares.store.workspace import Workspace
import_files(Workspace(Path(sys.argv[1])), sys.argv[2:], symbol="BTCUSD", exchange="bitfinex",
             timeframe="1m")
"""


def csv_of(path: Path, first: int, stop: int, *, revised: bool = False) -> Path:
    rows = synthetic_bars(BARS, START)[first:stop]
    if revised:
        rows[::100, 5] += 1.0
        rows[50, 3] = 1.0  # a bad print
    lines = [",".join([str(int(row[0])), *map(repr, row[1:].tolist())]) for row in rows]
    if revised:
        lines[70], lines[500] = lines[500], lines[70]
    path.write_text("timestamp,open,high,low,close,volume\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, list[Path]]:
    """A workspace with two thirds of the bars, and files that revise some and add the rest."""
    home = tmp_path / "home"
    import_files(Workspace(home), csv_of(tmp_path / "a.csv", 0, 3000), **MARKET)
    return home, [
        csv_of(tmp_path / "b.csv", 2700, 4500, revised=True),
        csv_of(tmp_path / "c.csv", 4500, BARS),
    ]


def append(home: Path, files: list[Path], **environ: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(home), *map(str, files)],
        env={**os.environ, **environ}, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.slow
def test_a_kill_at_every_durability_point_of_an_append_changes_no_byte(
    tmp_path: Path, parts: tuple[Path, list[Path]]
) -> None:
    home, files = parts
    clean = shutil.copytree(home, tmp_path / "clean")
    import_files(Workspace(clean), files, **MARKET)
    points = 0
    for n in range(1, 200):
        killed = shutil.copytree(home, tmp_path / "killed", dirs_exist_ok=False)
        with append(killed, files, ARES_FAULT=f"*:{n}:kill") as process:
            process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        points += 1
        import_files(Workspace(killed), files, **MARKET)
        assert tree(killed) == tree(clean), n
        assert not list(killed.rglob(".ares-tmp-*")), n
        shutil.rmtree(killed)
    assert points > 15


def test_two_appends_at_once_end_as_one_after_the_other(
    tmp_path: Path, parts: tuple[Path, list[Path]]
) -> None:
    home, (second, third) = parts
    expected = []
    for name, order in (("bc", (second, third)), ("cb", (third, second))):
        one = shutil.copytree(home, tmp_path / name)
        for file in order:
            import_files(Workspace(one), file, **MARKET)
        expected.append(tree(one))
    with append(home, [second]) as first, append(home, [third]) as other:
        assert [process.wait(timeout=120) for process in (first, other)] == [0, 0]
    assert tree(home) in expected
