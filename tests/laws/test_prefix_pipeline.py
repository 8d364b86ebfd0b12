"""No look-ahead along the forward chain: what is fitted or said before a bar cannot know it."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ares.backtest.costs import Costs
from ares.core.identity import fingerprint
from ares.learn import features
from ares.learn.features_core import Feature
from ares.learn.regime_chain import regime_probabilities
from ares.learn.track import analyst_track, make_dataset, track_matrix
from ares.model.artifact import model_files
from ares.model.trading_model import join
from ares.pipeline import program
from ares.pipeline.program import Trained, recipe_of, refit
from ares.pipeline.step import Runner
from ares.pipeline.values import Tools
from ares.validate.leakage import check_prefix, random_cuts
from small_runs import N_BARS, small_bars, small_config, train, write_csv

if TYPE_CHECKING:
    from pathlib import Path

    from ares.market.bars import Bars
    from small_runs import Finished

pytestmark = [pytest.mark.slow, pytest.mark.laws]

TOOLS = Tools(1, None, 100, None, lambda *_: None, lambda _: None)
COSTS = Costs(fee=0.0001, slippage=0.0002)


def trained_on(bars: Bars, **changed: Any) -> Trained:
    options = {key.replace("__", "."): value for key, value in changed.items()}
    return refit(Runner(None), bars, recipe_of(small_config(options), COSTS), TOOLS)


def perturbed(bars: Bars, start: int, seed: int) -> Bars:
    """The same market up to `start`, another one from there on, with the same decimals."""
    rng = np.random.default_rng(seed)
    factor = np.exp(np.cumsum(rng.normal(0.0, 0.03, len(bars) - start)))
    prices = {}
    for name in ("open", "high", "low", "close"):
        values = np.array(getattr(bars, name))
        values[start:] = np.round(values[start:] * factor, 2)
        prices[name] = values
    volume = np.array(bars.volume)
    volume[start:] = np.round(volume[start:] * rng.uniform(0.2, 5.0, len(bars) - start))
    return dataclasses.replace(bars, **prices, volume=volume)


def fitted_for(trained: Trained, chunks: int) -> str:
    """Digest of all that was fitted for the first `chunks` chunks."""
    return fingerprint(
        (
            trained.regimes.models[:chunks],
            [fit.specialists[:chunks] for fit in trained.fits],
            [ensemble.stackers[:chunks] for ensemble in trained.ensembles],
            [calibration.calibrators[:chunks] for calibration in trained.calibrations],
        )
    )


def said_before(trained: Trained, row: int) -> dict[str, np.ndarray]:
    """Everything that was predicted at base bars before `row`; the base is the only timeframe."""
    found = {
        "regime": trained.splits.regime,
        "p_up": trained.calibrated.p_up,
        "confidence": trained.calibrated.confidence,
        "side": trained.calibrated.side,
        "score": trained.calibrated.score,
    }
    for name, fit in zip(("plain", "analyst", "tactician"), trained.fits, strict=True):
        found[f"{name} specialists"] = fit.predictions
    for name, ensemble in zip(("analyst", "tactician"), trained.ensembles, strict=True):
        found[f"{name} ensemble"] = ensemble.p
    for name, calibration in zip(("analyst", "tactician"), trained.calibrations, strict=True):
        found[f"{name} calibrated"] = calibration.p
    return {name: values[:row] for name, values in found.items()}


@pytest.fixture(scope="module")
def bars() -> Bars:
    return small_bars()[: N_BARS * 8 // 10]


@pytest.fixture(scope="module", params=[1500, 700], ids=["all rows", "thinned rows"])
def original(request: pytest.FixtureRequest, bars: Bars) -> tuple[dict[str, int], Trained]:
    changed = {"analyst__max_rows": request.param, "tactician__max_rows": request.param}
    return changed, trained_on(bars, **changed)


@pytest.mark.parametrize(("chunk", "offset"), [(1, 0), (2, 0), (2, 37), (3, 0), (3, 150)])
def test_bars_after_a_border_change_nothing_before_it(
    bars: Bars, original: tuple[dict[str, int], Trained], chunk: int, offset: int
) -> None:
    changed, before = original
    start = int(before.splits.chain.borders[chunk]) + offset
    after = trained_on(perturbed(bars, start, seed=chunk), **changed)
    assert fitted_for(after, chunk + 1) == fitted_for(before, chunk + 1)
    left, right = said_before(before, start), said_before(after, start)
    for name, values in left.items():
        np.testing.assert_array_equal(values, right[name], err_msg=name)
    assert np.isfinite(left["analyst specialists"]).any()
    # The perturbation is felt where it may be, or this test would prove nothing.
    if offset == 0 and chunk < 3:
        assert fitted_for(after, chunk + 2) != fitted_for(before, chunk + 2)
    assert not np.array_equal(after.datasets[0].net_return, before.datasets[0].net_return)


def test_no_training_label_ends_inside_embargo_or_chunk(
    original: tuple[dict[str, int], Trained],
) -> None:
    _, trained = original
    chain = trained.splits.chain
    assert chain.embargo >= 1
    for dataset in trained.datasets:
        assert (dataset.t1 > dataset.t0).all()
        for chunk in range(len(chain)):
            rows = chain.training_rows(chunk, dataset.t1)
            border = int(chain.borders[chunk])
            assert (dataset.t1[rows] + chain.embargo < border).all()
            assert rows.sum() < len(rows)  # some rows are always out


def test_the_last_chunks_chained_answer_is_the_final_models(
    bars: Bars, original: tuple[dict[str, int], Trained]
) -> None:
    """Training and serving are one path: the saved model says what was optimised on."""
    _, trained = original
    start = int(trained.splits.chain.borders[-2])
    model, last = trained.model, trained.calibrations
    chained = [chain.calibrators[-2] for chain in last]  # the last chunk's own, not the final one
    serving = dataclasses.replace(
        model,
        analyst=dataclasses.replace(model.analyst, calibrator=chained[0]),
        tactician=dataclasses.replace(model.tactician, calibrator=chained[1]),
    )
    found = serving.signals(bars)
    for name in ("p_up", "confidence", "side", "score"):
        expected = getattr(trained.calibrated, name)[start:]
        np.testing.assert_array_equal(getattr(found, name)[start:], expected, err_msg=name)


def test_the_search_sees_no_score_before_the_chain(
    original: tuple[dict[str, int], Trained],
) -> None:
    _, trained = original
    signals, borders = trained.calibrated, trained.splits.chain.borders
    assert np.isnan(signals.score[: borders[0]]).all()
    assert signals.first_row >= borders[0]
    assert np.isfinite(signals.score[signals.first_row])
    assert len(trained.plan.daily_returns) == len(signals.score) - signals.first_row
    assert trained.plan.full_runs.shape[0] == len(trained.plan.daily_returns)


def test_scores_before_the_first_row_do_not_shape_the_plan(
    bars: Bars, original: tuple[dict[str, int], Trained]
) -> None:
    changed, trained = original
    score = np.array(trained.calibrated.score)
    score[: trained.calibrated.first_row] = 0.9
    signals = dataclasses.replace(trained.calibrated, score=score)
    recipe = recipe_of(small_config({k.replace("__", "."): v for k, v in changed.items()}), COSTS)
    plan = program.steps.optimize_parameters(
        bars, signals, trained.tracks[1], recipe.search, COSTS, True, None, recipe.seed, TOOLS
    )
    assert plan.params == trained.plan.params
    assert plan.trials_digest == trained.plan.trials_digest
    np.testing.assert_array_equal(plan.daily_returns, trained.plan.daily_returns)


def test_the_holdout_reaches_no_step_before_the_comparison(
    finished: Finished, tmp_path: Path
) -> None:
    start = N_BARS - N_BARS // 5
    csv = write_csv(perturbed(finished.bars, start, seed=9), tmp_path / "bars.csv")
    result = train(tmp_path / "home", csv)
    before = {(r.scope, r.number): r.digest for r in finished.result.steps}
    after = {(r.scope, r.number): r.digest for r in result.steps}
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {("", 1), ("", 15), ("", 16)}


def test_regimes_and_features_obey_the_prefix_law(
    bars: Bars, original: tuple[dict[str, int], Trained]
) -> None:
    _, trained = original
    cuts = (*random_cuts(len(bars), 6, seed=1), *trained.splits.chain.borders[:-1])
    regimes = trained.regimes
    found = check_prefix(
        lambda given: [
            regime_probabilities(model, regimes.timeframe, given) for model in regimes.models
        ],
        bars,
        cuts,
        name="regimes",
    )
    found += check_prefix(
        lambda given: track_matrix(given, trained.tracks[0]), bars, cuts, name="features"
    )
    assert found == []


@pytest.mark.parametrize("cut", [600, 1001, 1600])
def test_labels_known_at_a_cut_are_the_labels_of_all_bars(bars: Bars, cut: int) -> None:
    analyst = analyst_track("1d", small_config({"analyst.max_rows": 50_000}).analyst, 60)
    whole = make_dataset(bars, analyst, costs=COSTS, fill="next_open")
    part = make_dataset(bars[:cut], analyst, costs=COSTS, fill="next_open")
    known = whole.t1 < cut
    assert known.sum() > 200
    for name in ("rows", "t0", "t1", "X", "y", "net_return"):
        full, cut_off = getattr(whole, name)[known], getattr(part, name)
        np.testing.assert_array_equal(cut_off[: len(full)], full, err_msg=name)
        assert len(cut_off) == len(full)
    # Weights agree where no label that is still open at the cut overlaps.
    early = whole.t1 < cut - 2 * analyst.horizon
    np.testing.assert_array_equal(part.weight[early[known]], whole.weight[early])


def centred_mean(close: np.ndarray) -> np.ndarray:
    """Mean log return of the five bars before and after: it looks ahead."""
    returns = np.diff(np.log(close), prepend=np.log(close[0]))
    return np.convolve(returns, np.ones(11) / 11, mode="same")


def test_a_planted_look_ahead_is_caught(bars: Bars, monkeypatch: pytest.MonkeyPatch) -> None:
    like = next(iter(features.FEATURES.values()))
    planted = dataclasses.replace(
        like, name="centred", inputs=("close",), warmup=10, function=centred_mean
    )
    assert isinstance(planted, Feature)
    registry = MappingProxyType({**features.FEATURES, "centred": planted})
    monkeypatch.setattr(features, "FEATURES", registry)
    cuts = random_cuts(len(bars), 5, seed=2)
    trained = trained_on(bars)
    leaks = check_prefix(
        lambda given: trained.model.signals(given).p_up, bars, cuts, name="planted"
    )
    assert {leak.cut for leak in leaks} == set(cuts)
    matrix = check_prefix(
        lambda given: track_matrix(given, trained.tracks[0]), bars, cuts, name="planted matrix"
    )
    assert {leak.cut for leak in matrix} == set(cuts)


def test_join_takes_what_is_known() -> None:
    joined = join(np.array([0.1, 0.2]), np.array([-1, 0, 0, 1]))
    np.testing.assert_array_equal(joined, [np.nan, 0.1, 0.1, 0.2])


def test_a_trained_model_is_a_function_of_its_bars_alone(
    bars: Bars, original: tuple[dict[str, int], Trained]
) -> None:
    changed, trained = original
    again = trained_on(bars[:], **changed)
    assert model_files(again.model) == model_files(trained.model)
