"""A download killed at any moment and started again stores the bytes of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from exchange_server import DAY, MINUTE, Exchange, synthetic_bars, tree

START = 1_609_286_400_000  # 2020-12-30: two years, two files
BARS = 3500

pytest.importorskip("ccxt")


@pytest.fixture
def server():
    bars = np.delete(synthetic_bars(BARS, START), np.r_[50:60, 1500:1600], axis=0)
    now = START + BARS * MINUTE + DAY
    with Exchange({("BTCUSDT", "1m"): bars}, now=now, page=150) as running:
        yield running


def begin(home: Path, server: Exchange, source: str, **environ: str) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ARES_")}
    return subprocess.Popen(
        [
            sys.executable, "-m", "ares.ares_launcher", "load", "--symbol", "BTC/USDT",
            "--exchange", "binance", "--timeframe", "1m", "--timerange", "20201201-",
            "--source", source,
        ],
        env={**clean, "ARES_HOME": str(home), "ARES_DATA__BASE_URL": server.url, **environ},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(home: Path, server: Exchange, source: str) -> str:
    out, err = (process := begin(home, server, source)).communicate(timeout=120)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out


def murdered(home: Path, server: Exchange, source: str, kills: int, seed: int) -> int:
    """Start and kill `kills` times; how many of the processes were still at work."""
    dice = random.Random(seed)
    alive = 0
    for _ in range(kills):
        process = begin(home, server, source)
        asked = len(server.requests)
        while len(server.requests) == asked and process.poll() is None:
            time.sleep(0.005)  # imports are not what is tested
        time.sleep(dice.uniform(0.0, 1.5))
        alive += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return alive


@pytest.mark.slow
@pytest.mark.parametrize("source", ["ccxt", "dumps"])
def test_twenty_kills_change_no_byte(tmp_path: Path, server: Exchange, source: str) -> None:
    finish(tmp_path / "clean", server, source)
    server.delay = 0.05
    alive = murdered(tmp_path / "killed", server, source, kills=20, seed=20)
    server.delay = 0.0
    finish(tmp_path / "killed", server, source)
    assert alive > 0
    assert tree(tmp_path / "killed" / "data") == tree(tmp_path / "clean" / "data")
    assert not list((tmp_path / "killed" / ".ares" / "work").glob("*/*"))


@pytest.mark.slow
def test_a_kill_at_every_durability_point_changes_no_byte(tmp_path: Path, server: Exchange) -> None:
    server.page = 3000
    finish(tmp_path / "clean", server, "ccxt")
    points = 0
    for n in range(1, 100):
        process = begin(tmp_path / "killed", server, "ccxt", ARES_FAULT=f"*:{n}:kill")
        process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        points += 1
    assert points > 15
    assert tree(tmp_path / "killed" / "data") == tree(tmp_path / "clean" / "data")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_says_how_to_go_on(tmp_path: Path, server: Exchange, sent: signal.Signals) -> None:
    server.delay = 0.2
    process = begin(tmp_path, server, "ccxt")
    while len(server.requests) < 8 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Run the same command to go on" in err
    assert "Traceback" not in err
    server.delay = 0.0
    assert "3,390 now" in finish(tmp_path, server, "ccxt")
