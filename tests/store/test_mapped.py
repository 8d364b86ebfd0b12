"""Large values are maps of their files: checked when they are opened, and let go of at any time."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from ares.store.codecs import encode, encode_parts
from ares.store.mapped import LARGE
from ares.store.store import MISS, Store

ARRAY = np.random.default_rng(0).normal(size=LARGE // 4)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_a_large_array_is_a_view_of_its_file(store):
    store.put("k", {"a": ARRAY})
    found = store.get("k")["a"]
    base = found
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base.obj, mmap.mmap)
    assert not found.flags.writeable
    assert found.tobytes() == ARRAY.tobytes()


def test_what_is_let_go_of_comes_back(store):
    store.put("k", ARRAY)
    found = store.get("k")
    assert store.maps.nbytes >= ARRAY.nbytes
    for _ in range(3):
        assert store.maps.evict() >= ARRAY.nbytes
        assert found.tobytes() == ARRAY.tobytes()
    del found
    assert store.maps.nbytes == 0


def test_a_value_outlives_the_file_that_is_removed_or_replaced(store):
    store.put("k", ARRAY)
    found = store.get("k")
    store.clear()
    store.maps.evict()
    assert found.tobytes() == ARRAY.tobytes()
    assert store.get("k") is MISS


@pytest.mark.parametrize("at", [0, 8, 100, LARGE, -40, -1])
def test_a_changed_byte_of_a_large_file_is_a_miss(store, at):
    digest = store.put("k", ARRAY)
    path = store._object_path(digest)
    body = bytearray(path.read_bytes())
    body[at] ^= 1
    path.unlink()
    path.write_bytes(body)
    assert store.get("k") is MISS
    assert store.put("k", ARRAY) == digest
    assert store.get("k").tobytes() == ARRAY.tobytes()


@pytest.mark.parametrize("left", [0, 31, 1000, LARGE, LARGE + 1])
def test_a_cut_file_is_a_miss(store, left):
    digest = store.put("k", ARRAY)
    path = store._object_path(digest)
    body = path.read_bytes()[:left]
    path.unlink()
    path.write_bytes(body)
    assert store.get("k") is MISS


def test_parts_are_the_encoded_bytes_and_copy_no_array():
    value = {"a": ARRAY, "b": [1, "x"], "c": np.array([1.0, np.nan])}
    parts = encode_parts(value)
    assert b"".join(parts) == encode(value)
    assert any(
        np.shares_memory(np.frombuffer(part, np.uint8), ARRAY) for part in parts if len(part)
    )


def test_odd_bits_of_nan_beyond_the_first_piece_are_made_one():
    plain = np.zeros(200_000)
    plain[150_000] = np.nan
    odd = plain.copy()
    odd.view(np.uint64)[150_000] |= 1 | 1 << 63
    assert encode(odd) == encode(plain)
    assert np.isnan(odd[150_000])
    assert odd.view(np.uint64)[150_000] & 1  # the given array keeps its own
