from __future__ import annotations

import errno
import fcntl
import hashlib
import math
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.errors import (
    ArtifactError,
    BusyError,
    ConfigError,
    FingerprintError,
    StoreError,
)
from ares.store import atomic, temporaries
from ares.store.jsonio import json_bytes, parse_json

WRITE = """
import sys
from ares.store.atomic import write_atomic
write_atomic(sys.argv[1], b"new" * 100)
"""
PUBLISH = """
import sys
from ares.store.atomic import publish_dir
publish_dir(sys.argv[1], sys.argv[2])
"""
HOLD = """
import sys, time
from ares.store.atomic import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


def test_killed_at_every_point_a_write_leaves_the_old_content_or_the_new(tmp_path, crashes):
    targets = [tmp_path / str(n) / "value" for n in range(8)]
    for target in targets:
        target.parent.mkdir()
        target.write_bytes(b"old")
    assert crashes(WRITE, targets) == 6
    assert temporaries.sweep_orphans(tmp_path) == 3
    found = [content(target.parent) for target in targets]
    # begin, middle, written, synced; then replaced, committed, and the runs without a fault.
    assert found == [{"value": b"old"}] * 4 + [{"value": b"new" * 100}] * 4


@pytest.mark.parametrize("mode", ["enospc", "eio"])
def test_a_failing_disk_at_every_point_is_a_store_error_and_leaves_no_rubbish(
    tmp_path, monkeypatch, mode
):
    target = tmp_path / "value"
    fired = 0
    while True:
        target.write_bytes(b"old")
        atomic.reset_faults()
        monkeypatch.setenv("ARES_FAULT", f"*:{fired + 1}:{mode}")
        failure = None
        try:
            atomic.write_atomic(target, b"new" * 100)
        except StoreError as error:
            failure = error
        if failure is None:
            break
        assert failure.errno == getattr(errno, mode.upper())
        assert str(target) in str(failure)
        fired += 1
        assert content(tmp_path) in ({"value": b"old"}, {"value": b"new" * 100})
    assert fired == 6
    assert content(tmp_path) == {"value": b"new" * 100}


def test_a_full_disk_met_by_the_kernel_itself_keeps_the_old_content(tmp_path, child):
    target = tmp_path / "value"
    target.write_bytes(b"old")
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    done = child(limit + WRITE, target)
    assert done.returncode == 1
    assert "StoreError" in done.stderr
    assert content(tmp_path) == {"value": b"old"}


def test_the_order_is_flush_then_rename_then_flush_of_the_folder(tmp_path, monkeypatch):
    events = []
    real_sync, real_rename = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        events.append(f"sync {kind}")
        real_sync(descriptor)

    def rename(self: Path, other: Path) -> Path:
        events.append("rename")
        return real_rename(self, other)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", rename)
    atomic.write_atomic(tmp_path / "value", b"1")
    assert events == ["sync file", "rename", "sync folder"]


def test_a_writer_function_and_a_refusing_check(tmp_path):
    target = tmp_path / "new folder" / "value"
    atomic.write_atomic(target, lambda stream: stream.write(b"streamed"))
    assert target.read_bytes() == b"streamed"

    def refuse(path: Path) -> None:
        assert path.read_bytes() == b"bad"
        raise ArtifactError("no footer")

    with pytest.raises(ArtifactError, match="no footer"):
        atomic.write_atomic(target, b"bad", check=refuse)

    def fail(stream: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        atomic.write_atomic(target, fail)
    assert content(target.parent) == {"value": b"streamed"}


def test_what_is_read_back_must_be_what_was_written(tmp_path, monkeypatch):
    def lossy(stream, parts):
        stream.write(b"".join(parts)[:-1] + b"?")

    monkeypatch.setattr(atomic, "_write_halves", lossy)
    with pytest.raises(StoreError, match="read back"):
        atomic.write_atomic(tmp_path / "value", b"abc" * 1000)
    assert content(tmp_path) == {}


def test_a_file_in_place_of_the_folder_is_a_store_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        atomic.write_atomic(tmp_path / "file" / "value", b"1")


def test_the_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    target = tmp_path / ("n" * 255)
    atomic.write_atomic(target, b"1")
    assert target.read_bytes() == b"1"


def test_publishing_killed_at_every_point_shows_the_whole_folder_or_nothing(tmp_path, crashes):
    folders = [tmp_path / str(n) for n in range(6)]
    for folder in folders:
        (folder / "staging" / "deep").mkdir(parents=True)
        (folder / "staging" / "a").write_bytes(b"a")
        (folder / "staging" / "deep" / "b").write_bytes(b"b")
    code = PUBLISH.replace(
        "sys.argv[1], sys.argv[2]", "f'{sys.argv[1]}/staging', f'{sys.argv[1]}/r'"
    )
    assert crashes(code, folders) == 4
    found = [content(folder) for folder in folders]
    assert (
        found
        == [{"staging/a": b"a", "staging/deep/b": b"b"}] * 2 + [{"r/a": b"a", "r/deep/b": b"b"}] * 4
    )


@pytest.mark.parametrize("mode", ["enospc", "eio"])
def test_publishing_on_a_failing_disk_is_a_store_error_and_can_be_repeated(
    tmp_path, monkeypatch, mode
):
    for n in range(1, 5):
        staging = tmp_path / f"staging{n}"
        staging.mkdir()
        (staging / "a").write_bytes(b"a")
        atomic.reset_faults()
        monkeypatch.setenv("ARES_FAULT", f"*:{n}:{mode}")
        with pytest.raises(StoreError):
            atomic.publish_dir(staging, tmp_path / f"run{n}")
        monkeypatch.delenv("ARES_FAULT")
        assert staging.exists() == (n <= 2)  # afterwards only the last flush is missing
        if staging.exists():
            atomic.publish_dir(staging, tmp_path / f"run{n}")
        assert content(tmp_path / f"run{n}") == {"a": b"a"}


def test_a_taken_name_gets_a_suffix_and_is_never_replaced(tmp_path):
    made = []
    for i in range(3):
        staging = tmp_path / f"staging{i}"
        staging.mkdir()
        (staging / "number").write_text(str(i))
        made.append(atomic.publish_dir(staging, tmp_path / "run"))
    assert [path.name for path in made] == ["run", "run-2", "run-3"]
    assert [(path / "number").read_text() for path in made] == ["0", "1", "2"]
    (tmp_path / "empty").mkdir()  # rename() would replace an empty folder
    (tmp_path / "staging").mkdir()
    assert atomic.publish_dir(tmp_path / "staging", tmp_path / "empty").name == "empty-2"


def test_two_processes_that_publish_one_name_both_succeed(tmp_path):
    processes = []
    for i in range(4):
        (tmp_path / f"staging{i}").mkdir()
        (tmp_path / f"staging{i}" / "number").write_text(str(i))
        command = [sys.executable, "-c", PUBLISH, tmp_path / f"staging{i}", tmp_path / "out" / "r"]
        processes.append(subprocess.Popen(command))
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    found = content(tmp_path / "out")
    assert sorted(found) == ["r-2/number", "r-3/number", "r-4/number", "r/number"]
    assert sorted(found.values()) == [b"0", b"1", b"2", b"3"]


def test_publishing_across_file_systems_copies_first(tmp_path):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    staging = other / f"ares-test-{os.getpid()}"
    staging.mkdir()
    try:
        (staging / "a").write_bytes(b"a")
        final = atomic.publish_dir(staging, tmp_path / "run")
        assert content(final) == {"a": b"a"}
        assert not staging.exists()
        assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == ["run"]
    finally:
        if staging.exists():
            (staging / "a").unlink(missing_ok=True)
            staging.rmdir()


def test_the_sweep_removes_what_a_killed_writer_left(tmp_path, child):
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    child(WRITE, folder / "value", fault="write.synced:1:kill")
    assert len(content(tmp_path)) == 1
    (tmp_path / f".ares-tmp-{dead_process()}-{'0' * 16}").mkdir()
    (tmp_path / "not-ours.tmp").write_bytes(b"")
    assert temporaries.sweep_orphans(tmp_path) == 2
    assert content(tmp_path) == {"not-ours.tmp": b""}


def test_the_sweep_keeps_work_in_progress(tmp_path):
    swept = []

    def write(stream):
        stream.write(b"1")
        swept.append(temporaries.sweep_orphans(tmp_path))

    atomic.write_atomic(tmp_path / "value", write)
    assert swept == [0]
    assert content(tmp_path) == {"value": b"1"}


def test_the_sweep_trusts_the_lock_more_than_the_process_id(tmp_path):
    # In another container the writer's process id means nothing here; its lock does.
    foreign = tmp_path / f".ares-tmp-{dead_process()}-{'1' * 16}"
    with foreign.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert temporaries.sweep_orphans(tmp_path) == 0
    assert temporaries.sweep_orphans(tmp_path) == 1
    recycled = tmp_path / f".ares-tmp-{os.getpid()}-{'2' * 16}"
    recycled.write_bytes(b"")
    assert temporaries.sweep_orphans(tmp_path) == 0
    os.utime(recycled, (time.time() - 7200,) * 2)
    assert temporaries.sweep_orphans(tmp_path) == 1


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path):
    path = tmp_path / "locks" / "run.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"process {holder.pid}"):
            atomic.FileLock(path).acquire()
        with pytest.raises(BusyError):
            atomic.FileLock(path, timeout=0.1).acquire()
    finally:
        holder.kill()
        holder.communicate()
    with atomic.FileLock(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_shared_holders_exclude_an_exclusive_one_only(tmp_path):
    path = tmp_path / "lock"
    first, second = (atomic.FileLock(path, shared=True) for _ in range(2))
    with first, second, pytest.raises(BusyError):
        atomic.FileLock(path).acquire()
    exclusive = atomic.FileLock(path)
    with exclusive:
        with pytest.raises(BusyError):
            atomic.FileLock(path, shared=True).acquire()
        with pytest.raises(RuntimeError):
            exclusive.acquire()
    exclusive.release()
    with pytest.raises(StoreError):
        atomic.FileLock(path / "below a file").acquire()


def test_read_checked_returns_exactly_what_it_checked(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    assert atomic.read_checked(path, sha256=digest, size=7) == b"content"
    with pytest.raises(ArtifactError, match="8 bytes"):
        atomic.read_checked(path, sha256=digest, size=8)
    with pytest.raises(ArtifactError, match="SHA-256"):
        atomic.read_checked(path, sha256="0" * 64)
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "missing", ".", "nul\0"):
        with pytest.raises(ArtifactError):
            atomic.read_checked(tmp_path / name, sha256=digest)
    with pytest.raises(ArtifactError, match="6 bytes"):
        atomic.read_regular(path, max_bytes=6)


@pytest.mark.parametrize("spec", ["x", "x:1", "x:one:kill", "x:1:burn", ":1:kill"])
def test_a_malformed_fault_is_refused(monkeypatch, spec):
    monkeypatch.setenv("ARES_FAULT", spec)
    with pytest.raises(ConfigError, match="name:n:mode"):
        atomic.durability_point("anything")


def test_faults_count_only_their_own_point(monkeypatch):
    monkeypatch.setenv("ARES_FAULT", "b:2:eio")
    atomic.durability_point("a")
    atomic.durability_point("b")
    atomic.durability_point("a")
    with pytest.raises(OSError, match="at b"):
        atomic.durability_point("b")
    atomic.durability_point("b")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def nan_as_none(value):
    if isinstance(value, list):
        return [nan_as_none(item) for item in value]
    if isinstance(value, dict):
        return {key: nan_as_none(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def backwards(value):
    if isinstance(value, list):
        return [backwards(item) for item in value]
    if isinstance(value, dict):
        return {key: backwards(item) for key, item in reversed(value.items())}
    return value


@given(JSON)
def test_json_comes_back_and_does_not_depend_on_the_order_of_keys(value):
    data = json_bytes(value)
    assert json_bytes(backwards(value)) == data
    back = parse_json(data, where="test")
    assert back == nan_as_none(value)
    assert json_bytes(back) == data


def test_json_files(tmp_path):
    path = tmp_path / "file.json"
    atomic.write_json(path, {"b": np.float64(0.1), "a": (np.int8(1), np.bool_(True), "ä")})
    assert path.read_text() == '{\n  "a": [\n    1,\n    true,\n    "ä"\n  ],\n  "b": 0.1\n}\n'
    assert atomic.read_json(path) == {"a": [1, True, "ä"], "b": 0.1}
    for bad in (b"", b"{", b"\xff", b"NaN", b'{"a":1,"a":2}', b"[" * 100_000):
        path.write_bytes(bad)
        with pytest.raises(ArtifactError, match=r"file\.json"):
            atomic.read_json(path)


@pytest.mark.parametrize("value", [{1: 2}, math.inf, {1, 2}, object(), "\ud800", Path("x")])
def test_what_json_cannot_say_is_refused(value):
    with pytest.raises(FingerprintError):
        json_bytes(value)


def test_a_cycle_is_refused():
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(FingerprintError, match="200"):
        json_bytes(cycle)
