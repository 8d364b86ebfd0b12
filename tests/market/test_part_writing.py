"""Parts are written while rows come: any cut gives the same bytes, and a failure leaves nothing."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.market.raw import COLUMNS
from ares.market.stored import partwriting
from ares.market.stored.parts import read_part
from ares.market.stored.partwriting import PartWriter

HOUR = 3_600 * 10**9
NEW_YEAR = 1_609_459_200 * 10**9
GROUP = 40


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setattr(partwriting, "_GROUP", GROUP)
    monkeypatch.setattr(partwriting, "_MOST", GROUP + GROUP // 2)


def bars(rows, *, before=0, seed=0):
    """Hourly bars, some of them before New Year."""
    generator = np.random.default_rng(seed)
    times = NEW_YEAR + HOUR * np.arange(-before, rows - before)
    return {"timestamp": times} | {name: generator.random(rows) for name in COLUMNS[1:]}


def cut(columns, start, stop):
    return {name: column[start:stop] for name, column in columns.items()}


def written(folder, columns, edges, known=()):
    with PartWriter(folder) as writer:
        for part, content in known:
            writer.expect(part, content)
        for start, stop in zip([0, *edges], [*edges, len(columns["timestamp"])], strict=True):
            writer.add(cut(columns, start, stop))
        return writer.finish()


@given(st.integers(1, 400), st.integers(0, 200), st.data())
def test_any_cut_gives_the_same_files(rows, before, data):
    before = min(before, rows)
    columns = bars(rows, before=before)
    edges = sorted(data.draw(st.lists(st.integers(0, rows), max_size=8)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = written(folder, columns, edges)
        assert parts == written(folder, columns, [])
        assert [part.rows for part in parts] == [n for n in (before, rows - before) if n]
        assert sorted(part.file for part in parts) == sorted(p.name for p in folder.iterdir())
        start = 0
        for part in parts:
            found = read_part(folder, part, COLUMNS)
            for column in COLUMNS:
                wanted = columns[column][start : start + part.rows]
                assert found[column].tobytes() == wanted.tobytes()
            assert (part.first, part.last) == (found["timestamp"][0], found["timestamp"][-1])
            footer = pq.read_metadata(folder / part.file)
            groups = [footer.row_group(n).num_rows for n in range(footer.num_row_groups)]
            assert set(groups[:-1]) <= {GROUP}
            assert groups[-1] < 1.5 * GROUP
            assert len(groups) == 1 or groups[-1] >= GROUP // 2
            start += part.rows


@given(st.integers(1, 300), st.sampled_from(["same", "changed", "longer", "shorter"]), st.data())
def test_an_expected_file_is_kept_if_it_holds_these_very_bars(rows, kind, data):
    columns = bars(rows)
    edges = sorted(data.draw(st.lists(st.integers(0, rows), max_size=6)))
    other = {name: column.copy() for name, column in columns.items()}
    if kind == "changed":
        other[data.draw(st.sampled_from(COLUMNS[1:]))][data.draw(st.integers(0, rows - 1))] += 1
    elif kind == "longer":
        other = bars(rows + 1)
    elif kind == "shorter":
        other = cut(other, 0, rows - 1)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        fresh = written(Path(one), columns, [])
        known = written(Path(two), other, [])
        for path in Path(two).iterdir():
            path.chmod(0o400)
        found = written(
            Path(two), columns, edges, list(zip(known, [other] * len(known), strict=True))
        )
        assert found == fresh
        assert (found == known) == (kind == "same")
        assert read_part(Path(two), found[0], COLUMNS).keys() == set(COLUMNS)


def on_a_small_disk(folder, rows, script):
    """What a program says that writes `rows` bars into `folder` under a limit that it sets itself."""
    preamble = f"""
import gc, resource, signal
from pathlib import Path
import numpy as np
from ares.core.errors import StoreError
from ares.market.checking.door import Times
from ares.market.raw import COLUMNS
from ares.market.stored.partwriting import PartWriter
from ares.market.stored.scratch import TimesFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, rows = Path({str(folder)!r}), {rows}
random = np.random.default_rng(0).random(rows)
columns = dict(timestamp=60 * 10**9 * np.arange(rows), **dict.fromkeys(COLUMNS[1:], random))

def allow(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", preamble + script],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("limit", [1_000, 2_500_000, 4_000_000])
def test_a_full_disk_is_one_clear_error_and_nothing_is_left(tmp_path, limit):
    script = f"""
allow({limit})
try:
    with PartWriter(folder) as writer:
        for start in range(0, rows, 50_000):
            writer.add({{name: c[start : start + 50_000] for name, c in columns.items()}})
        writer.finish()
except StoreError as error:
    print(error)
del writer
gc.collect()
"""
    told = on_a_small_disk(tmp_path, 400_000, script)
    assert "the disk must be writable; got 'File too large'" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("short", [1, 100, 4_000])
def test_a_disk_that_is_full_at_the_last_bytes_is_the_same_error(tmp_path, short):
    script = f"""
def write():
    with PartWriter(folder) as writer:
        writer.add(columns)
        (part,) = writer.finish()
    path = folder / part.file
    size = path.stat().st_size
    path.unlink()
    return size

def times():
    with TimesFile(folder) as file:
        file.add(Times(np.arange(520), np.arange(520)))
        return sum(len(piece.kept) for piece in file.pieces())

size = write()
assert times() == 520
for limit, work in ((size - {short}, write), (4_160 - {short}, times)):
    allow(limit)
    try:
        work()
    except StoreError:
        assert not list(folder.iterdir())
    else:
        raise AssertionError("no error")
"""
    on_a_small_disk(tmp_path, 100_000, script)


def test_years_wait_for_a_slow_disk(tmp_path, monkeypatch):
    taken = []
    publish = partwriting.GroupedFile.publish
    may_go = threading.Event()

    def slow(self, stem):
        may_go.wait(60)
        return publish(self, stem)

    monkeypatch.setattr(partwriting.GroupedFile, "publish", slow)

    def give(writer):
        for year in range(20):
            columns = {name: np.ones(3) for name in COLUMNS}
            first = NEW_YEAR + year * 366 * 24 * HOUR
            writer.add(columns | {"timestamp": first + HOUR * np.arange(3)})
            taken.append(year)

    with PartWriter(tmp_path) as writer:
        thread = threading.Thread(target=give, args=(writer,))
        thread.start()
        thread.join(1)
        held = len(taken)
        may_go.set()
        thread.join(60)
        assert len(taken) == len(writer.finish()) == 20
    assert held <= 2 + partwriting._OPEN
