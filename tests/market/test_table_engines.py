"""Without pyarrow, and without fastparquet, too: virtual environments that really lack them."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys

import pandas as pd
import pytest

import lacking
import small_runs
from ares.market.dataframes import MemoryEfficientDataManager
from ares.market.files import load_bars
from ares.store.tables import find_table, read_table
from command_line import call_ares

pytestmark = pytest.mark.slow
NAMED = ("--symbol", "IXIC", "--exchange", "nasdaq", "--timeframe", "1d", "--json")
ABSENT = {"fastparquet": ["pyarrow"], "csv": ["pyarrow", *lacking.FASTPARQUET]}
SAME = (
    "csv", "gz", "optimised", "sample", "chunks", "faults", "trades", "metrics",
)  # fmt: skip


@pytest.fixture(scope="module", params=sorted(ABSENT))
def lacking_python(request, tmp_path_factory):
    """The engine that is left, and the Python of an environment that has nothing better."""
    folder = tmp_path_factory.mktemp("environment") / request.param
    added = lacking.FASTPARQUET if request.param == "fastparquet" else ()
    try:
        return request.param, lacking.environment_without(folder, ABSENT[request.param], added)
    except lacking.NotInstallableError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{error}, which is required when CI=true")
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same bars in every format, and a CSV with faults."""
    folder = tmp_path_factory.mktemp("bars")
    bars = small_runs.small_bars()[-600:]
    csv = small_runs.write_csv(bars, folder / "bars.csv")
    (folder / "bars.csv.gz").write_bytes(gzip.compress(csv.read_bytes()))
    frame = load_bars(csv, **lacking.MARKET).to_frame()
    frame.to_parquet(folder / "bars.parquet")
    frame.to_feather(folder / "bars.feather")
    manager = MemoryEfficientDataManager()
    small = manager.optimize_dataframe(frame.round({"volume": -8}))
    manager.save_to_parquet(small, folder / "small.parquet")
    lines = csv.read_text().splitlines()
    lines[10] = lines[10].replace(",", ",x", 1)
    faulty = [*lines[:50], lines[20], *lines[50:], "2019-01-02T00:00:00Z,1,0.5,2,1,nan"]
    (folder / "faulty.csv").write_text("\n".join(faulty) + "\n")
    (folder / "out").mkdir()
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    return lacking.answers_of(sys.executable, folder)


@pytest.fixture(scope="module")
def found(lacking_python, folder):
    return lacking.answers_of(lacking_python[1], folder)


def test_the_packages_are_absent(lacking_python):
    engine, python = lacking_python
    for name in ABSENT[engine]:
        if name != "fsspec":
            done = subprocess.run(
                [python, "-c", f"import {name}"], capture_output=True, text=True, check=False
            )
            assert f"No module named '{name}'" in done.stderr


def test_bars_frames_and_backtests_have_the_same_bits(lacking_python, found, expected):
    engine, _ = lacking_python
    assert expected["engine"] == "pyarrow"
    assert expected["fallbacks"] == []
    assert "pyarrow" not in expected["stderr"]
    assert found["engine"] == engine
    assert {name: found[name] for name in SAME} == {name: expected[name] for name in SAME}
    assert expected["csv"] == expected["parquet"] == expected["feather"] == expected["optimised"]
    assert "feather: a Feather file needs pyarrow. Install it" in found["feather"]
    assert found["stderr"].count("WARNED") == 1
    assert found["stderr"].count(found["fallbacks"][0]) == 1
    if engine == "fastparquet":
        assert found["saved"] == "fastparquet.parquet"
        assert found["parquet"] == expected["parquet"]
        assert found["small"] == expected["small"]
    else:
        assert found["saved"] == "csv.csv.gz"
        assert "neither is installed" in found["parquet"]


def test_what_was_saved_without_pyarrow_loads_with_it(lacking_python, folder, found):
    engine, _ = lacking_python
    manager = MemoryEfficientDataManager()
    path = folder / "out" / f"{engine}.parquet"
    assert found["engine"] == engine
    assert path.exists() == (engine == "fastparquet")
    frame = manager.load_from_parquet(path)
    pd.testing.assert_frame_equal(
        manager.restore(frame), load_bars(folder / "bars.csv", **lacking.MARKET).to_frame()
    )


def tables(run_dir, *stems):
    return {stem: read_table(find_table(run_dir, stem)) for stem in stems}


@pytest.fixture(scope="module")
def ours(folder, tmp_path_factory):
    """What a command answers with pyarrow, and its run; asked once for all environments."""
    done = {}

    def ask(command):
        if command not in done:
            home = tmp_path_factory.mktemp("ours")
            answer = call_ares(home, *command, "--data", folder / "bars.csv", *NAMED, home=home)
            done[command] = answer, small_runs.only_run(home)
        return done[command]

    return ask


@pytest.mark.parametrize(
    ("command", "stems"),
    [
        (("backtest", "--set", "fast=5", "--set", "slow=20"), ("trades", "equity")),
        (("backtest", "--set", "slow=599"), ("trades", "equity")),
        (("optimize", "--trials", "24", "--set", "search.min_trades=3"), ("trials", "equity")),
    ],
)
def test_commands_give_the_same_numbers_and_record_what_was_missing(
    lacking_python, folder, tmp_path, ours, command, stems
):
    engine, python = lacking_python
    before, before_run = ours(command)
    given = [*command, "--data", folder / "bars.csv", *NAMED]
    after = call_ares(tmp_path, *given, home=tmp_path, python=python)
    assert (before.code, after.code) == (0, 0), after.err
    assert "pyarrow" not in before.err
    (warned,) = [line for line in after.err.splitlines() if "pyarrow" in line]
    after_run = small_runs.only_run(tmp_path)
    with_it, without_it = (tables(run, *stems) for run in (before_run, after_run))
    for stem in stems:
        pd.testing.assert_frame_equal(without_it[stem], with_it[stem], check_exact=True)
    infos = [json.loads((run / "run_info.json").read_text()) for run in (before_run, after_run)]
    (recorded,) = infos[1]["fallbacks"]
    assert warned.removeprefix("Warning: ") == recorded
    assert infos[0]["fallbacks"] == []
    for key in ("metrics", "best", "trials_digest"):
        assert before.json.get(key) == after.json.get(key)
    suffix = ".csv.gz" if engine == "csv" else ".parquet"
    assert all(find_table(after_run, stem).name == stem + suffix for stem in stems)


def test_what_needs_pyarrow_says_so(lacking_python, folder, tmp_path):
    _, python = lacking_python
    market = ["--symbol", "IXIC", "--exchange", "nasdaq", "--timeframe", "1d"]
    done = call_ares(tmp_path, "import", folder / "bars.csv", *market, python=python)
    assert done.code == 2
    assert "a dataset needs pyarrow. Install it: pip install pyarrow." in done.err
    done = call_ares(tmp_path, "data", "check", folder / "faulty.csv", "--json", python=python)
    assert done.code == 0
    assert done.json["rows"] == 602


def test_a_training_run_has_the_same_models_and_numbers(lacking_python, finished, tmp_path):
    _, python = lacking_python
    home = tmp_path / "home"
    done = subprocess.run(
        [python, small_runs.__file__, str(home), str(finished.csv)],
        capture_output=True, text=True, check=False, timeout=500, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = small_runs.only_run(home)
    ours, theirs = small_runs.artifacts(finished.run_dir), small_runs.artifacts(run)
    names_libraries = {"manifest.json", "report.html"}
    kept = [name for name in ours if not name.endswith(".parquet") and name not in names_libraries]
    assert len(kept) > 20
    assert [name for name in kept if ours[name] != theirs.get(name)] == []
    stems = ("trades", "equity", "oos", "trials", "market")
    before, after = tables(finished.run_dir, *stems), tables(run, *stems)
    for stem in stems:
        pd.testing.assert_frame_equal(after[stem], before[stem], check_exact=True)
    info = json.loads((run / "run_info.json").read_text())
    assert len([note for note in info["fallbacks"] if "pyarrow" in note]) == 1
