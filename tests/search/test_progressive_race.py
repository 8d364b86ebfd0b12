"""Races on a table of daily returns: who stops when, seen without a market."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from ares.search import Objective
from ares.search.blocks import MIN_FLAT_BLOCKS, BlockTable, block_results, even_borders
from ares.search.objective import BAD
from ares.search.sampling.told import rank_of
from ares.search.stopping.account import StopAccount
from ares.search.stopping.flatblocks import Plan, calibrate
from ares.search.stopping.race import Incumbent, race

DAYS = 6  # of one block
COUNT = 32


class Table:
    """Points are rows of a table of daily returns; one trade a day unless said otherwise."""

    def __init__(self, returns, objective=None, trading=None, count=COUNT):
        self.returns = np.asarray(returns, dtype=float)
        self.trading = np.ones(self.returns.shape, bool) if trading is None else trading
        self.count = count
        objective = objective or Objective()
        borders = np.arange(count + 1) * DAYS
        self.problem = SimpleNamespace(
            objective=objective,
            bars=SimpleNamespace(days_per_year=365),
            start=0,
            stop=count * DAYS,
            flat_borders=lambda of: borders[: (of or COUNT) + 1],
            scores=lambda table, flat: objective.scores(table, 365.0, "table", flat=flat),
        )
        self.asked = []

    def evaluate(self, points, blocks=None, *, of=None):
        scores = []
        for point in points:
            row, traded = self.returns[point["row"]], self.trading[point["row"]]
            if blocks is None:
                cut = block_results(row, np.flatnonzero(traded), even_borders(len(row), 16))
            else:
                assert of == self.count
                self.asked += [(point["row"], block) for block in blocks]
                pieces = [slice(b * DAYS, (b + 1) * DAYS) for b in blocks]
                cut = BlockTable.beside(
                    [
                        BlockTable.of(
                            [block_results(row[p], np.flatnonzero(traded[p]), np.array([0, DAYS]))]
                        )
                        for p in pieces
                    ]
                ).results()[0]
            scores += self.problem.scores(BlockTable.of([cut]), flat=blocks is not None)
        return scores


def points_of(table):
    return [{"row": row} for row in range(len(table.returns))]


def noise(rows, seed=0, shift=0.0, count=COUNT):
    rng = np.random.default_rng(seed)
    common = rng.normal(0.0, 0.01, count * DAYS)
    return common + rng.normal(0.0, 0.01, (rows, count * DAYS)) + np.reshape(shift, (-1, 1))


def merit_of(row, order):
    """Annualised Sharpe of the days shown; of the whole range less its jackknife error."""

    def sharpe(blocks):
        days = np.concatenate([row[b * DAYS : (b + 1) * DAYS] for b in blocks])
        return days.mean() / days.std(ddof=1) * math.sqrt(365)

    if len(order) * DAYS < len(row):
        return sharpe(order)
    without = np.array([sharpe([b for b in order if b != left]) for left in order])
    n = len(order)
    return sharpe(order) - math.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())


def raced(table, plan=None, best=0):
    plan = plan or Plan.of(table.count, 3)
    return race(table, points_of(table), plan, Incumbent({"row": best}, 0.0)), plan


def test_each_stage_stops_the_worse_half_and_reveals_each_block_once():
    table = Table(noise(64))
    worst = int(np.argmin(noise(64).sum(axis=1)))
    stopped, plan = raced(table, best=worst)  # its test stops nobody
    assert plan.stages == (4, 8, 16, 32)
    sizes = [sum(s.stage == stage for s in stopped.values()) for stage in (1, 2, 3, 4)]
    assert sizes == [32, 16, 8, 4]
    for stage, until in enumerate(plan.stages, start=1):
        alive = [i for i in range(64) if i not in stopped or stopped[i].stage >= stage]
        merits = {i: merit_of(table.returns[i], plan.order[:until]) for i in alive}
        ranked = sorted(alive, key=lambda i: -merits[i])
        lost = {i for i in alive if i in stopped and stopped[i].stage == stage}
        assert lost == set(ranked[(len(alive) + 1) // 2 :])
        for i in lost:
            assert stopped[i].revealed == pytest.approx(merits[i], rel=1e-9)
            assert stopped[i].value == BAD
            assert len(stopped[i].blocks) == until
    rivals = [(row, block) for row, block in table.asked if row != worst]
    assert len(set(rivals)) == len(rivals)
    # 32 blocks of the incumbent are all that comes on top of the stages.
    assert len(table.asked) == 64 * 4 + 32 * 4 + 16 * 8 + 8 * 16 + 32


@pytest.mark.parametrize("count", [6, 7, 8, MIN_FLAT_BLOCKS, 16, 31, 32])
def test_fewer_blocks_than_the_least_cost_as_much_as_they_save(count):
    plan, bars, alive, known = Plan.of(count, 0), 0.0, 64, 0
    for until in plan.stages:
        bars += alive * (until - known) / count
        alive, known = (alive + 1) // 2, until
    assert (bars + alive < 64) == (count >= MIN_FLAT_BLOCKS)
    assert count < 31 or bars + alive <= 0.4 * 64


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), stage=st.integers(0, 2))
def test_what_is_not_revealed_decides_nothing(seed, stage):
    returns = noise(24, seed)
    stopped, plan = raced(Table(returns), Plan.of(COUNT, seed))
    hidden = returns.copy()
    for block in plan.order[plan.stages[stage] :]:
        hidden[:, block * DAYS : (block + 1) * DAYS] = np.random.default_rng(1).normal(
            0, 1, (24, DAYS)
        )
    again, _ = raced(Table(hidden), plan)
    early = {i: s for i, s in stopped.items() if s.stage <= stage + 1}
    assert {i: s for i, s in again.items() if s.stage <= stage + 1} == early


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), count=st.sampled_from([8, 12, 16, 32]))
def test_the_paired_test_is_scipys_on_ratios_of_the_revealed_blocks(seed, count):
    shifts = np.linspace(-0.012, 0.004, 12)
    returns = noise(12, seed, shifts, count)
    table = Table(returns, count=count)
    stopped, plan = raced(table, Plan.of(count, seed), best=11)
    looks = sum(s >= 8 for s in plan.stages)
    level = {1: 0.025, 2: 0.0147, 3: 0.01105}[looks]

    def ratios(row, until):
        blocks = np.array([row[b * DAYS : (b + 1) * DAYS] for b in plan.order[:until]])
        return blocks.mean(axis=1) / blocks.std(ddof=1)

    alive = list(range(12))
    for stage, until in enumerate(plan.stages, start=1):
        merits = {i: merit_of(returns[i], plan.order[:until]) for i in alive}
        ranked = sorted(alive, key=lambda i: -merits[i])
        kept = set(ranked[: (len(alive) + 1) // 2])
        if until >= 8:
            best = ratios(returns[11], until)
            for i in sorted(kept - {11}):
                gap = best - ratios(returns[i], until)
                p = scipy_stats.wilcoxon(gap, alternative="greater", method="exact").pvalue
                kept -= {i} if p < level else set()
        assert {i for i in alive if i in stopped and stopped[i].stage == stage} == {
            i for i in alive if i not in kept
        }
        alive = sorted(kept)


def test_equal_points_go_by_their_place():
    stopped, _ = raced(Table(np.tile(noise(1), (64, 1))))
    assert sorted(set(range(64)) - set(stopped)) == [0, 1, 2, 3]


def test_a_point_that_does_not_trade_ranks_last_and_is_stopped_on_a_quarter_of_the_range():
    losing = noise(8, shift=-0.01)
    returns = np.vstack([np.zeros((8, losing.shape[1])), losing])
    trading = np.vstack([np.zeros((8, losing.shape[1]), bool), np.ones(losing.shape, bool)])
    for statistic in ("sharpe", "total_return"):  # total return would call doing nothing a 0
        table = Table(returns, Objective(statistic), trading)
        stopped, _ = raced(table, best=8)
        assert [stopped[i].stage for i in range(8)] == [1] * 8
        assert all(stopped[i].revealed == BAD for i in range(8))
    # Where doing nothing is a score, it is one.
    table = Table(returns, Objective("total_return", min_trades=0), trading)
    stopped, _ = raced(table, best=8)
    assert all(stopped[i].stage == 1 for i in range(8, 16))
    # At the first stage it may stay where nobody is better, later on not.
    none = Table(np.zeros((6, 192)), trading=np.zeros((6, 192), bool))
    stopped, _ = raced(none)
    assert [stopped[i].stage for i in range(6)] == [2, 2, 2, 1, 1, 1]


def test_ruin_and_runs_without_numbers_are_the_first_to_go():
    returns = noise(8, shift=-0.01)
    returns[0, :] = -1.0
    returns[1, :] = np.nan
    stopped, _ = raced(Table(returns), best=2)
    assert stopped[0].stage == stopped[1].stage == 1
    assert stopped[0].outcome.name == "RUINED"
    assert stopped[1].outcome.name == "NOT_FINITE"
    assert rank_of(stopped[0]) < rank_of(stopped[max(stopped, key=lambda i: stopped[i].stage)])


def test_an_audit_is_never_told_to_the_sampler():
    stopped, _ = raced(Table(noise(16)))
    for score in stopped.values():
        assert rank_of(dataclasses.replace(score, audit=99.0)) == rank_of(score)
        assert rank_of(score) < rank_of(dataclasses.replace(score, stage=None, value=-50.0))


def test_the_account_counts_bars_stages_and_audits():
    table = Table(noise(64))
    stopped, plan = raced(table)
    points = points_of(table)
    survivors = [i for i in range(64) if i not in stopped]
    full = table.evaluate(points)
    audited = sorted(stopped)[:2]
    scores = [
        dataclasses.replace(stopped[i], audit=full[i].value if i in audited else None)
        if i in stopped
        else full[i]
        for i in range(64)
    ]
    account = StopAccount()
    account.generation(full, table.problem, plan)  # nothing stopped: not a race
    account.generation(scores, table.problem, plan)
    reference = full[audited[0]].value - 0.25
    account.audits(scores, reference)
    found = account.stats()
    span = COUNT * DAYS
    assert found["bars"]["without"] == 128 * span
    assert found["bars"]["full"] == (64 + len(survivors)) * span
    assert found["bars"]["audit"] == 2 * span
    assert found["bars"]["flat"] == len(table.asked) * DAYS  # those of the incumbent with them
    assert found["cost_raced"] == pytest.approx(
        (len(survivors) * span + len(table.asked) * DAYS) / (64 * span)
    )
    assert found["raced"] == 64
    assert sum(stage["stopped"] for stage in found["stages"]) == len(stopped) == found["stopped"]
    assert [stage["blocks"] for stage in found["stages"]] == [4, 8, 16, 32]
    margins = [full[i].value - reference for i in audited]
    assert found["audited"] == 2
    assert found["false_stops"] == sum(m > 0 for m in margins) >= 1
    assert found["audit_largest"] == max(margins)
    assert found["audit_median"] == pytest.approx(np.median(margins))


def test_the_incumbents_blocks_run_once_and_anew_for_another_one():
    table = Table(noise(16))
    incumbent = Incumbent({"row": 3}, 0.0)
    plan = Plan.of(COUNT, 0)
    for until in (8, 16, 8, 16):
        ratios = incumbent.ratios(table, plan, until)
        assert ratios.shape == (until,)
    assert table.asked == [(3, block) for block in plan.order[:16]]


class Market(Table):
    """A table that also says what a calibration asks of a market."""

    def __init__(self, full, flat, monkeypatch, lookback=0.5):
        super().__init__(full, Objective(penalty=0.0))
        self.flat = flat
        self.counts = []
        monkeypatch.setattr("ares.search.stopping.flatblocks._bars_held", lambda *_: 0.1 * lookback)
        monkeypatch.setattr("ares.search.stopping.flatblocks._lookback", lambda *_: 0)
        monkeypatch.setattr("ares.search.stopping.flatblocks._LENGTH", 1)
        self.problem.flat_borders = lambda of: np.arange((of or COUNT) + 1) * 192 // (of or COUNT)

    def evaluate(self, points, blocks=None, *, of=None):
        if blocks is None:
            return super().evaluate(points)
        self.counts.append(of)
        good = super().evaluate(points)
        return [dataclasses.replace(s, value=self.flat(of, s)) for s in good]


def test_where_ranks_disagree_the_count_is_halved_and_all_correlations_are_said(monkeypatch):
    rng = np.random.default_rng(0)
    market = Market(noise(40, 1), lambda of, s: s.value if of == 16 else rng.normal(), monkeypatch)
    points = points_of(market)
    found = calibrate(market, points, market.evaluate(points), 5)
    assert market.counts == [32, 16]
    assert found.plan == Plan.of(16, 5)
    assert found.off is None
    assert [count for count, _ in found.agreements] == [32, 16]
    assert found.agreements[1][1] == 1.0
    market = Market(noise(40, 1), lambda of, s: rng.normal(), monkeypatch)
    found = calibrate(market, points, market.evaluate(points), 5)
    assert market.counts == [32, 16]  # 8 would cost what it saves
    assert found.plan is None
    for count, correlation in found.agreements:
        assert f"{math.floor(correlation * 1e3) / 1e3:.3f} with {count} blocks" in found.off


def test_a_good_point_that_has_no_value_in_blocks_counts_as_their_worst(monkeypatch):
    market = Market(noise(20, 1), lambda of, s: s.value, monkeypatch)
    points = points_of(market)
    scores = market.evaluate(points)
    assert calibrate(market, points, scores, 0).agreements == ((32, 1.0),)
    top = max(s.value for s in scores)
    market.flat = lambda of, s: BAD if s.value == top else s.value
    (count, agreement), *_ = calibrate(market, points, scores, 0).agreements
    assert count == 32
    # One rank of 20 goes from the top to the bottom, all others move up by one.
    assert agreement == pytest.approx(1 - 6 * (19**2 + 19) / (20 * (20**2 - 1)))


def test_points_that_are_all_alike_have_no_rank_correlation(monkeypatch):
    market = Market(noise(12, 1), lambda of, s: 1.0, monkeypatch)
    points = points_of(market)
    found = calibrate(market, points, market.evaluate(points), 0)
    assert found.plan is None
    assert "undefined with 32 blocks, undefined with 16 blocks, and" in found.off
