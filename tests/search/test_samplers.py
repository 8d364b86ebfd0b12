"""Every sampler that the configuration names keeps the same promises."""

import builtins
import math

import numpy as np
import pytest
from scipy.stats import qmc

from ares.backtest.result import Outcome
from ares.backtest.space import LessThan, ParameterSpace
from ares.core.config import SearchConfig
from ares.core.errors import ConfigError, InputError
from ares.core.identity import seed_for
from ares.search.objective import Score
from ares.search.sampling.samplers import sampler_of, sampler_version

NAMES = ("adaptive", "sobol", "random", "optuna-tpe", "optuna-cmaes")
SPACE = ParameterSpace.from_bounds(
    {
        "fast": (1, 20), "slow": (2, 60, "log"), "x": (0.0, 1.0), "y": (1e-4, 1.0, "log"),
        "kind": ["p", "q"], "fixed": (7, 7),
    },
    [LessThan("fast", "slow")],
)  # fmt: skip


def config(name, **changes):
    return SearchConfig(sampler=name, initial_samples=16, generation=8, **changes)


def value(p):
    return -((p["x"] - 0.3) ** 2) - abs(p["fast"] - 7) / 20 - 0.2 * (p["kind"] == "p")


def stopped(stage, revealed):
    return Score(-math.inf, Outcome.OK, None, stage=stage, revealed=revealed)


def searched(name, seed, rng=None, generations=8):
    sampler = sampler_of(config(name), SPACE, seed)
    asked = []
    for _ in range(generations):
        points = sampler.ask(8)
        asked += points
        pairs = [(p, value(p)) for p in points]
        pairs[2] = (points[2], -math.inf)
        pairs[3] = (points[3], stopped(2, value(points[3])))
        if rng is not None:
            rng.shuffle(pairs)
        sampler.tell(*zip(*pairs, strict=True))
    assert sampler.fallbacks == []
    return asked


@pytest.mark.parametrize("name", NAMES)
def test_seeds_decide_and_the_order_of_telling_does_not(name):
    asked = searched(name, 3)
    assert asked == searched(name, 3, rng=np.random.default_rng(0))
    assert asked != searched(name, 4)


@pytest.mark.parametrize("name", NAMES)
def test_points_are_new_canonical_and_meet_the_constraints(name):
    asked = searched(name, 9)
    assert len({tuple(p.items()) for p in asked}) == len(asked)
    for p in asked:
        assert list(p) == sorted(SPACE.parameters)
        assert p["fast"] < p["slow"]
        assert p["fixed"] == 7
        assert [type(p[k]) for k in ("fast", "slow", "x", "y", "kind")] == [
            int, int, float, float, str,
        ]  # fmt: skip


@pytest.mark.parametrize("name", ["adaptive", "optuna-tpe", "optuna-cmaes"])
def test_those_that_learn_get_better(name):
    gains = []
    for seed in range(3):
        values = [value(p) for p in searched(name, seed, generations=10)]
        gains.append(np.median(values[48:]) - np.median(values[:16]))
    assert min(gains) > 0.0


@pytest.mark.parametrize("name", NAMES)
def test_a_small_space_is_asked_in_full(name):
    space = ParameterSpace.from_bounds({"a": (1, 4), "b": ["x", "y", "z"]})
    sampler = sampler_of(config(name), space, 0)
    seen = []
    for _ in range(4):
        points = sampler.ask(8)
        seen += points
        sampler.tell(points, [float(p["a"]) for p in points])
    assert len({tuple(p.items()) for p in seen}) == 12
    assert sampler.exhausted


@pytest.mark.parametrize("name", NAMES)
def test_an_impossible_space_and_missing_scores_are_clear_errors(name):
    nothing = ParameterSpace.from_bounds({"a": (5, 9), "b": (1, 4)}, [LessThan("a", "b")])
    with pytest.raises(ConfigError, match="constraints"):
        sampler_of(config(name), nothing, 0).ask(1)
    with pytest.raises(InputError, match="one score per point"):
        sampler_of(config(name), SPACE, 0).tell([{}], [])


def test_sobol_points_are_those_of_scipy():
    space = ParameterSpace.from_bounds({"a": (0.0, 1.0), "b": (-2.0, 2.0), "c": (0, 9)})
    rng = np.random.default_rng(seed_for(5, "sobol"))
    rows = qmc.Sobol(3, scramble=True, seed=rng).random(64)
    for name in ("sobol", "adaptive"):
        sampler = sampler_of(SearchConfig(sampler=name, initial_samples=64), space, 5)
        points = sampler.ask(64)
        assert [p["a"] for p in points] == rows[:, 0].tolist()
        assert [p["b"] for p in points] == pytest.approx(-2.0 + 4.0 * rows[:, 1])
        assert [p["c"] for p in points] == np.floor(10 * rows[:, 2]).tolist()


def test_the_version_of_optuna_shapes_the_request():
    import optuna

    assert sampler_version(config("adaptive")) == sampler_version(config("random")) == ""
    assert sampler_version(config("optuna-tpe")) == f"optuna {optuna.__version__}"


def test_without_optuna_the_error_says_what_to_install(monkeypatch):
    load = builtins.__import__

    def without(name, *args, **options):
        if name.startswith("optuna"):
            raise ImportError(name)
        return load(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"ares-trainer\[optuna\]"):
        sampler_of(config("optuna-tpe"), SPACE, 0)
    with pytest.raises(ConfigError, match="Optuna"):
        sampler_version(config("optuna-cmaes"))
