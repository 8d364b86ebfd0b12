from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ares.backtest.space import ParameterSpace
from ares.search.importance import parameter_importance

SPACE = ParameterSpace.from_bounds(
    {"strong": (0.0, 1.0), "weak": (1, 50), "none": (0.0, 1.0), "side": ["long", "short"]}
)


def _trials(count: int = 200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    strong, none = rng.random(count), rng.random(count)
    weak = rng.integers(1, 51, count)
    side = np.array(["long", "short"], dtype=object)[rng.integers(0, 2, count)]
    value = 3 * np.sin(3 * strong) + 0.02 * weak + rng.normal(0, 0.05, count)
    return pd.DataFrame(
        {
            "param_strong": strong,
            "param_weak": weak,
            "param_none": none,
            "param_side": side,
            "stage": np.zeros(count, dtype=np.int64),
            "value": value,
            "audit": np.nan,
        }
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_what_decides_the_score_comes_first_and_what_does_not_has_no_share(seed: int) -> None:
    found = parameter_importance(_trials(seed=seed), SPACE)
    assert found is not None
    assert found.names[:2] == ("strong", "weak")
    shares = dict(zip(found.names, found.shares, strict=True))
    assert shares["strong"] > 3 * shares["weak"] > 0
    assert abs(shares["none"]) < 0.05
    assert abs(shares["side"]) < 0.05
    assert found.r2 > 0.7
    assert found.points == 200


def test_a_choice_that_decides_is_found() -> None:
    frame = _trials()
    frame["value"] += np.where(frame["param_side"] == "short", 20.0, 0.0)
    found = parameter_importance(frame, SPACE)
    assert found is not None
    assert found.names[0] == "side"


def test_points_without_a_score_rank_last_whatever_they_are() -> None:
    frame = _trials()
    worst = frame["param_weak"] > 25
    answers = []
    for bad in (-np.inf, np.nan):
        frame["value"] = np.where(worst, bad, frame["param_strong"])
        answers.append(parameter_importance(frame, SPACE))
    assert answers[0] == answers[1]
    assert answers[0] is not None
    assert answers[0].names[0] == "weak"  # it decides whether there is a score at all


def test_any_monotone_change_of_the_scores_changes_nothing() -> None:
    frame = _trials()
    first = parameter_importance(frame, SPACE)
    frame["value"] = np.exp(5 * frame["value"]) - 7
    assert parameter_importance(frame, SPACE) == first


def test_stopped_points_are_left_out_and_audited_ones_count() -> None:
    frame = _trials()
    frame.loc[:99, "stage"] = 1
    frame.loc[:19, "audit"] = frame.loc[:19, "value"]
    frame.loc[:99, "value"] = -np.inf
    found = parameter_importance(frame, SPACE)
    assert found is not None
    assert found.points == 120
    nonsense = frame.copy()
    nonsense.loc[20:99, "param_strong"] = 0.123
    assert parameter_importance(nonsense, SPACE) == found


def test_too_little_to_say_is_said_as_none() -> None:
    frame = _trials()
    assert parameter_importance(frame.head(24), SPACE) is None
    assert parameter_importance(frame.assign(value=-np.inf), SPACE) is None
    fixed = frame.assign(param_weak=3, param_none=0.5, param_side="long")
    assert parameter_importance(fixed, SPACE) is None
