"""What a sampler remembers sorts as the scores do, whatever the order of telling."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ares.backtest.result import Outcome
from ares.backtest.space import ParameterSpace
from ares.search.objective import Score
from ares.search.sampling.coordinates import Coordinates
from ares.search.sampling.told import Told, rank_of

SPACE = ParameterSpace.from_bounds({"a": (0, 10**6)})
FULL = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([-math.inf, math.nan]))


def score(value, stage, revealed):
    return Score(value, Outcome.OK, None, stage=stage, revealed=revealed)


SCORES = st.one_of(
    FULL,
    st.builds(score, st.just(-math.inf), st.integers(1, 4), st.floats(-5, 5)),
    st.builds(score, st.floats(-5, 5), st.none(), st.just(math.nan)),
)


@given(st.lists(st.lists(SCORES, min_size=1, max_size=12), min_size=1, max_size=5), st.randoms())
def test_the_order_by_worth_is_a_stable_sort_and_tells_may_come_in_any_order(generations, random):
    def order(shuffled):
        told, number = Told(Coordinates(SPACE)), 0
        for scores in generations:
            pairs = [((number + i,), s) for i, s in enumerate(scores)]
            for key, _ in pairs:
                told.ask(key)
            number += len(pairs)
            if shuffled:
                random.shuffle(pairs)
            assert told.waiting == len(pairs)
            for key, s in pairs:
                told.tell(key, s)
            assert told.waiting == 0
            told.settle()
        return told

    plain, mixed = order(shuffled=False), order(shuffled=True)
    units, worths = plain.best(100)
    assert [a.tobytes() for a in mixed.best(100)] == [units.tobytes(), worths.tobytes()]
    assert sorted(worths.tolist(), reverse=True) == worths.tolist()
    assert len(plain) == sum(map(len, generations))


@given(st.lists(SCORES, min_size=1, max_size=20))
def test_within_a_generation_worths_sort_as_ranks_do(scores):
    told = Told(Coordinates(SPACE))
    for i, s in enumerate(scores):
        told.tell((i,), s)
    told.settle()
    worths = told.of(np.arange(len(scores)))[1]
    by_worth = sorted(range(len(scores)), key=lambda i: (worths[i], -i))
    by_rank = sorted(range(len(scores)), key=lambda i: (rank_of(scores[i]), -i))
    assert [rank_of(scores[i]) for i in by_worth] == [rank_of(scores[i]) for i in by_rank]
    assert not np.isnan(worths).any()


def test_the_spread_is_the_best_and_evenly_ranked_others():
    told = Told(Coordinates(SPACE))
    for i in range(100):
        told.tell((i,), float(i))
    told.settle()
    assert told.spread(4, 3)[1].tolist() == [99.0, 98.0, 97.0, 96.0, 95.0, 48.0, 0.0]
    assert told.spread(90, 30)[1].tolist() == [float(99 - i) for i in range(100)]
