"""An interruption ends a search at once, and nothing that it touched is kept or believed."""

import contextlib
import signal

import pytest

from ares.backtest.strategies import SmaCross
from ares.core.config import SearchConfig
from ares.search import CachedBacktester, evaluator, run_search

CONFIG = SearchConfig(trials=72, initial_samples=24, generation=16, min_trades=5)
SPACE = SmaCross.space.with_bounds({"fast": (2, 15), "slow": (5, 60)})


def disguised(call):
    """What CPython makes of an interruption within compiled code."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt as error:
        raise SystemError("a result with an exception set") from error


def swallowed(call):
    """What a user's `except:` may make of it: results of another point."""
    with contextlib.suppress(BaseException):
        signal.raise_signal(signal.SIGINT)
    return call()


@pytest.mark.parametrize("way", [disguised, swallowed])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_interruption_that_is_lost_on_the_way_changes_nothing(
    engine, tmp_path, monkeypatch, way, at
):
    plain = run_search(engine, SPACE, CONFIG, seed=7)
    run, calls, before, after = evaluator.run_ranges, [], [], []

    def interrupted(arenas, strategy, prepared, points):
        calls.append(len(points))

        if len(calls) == at:
            return way(lambda: run(arenas, strategy, prepared, points[:1] * len(points)))
        return run(arenas, strategy, prepared, points)

    ledger, store = tmp_path / "ledger.sqlite", tmp_path / "cache.sqlite"
    with monkeypatch.context() as patch:
        patch.setattr(evaluator, "run_ranges", interrupted)
        cached = CachedBacktester(inner=engine, store=store)
        with pytest.raises(KeyboardInterrupt):
            run_search(cached, SPACE, CONFIG, seed=7, ledger=ledger, progress=before.append)
        cached.close()
    cached = CachedBacktester(inner=engine, store=store)
    found = run_search(cached, SPACE, CONFIG, seed=7, ledger=ledger, progress=after.append)
    cached.close()
    assert found.trials_digest == plain.trials_digest
    assert [now.trials for now in after if now.resumed] == [now.trials for now in before]
    assert len(before) < len(after)
