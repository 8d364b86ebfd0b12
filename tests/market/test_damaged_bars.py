"""Files of bars that were cut or changed are never trusted by their existence, name or size."""

from __future__ import annotations

import numpy as np
import pytest

from ares.core.errors import ArtifactError
from ares.market.files import load_bars
from ares.market.stored import copies
from ares.market.stored.copies import load_files
from ares.market.stored.datasets import import_files, list_datasets, load_dataset, repair_dataset
from ares.market.stored.derived import resample_dataset
from ares.market.stored.partitions import MANIFEST
from ares.store.store import MISS, Store
from ares.store.workspace import Workspace

NAMES = ("BTCUSD", "bitfinex", "1m")
MARKET = dict(zip(("symbol", "exchange", "timeframe"), NAMES, strict=True))
DAMAGES = {
    "cut to nothing": lambda data: b"",
    "cut after 4 bytes": lambda data: data[:4],
    "cut in the middle": lambda data: data[: len(data) // 2],
    "the last bytes cut": lambda data: data[:-2],  # one is the white space of a manifest
    "the first byte flipped": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "a byte in the middle flipped": lambda data: flipped(data, len(data) // 2),
    "a byte of the footer flipped": lambda data: flipped(data, len(data) - 20),
    "of its size, all zeros": lambda data: b"\0" * len(data),
    "a byte too many": lambda data: data + b"\0",
}


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.fixture
def source(tmp_path):
    """Bars of two years with a gap, as a CSV."""
    minutes = [*range(-50, 20), *range(30, 50)]
    rows = (f"{1_609_459_200 + 60 * m},100.5,101.25,99,100,{m % 7}\n" for m in minutes)
    path = tmp_path / "bars.csv"
    path.write_text("timestamp,open,high,low,close,volume\n" + "".join(rows))
    return path


def content(folder):
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("victim", ["manifest", "2020-", "2021-", "gaps-"])
def test_a_damaged_file_of_a_dataset_is_an_error_that_names_the_repair(
    tmp_path, source, victim, damage
):
    workspace = Workspace(tmp_path / "home")
    folder = import_files(workspace, source, **MARKET).path
    assert len(content(folder)) == 4
    before = load_dataset(workspace, *NAMES)
    path = next(p for p in content(folder) if p.name.startswith(victim))
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[damage](whole))
    with pytest.raises(ArtifactError, match="ares data repair") as caught:
        load_dataset(workspace, *NAMES)
    assert path.name in str(caught.value) or str(folder) in str(caught.value)
    other = source.with_name("more.csv")
    other.write_text(source.read_text().replace("101.25", "101.5"))
    if victim == "gaps-":  # they follow from the bars: an import makes them anew
        import_files(workspace, other, **MARKET)
        assert load_dataset(workspace, *NAMES) == load_bars([source, other], **MARKET)
        return
    with pytest.raises(ArtifactError):  # nor is it written over by what it seems to be
        import_files(workspace, other, **MARKET)
    assert repair_dataset(workspace, *NAMES)
    import_files(workspace, source, **MARKET)
    assert load_dataset(workspace, *NAMES) == before
    assert len(list_datasets(workspace)) == 1


def test_a_missing_part_is_an_error_that_names_the_repair(tmp_path, source):
    workspace = Workspace(tmp_path / "home")
    folder = import_files(workspace, source, **MARKET).path
    next(folder.glob("2021-*")).unlink()
    with pytest.raises(ArtifactError, match="ares data repair"):
        load_dataset(workspace, *NAMES)


@pytest.mark.parametrize("damage", ["a byte in the middle flipped", "of its size, all zeros"])
@pytest.mark.parametrize("victim", ["2020-", "2021-", "gaps-"])
def test_nothing_new_is_only_said_of_files_that_have_their_digests(
    tmp_path, source, victim, damage
):
    """Size and name are right, and so is the digest of the source: the bytes are not."""
    workspace = Workspace(tmp_path / "home")
    fine = import_files(workspace, source, **MARKET).path
    coarse = resample_dataset(workspace, *NAMES, "5m").path
    whole = {path: path.read_bytes() for folder in (fine, coarse) for path in content(folder)}
    for folder in (coarse, fine):
        path = next(p for p in content(folder) if p.name.startswith(victim))
        path.write_bytes(DAMAGES[damage](whole[path]))
    if victim == "gaps-":  # they follow from the bars
        assert not import_files(workspace, source, **MARKET).changed
    else:
        with pytest.raises(ArtifactError, match="ares data repair") as caught:
            import_files(workspace, source, **MARKET)
        assert str(path) in str(caught.value)
        path.write_bytes(whole[path])
    assert not resample_dataset(workspace, *NAMES, "5m").changed  # it is made again from the finer
    assert {path: path.read_bytes() for path in whole} == whole


def test_a_part_under_the_name_of_another_is_refused(tmp_path, source):
    workspace = Workspace(tmp_path / "home")
    folder = import_files(workspace, source, **MARKET).path
    first, second = (next(folder.glob(f"{year}-*")) for year in (2020, 2021))
    second.write_bytes(first.read_bytes())
    with pytest.raises(ArtifactError, match="ares data repair"):
        load_dataset(workspace, *NAMES)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("victim", ["manifest", "2020-", "2021-", "gaps-"])
def test_a_damaged_copy_is_a_miss_and_made_anew(
    tmp_path, source, victim, damage, caplog, monkeypatch
):
    workspace = Workspace(tmp_path / "home")
    expected = load_files(workspace, source, **MARKET)
    assert expected == load_bars(source, **MARKET)
    folder = next((workspace.private / "copies").iterdir())
    names = [p.name for p in content(folder)]
    path = next(p for p in content(folder) if p.name.startswith(victim))
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert load_files(workspace, source, **MARKET) == expected
    assert "damaged and will be made anew" in caplog.text
    assert [p.name for p in content(folder)] == names

    def unread(*_, **__):
        raise AssertionError("the copy was not used")

    monkeypatch.setattr(copies, "load_bars", unread)
    assert load_files(workspace, source, **MARKET) == expected


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["objects", "actions"])
def test_a_damaged_step_result_is_a_miss_and_made_anew(tmp_path, kind, damage):
    store = Store(tmp_path)
    value = {"prices": np.linspace(1, 2, 500)}
    store.put("key", value)
    path = next(p for p in tmp_path.rglob("*") if p.is_file() and kind in p.parts)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert store.get("key") is MISS
    store.put("key", value)
    found = store.get("key")
    assert found is not MISS
    assert np.array_equal(found["prices"], value["prices"])
    assert store.verify().damaged == ()


def test_every_row_of_a_dataset_counts(tmp_path, source):
    """A manifest that was rewritten for fewer rows is found by its own checksum."""
    workspace = Workspace(tmp_path / "home")
    folder = import_files(workspace, source, **MARKET).path
    path = folder / MANIFEST
    text = path.read_text()
    for change in (('"rows":50', '"rows":49'), ('"rows": 50', '"rows": 49')):
        text = text.replace(*change)
    assert text != path.read_text()
    path.write_text(text)
    with pytest.raises(ArtifactError, match="ares data repair"):
        load_dataset(workspace, *NAMES)
