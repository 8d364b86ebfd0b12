import sqlite3

import numpy as np
import pytest

from ares.backtest.costs import Costs
from ares.backtest.strategies import EmaCross
from ares.search import CachedBacktester, EngineEvaluator
from ares.search.blocks import BlockResults
from ares.search.points import point_of
from ares.search.scorestore import Request, ScoreStore, _row
from ares.search.verify import verify_sample


@pytest.fixture
def filled(engine, points, tmp_path):
    """A cache file with runs and flat blocks of one problem, and runs of another one."""
    path = tmp_path / "c.sqlite"
    other = EngineEvaluator(engine.problem.bars, EmaCross(), costs=Costs(0.001, 0.0))
    for inner in (engine, other):
        cached = CachedBacktester(inner=inner, store=path)
        cached.evaluate(points)
        cached.evaluate(points[:2], [3, 0, 1], of=8)
        cached.close()
    return path


def test_a_true_cache_is_found_true(filled, engine, points):
    store = ScoreStore(filled)
    report = verify_sample(store, engine.problem, sample=100, seed=0)
    assert (report.damaged, report.wrong) == (0, ())
    assert report.entries == report.checked == report.others == len(points) + 2
    assert verify_sample(store, engine.problem, sample=3, seed=0).checked == 3
    store.close()


@pytest.mark.parametrize("flat", [False, True])
def test_a_planted_lie_is_found_though_its_digest_fits(filled, engine, flat):
    with sqlite3.connect(filled) as database:
        key, problem, params, blocks, body = database.execute(
            "SELECT key, problem, params, blocks, body FROM results"
            f" WHERE problem=1 AND blocks {'!=' if flat else '='} '' LIMIT 1"
        ).fetchone()
        truth = BlockResults.from_bytes(body)
        measures = truth.measures.copy()
        measures[0, 0] = np.nextafter(measures[0, 0], 1.0)
        lie = BlockResults(truth.n, measures, truth.trades)
        row = _row(Request(key, params, blocks), lie, problem, 0)
        database.execute("INSERT OR REPLACE INTO results VALUES (?,?,?,?,?,?,?)", row)
    database.close()
    store = ScoreStore(filled)
    report = verify_sample(store, engine.problem, sample=100, seed=0)
    assert (report.damaged, len(report.wrong)) == (0, 1)
    assert report.wrong[0] == point_of(params)
    assert verify_sample(store, engine.problem, sample=100, seed=0).wrong == ()
    assert store.in_quarantine() == 1
    store.close()


def test_a_true_result_under_the_key_of_another_point_is_a_lie(filled, engine):
    with sqlite3.connect(filled) as database:
        rows = database.execute(
            "SELECT key, problem, params, blocks, body FROM results WHERE problem=1 AND blocks=''"
        ).fetchall()[:2]
        (key, problem, *_), (_, _, params, blocks, body) = rows
        row = _row(Request(key, params, blocks), BlockResults.from_bytes(body), problem, 0)
        database.execute("INSERT OR REPLACE INTO results VALUES (?,?,?,?,?,?,?)", row)
    database.close()
    store = ScoreStore(filled)
    assert len(verify_sample(store, engine.problem, sample=100, seed=0).wrong) == 1
    store.close()


def test_damage_anywhere_is_found_by_its_digest(filled, engine):
    with sqlite3.connect(filled) as database:
        database.execute("UPDATE results SET body = zeroblob(length(body)) WHERE problem=2")
    database.close()
    store = ScoreStore(filled)
    report = verify_sample(store, engine.problem, sample=0, seed=0)
    assert report.damaged == 14
    assert report.others == 0
    store.close()


def test_shrinking_drops_the_oldest_results_first(filled, engine, points):
    with sqlite3.connect(filled) as database:
        database.execute("UPDATE results SET written = written - 100 * (2 - problem)")
    database.close()
    store = ScoreStore(filled)
    each = 9 * 8 * engine.problem.n_blocks + 400
    gone = store.shrink(len(points) * each)
    assert 0 < gone < store.rows() + gone
    report = verify_sample(store, engine.problem, sample=0, seed=0)
    assert report.others > report.entries
    assert store.shrink(0) == report.others + report.entries
    assert store.rows() == 0
    store.close()
