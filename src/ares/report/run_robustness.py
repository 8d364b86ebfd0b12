"""How far the result can be trusted: Monte Carlo, stress, overfitting, A/B comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.report import plots
from ares.report.run_data import dig, rows
from ares.report.shell import Card
from ares.report.tables import (
    bullets,
    coloured,
    empty,
    facts,
    note,
    part,
    pill,
    range_bar,
    table,
)
from ares.report.text import DASH, Html, cut, join, num, number_of, p_value, pct, plural, tag, whole
from ares.validate.evidence import COUNTED

if TYPE_CHECKING:
    from ares.report.run_data import RunData

_FAN_POINTS: Final = 400
_TONES: Final = {"promote": "good", "reject": "bad", "hold": "amber"}


def monte_carlo(run: RunData) -> Card:
    """Fan, distributions and stress table."""
    found = run.steps[14]
    if not found:
        return Card("monte-carlo", "Monte Carlo", "", empty("No Monte Carlo validation."))
    lead = (
        f"{plural(found.get('n_paths'), 'resampled path')} of the out-of-sample days, in random "
        f"blocks of {num(found.get('mean_block'), 1)} days on average: what else this strategy "
        f"could have made. {pct(found.get('probability_of_loss'), 0)} of the paths lose money."
    )
    fan = _fan(run)
    body = [
        part("Paths", plots.figure(fan) if fan else empty("No paths.")),
        part("Distributions", _distributions(run)),
        part("Stress", _stress(run)),
        note(
            "Drawdowns in this card are of days, or of trades one after the other, not of closes."
        ),
    ]
    return Card("monte-carlo", "Monte Carlo and stress", "Monte Carlo", join(body), lead)


def _fan(run: RunData) -> plots.Plot | None:
    fan = rows(run.steps[14], "fan")
    days = run.equity["day"]
    if len(fan) != 5 or not fan[0] or len(fan[0]) != len(days):
        return None
    n = len(days)
    kept = np.unique(np.linspace(0, n - 1, min(n, _FAN_POINTS)).astype(np.int64))
    x = plots.dates(days.to_numpy()[kept])
    low, lower, middle, upper, high = (np.array(row, dtype=np.float64)[kept] for row in fan)
    traces = [
        *plots.band(x, low, high, "5 to 95 %", "accent:0.13"),
        *plots.band(x, lower, upper, "25 to 75 %", "accent:0.25"),
        plots.line(x, middle, "Median", "accent", hovertemplate="%{y:.3f}"),
        plots.line(
            x,
            run.equity["equity"].to_numpy(np.float64)[kept],
            "As it was",
            "amber",
            width=1.8,
            hovertemplate="%{y:.3f}",
        ),
    ]
    layout = {"yaxis": {"tickformat": ".2~f"}}
    return plots.Plot("fan", "Quantiles of resampled equity", traces, layout, 340, log=True)


def _distributions(run: RunData) -> Html:
    found = run.steps[14]
    share, ratio = pct, num
    lines = (
        ("Final return", "final_return", share),
        ("Return per year", "cagr", share),
        ("Sharpe ratio", "sharpe", ratio),
        ("Largest drawdown", "max_drawdown", share),
        ("Largest drawdown, trades shuffled", "shuffled_drawdown", share),
    )
    body = []
    for name, key, shown in lines:
        quantiles = rows(found, key, "quantiles")
        observed = dig(found, key, "observed")
        padded = (quantiles + [None] * 5)[:5]
        body.append(
            (name, range_bar(quantiles, observed), shown(observed), *(shown(q) for q in padded))
        )
    heads = ("", "5 to 95 %", "As it was", "5 %", "25 %", "50 %", "75 %", "95 %")
    return table(heads, body, words=2)


def _stress(run: RunData) -> Html:
    body = [
        (
            row.get("name"),
            coloured(pct(row.get("total_return"), sign=True), row.get("total_return")),
            pct(row.get("cagr"), sign=True),
            num(row.get("sharpe")),
            pct(row.get("max_drawdown")),
        )
        for row in rows(run.steps[14], "stress")
    ]
    return table(("Rerun", "Return", "Per year", "Sharpe ratio", "Largest drawdown"), body)


def overfitting(run: RunData) -> Card:
    """Statistics of the search and of the out-of-sample days, one sentence each."""
    search = dig(run.steps[12], "overfitting") or {}
    evidence = dig(run.steps[13], "evidence") or {}
    if not search and not evidence:
        return Card("overfitting", "Overfitting", "", empty("No statistics."))
    body = table(
        ("Statistic", "Value", "What it says"),
        [
            (name, tag("b", value, class_="nowrap"), text)
            for name, value, text in (*_of_evidence(evidence), *of_search(search))
        ],
        words=3,
    )
    return Card("overfitting", "Is it overfitted?", "Overfitting", body)


def _of_evidence(evidence: Any) -> tuple[tuple[str, str, str], ...]:
    track, days = dig(evidence, "min_track_record_days"), whole(dig(evidence, "n_days"))
    needed = (
        f"The fewest days like these that make a Sharpe ratio above zero credible at 95 %; there "
        f"are {days}."
    )
    never = (
        f"No number of days like these makes a Sharpe ratio above zero credible; there are {days}."
    )
    candidates = number_of(dig(evidence, "n_validated"))
    chance = "zero" if candidates == 1 else f"what luck gives to the best of {whole(candidates)}"
    luck = (
        f"Probability that the true Sharpe ratio is above {chance}; 0.95 and more counts as "
        f"evidence. {plural(candidates, 'candidate')} validated. {COUNTED}"
    )
    lead = (
        "How often resampled days would show such a lead over buy and hold at the same exposure if "
        "there were none; below 0.05 counts as evidence."
    )
    return (
        ("Deflated Sharpe ratio, out of sample", cut(dig(evidence, "dsr")), luck),
        ("p against buy and hold", p_value(dig(evidence, "p_value")), lead),
        (
            "Minimum track record",
            plural(track, "day") if number_of(track) is not None else DASH,
            never if number_of(track) is None else needed,
        ),
    )


def of_search(search: Any) -> tuple[tuple[str, str, str], ...]:
    """Name, value and meaning of each statistic of a search."""
    trials = whole(dig(search, "n_trials"))
    luck = f"The same for the search's winner in sample, deflated by all {trials} trials."
    alike = (
        f"Trials resemble each other (mean correlation {num(dig(search, 'mean_correlation'))}) and "
        f"count as about {whole(dig(search, 'effective_trials'))} independent ones."
    )
    best = (
        f"What the best of {trials} trials would show on average if none had skill and they differed "
        "as widely as the evenly spread points do (where these differ by their costs, too, the bar is "
        f"higher than luck alone sets it); the winner shows {num(dig(search, 'sharpe'))}."
    )
    halves = (
        "How often the best trial of one half of the days falls below the median in the other half "
        "(± its spread); one half means that the search picks noise."
    )
    spa = (
        "Probability of such a best trial if none of the first points beat cash; small values speak "
        "for the search."
    )
    shortest = f"With fewer years, {trials} trials without skill show a Sharpe ratio of 1."
    pbo, spread = (num(dig(search, "pbo", key)) for key in ("probability", "standard_error"))
    pbo = (
        f"{pbo} ± {spread}" if number_of(dig(search, "pbo", "standard_error")) is not None else pbo
    )
    return (
        ("Deflated Sharpe ratio of the winner", cut(dig(search, "dsr")), luck),
        ("The same, by effective trials", cut(dig(search, "dsr_effective")), alike),
        ("Best Sharpe ratio by luck", num(dig(search, "expected_max_sharpe")), best),
        ("Probability of backtest overfitting", pbo, halves),
        ("Superior predictive ability, p", p_value(dig(search, "spa", "consistent")), spa),
        ("Shortest backtest, in years", num(dig(search, "min_backtest_years"), 1), shortest),
    )


def comparison(run: RunData) -> Card:
    """The A/B test on the holdout."""
    found = run.steps[15]
    if not found:
        return Card("ab", "A/B test", "", empty("No comparison."))
    decision = str(found.get("decision") or "")
    lead = (
        f"The last {plural(found.get('n_days'), 'day')}, never seen in training, against each "
        "opponent on the same days."
    )
    first_heads = ("Opponent", "Difference a year", "Interval", "p better", "p worse")
    heads = (*first_heads, "Sharpe ratio", "Opponent's", "Detectable", "Days needed")
    body = [_versus(row) for row in rows(found, "comparisons")]
    first = facts(
        (
            ("Decision", pill(decision or "none", _TONES.get(decision, ""))),
            ("Level of this look", num(found.get("level"), 4)),
            ("Other models that looked before", whole(found.get("looks_before"))),
        )
    )
    parts = (
        first,
        table(heads, body),
        bullets(rows(found, "reasons")),
        note(found.get("power") or ""),
    )
    return Card("ab", "A/B test on the holdout", "A/B test", join(parts), lead)


def _versus(row: dict[str, Any]) -> tuple[object, ...]:
    name = row.get("opponent")
    return (
        join((name, " ", pill("decides"))) if row.get("decides") else name,
        coloured(pct(row.get("annual_difference"), sign=True), row.get("annual_difference")),
        f"{pct(row.get('low'))} to {pct(row.get('high'))}",
        p_value(row.get("p_better")),
        p_value(row.get("p_worse")),
        num(row.get("challenger_sharpe")),
        num(row.get("opponent_sharpe")),
        pct(row.get("detectable")),
        whole(row.get("days_needed")),
    )
