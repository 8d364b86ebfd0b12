import dataclasses
import json
import math
import sqlite3
import subprocess
import sys

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest

from ares.backtest.result import Outcome
from ares.backtest.space import ParameterSpace
from ares.backtest.strategies import SmaCross
from ares.core.config import SearchConfig
from ares.kernels.blocks import MEASURES
from ares.search import EngineEvaluator, Ledger, Objective, run_search
from ares.search.blocks import BlockResults
from ares.search.ledger import Trial
from ares.search.objective import Score
from ares.search.progressive import ProgressiveEvaluator
from ares.search.trials import export_parquet, storable, table_digest, to_optuna, trials_table

CONFIG = SearchConfig(trials=96, initial_samples=32, generation=16, min_trades=5)


def made_up(number, generation, rng, stage=None):
    blocks = BlockResults(
        np.full(16, 30), rng.normal(0, 0.01, (len(MEASURES), 16)), rng.integers(0, 9, 16)
    )
    score = Score(
        -math.inf if stage else float(rng.normal()), Outcome.OK, blocks, 0.1, stage,
        float(rng.normal()) if stage else math.nan,
    )  # fmt: skip
    params = {"a": float(rng.random()), "n": int(rng.integers(1, 99)), "kind": "x", "none": None}
    return Trial(number, generation, "sobol" if number < 4 else "adaptive", params, score, 0.001)


def filled(ledger, generations=3, size=4, seed=0):
    rng = np.random.default_rng(seed)
    trials = []
    for generation in range(generations):
        some = [
            made_up(len(trials) + i, generation, rng, stage=1 if i == 3 else None)
            for i in range(size)
        ]
        ledger.append(some)
        trials += some
    return trials


def test_what_was_written_is_read_again(tmp_path):
    with Ledger(tmp_path / "l.sqlite", "r") as ledger:
        trials = filled(ledger)
        assert [t for g in ledger.replay() for t in g] == trials
    with Ledger(tmp_path / "l.sqlite", "r") as again:
        assert (len(again), again.generations) == (12, 3)
        assert [t for g in again.replay() for t in g] == trials
        again.append([made_up(12, 3, np.random.default_rng(9))])
        assert len(again) == 13


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE trials SET value = 0.5 WHERE number = 5",
        "UPDATE trials SET params = '{}' WHERE number = 5",
        "UPDATE trials SET blocks = zeroblob(1152) WHERE number = 5",
        "UPDATE trials SET blocks = 'text' WHERE number = 5",
        "UPDATE trials SET outcome = x'00' WHERE number = 5",
        "UPDATE trials SET reason = '[' WHERE number = 5",
        "UPDATE trials SET reason = 7 WHERE number = 5",
        "UPDATE trials SET reason = '' WHERE number = 5",
        "DELETE FROM trials WHERE number = 7",
        "UPDATE generations SET digest = x'00' WHERE generation = 1",
        "UPDATE generations SET first = 5 WHERE generation = 1",
        "DELETE FROM generations WHERE generation = 1",
    ],
)
def test_everything_from_the_first_damaged_generation_on_is_dropped(tmp_path, damage, caplog):
    path = tmp_path / "l.sqlite"
    with Ledger(path, "r") as ledger:
        trials = filled(ledger)
    with sqlite3.connect(path) as database:
        database.execute(damage)
    database.close()
    with Ledger(path, "r") as again:
        assert [t for g in again.replay() for t in g] == trials[:4]
        more = filled_again = [made_up(4 + i, 1, np.random.default_rng(3)) for i in range(2)]
        again.append(more)
        assert [t for g in again.replay() for t in g] == trials[:4] + filled_again
    assert "generation 1 is damaged" in caplog.text


def test_the_table_has_the_trials_and_no_fact_of_the_day(tmp_path):
    tables = []
    for place in (None, tmp_path / "l.sqlite"):
        with Ledger(place, "r") as ledger:
            trials = filled(ledger)
            tables.append(trials_table(ledger))
    table, volatile = tables[0]
    assert table_digest(table) == table_digest(tables[1][0])
    assert not {"seconds", "source"} & set(table)
    assert list(volatile) == ["number", "source", "seconds"]
    for trial, row in zip(trials, table.to_dict("records"), strict=True):
        assert row["value"] == trial.score.value
        assert row["param_a"] == trial.params["a"]
        assert row["n_trades"] == trial.score.blocks.trades.sum()
        assert row["days"] == 480
        assert row["status"] == ("stopped" if trial.score.stage else "full")


def test_one_other_value_is_another_digest():
    with Ledger(None, "r") as ledger:
        filled(ledger)
        table = trials_table(ledger)[0]
    for name in table.columns:
        other = table.copy()
        value = other[name].iloc[2]
        other[name] = other[name].astype(object)
        other.loc[2, name] = 0.125 if isinstance(value, float) else "other"
        other[name] = other[name].infer_objects()
        assert table_digest(other) != table_digest(table), name


def test_parquet_holds_every_trial_with_its_block_results(tmp_path):
    with Ledger(tmp_path / "l.sqlite", "r") as ledger:
        trials = filled(ledger)
        assert export_parquet(ledger, tmp_path / "out.parquet") == 12
        table = trials_table(ledger)[0]
    found = pd.read_parquet(tmp_path / "out.parquet")
    shared = [name for name in table if name not in {"blocks", "param_none"}]
    pd.testing.assert_frame_equal(found[shared], table[shared], check_dtype=False)
    for trial, row in zip(trials, found.to_dict("records"), strict=True):
        for at, name in enumerate(MEASURES):
            assert row[f"block_{name}"].tolist() == trial.score.blocks.measures[at].tolist()
        assert row["block_trades"].tolist() == trial.score.blocks.trades.tolist()
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert str(schema.field("param_n").type) == "int64"


def test_an_export_that_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    target = tmp_path / "out.parquet"
    target.write_bytes(b"before")
    with Ledger(None, "r") as ledger:
        filled(ledger)
        monkeypatch.setenv("ARES_FAULT", "write.written:1:enospc")
        with pytest.raises(OSError, match=r"out\.parquet"):
            export_parquet(ledger, target)
    assert target.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_an_optuna_study_has_the_trials_their_states_and_the_winner(cyclic):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    engine = EngineEvaluator(cyclic, SmaCross(), objective=Objective(min_trades=5))
    evaluator = ProgressiveEvaluator(inner=engine)
    found = run_search(evaluator, SmaCross.space, CONFIG, seed=1)
    study = to_optuna(found.trials, SmaCross.space)
    assert len(study.trials) == len(found.trials)
    assert study.best_params == {n: found.best[n] for n in SmaCross.space.parameters}
    assert study.best_value == found.score.value
    states = {"full": "COMPLETE", "failed": "FAIL", "stopped": "PRUNED", "audited": "PRUNED"}
    for trial, row in zip(study.trials, found.trials.to_dict("records"), strict=True):
        assert trial.state.name == states[row["status"]]
        assert trial.user_attrs["outcome"] == row["outcome"]


def test_without_optuna_the_export_says_what_to_install(monkeypatch):
    import builtins

    real = builtins.__import__

    def lacking(name, *rest):
        if name == "optuna":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(ValueError, match=r"ares-trainer\[optuna\]"):
        to_optuna(pd.DataFrame(), SmaCross.space)


def test_a_second_reader_leaves_a_running_search_alone(tmp_path):
    path = tmp_path / "l.sqlite"
    with Ledger(path, "r") as writer:
        trials = filled(writer, generations=2)
        with Ledger(path, None) as reader:
            assert [t for g in reader.replay() for t in g] == trials
            writer.append([made_up(8, 2, np.random.default_rng(1))])
            assert len(reader) == 8
        assert export_parquet(path, tmp_path / "out.parquet") == 9
        assert len([*writer.replay()]) == 3
    with pytest.raises(ValueError, match="no such trial ledger"):
        export_parquet(tmp_path / "none.sqlite", tmp_path / "out.parquet")


def test_a_value_of_minus_zero_is_no_damage(tmp_path, caplog):
    trial = made_up(0, 0, np.random.default_rng(0))
    score = dataclasses.replace(trial.score, value=-0.0, error=-0.0, revealed=-0.0, audit=-0.0)
    with Ledger(tmp_path / "l.sqlite", "r") as ledger:
        ledger.append([dataclasses.replace(trial, score=score)])
    with Ledger(tmp_path / "l.sqlite", "r") as again:
        assert len(again) == 1
    assert not caplog.text


OPEN = """
import sys
from pathlib import Path
from ares.search.ledger import Ledger
from ares.search.scorestore import ScoreStore
Path(sys.argv[1], sys.argv[2]).touch()
while len(list(Path(sys.argv[1]).glob("ready*"))) < 4:
    pass
for i in range(30):
    Ledger(Path(sys.argv[1], f"{i}.ledger"), "r").close()
    store = ScoreStore(Path(sys.argv[1], f"{i}.cache"))
    assert store.failure is None, store.failure
    store.close()
"""


@pytest.mark.slow
def test_many_processes_may_open_a_new_file_at_once(tmp_path):
    started = [
        subprocess.Popen([sys.executable, "-c", OPEN, str(tmp_path), f"ready{i}"]) for i in range(4)
    ]
    assert [process.wait() for process in started] == [0] * 4


@pytest.mark.parametrize(
    "choices", [[None, 0.02, 0.05], ["none", 2, 5], [1, True], [True, "True"], [10**19, 3], ["a"]]
)
def test_categories_of_any_kind_are_searched_and_stored(tmp_path, choices):
    class Plain:
        def evaluate(self, points, blocks=None, *, of=None):
            rng = np.random.default_rng(0)
            return [made_up(0, 0, rng).score for _ in points]

    space = ParameterSpace.from_bounds({"kind": choices, "x": (0.0, 1.0)})
    config = SearchConfig(trials=20, initial_samples=16, generation=8)
    found = run_search(Plain(), space, config, seed=1)
    assert found.best["kind"] in choices
    storable(found.trials).to_parquet(tmp_path / "t.parquet")
    stored = pd.read_parquet(tmp_path / "t.parquet")["param_kind"].tolist()
    same = [
        a == b or (pd.isna(b) if a is None or b != b else a == json.loads(b))  # noqa: PLR0124
        for a, b in zip(found.trials["param_kind"].tolist(), stored, strict=True)
    ]
    assert all(same)


@pytest.mark.slow
def test_memory_stays_flat_while_a_ledger_grows(tmp_path):
    """60,000 trials take no more memory than 20,000: benchmarks/ledger.py writes a million."""
    process, grown, number = psutil.Process(), [], 0
    rng = np.random.default_rng(0)
    with Ledger(tmp_path / "l.sqlite", "r") as ledger:
        for _ in range(3):
            for _ in range(20_000 // 500):
                ledger.append([made_up(number + i, ledger.generations, rng) for i in range(500)])
                number += 500
            grown.append(process.memory_info().rss)
        assert export_parquet(ledger, tmp_path / "out.parquet") == 60_000
    assert grown[2] - grown[0] < 8 * 2**20  # the trials themselves take 60 MB
    with Ledger(tmp_path / "l.sqlite", "r") as again:
        assert len(again) == sum(len(page["number"]) for page in again.pages()) == 60_000
    assert pq.read_metadata(tmp_path / "out.parquet").num_rows == 60_000
