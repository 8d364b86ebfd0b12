"""The page of a search: the winner, how far to believe it, and what the search looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.backtest.curves import decimate
from ares.report import plots, search_cards
from ares.report.run_data import dig, rows
from ares.report.run_robustness import of_search
from ares.report.run_search import by_number
from ares.report.search_data import read_search, shown_range
from ares.report.shell import Card, page
from ares.report.tables import (
    bullets,
    details,
    empty,
    facts,
    note,
    part,
    table,
    tiles,
    tone,
)
from ares.report.text import (
    DASH,
    Html,
    day,
    join,
    num,
    number_of,
    pct,
    plain,
    plural,
    seconds,
    short,
    size,
    tag,
    whole,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ares.report.search_data import SearchData

_OUTCOMES: Final = {
    "TOO_FEW_TRADES": "too few trades",
    "RUINED": "lost everything",
    "NOT_FINITE": "no finite number",
    "RAISED": "failed with an error",
}


def render_search(folder: Path) -> str:
    """The report of a finished search, or of one that is about to be published.

    Reads the run folder and nothing else. Equal searches have equal pages but for the one element
    `<section id="volatile">`. Files and values that are missing leave a dash or a sentence.

    Args:
        folder: The run folder.

    Raises:
        ArtifactError: `folder` holds no valid manifest, or a file of it cannot be read.
    """
    found = read_search(folder)
    sections = found.run.sections
    market = dig(sections, "market") or {}
    names = [market.get(key) for key in ("symbol", "exchange", "timeframe")]
    shown = dict.fromkeys(str(v) for v in (sections.get("strategy"), *names) if v)
    data = dig(sections, "data") or {}
    subtitle = (
        f"{plural(dig(found.facts, 'counts', 'trials'), 'point')} on {plural(data.get('bars'), 'bar')}, "
        f"{day(data.get('first'))} to {day(data.get('last'))}"
    )
    cards = [
        _winner(found),
        _overfitting(found),
        _plateau(found),
        _equity(found),
        search_cards.blocks(found),
        _trials(found),
        search_cards.parameters(found),
        search_cards.stops(found),
        _provenance(found),
    ]
    return page(
        " · ".join(shown) or "Search",
        subtitle,
        [card for card in cards if card is not None],
        kind="Ares parameter search",
        volatile=_volatile(found),
    )


def _winner(found: SearchData) -> Card:
    best = dig(found.facts, "best")
    if not best:
        return _nobody(found)
    metrics, held = dig(best, "metrics"), dig(found.facts, "benchmark")
    final, sharpe = dig(metrics, "total_return"), dig(metrics, "sharpe")
    gain = dig(held, "total_return")
    head = tiles(
        (
            ("Score", num(dig(best, "score"), 3), ""),
            ("Its standard error", num(dig(best, "error"), 3), ""),
            ("Sharpe ratio", num(sharpe), tone(sharpe)),
            ("Return", pct(final, 0, sign=True), tone(final)),
            ("Largest drawdown", pct(dig(metrics, "max_drawdown")), ""),
            ("Trades", whole(dig(metrics, "n_trades")), ""),
            ("Buy and hold: Sharpe", num(dig(held, "sharpe")), tone(dig(held, "sharpe"))),
            ("Buy and hold: return", pct(gain, 0, sign=True), tone(gain)),
        )
    )
    count = plural(dig(found.facts, "counts", "trials"), "point")
    sentence = (
        f"The best of {count} on the very days it was chosen on. Such a number is always too "
        "good: the next card says by how much luck alone may explain it."
    )
    if found.facts.get("held_back"):
        sentence += " The last part of the data was held back: try the winner there, once."
    params = [
        (name, plain(value), shown_range(found.space.get(name)))
        for name, value in found.best.items()
    ]
    body = (
        tag("p", sentence, class_="sentence"),
        head,
        bullets(found.facts.get("cautions") or ()),
        part("Its parameters", table(("Parameter", "Value", "Searched"), params, words=3)),
        facts(_rules(found)),
        note(_score_words(found)),
    )
    return Card("winner", "The best point", "Winner", join(body), kind="banner")


def _nobody(found: SearchData) -> Card:
    lines = [
        (_OUTCOMES.get(name, name), whole(count))
        for name, count in (dig(found.facts, "outcomes") or {}).items()
    ]
    body = (
        tag("p", "No point had a score. This is how they ended:", class_="sentence"),
        table(("Outcome", "Points"), lines),
        _failures(found),
        facts(_rules(found)),
    )
    return Card("winner", "No winner", "Winner", join(body), kind="banner")


def _failures(found: SearchData) -> Html:
    """What points raised, with the first point of each kind."""
    body = [
        (
            join((tag("b", one.get("type") or DASH), f": {one.get('message')}")),
            str(one.get("where") or DASH),
            ", ".join(f"{k} = {plain(v)}" for k, v in (dig(one, "params") or {}).items()),
            whole(one.get("count")),
        )
        for one in found.facts.get("failures") or ()
    ]
    if not body:
        return join(())
    return part("What failed", table(("Error", "Where", "First at", "Points"), body, words=3))


def _rules(found: SearchData) -> list[tuple[str, object]]:
    costs, fill = dig(found.facts, "costs"), found.facts.get("fill")
    gap = found.facts.get("max_gap")
    return [
        ("Objective", str(dig(found.facts, "objective", "name") or DASH)),
        ("Fewest trades", whole(dig(found.facts, "objective", "min_trades"))),
        ("Orders fill", "at the next open" if fill == "next_open" else "at the close"),
        ("Fee per side", _points(dig(costs, "fee"))),
        ("Slippage per side", _points(dig(costs, "slippage"))),
        ("Indicators start anew after", f"{plural(gap, 'bar')} missing"),
    ]


def _points(rate: Any) -> str:
    return f"{short((number_of(rate) or 0.0) * 1e4)} basis points"


def _score_words(found: SearchData) -> str:
    name, penalty = (dig(found.facts, "objective", key) for key in ("name", "penalty"))
    less = (
        f" less {plural(penalty, 'standard error')}, estimated by leaving out one block of days at "
        "a time"
        if number_of(penalty)
        else ""
    )
    proof = (
        " The winner was run again by the plain bar loop, with the same result bit for bit."
        if found.facts.get("replayed")
        else ""
    )
    return f"The score is {name}{less}. Everything is net of costs.{proof}"


def _overfitting(found: SearchData) -> Card:
    search = found.facts.get("overfitting")
    if not search:
        text = "Too few points with numbers for statistics of overfitting."
        return Card("overfitting", "Is it luck?", "Luck", empty(text))
    body = table(
        ("Statistic", "Value", "What it says"),
        [
            (name, tag("b", value, class_="nowrap"), text)
            for name, value, text in (_deflated(search), *of_search(search)[1:])
        ],
        words=3,
    )
    lead = (
        f"All {plural(search.get('n_trials'), 'point')} count as tries. Where whole curves are "
        f"compared, they are those of the first {plural(search.get('points'), 'point')}, which "
        "were spread over the space evenly and never stopped: the adaptive ones resemble each "
        "other. Whatever the objective was, the statistics are of the Sharpe ratio of daily "
        "returns. A search that looks good here has not failed yet; only days that no search saw "
        "can prove it."
    )
    return Card("overfitting", "Is it luck?", "Luck", body, lead)


def _deflated(search: Any) -> tuple[str, str, str]:
    """The first statistic, in the words of a page that has no other one before it."""
    name, value, _ = of_search(search)[0]
    text = (
        "Probability that the winner's true Sharpe ratio is above what luck gives to the best of "
        f"{whole(dig(search, 'n_trials'))}; 0.95 and more counts as evidence."
    )
    return name, value, text


def _plateau(found: SearchData) -> Card | None:
    plateau = found.facts.get("plateau")
    if not plateau:
        return None
    mine, best = dig(plateau, "params") or {}, dig(plateau, "best_params") or {}
    body = [(name, plain(best.get(name)), plain(value)) for name, value in sorted(mine.items())]
    body += [
        ("Score", num(plateau.get("best_value"), 3), num(plateau.get("value"), 3)),
        (
            "Median score of its neighbours",
            num(plateau.get("best_median"), 3),
            num(plateau.get("median"), 3),
        ),
    ]
    chosen = "plateau" if plateau.get("chosen") == "plateau" else "best point"
    lead = (
        "A peak that its neighbours do not share is more likely to be luck than one on a plateau. "
        f"Beside the best point stands the one whose neighbourhood is best; the {chosen} was chosen."
    )
    content = table(("", "Best point", "Broadest plateau"), body)
    return Card("plateau", "Peak or plateau?", "Plateau", content, lead)


def _equity(found: SearchData) -> Card | None:
    frame = found.run.equity
    if frame.empty or "benchmark_return" not in frame:
        return None
    equity = frame["equity"].to_numpy(np.float64)
    held = np.cumprod(1.0 + frame["benchmark_return"].to_numpy(np.float64))
    times = frame["day"].dt.tz_localize(None).to_numpy("datetime64[ns]")
    kept = decimate(equity)
    x = plots.dates(times[kept])
    traces = [
        plots.line(x, equity[kept], "The winner", "accent", width=2),
        plots.line(x, held[kept], "Buy and hold", "grey", line={"dash": "dot"}),
    ]
    for trace in traces:
        trace["hovertemplate"] = "%{y:.3f}"
    layout = {"yaxis": {"tickformat": ".2~f"}}
    growth = plots.Plot("equity", "Equity against buy and hold", traces, layout, 340, log=True)
    fall = plots.drawdown_plot(times, equity, name="drawdown")
    lead = (
        f"In sample, net {pct(equity[-1] - 1.0, sign=True)}; buying at the first open and holding "
        f"made {pct(held[-1] - 1.0, sign=True)} before costs."
    )
    body = (
        part("Growth of 1", plots.figure(growth)),
        part("Drawdown", plots.figure(fall)),
        note(plots.DAILY),
    )
    return Card("equity", "The winner in sample", "Equity", join(body), lead)


def _trials(found: SearchData) -> Card:
    if found.trials.empty:
        return Card("search", "All points", "", empty("There are no points."))
    counts = dig(found.facts, "counts") or {}
    words = [
        f"{_OUTCOMES[name]}: {whole(count)}"
        for name, count in (dig(found.facts, "outcomes") or {}).items()
        if name in _OUTCOMES
    ]
    lead = (
        f"The first {whole(found.facts.get('initial'))} are spread evenly (Sobol); the others are "
        f"asked where the scores were good. {plural(counts.get('full'), 'point')} ran in full, "
        f"{whole(counts.get('stopped'))} were stopped early"
        + (f", {whole(counts.get('raised'))} failed." if counts.get("raised") else ".")
    )
    body = [part("Score by point, and the best so far", plots.figure(by_number(found.trials)))]
    if number_of(counts.get("stopped")):
        body.append(note("Hollow points were stopped early and show what they had reached."))
    if words:
        body.append(note(f"Without a score: {'; '.join(words)}."))
    if found.best:
        body.append(_failures(found))
    return Card("search", "All points", "Points", join(body), lead)


def _provenance(found: SearchData) -> Card:
    sections = found.run.sections
    digests = (
        ("Data", dig(sections, "data", "digest")),
        ("Configuration", sections.get("configuration")),
        ("Code", dig(sections, "code", "digest")),
        ("Objective", sections.get("objective_identity")),
        ("Trials", sections.get("trials_digest")),
    )
    ranges = [(name, shown_range(given)) for name, given in sorted(found.space.items())]
    body = (
        facts((("Seed", plain(sections.get("seed"))),)),
        table(("What", "Digest"), [(n, tag("code", d or DASH)) for n, d in digests], words=2),
        details("Searched ranges", table(("Parameter", "Range"), ranges, words=2)),
        details("Configuration", tag("pre", found.run.config or DASH)),
    )
    lead = "Searches that agree in all of this agree in every result, byte by byte."
    return Card("provenance", "Provenance", "Provenance", join(body), lead)


def _volatile(found: SearchData) -> Html:
    """What may differ between equal searches: time, memory, machine, cache, names of files."""
    head = tag("h2", "This run")
    info = found.run.info
    if info is None:
        return join((head, empty("No record of how this run went.")))
    parts = [
        head,
        tag("p", "When, where and how it ran. Nothing here shapes a result.", class_="lead"),
        facts(
            (
                ("Run", info.get("run_id") or DASH),
                ("Started (UTC)", str(info.get("started") or DASH)[:19].replace("T", " ")),
                ("Search took", seconds(info.get("seconds"))),
                ("Points per second", num(info.get("trials_per_second"), 0)),
                ("From the cache", whole(info.get("cached"))),
                ("From before an interruption", whole(info.get("resumed"))),
                ("Workers", whole(info.get("jobs"))),
                ("Peak memory", size(dig(info, "memory", "peak_bytes"))),
                ("Host", info.get("host") or DASH),
                ("Platform", info.get("platform") or DASH),
            )
        ),
    ]
    if info.get("next"):
        parts.append(part("Try the winner on the held-back bars, once", tag("pre", info["next"])))
    fallbacks = [(text,) for text in rows(info, "fallbacks")]
    if fallbacks:
        parts.append(part("Fallbacks", table(("What was done otherwise",), fallbacks)))
    return join(parts)
