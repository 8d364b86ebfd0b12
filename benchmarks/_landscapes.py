"""Landscapes on which `sampling.py` compares samplers: what is searched, and what a point is worth.

Each is a function of a number that draws another instance of the family: where the optimum lies,
how the axes are turned, or which bars are traded. Values are to be maximised; -inf is a bad point.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ares.backtest.space import LessThan, ParameterSpace

ORDER = ("timestamp", "open", "close", "high", "low", "volume")


@dataclass(frozen=True)
class Landscape:
    """A space, a function of a list of points, and the best value where it is known."""

    space: ParameterSpace
    values: object
    optimum: float | None = None


def _ripple(unit, shift, waves):
    """Between 0 and 1, and 0 where every coordinate lies at the middle of its wave."""
    return np.mean(
        [0.5 - 0.5 * math.cos(waves * math.pi * (u - s)) for u, s in zip(unit, shift, strict=True)]
    )


def _share(value, low, high, log=False):
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def mixed(instance):
    """As a strategy's: integers, floats, logarithms, a category, fast < slow.

    A broad hill, a higher narrow one elsewhere and two lower ones, ripples all over, and no value
    where a high threshold meets slow periods (too few trades). The best value is 1.
    """
    rng = np.random.default_rng([instance, 1])
    space = ParameterSpace.from_bounds(
        {
            "fast": (2, 60), "slow": (5, 300, "log"), "level": (0.0, 1.0),
            "stop": (0.002, 0.2, "log"), "hold": (1, 500, "log"), "lag": (0, 8),
            "kind": ["a", "b", "c"],
        },
        [LessThan("fast", "slow")],
    )  # fmt: skip
    peak = {
        "fast": int(rng.integers(5, 30)), "slow": int(rng.integers(60, 200)),
        "level": rng.uniform(0.1, 0.6), "stop": math.exp(rng.uniform(math.log(0.006), math.log(0.08))),
        "hold": int(rng.integers(10, 100)), "lag": int(rng.integers(0, 9)),
    }  # fmt: skip
    best_kind = "abc"[rng.integers(3)]

    def unit(p):
        return np.array([
            _share(p["fast"], 2, 60), _share(p["slow"], 5, 300, log=True), p["level"],
            _share(p["stop"], 0.002, 0.2, log=True), _share(p["hold"], 1, 500, log=True), p["lag"] / 8,
        ])  # fmt: skip

    top = unit(peak)
    hills = [(0.75, np.clip(top + rng.uniform(-0.3, 0.3, 6), 0.1, 0.9), 0.45)]
    hills += [(0.6, rng.uniform(0.1, 0.9, 6), 0.25) for _ in range(2)]

    def value(p):
        at = unit(p)
        if p["level"] > 0.75 or p["level"] + at[1] > 1.45:
            return -math.inf
        height = max(
            1.0 * math.exp(-np.sum((at - top) ** 2) / (2 * 0.2**2)) - 0.12 * (p["kind"] != best_kind),
            *(h * math.exp(-np.sum((at - c) ** 2) / (2 * w * w)) - 0.05 * (p["kind"] == best_kind)
              for h, c, w in hills),
        )  # fmt: skip
        return height - 0.08 * _ripple(at, top, 24)

    return Landscape(space, lambda points: [value(p) for p in points], 1.0)


def rotated(instance):
    """Eight floats, an ellipsoid of condition 1,000 in turned axes; the best value is 0."""
    rng = np.random.default_rng([instance, 2])
    turn, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    weights = 10.0 ** np.linspace(0, 3, 8)
    centre = rng.uniform(0.25, 0.75, 8)
    space = ParameterSpace.from_bounds({f"x{i}": (0.0, 1.0) for i in range(8)})

    def values(points):
        x = np.array([[p[f"x{i}"] for i in range(8)] for p in points]) - centre
        return list(-((x @ turn.T) ** 2 @ weights))

    return Landscape(space, values, 0.0)


def ackley(instance):
    """Held out: ten parameters, Ackley's function with a third of them whole numbers and one category."""
    rng = np.random.default_rng([instance, 3])
    bounds = {f"x{i}": (-1.0, 1.0) for i in range(6)}
    bounds |= {f"n{i}": (0, 20) for i in range(3)} | {"kind": ["a", "b", "c", "d"]}
    centre = rng.uniform(-0.7, 0.7, 6)
    whole, best = rng.integers(3, 18, 3), "abcd"[rng.integers(4)]

    def value(p):
        z = [4 * (p[f"x{i}"] - centre[i]) for i in range(6)]
        z += [(p[f"n{i}"] - int(whole[i])) / 2.5 for i in range(3)] + [p["kind"] != best]
        z = np.array(z, dtype=float)
        root, wave = math.sqrt(np.mean(z * z)), np.mean(np.cos(2 * math.pi * z))
        return 20 * math.exp(-0.2 * root) - 20 + math.exp(wave) - math.e

    return Landscape(
        ParameterSpace.from_bounds(bounds), lambda points: [value(p) for p in points], 0.0
    )


# -- real bars -----------------------------------------------------------------------------------


@functools.cache
def hourly(folder, symbol, year):
    from ares.market.files import load_bars
    from ares.market.resample import resample

    path = Path(folder) / f"bitfinex_{symbol}_1m_{year}.csv.gz"
    minutes = load_bars(path, columns=ORDER, symbol=symbol, exchange="bitfinex", timeframe="1m")
    return resample(minutes, "1h")


def _backtest(folder, symbol, year, strategy, bounds):
    from ares.search import EngineEvaluator

    engine = EngineEvaluator(hourly(folder, symbol, year), strategy)
    space = strategy.space.with_bounds(bounds)
    return Landscape(space, lambda points: [score.value for score in engine.evaluate(points)])


STOPS = {"stop_loss": (0.005, 0.2, "log"), "take_profit": (0.005, 0.5, "log")}
GUARDS = {"direction": ["long", "short", "both"], **STOPS, "stop_unit": ["fraction", "atr"]}


def sma_cross(folder, _instance):
    """SmaCross with stops and sides on hourly BTC/USD of 2015: six parameters."""
    from ares.backtest.strategies import SmaCross

    return _backtest(
        folder,
        "BTCUSD",
        2015,
        SmaCross(),
        {**STOPS, "direction": GUARDS["direction"], "cooldown": (0, 50)},
    )


def score_threshold(folder, instance):
    """ScoreThreshold on a noisy score of hourly BTC/USD of 2015: eight parameters."""
    from ares.backtest.scores import ScoreThreshold

    bars = hourly(folder, "BTCUSD", 2015)
    rng = np.random.default_rng([instance, 4])
    gone = np.diff(np.log(bars.close), prepend=np.log(bars.close[0]))
    ahead = np.convolve(np.roll(gone, -24), np.ones(24), "same")
    noise = np.convolve(rng.normal(size=len(bars) + 23), np.ones(24), "valid")
    score = 0.15 * (0.1 * ahead / ahead.std() + noise / noise.std())
    bounds = {**GUARDS, "max_hold": (2, 200, "log"), "cooldown": (0, 12)}
    return _backtest(folder, "BTCUSD", 2015, ScoreThreshold(score), bounds)


def donchian(folder, _instance):
    """Held out: DonchianBreakout with stops and sides on hourly ETH/USD of 2016: seven parameters."""
    from ares.backtest.strategies import DonchianBreakout

    bounds = {**GUARDS, "max_hold": (2, 500, "log")}
    return _backtest(folder, "ETHUSD", 2016, DonchianBreakout(), bounds)


SYNTHETIC = {"mixed": mixed, "rotated": rotated}
REAL = {"SmaCross": sma_cross, "ScoreThreshold": score_threshold}
HELD_OUT = {"ackley": ackley}
HELD_OUT_REAL = {"Donchian": donchian}


def landscape(name, instance, folder):
    """The landscape called `name`; real bars come from `folder`."""
    if name in SYNTHETIC | HELD_OUT:
        return (SYNTHETIC | HELD_OUT)[name](instance)
    return (REAL | HELD_OUT_REAL)[name](folder, instance)
