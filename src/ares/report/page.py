"""The page of a run: everything a reader needs to believe it or not, in one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ares.core.errors import InputError
from ares.report import run_learning, run_outcome, run_provenance, run_robustness, run_search
from ares.report.run_data import dig, read_run
from ares.report.search_page import render_search
from ares.report.shell import page

if TYPE_CHECKING:
    from pathlib import Path


def render_run(folder: Path) -> str:
    """The report of a finished training run or search, or of one that is about to be published.

    Reads the run folder and nothing else. Equal runs have equal pages but for the one element
    `<section id="volatile">`. Files and values that are missing leave a dash or a sentence.

    Args:
        folder: The run folder.

    Raises:
        InputError: the run is neither a training run nor a search.
        ArtifactError: `folder` holds no valid manifest, or a file of it cannot be read.
    """
    run = read_run(folder)
    kind = run.sections.get("kind", "train")
    if kind == "optimize":
        return render_search(folder)
    if kind != "train":
        raise InputError(
            "the report of a training run or a search can be made from its folder",
            value=kind,
            where=str(folder),
            remedy="The report of a backtest is made when it runs.",
        )
    market = dig(run.sections, "market") or {}
    names = [str(market[key]) for key in ("symbol", "exchange", "timeframe") if market.get(key)]
    cards = (
        run_outcome.verdict(run),
        run_outcome.walk_forward(run),
        run_outcome.months(run),
        run_outcome.trades(run),
        run_robustness.monte_carlo(run),
        run_learning.regimes(run),
        run_learning.quality(run),
        run_learning.models(run),
        run_learning.calibration(run),
        run_search.search(run),
        run_outcome.chosen(run),
        run_robustness.overfitting(run),
        run_robustness.comparison(run),
        run_provenance.provenance(run),
    )
    return page(
        " · ".join(names) or "Run",
        run_provenance.subtitle(run),
        cards,
        kind="Ares training run",
        volatile=run_provenance.volatile(run),
    )
