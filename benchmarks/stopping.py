"""Early stopping on synthetic markets: is the best kept, what does it cost, is the audit right.

    python benchmarks/stopping.py [markets]      (200; other kinds of market get a quarter)

Each market has 12,000 hourly bars and a drift that follows one planted point. 64 points run in full
and calibrate the blocks; then three generations of 64 are raced: the planted point among 63 points
from the whole space, and twice 64 points about the best known, as CMA-ES asks for them. All points
also run in full besides, which is the truth.

*Kept* means: the point with the best full value of a raced generation survives to its full
evaluation. It is counted where that point beats the incumbent, since one that does not may stop.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import planted_markets as pm
from ares.core.config import SearchConfig
from ares.search import ProgressiveEvaluator, run_search
from ares.search.stopping.flatblocks import Plan
from ares.search.stopping.race import Incumbent, race

SIZE = 64
# (drift in volatilities of a bar, spread of the regimes); the first is the one of the requirement
FAMILIES = ((0.15, 0.5), (0.2, 0.5), (0.1, 0.5), (0.15, 1.0))


class Tally:
    """Counts over markets."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = defaultdict(int)
        self.regrets: dict[str, list[float]] = defaultdict(list)
        self.costs: list[float] = []
        self.wins: list[float] = []

    def generation(self, kind: str, scores, truth, incumbent: float) -> None:
        values = np.array([score.value for score in truth])
        best = int(np.argmax(values))
        if values[best] <= incumbent:
            self.counts[f"{kind} not better"] += 1
            return
        kept = scores[best].full
        self.counts[f"{kind} of"] += 1
        self.counts[f"{kind} kept"] += kept
        reached = max([incumbent, *(s.value for s in scores if s.full)])
        self.regrets[kind].append((values[best] - reached) / truth[best].error)

    def audits(self, scores, truth, best: float) -> None:
        for score, full in zip(scores, truth, strict=True):
            if not score.full:
                self.counts["stopped"] += 1
                self.counts["truly false"] += full.value > best
                self.counts["audited"] += score.audit is not None
                self.counts["measured false"] += score.audit is not None and score.audit > best


def generations(rng: np.random.Generator):
    """The planted generation, then narrow ones about the best known."""
    planted = [*pm.wide(rng, SIZE - 1), dict(pm.PLANTED)]
    yield "planted", lambda _: planted
    for _ in range(2):
        yield "narrow", lambda best: pm.narrow(rng, best, SIZE)


def one_market(seed: int, family: tuple[float, float], tally: Tally) -> None:
    engine = pm.planted_market(seed, *family)
    rng = np.random.default_rng(1_000_000 + seed)
    evaluator = ProgressiveEvaluator(inner=engine, seed=seed)
    first = pm.wide(rng, SIZE)
    scores = evaluator.evaluate_full(first)
    at = int(np.argmax([s.value for s in scores]))
    best, point = scores[at].value, first[at]
    plan = None
    for number, (kind, ask) in enumerate(generations(rng)):
        points = ask(point)
        truth = engine.evaluate(points)
        if number == 0:
            count = evaluator.stats()["flat_blocks"]
            tally.counts[f"B={count}"] += 1
            plan = None if count is None else Plan(count, tuple(range(count)))
            values = [s.value for s in truth]
            planted_is_best = int(np.argmax(values)) == SIZE - 1 and values[-1] > best
            tally.counts["planted is the best"] += planted_is_best
        if plan is not None:
            fallen = race(engine, points, plan, Incumbent(dict(point), best))
            prefix = [fallen.get(i) or score for i, score in enumerate(truth)]
            tally.generation(f"{kind}, prefix in time", prefix, truth, best)
        scores = evaluator.evaluate(points)
        tally.generation(kind, scores, truth, best)
        if number == 0 and planted_is_best:
            tally.generation("planted and best", scores, truth, best)
        values = [s.value if s.full else -np.inf for s in scores]
        if max(values) > best:
            at = int(np.argmax(values))
            best, point = values[at], points[at]
        tally.audits(scores, truth, best)
    tally.costs.append(evaluator.stats()["cost_raced"])


def one_search(seed: int, family: tuple[float, float], tally: Tally) -> None:
    """The whole search with the policy and without it: how often and by how much they differ."""
    engine = pm.planted_market(seed, *family)
    config = SearchConfig(trials=4 * SIZE, initial_samples=SIZE, generation=SIZE)
    with_it = run_search(
        ProgressiveEvaluator(inner=engine, seed=seed), pm.SPACE, config, seed=seed
    ).score
    without = run_search(engine, pm.SPACE, config, seed=seed).score
    tally.wins.append((with_it.value - without.value) / without.error)


def report(family: tuple[float, float], markets: int, tally: Tally) -> None:
    counts = tally.counts
    print(f"drift {family[0]} volatilities a bar, regimes 1 +- {family[1]}, {markets} markets")
    blocks = ", ".join(f"{k}: {n}" for k, n in sorted(counts.items()) if k.startswith("B="))
    print(f"  flat blocks in use  {blocks}")
    print(f"  the planted point is the best of all in {counts['planted is the best']} markets")
    for kind, regrets in tally.regrets.items():
        of, kept = counts[f"{kind} of"], counts[f"{kind} kept"]
        print(
            f"  {kind:24s} kept {kept:4d} of {of:4d} = {kept / of:6.1%}; lost of the best value,"
            f" standard errors: mean {np.mean(regrets):.3f}, largest {max(regrets):.2f};"
            f" {counts[f'{kind} not better']} not better than the incumbent"
        )
    costs = np.array(tally.costs)
    costs = costs[np.isfinite(costs)]
    low, middle, high = np.quantile(costs, [0.0, 0.5, 1.0])
    print(
        f"  bars of raced generations, of all in full: mean {costs.mean():.1%}, median {middle:.1%}"
        f" ({low:.1%} to {high:.1%}), {np.mean(costs <= 0.4):.0%} of markets at most 40 %"
    )
    rate, stopped = counts["truly false"] / max(counts["stopped"], 1), counts["stopped"]
    audited, measured = counts["audited"], counts["measured false"]
    error = np.sqrt(rate * (1 - rate) / max(audited, 1))
    print(
        f"  false stops: truth {counts['truly false']} of {stopped} = {rate:.3%}; audit {measured}"
        f" of {audited} = {measured / max(audited, 1):.3%}; binomial error {error:.3%}"
    )
    if tally.wins:
        wins = np.array(tally.wins)
        print(
            f"  {len(wins)} searches of {4 * SIZE} trials with the policy less without it, standard"
            f" errors: worse in {np.mean(wins < 0):.0%}, better in {np.mean(wins > 0):.0%},"
            f" median {np.median(wins):+.3f}, {wins.min():+.2f} to {wins.max():+.2f}"
        )


def main() -> None:
    markets = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for family in FAMILIES:
        count = markets if family == FAMILIES[0] else max(1, markets // 4)
        tally = Tally()
        for seed in range(count):
            one_market(seed, family, tally)
            if seed < max(1, count // 4):
                one_search(seed, family, tally)
        report(family, count, tally)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
