import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.backtest.space import Int, LessThan, ParameterSpace
from ares.core.errors import ConfigError, InputError, ParameterError
from ares.search import AdaptiveSampler
from ares.search.sampling.process import Process

BOUNDS = {
    "slow": (2, 200),
    "fast": (1, 20),
    "x": (0.0, 1.0),
    "y": (1e-4, 1.0, "log"),
    "kind": ["p", "q", "r"],
    "flag": (0, 1),
}
SPACE = ParameterSpace.from_bounds(BOUNDS, [LessThan("fast", "slow")])


def bowl(p):
    return -(
        ((p["slow"] - 37) / 200) ** 2
        + ((p["fast"] - 13) / 20) ** 2
        + (p["x"] - 0.3) ** 2
        + ((math.log10(p["y"]) + 2) / 4) ** 2
        + 0.2 * (p["kind"] != "q")
        + 0.1 * (p["flag"] != 1)
    )


def ripples(p):
    waves = [(p["slow"] - 37) / 200, (p["fast"] - 13) / 20, p["x"] - 0.3]
    return -sum(w * w + 0.05 * (1 - math.cos(12 * math.pi * w)) for w in waves) - 0.2 * (
        p["kind"] != "q"
    )


def searched(landscape, seed, trials=192):
    sampler = AdaptiveSampler(64, space=SPACE, seed=seed, generation=64)
    best = -math.inf
    for _ in range(trials // 64):
        points = sampler.ask(64)
        values = [landscape(p) for p in points]
        sampler.tell(points, values)
        best = max(best, *values)
    assert sampler.fallbacks == []
    return best


def guessed(landscape, seed, trials=192):
    rng = np.random.default_rng(seed)
    best = -math.inf
    while trials:
        p = {
            "slow": int(rng.integers(2, 201)),
            "fast": int(rng.integers(1, 21)),
            "x": rng.random(),
            "y": 10 ** (-4 * rng.random()),
            "kind": "pqr"[rng.integers(3)],
            "flag": int(rng.integers(2)),
        }
        if p["fast"] < p["slow"]:
            best = max(best, landscape(p))
            trials -= 1
    return best


@pytest.mark.parametrize("landscape", [bowl, ripples])
def test_it_beats_random_search_at_equal_budgets(landscape):
    pairs = [(searched(landscape, s), guessed(landscape, s + 1000)) for s in range(8)]
    wins = sum(a > b for a, b in pairs)
    assert wins >= 6
    assert np.median([a for a, _ in pairs]) > np.median([b for _, b in pairs])


def in_space(p):
    return (
        list(p) == sorted(BOUNDS)
        and type(p["slow"]) is int
        and 2 <= p["slow"] <= 200
        and type(p["fast"]) is int
        and 1 <= p["fast"] <= 20
        and type(p["x"]) is float
        and 0.0 <= p["x"] <= 1.0
        and 1e-4 <= p["y"] <= 1.0
        and p["kind"] in ("p", "q", "r")
        and p["flag"] in (0, 1)
        and p["fast"] < p["slow"]
    )


@settings(max_examples=10)
@given(st.integers(0, 2**62), st.randoms(use_true_random=False))
def test_all_points_are_new_lie_in_the_space_and_meet_the_constraints(seed, random):
    sampler = AdaptiveSampler(16, space=SPACE, seed=seed, generation=32)
    seen = set()
    for _ in range(5):
        points = sampler.ask(24)
        assert all(map(in_space, points))
        seen |= {tuple(p.items()) for p in points}
        sampler.tell(points, [random.choice([0.0, 1.0, -math.inf, math.nan]) for _ in points])
    assert len(seen) == 120
    assert sampler.fallbacks == []


@given(st.permutations(range(8)))
@settings(max_examples=10)
def test_the_order_of_telling_does_not_matter(order):
    def ask_all(order):
        sampler = AdaptiveSampler(8, space=SPACE, seed=5, generation=8)
        asked = []
        for _ in range(4):
            points = sampler.ask(8)
            asked += points
            for i in order:
                sampler.update_trial_history(points[i], bowl(points[i]))
        return asked

    assert ask_all(order) == ask_all(range(8))


def test_the_seed_decides_and_the_batch_does_not():
    def first(seed, sizes):
        sampler = AdaptiveSampler(64, space=SPACE, seed=seed)
        return list(itertools.chain.from_iterable(sampler.ask(n) for n in sizes))

    assert first(1, [32]) == first(1, [1] * 32) == first(1, [5, 20, 7])
    assert first(1, [32]) != first(2, [32])


def test_sobol_points_cover_better_than_chance():
    sampler = AdaptiveSampler(64, space=ParameterSpace.from_bounds({"x": (0.0, 1.0)}), seed=3)
    cells = {int(p["x"] * 64) for p in sampler.ask(64)}
    assert len(cells) == 64  # one per cell: 64 random points fill about 41


def test_suggestions_one_by_one_learn_as_generations_do():
    best = []
    for seed in range(3):
        sampler = AdaptiveSampler(32, seed=seed, generation=16)
        values = []
        for _ in range(128):
            point = sampler.suggest_parameters({"a": (1, 50), "b": (-1.0, 1.0)})
            values.append(-((point["a"] - 20) ** 2) / 100 - (point["b"] - 0.5) ** 2)
            sampler.update_trial_history(point, values[-1])
        best.append((max(values[:32]), max(values)))
    assert all(after > before for before, after in best)


def test_bounds_are_set_once():
    sampler = AdaptiveSampler(8)
    sampler.suggest_parameters({"a": (1, 5)})
    sampler.suggest_parameters({"a": (1, 5)})
    with pytest.raises(ParameterError, match="one space"):
        sampler.suggest_parameters({"a": (1, 6)})
    with pytest.raises(ParameterError):
        AdaptiveSampler(8, space=SPACE).suggest_parameters({"a": (1, 5)})


def test_without_a_space_it_cannot_be_asked():
    with pytest.raises(InputError, match="space"):
        AdaptiveSampler(8).ask(1)
    for wrong in ({"initial_samples": 0}, {"generation": 0}):
        with pytest.raises(ConfigError):
            AdaptiveSampler(**{"initial_samples": 8, **wrong})


def test_history_told_before_the_space_is_known_counts():
    sampler = AdaptiveSampler(4, seed=1)
    known = AdaptiveSampler(4, seed=1).suggest_parameters({"a": (1, 500)})
    sampler.update_trial_history(known, 1.0)
    assert sampler.suggest_parameters({"a": (1, 500)}) != known


def test_points_that_are_not_of_the_space_are_refused():
    sampler = AdaptiveSampler(4, space=SPACE)
    good = sampler.ask(1)[0]
    for wrong in ({"kind": "z"}, {"fast": 1.5}, {"x": "much"}):
        with pytest.raises(ParameterError):
            sampler.tell([{**good, **wrong}], [0.0])
    with pytest.raises(ParameterError):
        sampler.tell([{"fast": 3}], [0.0])
    with pytest.raises(InputError, match="one score per point"):
        sampler.tell([good], [])


def test_a_small_space_is_asked_in_full_and_then_said_to_be_exhausted():
    sampler = AdaptiveSampler(4, space=ParameterSpace.from_bounds({"a": (1, 3), "b": ["x", "y"]}))
    seen = []
    for _ in range(4):
        points = sampler.ask(4)
        seen += points
        sampler.tell(points, [float(p["a"]) for p in points])
    assert {(p["a"], p["b"]) for p in seen[:6]} == set(itertools.product((1, 2, 3), "xy"))
    assert sampler.exhausted


def test_a_single_point_and_an_impossible_space():
    fixed = AdaptiveSampler(2, space=ParameterSpace.from_bounds({"a": (3, 3), "b": ["k"]}))
    assert fixed.ask(4) == [{"a": 3, "b": "k"}] * 4
    nothing = ParameterSpace.from_bounds({"a": (5, 9), "b": (1, 4)}, [LessThan("a", "b")])
    with pytest.raises(ConfigError, match="constraints"):
        AdaptiveSampler(2, space=nothing).ask(1)


def test_points_that_stay_untold_do_not_block_it():
    sampler = AdaptiveSampler(4, space=SPACE, generation=8)
    points = sampler.ask(40)
    assert len({tuple(p.items()) for p in points}) == 40


def test_a_failing_sampler_goes_on_with_sobol_points_and_says_so(monkeypatch, caplog):
    def broken(self, *args, **options):
        raise ArithmeticError("covariance")

    monkeypatch.setattr(Process, "see", broken)
    sampler = AdaptiveSampler(8, space=SPACE, seed=9, generation=8)
    points = sampler.ask(8)
    sampler.tell(points, [bowl(p) for p in points])
    later = sampler.ask(8) + sampler.ask(8)
    assert all(map(in_space, later))
    assert len(sampler.fallbacks) == 1
    assert "covariance" in sampler.fallbacks[0]
    assert [r.message for r in caplog.records] == sampler.fallbacks


@pytest.mark.parametrize("dimensions", [1, 2, 50])
def test_any_number_of_dimensions(dimensions):
    space = ParameterSpace.from_bounds({f"p{i}": (0.0, 1.0) for i in range(dimensions)})
    sampler = AdaptiveSampler(16, space=space, generation=16)
    for _ in range(4):
        points = sampler.ask(16)
        sampler.tell(points, [-sum(p.values()) for p in points])
    assert sampler.fallbacks == []


def ask_all(space, generations=4, seed=5, told=lambda p: -sum(map(hash, p.values())) % 97):
    sampler = AdaptiveSampler(16, space=space, seed=seed, generation=16)
    asked = []
    for _ in range(generations):
        points = sampler.ask(16)
        asked += points
        sampler.tell(points, [told(p) for p in points])
    assert sampler.fallbacks == []
    return asked


def test_a_replay_from_what_was_told_gives_the_same_points():
    sampler = AdaptiveSampler(32, space=SPACE, seed=11, generation=16)
    ledger = []
    for _ in range(6):
        points = sampler.ask(16)
        values = [bowl(p) for p in points]
        sampler.tell(points, values)
        ledger.append((points, values))
    again = AdaptiveSampler(32, space=SPACE, seed=11, generation=16)
    for points, values in ledger[:4]:
        assert again.ask(16) == points
        # A ledger gives back equal dicts, not the same ones, in any order of names.
        again.tell([dict(reversed(p.items())) for p in points], values)
    assert again.ask(16) == ledger[4][0]


@pytest.mark.parametrize("value", [0.0, -math.inf, math.nan])
def test_scores_that_say_nothing_leave_new_sobol_points(value):
    points = ask_all(SPACE, told=lambda p: value)
    assert len({tuple(p.items()) for p in points}) == 64
    assert all(map(in_space, points))
    stream = AdaptiveSampler(64, space=SPACE, seed=5).ask(64)
    assert points == stream


def test_an_optimum_on_the_bounds_is_reached_exactly():
    bounds = {"x": (0.0, 1.0), "y": (1e-4, 1.0, "log"), "n": (1, 400), "m": (3, 900, "log")}
    sampler = AdaptiveSampler(32, space=ParameterSpace.from_bounds(bounds), seed=2, generation=16)
    best = {}
    for _ in range(12):
        points = sampler.ask(16)
        values = [p["x"] - math.log(p["y"]) + p["n"] / 400 - math.log(p["m"]) for p in points]
        sampler.tell(points, values)
        for name in bounds:
            best.setdefault(name, set()).update(p[name] for p in points)
    assert max(best["x"]) == 1.0
    assert min(best["y"]) == 1e-4
    assert max(best["n"]) == 400
    assert min(best["m"]) == 3


def test_integers_of_any_size_stay_integers_inside_their_bounds():
    big = {
        "a": Int(10**17, 10**18),
        "b": Int(-(10**30), 10**30),
        "c": Int(1, 10**25, log=True),
    }
    for point in ask_all(ParameterSpace(big)):
        assert all(type(v) is int for v in point.values())
        assert 10**17 <= point["a"] <= 10**18
        assert abs(point["b"]) <= 10**30
        assert 1 <= point["c"] <= 10**25


def test_categories_alone_can_be_searched():
    space = ParameterSpace.from_bounds({f"c{i}": [True, 1, "1", None] for i in range(5)})
    points = ask_all(space, told=lambda p: sum(v is True for v in p.values()))
    kinds = {tuple((type(v), v) for v in p.values()) for p in points}
    assert len(kinds) == 64
    late = np.mean([sum(v is True for v in p.values()) for p in points[32:]])
    assert late > 1.5 > np.mean([sum(v is True for v in p.values()) for p in points[:16]])


@settings(max_examples=15)
@given(
    st.floats(-1e300, 1e300).flatmap(
        lambda low: st.tuples(st.just(low), st.floats(low, 1e300), st.floats(1e-9, 1e9))
    )
)
def test_scores_of_any_size_are_fine(spans):
    low, high, factor = spans
    space = ParameterSpace.from_bounds({"x": (low, high), "y": (0.0, 1.0)})
    points = ask_all(space, generations=3, told=lambda p: factor * p["y"] * 1e290)
    assert all(low <= p["x"] <= high for p in points)


def test_a_score_may_be_told_again():
    sampler = AdaptiveSampler(16, space=SPACE, seed=3, generation=8)
    points = sampler.ask(16)
    sampler.tell(points, [bowl(p) for p in points])
    sampler.ask(8)
    sampler.tell(points[:1], [100.0])
    known = sampler._parts.told
    known.settle()
    worths = known.best(1)[1]
    assert worths.tolist() == [100.0]
    assert len(known) == 16


def test_a_point_costs_few_bytes_beside_its_key():
    import tracemalloc

    space = ParameterSpace.from_bounds({f"p{i}": (0.0, 1.0) for i in range(8)})
    told = AdaptiveSampler(16, space=space)._parts.told
    keys = [tuple(row) for row in np.random.default_rng(0).random((60_000, 8)).tolist()]
    tracemalloc.start()
    for key in keys:
        told.tell(key, key[0])
    told.settle()
    used = tracemalloc.get_traced_memory()[0] / len(keys)
    tracemalloc.stop()
    assert used < 200 + 33 + 64  # the packed key itself: 33 of Python, 8 a parameter
