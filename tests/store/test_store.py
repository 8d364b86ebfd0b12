from __future__ import annotations

import hashlib
import logging
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from ares.core.errors import StoreError
from ares.store import MISS, Store, codecs
from ares.store.atomic import reset_faults
from ares.store.codecs import encode
from ares.store.temporaries import is_temporary

OLD = {"value": (1, 2, 3)}
NEW = {"value": "x" * 3000}
PUT_NEW = """
import sys
from ares.store import Store
Store(sys.argv[1]).put("k", {"value": "x" * 3000})
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def files(store: Store, kind: str) -> list[Path]:
    found = (p for p in (store.root / "v1" / kind).rglob("*") if p.is_file())
    return sorted(path for path in found if not is_temporary(path.name))


def only(store: Store, kind: str) -> Path:
    (path,) = files(store, kind)
    return path


def temporaries(store: Store) -> list[Path]:
    return [path for path in store.root.rglob("*") if is_temporary(path.name)]


def set_used(store: Store, key: str, seconds: int) -> None:
    digest = store.digest_of(key)
    assert digest is not None
    os.utime(store._object_path(digest), (seconds, seconds))


def test_values_by_key(store):
    assert store.get("k") is MISS
    digest = store.put("k", {"a": np.arange(3.0)})
    back = store.get("k")
    assert isinstance(back, dict)
    assert back["a"].tolist() == [0.0, 1.0, 2.0]
    assert store.put("other", {"a": np.arange(3.0)}) == digest
    assert store.digest_of("k") == digest == store.digest_of("other")
    assert len(files(store, "objects")) == 1
    assert store.put("k", None) != digest
    assert store.get("k") is None
    assert store.digests() == {"k": store.digest_of("k"), "other": digest}
    assert store.load(digest) is not MISS
    assert store.load("0" * 64) is MISS
    assert store.load("../../x") is MISS
    assert (store.stats().hits, store.stats().misses) == (2, 1)


@pytest.mark.parametrize("key", ["", "../../x", "a\0b", "\ud800", "k" * 5000, "/etc/passwd", "."])
def test_any_text_is_a_key(store, key):
    store.put(key, key)
    assert store.get(key) == key
    assert store.digests() == {key: store.digest_of(key)}
    assert all(path.is_relative_to(store.root) for path in files(store, "actions"))


def test_making_a_store_and_reading_touches_nothing(store):
    assert store.get("k") is MISS
    assert store.digests() == {}
    assert store.stats().entries == store.verify().objects == 0
    assert not store.root.exists()


def copies(template: Store, folder: Path, number: int) -> list[Store]:
    return [Store(shutil.copytree(template.root, folder / f"s{n}")) for n in range(number)]


def test_killed_at_every_point_the_old_value_or_the_new_is_there(tmp_path, crashes):
    template = Store(tmp_path / "template")
    template.put("k", OLD)
    stores = copies(template, tmp_path, 15)
    roots = [store.root for store in stores]
    assert crashes(PUT_NEW, roots) == 13
    # 6 points of the object, 1 between, 4 of the entry before its rename; then 2, and no fault.
    assert [store.get("k") for store in stores] == [OLD] * 11 + [NEW] * 4
    assert all(store.verify().damaged == () for store in stores)
    crashes(PUT_NEW, roots)  # a crash while recovering from a crash
    assert all(store.get("k") in (OLD, NEW) for store in stores)
    for store in stores:
        store.gc()
        assert temporaries(store) == []
        store.put("k", NEW)
        assert Store(store.root).get("k") == NEW


@pytest.mark.parametrize("mode", ["enospc", "eio"])
def test_a_failing_disk_at_every_point_is_a_store_error(tmp_path, monkeypatch, mode):
    fired = 0
    while True:
        monkeypatch.delenv("ARES_FAULT", raising=False)
        store = Store(tmp_path / f"{mode}{fired}")
        store.put("k", OLD)
        reset_faults()
        monkeypatch.setenv("ARES_FAULT", f"*:{fired + 1}:{mode}")
        try:
            store.put("k", NEW)
        except OSError as error:
            failure: OSError | None = error
        else:
            failure = None
        monkeypatch.delenv("ARES_FAULT")
        if failure is None:
            break
        assert type(failure) is StoreError
        fired += 1
        assert store.get("k") == (OLD if fired <= 11 else NEW)
        assert store.verify().damaged == ()
        assert temporaries(store) == []
    assert fired == 13


def test_a_gc_killed_at_every_point_leaves_misses_at_worst(tmp_path, crashes):
    template = Store(tmp_path / "template")
    values = {f"k{i}": [i] for i in range(3)}
    for key, value in values.items():
        template.put(key, value)
    stores = copies(template, tmp_path, 4)
    code = "from ares.store import Store; Store(sys.argv[1]).gc(0)"
    assert crashes(code, [store.root for store in stores]) == 3
    for n, store in enumerate(stores):
        found = {key: store.get(key) for key in values}
        assert all(found[key] in (MISS, values[key]) for key in values)
        assert store.verify().damaged == store.verify().dangling == ()
        store.gc()  # removes the object whose entry is gone
        assert store.stats().objects == store.stats().entries == max(2 - n, 0)


RACE = """
import sys
from ares.store import MISS, Store
store, mine, both = Store(sys.argv[1]), sys.argv[2] * 2000, {sys.argv[2] * 2000, sys.argv[3] * 2000}
store.put("k", mine)
for i in range(60):
    store.put("k", mine)
    found = store.get("k")
    assert found in both, found
    assert store.get("same") in (MISS, list(range(100)))
    store.put("same", list(range(100)))
    if sys.argv[4] == "gc" and i % 7 == 0:
        store.gc()
assert store.verify().damaged == ()
"""


@pytest.mark.parametrize("gc", ["no gc", "gc"])
def test_two_processes_write_one_key_and_both_succeed(store, gc):
    command = [sys.executable, "-W", "error", "-c", RACE, str(store.root)]
    writers = [
        subprocess.Popen([*command, a, b, gc], stderr=subprocess.PIPE, text=True)
        for a, b in [("a", "b"), ("b", "a")]
    ]
    while any(writer.poll() is None for writer in writers):
        found = store.get("k")
        assert found is MISS or found in ("a" * 2000, "b" * 2000)
    for writer in writers:
        error = writer.communicate()[1]
        assert writer.returncode == 0, error
        assert "damaged" not in error
    assert store.get("k") in ("a" * 2000, "b" * 2000)
    assert store.get("same") == list(range(100))
    assert temporaries(store) == files(store, "quarantine") == []


@pytest.mark.parametrize("kind", ["objects", "actions"])
def test_truncation_and_a_flipped_byte_at_every_offset_is_a_miss(store, kind):
    store.put("k", [1, "x", np.arange(2)])
    path = only(store, kind)
    whole = path.read_bytes()
    damages = [whole[:end] for end in range(len(whole))] + [whole + b"\0"]
    for offset in range(len(whole)):
        flipped = bytearray(whole)
        flipped[offset] ^= 0x01
        damages.append(bytes(flipped))
    for damage in damages:
        path.write_bytes(damage)
        assert store.get("k") is MISS
        assert not path.exists()
    assert len(files(store, "quarantine")) == len(damages)
    store.put("k", "made anew")
    assert store.get("k") == "made anew"
    store.gc()
    assert files(store, "quarantine") == []


def test_damage_is_logged_once_and_recomputed(store, caplog):
    store.put("k", OLD)
    only(store, "objects").write_bytes(b"rubbish")
    with caplog.at_level(logging.WARNING, logger="ares.store"):
        assert store.get("k") is MISS
        assert store.get("k") is MISS
        store.put("k", OLD)
        assert store.get("k") == OLD
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "damaged, set aside and made anew"
    ]


def test_a_file_replaced_since_it_was_read_is_not_set_aside(store, monkeypatch):
    store.put("k", OLD)
    digest = store.digest_of("k")
    path = store._object_path(digest)
    whole = path.read_bytes()
    path.write_bytes(b"rubbish")
    check = codecs.check

    def replaced_meanwhile(data: bytes, *, where: str) -> None:
        path.write_bytes(whole)  # another writer, between reading and setting aside
        check(data, where=where)

    monkeypatch.setattr(codecs, "check", replaced_meanwhile)
    assert store.load(digest) is MISS
    monkeypatch.undo()
    assert store.get("k") == OLD
    assert files(store, "quarantine") == []


def test_put_repairs_a_damaged_object_that_nobody_read(store):
    digest = store.put("k", OLD)
    path = only(store, "objects")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert store.put("k2", OLD) == digest
    assert store.get("k") == store.get("k2") == OLD


def test_other_content_under_a_name_is_a_miss(store):
    store.put("k", "right")
    store.put("other", "wrong")
    right, wrong = (store._object_path(store.digest_of(k)) for k in ("k", "other"))
    shutil.copy(wrong, right)
    assert store.get("k") is MISS
    store.put("k", "right")
    shutil.copy(store._action_path("other"), store._action_path("k"))
    assert store.get("k") is MISS
    assert store.get("other") == "wrong"
    store._action_path("k").parent.mkdir(exist_ok=True)
    store._action_path("k").write_bytes(encode({"key": "k", "digest": "../../../x", "bytes": 1}))
    assert store.get("k") is MISS
    store._action_path("k").write_bytes(encode([1]))
    assert store.get("k") is MISS


@pytest.mark.parametrize("kind", ["objects", "actions"])
def test_a_planted_pickle_is_not_executed(store, bomb, kind):
    store.put("k", OLD)
    only(store, kind).write_bytes(bomb)
    assert store.get("k") is MISS
    store.put("k", OLD)
    assert store.get("k") == OLD


@pytest.mark.parametrize("kind", ["objects", "actions"])
def test_another_schema_number_is_a_miss_and_no_damage(store, caplog, kind):
    digest = store.put("k", OLD)
    path = only(store, kind)
    body = path.read_bytes()[:-32]
    body = body[:8] + struct.pack("<I", 99) + body[12:]
    foreign = body + hashlib.sha256(body).digest()
    path.write_bytes(foreign)
    if kind == "objects":  # a foreign object lies under its own digest
        path.unlink()
        newer = store._object_path(codecs.content_digest(foreign))
        newer.parent.mkdir(exist_ok=True)
        newer.write_bytes(foreign)
        entry = {"key": "k", "digest": newer.name, "bytes": len(foreign)}
        store._action_path("k").write_bytes(encode(entry))
    with caplog.at_level(logging.WARNING, logger="ares.store"):
        assert store.get("k") is MISS
        assert store.verify().damaged == ()
    assert not caplog.records
    assert files(store, "quarantine") == []
    assert store.put("k", OLD) == digest
    assert store.get("k") == OLD


def test_odd_things_in_place_of_files_are_misses(store, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(encode("secret"))
    for make in (
        lambda path: path.symlink_to(outside),
        lambda path: path.symlink_to(tmp_path / "nowhere"),
        os.mkfifo,
        Path.mkdir,
    ):
        store.put("k", OLD)
        path = store._object_path(store.digest_of("k"))
        path.unlink()
        make(path)
        assert store.get("k") is MISS
        assert store.put("k", OLD)
        assert store.get("k") == OLD
    assert outside.read_bytes() == encode("secret")


def test_an_unusable_root_is_a_store_error_to_write_and_a_miss_to_read(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    store = Store(tmp_path / "file")
    for action in (lambda: store.put("k", 1), store.gc, store.clear):
        with pytest.raises(StoreError):
            action()
    assert store.get("k") is MISS


READ_ONLY = """
import os, sys
from ares.store import MISS, Store
from ares.core.errors import StoreError
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
store = Store(sys.argv[1])
assert store.get("k") == [1], store.get("k")
try:
    store.put("k", [2])
except StoreError as error:
    print("refused:", error)
assert store.get("k") == [1]
"""


def test_a_read_only_store_still_serves(child):
    with tempfile.TemporaryDirectory() as name:  # tmp_path is private to this user
        root = Path(name) / "store"
        Store(root).put("k", [1])
        for path in [Path(name), root, *root.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            done = child(READ_ONLY, root)
        finally:
            for path in [Path(name), *(p for p in root.rglob("*") if p.is_dir()), root]:
                path.chmod(0o755)
    assert done.stdout.startswith("refused:"), done.stderr


def test_gc_removes_what_was_unused_for_longest_and_never_roots(store):
    digests = {key: store.put(key, key * 1000) for key in "abcd"}
    size = store.stats().total_bytes // 4
    for seconds, key in enumerate("abcd"):
        set_used(store, key, 1_000_000 + seconds)
    assert store.get("a") == "a" * 1000  # used now
    report = store.gc(2 * size, roots=["b"])
    assert (report.removed_objects, report.removed_bytes) == (2, 2 * size)
    assert set(store.digests()) == {"a", "b"}
    report = store.gc(0, roots=[digests["b"]])
    assert (report.kept_objects, report.kept_bytes) == (1, size)
    assert set(store.digests()) == {"b"}
    assert store.get("b") == "b" * 1000
    assert store.clear().kept_objects == 0
    assert store.get("b") is MISS


def test_gc_without_a_limit_removes_only_what_nobody_needs(store):
    store.put("k", OLD)
    store.put("k", NEW)  # leaves the old object without an entry
    store.put("gone", "gone")
    store._object_path(store.digest_of("gone")).unlink()
    (store.root / "v1" / "objects" / f".ares-tmp-999999999-{'0' * 16}").write_bytes(b"")
    assert store.verify().dangling == ("gone",)
    report = store.gc()
    assert (report.removed_objects, report.kept_objects) == (1, 1)
    assert store.digests() == {"k": store.digest_of("k")}
    assert temporaries(store) == []
    assert store.get("k") == NEW


def test_gc_keeps_a_shared_object_while_one_of_its_keys_is_a_root(store):
    store.put("a", OLD)
    store.put("b", OLD)
    store.gc(0, roots=["a"])
    assert store.get("a") == store.get("b") == OLD


def test_verify_finds_damage_in_entries_and_objects(store):
    keys = ["a", "b", "c"]
    for key in keys:
        store.put(key, key)
    broken = store.digest_of("a")
    store._object_path(broken).write_bytes(b"")
    entry = store._action_path("b")
    entry.write_bytes(entry.read_bytes()[:-1])
    report = store.verify()
    assert report.objects == 3
    assert report.damaged == tuple(sorted([broken, entry.name]))
    assert report.dangling == ("a",)
    assert [store.get(key) for key in keys] == [MISS, MISS, "c"]
    assert store.stats().quarantined == 2


def test_two_stores_with_equal_content_have_equal_files(tmp_path):
    trees = []
    for name, order in [("one", "abc"), ("two", "cab")]:
        store = Store(tmp_path / name)
        for key in order:
            store.put(key, {"v": key, "a": np.arange(3)})
        found = files(store, "objects") + files(store, "actions")
        trees.append({str(p.relative_to(store.root)): p.read_bytes() for p in found})
    assert trees[0] == trees[1]
    assert len(trees[0]) == 6
