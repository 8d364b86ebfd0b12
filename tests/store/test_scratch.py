"""Large arrays in files without a name: the same content, gone with the array, safe on a full disk."""

from __future__ import annotations

import errno
import gc
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ares.store import codecs, scratch
from ares.store.mapped import LARGE
from ares.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

ROWS = LARGE // 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("scratch"))


@given(
    rows=st.integers(ROWS - 2, ROWS + 2) | st.integers(0, 3 * ROWS),
    columns=st.integers(1, 3),
    value=st.floats(width=32),
    dtype=st.sampled_from(["f8", "f4", "i1"]),
)
def test_a_scratch_array_is_that_of_numpy(
    store: Store, rows: int, columns: int, value: float, dtype: str
) -> None:
    wanted = -1 if dtype == "i1" else value
    expected = np.full((rows, columns), wanted, dtype)
    with scratch.scratching(store):
        found = scratch.full((rows, columns), wanted, dtype)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype
    assert found.flags.c_contiguous
    assert found.flags.writeable


@given(
    values=arrays.arrays(np.float64, 97, elements=st.floats(allow_nan=True)),
    at=st.integers(0, ROWS),
)
def test_what_was_written_survives_eviction(store: Store, values: Any, at: int) -> None:
    with scratch.scratching(store):
        found = scratch.full(ROWS + 97, np.nan)
        found[at : at + 97] = values
        scratch.relax()
    np.testing.assert_array_equal(found[at : at + 97], values)
    assert np.isnan(found[:at]).all()
    assert codecs.decode(codecs.encode(found))[at : at + 97].tobytes() == (  # type: ignore[index]
        np.where(np.isnan(values), np.nan, values).tobytes()
    )


def test_large_arrays_are_files_that_have_no_name_and_go_with_the_array(tmp_path: Path) -> None:
    own = Store(tmp_path / "store")
    plain = scratch.full(ROWS, 1.0)
    with scratch.scratching(own):
        small, large = scratch.full(ROWS - 1, 1.0), scratch.full(ROWS, 1.0)
        copied = scratch.copy(plain)
    assert own.maps.nbytes == 2 * LARGE
    assert not list((tmp_path / "store").iterdir())
    np.testing.assert_array_equal(copied, plain)
    assert small.base is None or small.base.nbytes == small.nbytes
    del large, copied
    gc.collect()
    assert own.maps.nbytes == 0
    scratch.full(ROWS, 1.0)
    assert own.maps.nbytes == 0  # nothing is in use any more


def test_a_full_disk_costs_memory_and_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(**_: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scratch.tempfile, "TemporaryFile", full)
    own = Store(tmp_path)
    with caplog.at_level(logging.WARNING, "ares.store"), scratch.scratching(own):
        found = scratch.full((ROWS, 2), 7.0)
    assert (found == 7.0).all()
    assert own.maps.nbytes == 0
    assert "memory is used instead of a file" in caplog.text


def test_without_a_store_nothing_is_a_file() -> None:
    with scratch.scratching(None):
        found = scratch.full(2 * ROWS, 0.5)
    assert found.base is None or isinstance(found.base, np.ndarray)
    scratch.relax()
    assert (found == 0.5).all()
