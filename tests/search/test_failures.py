"""Why points failed: told apart by kind and place, the same on every machine and after a resume."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.backtest.strategies import SmaCross
from ares.core.config import SearchConfig
from ares.core.errors import InputError
from ares.core.secrets import register_secret
from ares.search.evaluator import EngineEvaluator
from ares.search.failures import Failures, Reason, place_of, told
from ares.search.objective import Objective
from ares.search.parallel import ParallelBacktester
from ares.search.study import run_search


def _fussy(blocks, days_per_year):
    """Raises at a part of the points: those that trade much."""
    trades = int(blocks.trades.sum())
    if trades > 30:
        raise ArithmeticError(f"{trades} trades are too many")
    return float(blocks.sum.sum())


def test_a_reason_names_what_was_raised_by_whom_and_where():
    try:
        _fussy(None, 365.0)
    except AttributeError as error:
        reason = Reason.of(error, "the objective", place_of(_fussy, error))
    line = _fussy.__code__.co_firstlineno + 2
    assert reason.text == (
        f"{__file__}:{line}: _fussy: the objective raised AttributeError: 'NoneType' object has no"
        " attribute 'trades'"
    )
    ours = Reason.of(InputError("it must be so", value=3, where="a.py:4", remedy="Mend it."), "x")
    assert ours == ("InputError", "a.py:4", "it must be so; got 3. Mend it")


def test_neither_addresses_nor_secrets_nor_control_characters_are_kept():
    register_secret("k3y-of-mine-0815")
    reason = Reason.of(ValueError(f"{object()!r} \x1b[2J k3y-of-mine-0815" + "y" * 999), "it")
    assert reason.said.startswith(
        "it raised ValueError: <object object at 0x...> \\x1b[2J [secret]"
    )
    assert len(reason.said) < 310


class _SpeechlessError(Exception):
    def __str__(self):
        raise RuntimeError("what it says cannot be made")

    __repr__ = __str__


class _Speechless(SmaCross):
    """Where `fast` is even, it raises what cannot be told."""

    def signals(self, prepared, params):
        if params["fast"] % 2 == 0:
            raise _SpeechlessError
        return super().signals(prepared, params)


def _speechless(blocks, days_per_year):
    if int(blocks.trades.sum()) > 30:
        raise _SpeechlessError
    return float(blocks.sum.sum())


def test_an_exception_that_cannot_say_what_it_is_fails_its_points_only(engine, tmp_path: Path):
    config = SearchConfig(trials=32, initial_samples=32, min_trades=1)
    problem = engine.problem
    mute = EngineEvaluator(problem.bars, _Speechless(), objective=Objective(_speechless, 0.0, 1))
    found = run_search(mute, SmaCross.space, config, ledger=tmp_path / "ledger.sqlite")
    assert [one.reason.kind for one in found.failures] == ["_SpeechlessError"] * 2
    assert {one.reason.said for one in found.failures} == {
        f"the {who} raised _SpeechlessError: (its message raises RuntimeError)"
        for who in ("strategy", "objective")
    }
    even = found.trials["param_fast"] % 2 == 0
    many = found.trials["n_trades"] > 30
    assert (found.trials["outcome"][even | many] == "NOT_FINITE").all()
    assert 0 < found.counts["raised"] == (even | many).sum() < 32


def test_a_message_of_any_length_costs_what_is_kept_of_it():
    error = ValueError("\n" * 4_000_000)
    tracemalloc.start()
    reason = Reason.of(error, "it")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(reason.said) < 310
    assert peak < 1 << 20


@pytest.mark.parametrize("raised", ["here", "by ares"])
def test_a_reason_can_be_written_whatever_it_is_called(raised):
    kind = type("\x1b[2J", (ValueError,), {})
    where = Path("b\udcff\n.py")
    error = InputError("it must be so", where=where) if raised == "by ares" else kind("no")
    reason = Reason.of(error, "it", str(where))
    assert json.loads(json.dumps(reason)) == list(reason)
    for text in reason:
        assert text.isprintable()
        text.encode()


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 9)), min_size=1))
def test_failures_are_counted_by_kind_whatever_their_numbers_are(said):
    failures = Failures()
    for number, (word, digit) in enumerate(said):
        failures.add(number, Reason("E", "x.py:1", f"{word} {digit}"), {"n": digit})
    found = failures.result()
    counts = Counter(word for word, _ in said)
    assert {one.reason.said[0]: len(one.numbers) for one in found} == counts
    assert len(found[0].numbers) == max(counts.values())
    assert sorted(n for one in found for n in one.numbers) == list(range(len(said)))
    for one in found:
        first = one.numbers[0]
        assert (one.reason.said, one.params["n"]) == (
            f"{said[first][0]} {said[first][1]}",
            said[first][1],
        )
    words = told(found)
    assert words.startswith(f"{len(said)} point")
    assert found[0].reason.text in words
    assert ("other kind" in words) == (len(found) > 1)


def test_workers_and_a_resumed_search_tell_the_same_failures(engine, points, tmp_path: Path):
    config = SearchConfig(trials=48, initial_samples=32, generation=16, min_trades=1)
    problem = engine.problem
    fussy = EngineEvaluator(problem.bars, problem.strategy, objective=Objective(_fussy, 0.0, 1))
    space = problem.strategy.space
    path = tmp_path / "ledger.sqlite"
    whole = run_search(fussy, space, config, ledger=path)
    assert whole.failures
    assert 0 < whole.counts["raised"] < 48
    assert whole.counts["trials"] == 48 == whole.counts["full"] + whole.counts["raised"]
    lost = {n for one in whole.failures for n in one.numbers}
    trials = whole.trials
    assert set(trials.loc[trials["n_trades"] > 30, "number"]) == lost
    again = run_search(fussy, space, config, ledger=path)
    assert again.failures == whole.failures
    with ParallelBacktester(2, inner=fussy, workers="threads") as parallel:
        assert run_search(parallel, space, config).failures == whole.failures
