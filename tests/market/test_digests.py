"""Digests that are taken while the files are read: those of the bytes, or none."""

from __future__ import annotations

import hashlib
import os

import pytest

from ares.core.errors import DataError
from ares.market.stored import datasets
from ares.market.stored.datasets import import_files, load_dataset
from ares.market.stored.digests import CHANGED, digesting, file_digest
from ares.market.stored.partitions import read_manifest
from ares.store.workspace import Workspace

MARKET = {"symbol": "A", "exchange": "b", "timeframe": "1m"}


def lines(first, count):
    return "".join(f"{60 * n + 1_609_459_200},9,11,8,10,1\n" for n in range(first, first + count))


def test_digests_are_those_of_the_bytes_in_the_order_of_the_files(tmp_path):
    paths = [tmp_path / f"{n}" for n in range(3)]
    for n, path in enumerate(paths):
        path.write_bytes(os.urandom(1) * (n * 3_000_000 + 1))
    with digesting(paths) as digests:
        found = digests()
        assert digests() == found
    assert found == tuple(hashlib.sha256(p.read_bytes()).hexdigest() for p in paths)
    assert found == tuple(file_digest(path) for path in paths)


def test_a_file_that_is_written_or_replaced_meanwhile_has_no_digest(tmp_path):
    same, longer, replaced = paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text("1")
    with digesting(paths) as digests:
        longer.write_text("12")
        (tmp_path / "new").write_text("1")
        (tmp_path / "new").replace(replaced)
        assert digests() == (file_digest(same), CHANGED, CHANGED)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_what_is_no_file_has_no_digest(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(DataError), digesting([path]) as digests:
        digests()


def test_a_file_that_grew_while_it_was_imported_is_read_again(tmp_path, monkeypatch):
    path = tmp_path / "bars.csv"
    path.write_text("timestamp,open,high,low,close,volume\n" + lines(0, 100))
    home = Workspace(tmp_path / "home")
    check = datasets.check_rows

    def growing(*arguments):
        checked = check(*arguments)
        with path.open("a") as file:
            file.write(lines(100, 50))
        return checked

    with monkeypatch.context() as patch:
        patch.setattr(datasets, "check_rows", growing)
        assert import_files(home, path, **MARKET).after == 100
    folder = home.dataset("b", "A", "1m")
    assert read_manifest(folder).imports[-1].sources == (CHANGED,)
    assert import_files(home, path, **MARKET).after == 150
    assert len(load_dataset(home, *MARKET.values())) == 150
    assert read_manifest(folder).imports[-1].sources == (file_digest(path),)
    assert not import_files(home, path, **MARKET).changed


def test_an_append_of_a_file_that_changes_before_its_rows_are_read_has_no_digest(
    tmp_path, monkeypatch
):
    """Back at what its digest says, the file is read again: its bars are not those of the dataset."""
    home, path = Workspace(tmp_path / "home"), tmp_path / "bars.csv"
    head = "timestamp,open,high,low,close,volume\n"
    path.write_text(head + lines(0, 100))
    import_files(home, path, **MARKET)
    then, other = head + lines(100, 100), head + lines(100, 100).replace(",10,1", ",9,1")
    path.write_text(then)
    appended = datasets._appended

    def late(*arguments):
        path.write_text(other)
        return appended(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(datasets, "_appended", late)
        import_files(home, path, **MARKET)
    assert load_dataset(home, "A", "b", "1m").close[-1] == 9.0
    os.utime(path, (1, 1))
    path.write_text(then)
    assert import_files(home, path, **MARKET).changed
    assert load_dataset(home, "A", "b", "1m").close[-1] == 10.0
