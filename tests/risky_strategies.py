"""Strategies that are a risk for the process they run in, loaded by file; and a script of theirs."""

import os
import signal
import sys
import time
from pathlib import Path

from ares.backtest.strategies import SmaCross


def values(scores):
    return [(s.value, s.outcome, s.blocks.to_bytes(), repr(s.error)) for s in scores]


class Plain:
    name = "plain"
    space = SmaCross.space

    def prepare(self, bars, *, max_gap=None):
        return SmaCross().prepare(bars, max_gap=max_gap)

    def signals(self, prepared, params):
        self.before(params)
        return SmaCross().signals(prepared, params)

    def before(self, params):
        pass


class Killer(Plain):
    """Ends its process at one point, every time."""

    fast = 13

    def before(self, params):
        if params["fast"] == self.fast:
            os._exit(3)


class Mortal(Plain):
    """Is killed at one point as often as there are lives in a folder."""

    fast = 13
    lives = ""

    def before(self, params):
        if params["fast"] != self.fast:
            return
        for life in Path(self.lives).iterdir():
            life.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


class Slow(Plain):
    seconds = 0.02

    def before(self, params):
        time.sleep(self.seconds)


class Raising(Plain):
    def before(self, params):
        if params["fast"] % 2:
            raise ValueError(f"odd: {params['fast']}")


def growth(blocks, days_per_year):
    """An objective of the user's."""
    return float(blocks.log_growth.sum()) * days_per_year


def engine_of(bars, name, **settings):
    """The plain engine with a strategy of this file."""
    from ares.backtest.costs import Costs
    from ares.backtest.user import load_strategy
    from ares.search import EngineEvaluator, Objective

    strategy = load_strategy(f"{__file__}:{name}")
    vars(strategy.inner).update(settings)
    return EngineEvaluator(
        bars, strategy, costs=Costs(0.0005, 0.0002), objective=Objective(min_trades=5)
    )


def main(workers):
    """Work for a minute; say which processes do."""
    from ares.search import ParallelBacktester
    from search.conftest import cyclic_bars

    engine = engine_of(cyclic_bars(), "Slow")
    points = [{"fast": 3 + i % 20, "slow": 25 + i} for i in range(6000)]
    with ParallelBacktester(2, inner=engine, workers=workers) as parallel:
        parallel.evaluate(points[:30])
        pool = parallel._executor(2)
        print(*getattr(pool, "pids", []), flush=True)
        parallel.evaluate(points)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(130)
