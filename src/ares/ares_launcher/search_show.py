"""What a person sees of a search: progress while it runs, and what it found."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ares.ares_launcher.output import console, emit, number, percent, printable, say, table
from ares.ares_launcher.param_option import shown_range
from ares.ares_launcher.strategy_commands import say_costs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ares.enhanced_training_manager_optimized import EnhancedTrainingManagerOptimized
    from ares.pipeline.single_search import SearchRequest, SingleSearch
    from ares.search.result import Progress

_REASONS = {
    "TOO_FEW_TRADES": "had fewer than {least} trades (search.min_trades): widen the space with "
    "--param, use more data or shorter bars",
    "RUINED": "lost everything: trade a smaller size or set a stop, e.g. --param stop_loss=0.02",
    "RAISED": "failed with an error",
    "NOT_FINITE": "gave no finite number: look for impossible prices or a ratio without a spread",
}


@contextmanager
def search_bar(budget: int, *, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Observer that shows a bar on a terminal; elsewhere it shows nothing."""
    shown = console(stderr=True)
    if quiet or not shown.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    live = Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[account]}"),
        TimeRemainingColumn(),
        console=shown,
        transient=True,
    )
    with live:
        task = live.add_task("searching", total=budget, account="the first points")
        pace = Pace()

        def advance(now: Progress) -> None:
            live.update(
                task,
                total=now.budget,
                completed=now.trials,
                description=_best_so_far(now),
                account="judging" if now.trials >= now.budget else account(now, pace(now)),
            )

        yield advance


class Pace:
    """Points per second of this session: points from the ledger took no time."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._replayed = 0

    def __call__(self, now: Progress) -> float:
        """The pace so far; NaN before anything was run."""
        if now.resumed:
            self._began, self._replayed = time.perf_counter(), now.trials
            return math.nan
        seconds = time.perf_counter() - self._began
        return (now.trials - self._replayed) / seconds if seconds > 0 else math.nan


def _best_so_far(now: Progress) -> str:
    return f"best {now.best:.3f}" if now.best > -math.inf else "no score yet"


def account(now: Progress, pace: float) -> str:
    """One line on how the search goes."""
    if now.resumed:
        return "from the ledger"
    words = [f"{number(pace, 0)} points/s"]
    for count, what in (
        (now.cached, "cached"), (now.stopped, "stopped early"), (now.failed, "without a score"),
    ):  # fmt: skip
        if count:
            words.append(f"{count:,} {what}")
    return ", ".join(words)


def show_search(
    done: SingleSearch,
    request: SearchRequest,
    toolkit: EnhancedTrainingManagerOptimized,
    *,
    as_json: bool,
) -> bool:
    """Print what a search found: one JSON object, or tables and sentences.

    Returns:
        Whether there is a winner. A search without one is a failure: a script has nothing to go on
        with.
    """
    if as_json:
        emit(_as_json(done))
        return done.found.best is not None
    from ares.search.failures import told

    if done.found.best is None:
        _say_no_score(done, request)
    else:
        _show_winner(done, request, toolkit)
        _show_overfitting(done)
        _say_plateau(done)
    failed = done.found.counts["failed"]
    unscored = f" {failed:,} of them have no score." if failed else ""
    if done.found.failures:
        say(told(done.found.failures))
    say(
        f"{len(done.found.trials):,} points on {done.bars:,} bars, {done.span[0]} to {done.span[1]}: "
        f"{_origins(done)}; {done.rate:,.0f} per second.{unscored}"
    )
    _say_stops(done)
    if done.found.replayed:
        say("The winner was run again by the plain bar loop: same result.")
    say(f"Report: {done.run_dir / 'report.html'}")
    say(f"Trials: {done.table('trials')}")
    _say_next(done)
    return done.found.best is not None


def _origins(done: SingleSearch) -> str:
    """Where the points came from, each counted once."""
    from ares.search.study import CACHED

    raised = {number for one in done.found.failures for number in one.numbers}
    stage, source = done.found.trials["stage"], done.found.volatile["source"]
    before = stage.index < done.resumed
    cached = source.isin(CACHED) & ~before
    failed = stage.index.isin(raised) & ~before
    fresh = ~(before | cached | failed)
    counts = {
        "run in full": (fresh & (stage == 0)).sum(),
        "stopped early": (fresh & (stage != 0)).sum(),
        "from the cache": (cached & ~failed).sum(),
        "failed": failed.sum(),
        "from before the interruption": before.sum(),
    }
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def _as_json(done: SingleSearch) -> dict[str, Any]:
    from ares.pipeline.search_facts import of_failures

    found, facts = done.found, done.facts
    best = facts["best"] or {}
    return {
        "run_dir": done.run_dir,
        "best": {
            "params": found.best,
            "score": found.score.value if found.score else None,
            "standard_error": found.score.error if found.score else None,
            "metrics": best.get("metrics"),
        },
        **{k: found.counts[k] for k in ("trials", "full", "stopped", "raised", "failed")},
        "cached": done.cached,
        "resumed": done.resumed,
        "trials_per_second": round(done.rate, 2),
        "trials_digest": found.trials_digest,
        "memory": {k: done.memory[k] for k in ("peak_bytes", "budget_bytes", "evictions")},
        "objective": facts["objective"],
        "space": facts["space"],
        "outcomes": facts["outcomes"],
        "first_error": found.failures[0].reason.text if found.failures else None,
        "failures": of_failures(found, whole=True),
        "buy_and_hold": facts.get("benchmark"),
        "overfitting": facts.get("overfitting"),
        "early_stopping": facts["stops"],
        "plateau": facts["plateau"],
        "held_back": done.held_back,
        "next_command": done.next_command,
        "report_path": done.run_dir / "report.html",
        "fallbacks": list(found.fallbacks),
    }


def _show_winner(
    done: SingleSearch, request: SearchRequest, toolkit: EnhancedTrainingManagerOptimized
) -> None:
    found, best = done.found, done.facts["best"]
    if found.best is None or found.score is None:
        raise AssertionError("unreachable")
    penalty = done.facts["objective"]["penalty"]
    errors = "standard error" if penalty == 1 else "standard errors"
    less = f" less {penalty:g} {errors}" if penalty else ""
    title = (
        f"Best of {request.strategy.name}: score {found.score.value:.3f}, standard error "
        f"{number(found.score.error, 3)} ({request.objective.name}{less}, in sample)"
    )
    rows = [
        (name, _value(value), shown_range(request.space.parameters[name]))
        for name, value in found.best.items()
    ]
    table(title, ("parameter", "value", "searched"), rows)
    metrics, held = best["metrics"], done.facts["benchmark"]
    body = [
        ("total return", percent(metrics["total_return"]), percent(held["total_return"])),
        ("Sharpe ratio", number(metrics["sharpe"]), number(held["sharpe"])),
        ("largest drawdown", percent(metrics["max_drawdown"]), percent(held["max_drawdown"])),
        ("trades", number(metrics["n_trades"], 0), "-"),
    ]
    table("In sample", ("", "the winner", "buy and hold"), body)
    for caution in done.facts.get("cautions", ()):
        say(caution)
    from ares.backtest.costs import Costs

    costs = done.facts["costs"]
    say_costs(toolkit, Costs(fee=costs["fee"], slippage=costs["slippage"]))


def _show_overfitting(done: SingleSearch) -> None:
    numbers = done.facts.get("overfitting")
    if numbers is None:
        say("Too few points with numbers for statistics of overfitting.")
        return
    trials = f"{numbers['n_trials']:,}"
    pbo = numbers["pbo"]
    rows = [
        (f"best Sharpe ratio by luck, of {trials}", number(numbers["expected_max_sharpe"])),
        (f"deflated Sharpe ratio, {trials} trials", _share(numbers["dsr"])),
        (
            f"the same, {number(numbers['effective_trials'], 0)} effective trials",
            _share(numbers["dsr_effective"]),
        ),
        (
            "probability of backtest overfitting",
            f"{number(pbo['probability'])} ± {number(pbo['standard_error'])}",
        ),
        ("superior predictive ability, p", number(numbers["spa"]["consistent"], 3)),
    ]
    table("Is it luck?", ("statistic", "value"), rows)
    say(verdict(numbers))


def verdict(numbers: dict[str, Any]) -> str:
    """What DSR and PBO say of this search, in one or two sentences."""
    dsr, pbo = numbers["dsr"], numbers["pbo"]["probability"]
    if dsr is None or pbo is None:
        return "The days are too few, or too much alike, to say how much of it is luck."
    luck = (
        f"With {numbers['n_trials']:,} trials counted, the chance that the winner's true Sharpe "
        f"ratio is above what luck gives is {_share(dsr)} (0.95 and more counts as evidence)"
    )
    noise = (
        f"in {percent(pbo)} of the ways to split the days in halves, the best point of one half was "
        "below the median in the other (50 % is what noise does)"
    )
    last = "Both are numbers from inside the sample: only days that no search saw can prove it."
    return f"{luck}; {noise}. {last}"


def _share(value: float | None) -> str:
    """Cut, not rounded: what is below a threshold never reads as at it."""
    if value is None:
        return "-"
    return "below 0.001" if value < 0.001 else f"{math.floor(1000 * value) / 1000:.3f}"


def _say_plateau(done: SingleSearch) -> None:
    """Say what the other choice would have been."""
    plateau = done.facts["plateau"]
    if not plateau:
        return
    medians = (
        f"median of its neighbours {number(plateau['median'], 3)} on the plateau,"
        f" {number(plateau['best_median'], 3)} around the best value"
    )
    if plateau["params"] == plateau["best_params"]:
        say("The best point is on the broadest plateau, too.")
    elif plateau["chosen"] == "plateau":
        other = _point(plateau["best_params"])
        say(f"Best value: {other} (score {number(plateau['best_value'], 3)}; {medians}).")
    else:
        other = _point(plateau["params"])
        say(
            f"On the broadest plateau: {other} (score {number(plateau['value'], 3)}; {medians})."
            " --set search.choice=plateau takes it."
        )


def _point(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in params.items())


def _say_stops(done: SingleSearch) -> None:
    stops = done.facts["stops"]
    if not stops["on"]:
        say(f"Early stopping was off: {stops['reason']}.")
        return
    audited = stops["audited"]
    if not stops["stopped"]:
        say("Early stopping was on, and stopped nothing.")
        return
    if not audited:
        say(f"Early stopping: {stops['stopped']:,} points stopped, none of them drawn for audit.")
        return
    low, high = (number(100 * bound, 1) for bound in stops["interval"])
    say(
        f"Early stopping: {stops['stopped']:,} points stopped; of {audited:,} that were run to the "
        f"end all the same, {stops['false_stops']:,} would have led: "
        f"{number(100 * stops['false_stop_rate'], 1)} % false stops (95 % interval: {low} to {high} %)."
    )


def _say_no_score(done: SingleSearch, request: SearchRequest) -> None:
    """Why there is no winner, by the outcomes of the points that were run in full."""
    say(f"No point of {request.strategy.name} had a score:")
    least = done.facts["objective"]["min_trades"]
    for name, count in done.facts["outcomes"].items():
        reason = _REASONS.get(name, name.lower().replace("_", " "))
        say(f"  {count:,} {reason.format(least=least)}.")


def _say_next(done: SingleSearch) -> None:
    if done.found.best is None:
        return
    if done.next_command is None:
        say("All bars given were searched: nothing is held back to try the winner on.")
        return
    say("Try the winner once on bars that the search did not see:")
    console().print(
        f"  {printable(done.next_command)}", markup=False, highlight=False, soft_wrap=True
    )


def _value(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
