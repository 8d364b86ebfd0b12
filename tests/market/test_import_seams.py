"""Where an import meets the dataset: bad prints, what is known of the bars, what is kept of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.core.errors import ArtifactError, DataError, StoreError
from ares.market.files import load_bars
from ares.market.stored import datasets, partitions
from ares.market.stored.datasets import import_files, load_dataset, repair_dataset
from ares.market.stored.derived import resample_dataset
from ares.market.stored.partitions import MANIFEST, read_manifest
from ares.store.workspace import Workspace

NAMES = ("BTCUSD", "bitfinex", "1m")
MARKET = dict(zip(("symbol", "exchange", "timeframe"), NAMES, strict=True))
YEAR_END = 1_609_459_200  # 2021-01-01
HEADER = "timestamp,open,high,low,close,volume\n"


def price_file(path: Path, prices, start=0) -> Path:
    rows = (f"{YEAR_END + 60 * m},{p},{p},{p},{p},1\n" for m, p in enumerate(prices, start=start))
    path.write_text(HEADER + "".join(rows))
    return path


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "home")


def test_a_first_import_counts_its_bad_prints_as_dropped(tmp_path, workspace):
    prices = [100.0] * 200 + [1.0] + [100.0] * 299
    result = import_files(workspace, price_file(tmp_path / "a.csv", prices), **MARKET)
    assert (result.before, result.after, result.dropped) == (0, 499, 1)
    kept = import_files(
        Workspace(tmp_path / "other"), tmp_path / "a.csv", options={"bad_prints": "keep"}, **MARKET
    )
    assert (kept.after, kept.dropped) == (500, 0)


def test_a_bad_print_at_the_start_of_an_append_takes_no_good_bar_away(tmp_path, workspace):
    """It had no bars before it to be judged by, so the six hours after it were dropped."""
    import_files(workspace, price_file(tmp_path / "a.csv", [100.0] * 500), **MARKET)
    tail = price_file(tmp_path / "b.csv", [1.0] + [100.0] * 499, start=500)
    result = import_files(workspace, tail, **MARKET)
    assert (result.before, result.after, result.dropped) == (500, 999, 1)
    assert (result.quality.rows, result.quality.bars, result.quality.bad_prints) == (500, 499, 1)
    (found,) = (f for f in result.quality.findings if f.kind == "bad_prints")
    assert (found.count, found.action) == (1, "dropped")
    assert found.examples[0].startswith("2021-01-01T08:20:00Z")
    stored = load_dataset(workspace, *NAMES).quality
    assert (stored.rows, stored.bars, stored.bad_prints) == (1000, 999, 1)
    assert not import_files(workspace, tail, **MARKET).changed


def places(quality):
    """Time, file and row of the examples of bad prints."""
    (found,) = (f for f in quality.findings if f.kind == "bad_prints")
    parts = [re.match(r"(\S+) .*\((.*), row (\d+), column \w+\)$", e) for e in found.examples]
    assert all(parts), found.examples
    return [(p.group(1), p.group(2), int(p.group(3))) for p in parts]


def prices_with(bad, count=400):
    return [900.0 if n in bad else 100.0 for n in range(count)]


def at(minute):
    return f"{np.datetime64(YEAR_END + 60 * minute, 's')}Z"


@pytest.mark.parametrize("choice", ["drop", "keep"])
def test_every_bad_print_of_an_append_names_its_file_and_row(tmp_path, workspace, choice):
    """Only the first one did; the others stood in "the files"."""
    options = {"bad_prints": choice}
    known = set(range(60, 120, 4))  # more than are shown: with "keep" each import meets them again
    import_files(
        workspace, price_file(tmp_path / "a.csv", prices_with(known)), options=options, **MARKET
    )
    files = [
        price_file(tmp_path / "c.csv", prices_with({7, 300}), start=800),
        price_file(tmp_path / "b.csv", prices_with({5, 6, 399}), start=400),
    ]
    result = import_files(workspace, files, options=options, **MARKET)
    assert result.quality.bad_prints == 5
    assert places(result.quality) == [
        (at(405), "b.csv", 7), (at(406), "b.csv", 8), (at(799), "b.csv", 401),
        (at(807), "c.csv", 9), (at(1100), "c.csv", 302),
    ]  # fmt: skip
    stored = load_dataset(workspace, *NAMES).quality
    assert stored.bad_prints == len(known) + 5
    again = import_files(
        Workspace(tmp_path / "other"), [tmp_path / "a.csv", *files], options=options, **MARKET
    )
    assert again.quality.bad_prints == stored.bad_prints
    whole = load_bars([tmp_path / "a.csv", *files], bad_prints=choice, **MARKET)
    assert places(whole.quality) == places(again.quality)
    assert load_dataset(workspace, *NAMES) == whole


def test_an_append_that_refuses_bad_prints_names_the_first_in_whichever_file(tmp_path, workspace):
    import_files(workspace, price_file(tmp_path / "a.csv", [100.0] * 400), **MARKET)
    files = [
        price_file(tmp_path / "b.csv", prices_with(set()), start=400),
        price_file(tmp_path / "c.csv", prices_with({3, 9}), start=800),
    ]
    with pytest.raises(DataError, match="2 bars are not") as caught:
        import_files(workspace, files, options={"bad_prints": "error"}, **MARKET)
    assert caught.value.where.startswith(f"{tmp_path / 'c.csv'}, row 5, column ")


@settings(max_examples=40)
@given(
    good=st.lists(st.sampled_from([99.0, 100.0, 101.0, 130.0]), min_size=30, max_size=120),
    bad=st.lists(st.tuples(st.integers(-6, 12), st.sampled_from([1.0, 20.0, 500.0, 900.0]))),
    cut=st.floats(0.1, 0.9),
    overlap=st.integers(0, 8),
    choice=st.sampled_from(["drop", "keep"]),
)
def test_an_append_gives_the_bars_of_both_files_at_once(
    tmp_path_factory, good, bad, cut, overlap, choice
):
    """Bad prints anywhere about the cut, on either side of it, in rows that both files have."""
    folder = tmp_path_factory.mktemp("append")
    at = int(cut * len(good))
    prices = list(good)
    for offset, price in bad:
        if 0 < at + offset < len(prices):
            prices[at + offset] = price
    begin = max(at - overlap, 1)
    files = [
        price_file(folder / "a.csv", prices[:at]),
        price_file(folder / "b.csv", prices[begin:], start=begin),
    ]
    options = {"calendar": "24/7", "bad_prints": choice}
    apart, together = Workspace(folder / "apart"), Workspace(folder / "together")
    for file in files:
        result = import_files(apart, file, options=options, **MARKET)
    import_files(together, files, options=options, **MARKET)
    one, other = load_dataset(apart, *NAMES), load_dataset(together, *NAMES)
    assert one.digest == other.digest
    assert one.gaps.tolist() == other.gaps.tolist()
    assert one.quality.rows == other.quality.rows
    if begin == at:
        assert one.quality.bad_prints == other.quality.bad_prints
    assert result.quality.rows == len(prices) - begin
    if choice == "keep":
        assert (result.dropped, result.after) == (0, len(prices))


def test_bad_prints_of_an_append_are_refused_where_that_was_asked_for(tmp_path, workspace):
    import_files(workspace, price_file(tmp_path / "a.csv", [100.0] * 50), **MARKET)
    before = load_dataset(workspace, *NAMES)
    tail = price_file(tmp_path / "b.csv", [1.0] + [100.0] * 49, start=50)
    with pytest.raises(DataError, match=r"1 bars are not, the first of 2021-01-01T00:50:00Z"):
        import_files(workspace, tail, options={"bad_prints": "error"}, **MARKET)
    assert load_dataset(workspace, *NAMES) == before
    good = price_file(tmp_path / "c.csv", [100.0] * 50, start=50)
    assert import_files(workspace, good, options={"bad_prints": "error"}, **MARKET).after == 100


@settings(max_examples=25)
@given(
    bad=st.integers(0, 39),
    several=st.booleans(),
    again=st.booleans(),
    seed=st.none() | st.integers(0, 2**32 - 1),
)
def test_a_refused_append_names_the_file_and_the_row(tmp_path_factory, bad, several, again, seed):
    """The row as a person finds it, in whatever order it stands and however many files there are."""
    folder = tmp_path_factory.mktemp("append")
    workspace = Workspace(folder / "home")
    import_files(workspace, price_file(folder / "a.csv", [100.0] * 50), **MARKET)
    prices = [100.0] * 40
    prices[bad] = 3.0
    lines = [f"{YEAR_END + 60 * (m + 50)},{p},{p},{p},{p},1\n" for m, p in enumerate(prices)]
    if again:  # an equal row before it: of those the last one is taken
        lines.insert(0, lines[bad].replace("3.0", "100.0"))
    if seed is not None and not again:
        np.random.default_rng(seed).shuffle(lines)
    halves = [lines[:25], lines[25:]] if several else [lines]
    files = []
    for number, half in enumerate(halves):
        files.append(folder / f"more{number}.csv")
        files[-1].write_text(HEADER + "".join(half))
    with pytest.raises(DataError) as caught:
        import_files(workspace, files, options={"bad_prints": "error"}, **MARKET)
    (place,) = (
        f"{file}, row {row}, column"
        for file in files
        for row, line in enumerate(file.read_text().splitlines(), start=1)
        if ",3.0," in line
    )
    assert str(caught.value).startswith(place)
    dropped = import_files(workspace, files, **MARKET).quality
    (found,) = (f for f in dropped.findings if f.kind == "bad_prints")
    assert place.replace(f"{folder}/", "") in found.examples[0]


def test_a_level_that_stays_is_that_of_both_files_at_once(tmp_path, workspace):
    """A real move beyond the factor is dropped for six hours, however the rows arrive."""
    prices = [100.0] * 300 + [300.0] * 600
    files = [
        price_file(tmp_path / "a.csv", prices[:300]),
        price_file(tmp_path / "b.csv", prices[300:], start=300),
    ]
    for file in files:
        result = import_files(workspace, file, **MARKET)
    whole = load_bars(files, **MARKET)
    assert load_dataset(workspace, *NAMES) == whole
    assert (
        result.dropped
        == whole.quality.bad_prints
        == int(np.sum(np.array(prices) == 300)) - (len(whole) - 300)
    )


def test_a_manifest_does_not_grow_with_the_imports(tmp_path, workspace):
    sizes = []
    for k in range(12):
        file = price_file(tmp_path / "a.csv", [100.0] * 10, start=10 * k)
        folder = import_files(workspace, file, **MARKET).path
        sizes.append((folder / MANIFEST).stat().st_size)
    assert len(read_manifest(folder).imports) == 1
    assert sizes[-1] < sizes[1] + 200


def test_a_manifest_that_could_not_be_read_back_is_not_written(tmp_path, workspace, monkeypatch):
    folder = import_files(workspace, price_file(tmp_path / "a.csv", [100.0] * 9), **MARKET).path
    before = load_dataset(workspace, *NAMES)
    size = (folder / MANIFEST).stat().st_size
    monkeypatch.setattr(partitions, "_MAX_MANIFEST", size)
    more = price_file(tmp_path / "b.csv", [100.0] * 9, start=60)
    with pytest.raises(StoreError, match="a manifest may have"):
        import_files(workspace, more, **MARKET)
    assert load_dataset(workspace, *NAMES) == before


def test_another_calendar_of_a_dataset_is_said(tmp_path, workspace, caplog):
    """It changes gaps and the days of a year of every result, though no bar changes."""
    file = price_file(tmp_path / "a.csv", [100.0] * 90)
    import_files(workspace, file, options={"calendar": "24/7"}, **MARKET)
    more = price_file(tmp_path / "b.csv", [100.0] * 9, start=90)
    import_files(workspace, more, **MARKET)  # says nothing of a calendar: the declared one stays
    assert not caplog.records
    result = import_files(workspace, more, options={"calendar": "24/5"}, **MARKET)
    assert (result.before, result.after, result.changed) == (99, 99, True)
    (record,) = caplog.records
    assert "calendar of the dataset was 24/7 and is 24/5 now, as declared" in record.getMessage()
    assert load_dataset(workspace, *NAMES).calendar == "24/5"
    caplog.clear()
    import_files(workspace, more, options={"calendar": "24/7"}, **MARKET)
    assert "was 24/5 and is 24/7 now" in caplog.records[0].getMessage()
    assert load_dataset(workspace, *NAMES).calendar == "24/7"


@pytest.mark.parametrize("fault", ["schema", "oversize", "unreadable"])
def test_repair_leaves_alone_what_is_not_damaged(tmp_path, workspace, monkeypatch, fault):
    folder = import_files(workspace, price_file(tmp_path / "a.csv", [100.0] * 9), **MARKET).path
    path = folder / MANIFEST
    if fault == "schema":
        path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 2}))
    elif fault == "oversize":
        monkeypatch.setattr(partitions, "_MAX_MANIFEST", 100)
    else:
        path.rename(folder / "elsewhere")
        path.symlink_to(folder / "elsewhere")  # a read that the system refuses
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    with pytest.raises(ArtifactError, match="Nothing was changed"):
        repair_dataset(workspace, *NAMES)
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


def test_bars_under_a_broken_manifest_are_kept_and_can_be_imported(tmp_path, workspace, caplog):
    file = price_file(tmp_path / "a.csv", [100.0] * 9)
    folder = import_files(workspace, file, **MARKET).path
    whole = load_dataset(workspace, *NAMES)
    (folder / MANIFEST).write_text("{")
    assert repair_dataset(workspace, *NAMES) == (MANIFEST,)
    aside = folder / "broken-1"
    assert str(aside) in caplog.text
    assert (aside / MANIFEST).read_text() == "{"
    import_files(workspace, aside, **MARKET)
    assert load_dataset(workspace, *NAMES) == whole


def test_repair_and_imports_leave_what_is_known_of_the_calendar(tmp_path, workspace):
    file = price_file(tmp_path / "a.csv", [100.0] * 400, start=-200)
    folder = import_files(workspace, file, **MARKET).path
    before = read_manifest(folder)
    (folder / before.parts[0].file).write_bytes(b"x")
    assert len(repair_dataset(workspace, *NAMES)) == 1
    repaired = read_manifest(folder)
    assert repaired.quality.calendar_inferred
    assert (repaired.quality.rows, repaired.rows) == (200, 200)
    assert import_files(workspace, file, **MARKET).quality.calendar_inferred
    assert read_manifest(folder).identity == before.identity


def test_a_reader_outlasts_many_commits(tmp_path, workspace, monkeypatch):
    folder = import_files(workspace, price_file(tmp_path / "0.csv", [100.0] * 9), **MARKET).path
    real, left = partitions.read_bars, [4]

    def overtaken(folder, manifest, span):
        if left[0]:  # another process appends between the manifest and the parts
            left[0] -= 1
            file = price_file(tmp_path / "a.csv", [100.0], start=100 + left[0])
            import_files(workspace, file, **MARKET)
        return real(folder, manifest, span)

    monkeypatch.setattr(datasets, "read_bars", overtaken)
    assert len(load_dataset(workspace, *NAMES)) == read_manifest(folder).rows == 13


def test_a_resampled_dataset_takes_no_bars_and_says_when_it_is_old(tmp_path, workspace, caplog):
    import_files(workspace, price_file(tmp_path / "a.csv", [100.0] * 90), **MARKET)
    resample_dataset(workspace, *NAMES, "15m")
    coarse = (*NAMES[:2], "15m")
    file = tmp_path / "c.csv"
    file.write_text(HEADER + "".join(f"{YEAR_END + 900 * k},1,1,1,1,1\n" for k in range(9)))
    with pytest.raises(DataError, match="was resampled from bars of 1m.*ares data resample"):
        import_files(workspace, file, **{**MARKET, "timeframe": "15m"})
    load_dataset(workspace, *coarse)
    assert not caplog.records
    import_files(workspace, price_file(tmp_path / "b.csv", [100.0] * 90, start=90), **MARKET)
    load_dataset(workspace, *coarse)
    (record,) = caplog.records
    assert "`ares data resample --symbol BTCUSD" in record.getMessage()


def test_the_same_file_is_not_nothing_new_where_a_part_is_gone(tmp_path, workspace):
    file = price_file(tmp_path / "a.csv", [100.0] * 90)
    folder = import_files(workspace, file, **MARKET).path
    coarse = resample_dataset(workspace, *NAMES, "15m").path
    whole = load_dataset(workspace, *NAMES[:2], "15m")
    next(coarse.glob("2021-*")).unlink()
    resample_dataset(workspace, *NAMES, "15m")
    assert load_dataset(workspace, *NAMES[:2], "15m") == whole
    next(folder.glob("2021-*")).unlink()
    with pytest.raises(ArtifactError, match="ares data repair"):
        import_files(workspace, file, **MARKET)
