"""Best score after equal budgets: AdaptiveSampler beside random, Sobol, Optuna's TPE and CMA-ES.

    python benchmarks/sampling.py [FOLDER] [--budget 256 512] [--seeds N] [--held-out] [-j N]
                                  [--only NAME ...] [--samplers NAME ...]

FOLDER holds `bitfinex_*_1m_*.csv.gz` files; without it only the synthetic landscapes are searched.
Ares is asked as a search does by default: 64 Sobol points, then generations of 16 and more. Optuna's samplers
are asked and told one by one, which is the most they can learn; a point that breaks a constraint is
told as pruned and is not counted, so that the whole budget goes to points that can be evaluated. TPE
is run as it comes (multivariate); CMA-ES `with_margin` for whole numbers, and with TPE for the
categories it lacks. Each seed is another instance of a synthetic landscape, the same for all
samplers. The table gives the median of the best scores and the quartiles; "wins" counts the seeds on
which Ares was better, "p" is Wilcoxon's signed rank test of the pairs (two sides). `--held-out`
searches the landscapes that were not looked at while the sampler was made.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import logging
import math
import warnings

import _landscapes as landscapes
import numpy as np

SAMPLERS = ("ares", "random", "sobol", "tpe", "cma-es")


def ares_points(space, seed, values, budget):
    from ares.core.config import SearchConfig
    from ares.search.sampling.samplers import sampler_of

    config = SearchConfig()
    initial = config.initial_samples
    sampler = sampler_of(config, space, seed)
    found = []
    while len(found) < budget:
        # As a study asks: the Sobol points end a generation.
        limit = initial if len(found) < initial else budget
        points = sampler.ask(min(sampler.batch, limit - len(found)))
        scores = values(points)
        sampler.tell(points, scores)
        found += scores
    assert not sampler.fallbacks, sampler.fallbacks
    return found


def drawn_points(space, seed, values, budget, sobol):
    from scipy.stats import qmc

    from ares.search.sampling.coordinates import Coordinates

    coordinates = Coordinates(space)
    rng = np.random.default_rng(seed)
    dimensions = len(coordinates.names)
    engine = qmc.Sobol(dimensions, scramble=True, rng=rng)
    found = []
    while len(found) < budget:
        rows = engine.random(64) if sobol else rng.random((64, dimensions))
        keys = [coordinates.from_unit(row) for row in rows]
        points = [coordinates.point(key) for key in keys if coordinates.feasible(key)]
        found += values(points[: budget - len(found)])
    return found


def optuna_points(space, seed, values, budget, name):
    import optuna

    from ares.backtest.space import Categorical, Int

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    distributions = {}
    for key, p in space.parameters.items():
        if isinstance(p, Categorical):
            distributions[key] = optuna.distributions.CategoricalDistribution(p.choices)
        else:
            kind = "IntDistribution" if isinstance(p, Int) else "FloatDistribution"
            distributions[key] = getattr(optuna.distributions, kind)(p.low, p.high, log=p.log)
    if name == "cma-es":
        other = optuna.samplers.TPESampler(seed=seed)
        sampler = optuna.samplers.CmaEsSampler(
            seed=seed, with_margin=True, independent_sampler=other, warn_independent_sampling=False
        )
    else:
        sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    found = []
    while len(found) < budget:
        trial = study.ask(distributions)
        if space.allows(trial.params):
            found += values([trial.params])
            study.tell(trial, found[-1])
        else:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return found


def best_after(landscape, seed, sampler, folder, budgets):
    logging.disable(logging.WARNING)
    made = landscapes.landscape(landscape, seed, folder)
    arguments = (made.space, seed, made.values, max(budgets))
    if sampler == "ares":
        found = ares_points(*arguments)
    elif sampler in ("random", "sobol"):
        found = drawn_points(*arguments, sobol=sampler == "sobol")
    else:
        found = optuna_points(*arguments, sampler)
    return [float(max(found[:budget])) for budget in budgets]


def print_table(name, budget, samplers, best):
    """One row per sampler: quartiles of the best scores, and Ares against it, seed by seed."""
    from scipy.stats import wilcoxon

    print(f"\n{name}, {budget} evaluations: best score of {len(best[samplers[0]])} seeds")
    for sampler in samplers:
        scores = best[sampler]
        low, middle, high = np.quantile(scores, [0.25, 0.5, 0.75])
        line = f"  {sampler:18}{middle:10.4f}  ({low:.4f} to {high:.4f})"
        if sampler != "ares" and "ares" in best:
            gains = np.array(best["ares"]) - scores
            wins, losses = int((gains > 0).sum()), int((gains < 0).sum())
            p = wilcoxon(gains).pvalue if wins + losses else math.nan
            line += f"   Ares wins {wins}, loses {losses}, p = {p:.3f}"
        print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--budget", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("-j", "--jobs", type=int, default=1)
    options = parser.parse_args()
    names = list(landscapes.HELD_OUT if options.held_out else landscapes.SYNTHETIC)
    if options.folder:
        names += landscapes.HELD_OUT_REAL if options.held_out else landscapes.REAL
    names = options.only or names
    seeds = range(options.seeds)
    with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
        for name in names:
            runs = {
                (sampler, seed): pool.submit(
                    best_after, name, seed, sampler, options.folder, options.budget
                )
                for sampler in options.samplers
                for seed in seeds
            }
            for at, budget in enumerate(options.budget):
                best = {
                    sampler: [runs[sampler, seed].result()[at] for seed in seeds]
                    for sampler in options.samplers
                }
                print_table(name, budget, options.samplers, best)


if __name__ == "__main__":
    main()
