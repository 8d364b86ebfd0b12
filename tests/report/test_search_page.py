"""The page of a search: everything that is known of it, in words that can be checked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ares.report.page import render_run
from report_cases import Elements
from search_cases import FIRST, POINTS, facts, trials, write_search

if TYPE_CHECKING:
    from pathlib import Path

SECTIONS = [
    "winner", "overfitting", "equity", "blocks", "search", "parameters", "stops", "provenance",
    "volatile",
]  # fmt: skip
INFO = {
    "run_id": "20260101T000000Z-01234567",
    "next": "ares backtest --strategy a&b --set fast=12",
    "seconds": 1.5,
    "cached": 7,
    "fallbacks": ["a pool broke"],
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Elements:
    return Elements(render_run(write_search(tmp_path_factory.mktemp("s") / "run", info=INFO)))


def test_every_section_is_there_and_says_what_is_known(page: Elements) -> None:
    assert [a["id"] for a, _ in page.named("section")] == SECTIONS
    for said in (
        "1.500", "0.250", "1.75", "+50 %", "20.0 %", "41", "3 to 60, log", "long, both",
        "less 1 standard error", "held back: try the winner there, once", "10 basis points",
        "0.949", "0.38 ± 0.12", "the best of 90; 0.95 and more counts as evidence",
        "0.0300", "cut into 8 blocks of days: 5 of them made money", "too few trades: 2",
        "lost everything: 1", "50.0 % (95 %: 9.5 % to 90.5 %)", "0.125", "After stage 1",
        "It explains 90 % of the ranks", "a pool broke", "ares backtest --strategy a&b",
    ):  # fmt: skip
        assert said in page.text, said
    assert not re.search(r"\b(nan|inf|None)\b", page.text)


def test_equal_searches_have_equal_pages_but_for_the_volatile_part(tmp_path: Path) -> None:
    one = render_run(write_search(tmp_path / "one", info=INFO))
    two = render_run(write_search(tmp_path / "two", info={**INFO, "seconds": 9.0, "cached": 0}))
    parts = [
        re.sub(r'<section id="volatile">.*?</section>', "", t, flags=re.DOTALL) for t in (one, two)
    ]
    assert one != two
    assert parts[0] == parts[1]
    assert render_run(tmp_path / "one") == one


def test_plots_show_the_numbers_of_the_trials(page: Elements) -> None:
    plots, frame = page.plots(), trials()
    drawn = {t["name"]: t for t in plots["plot-trials"]["data"]}
    assert len(drawn["sobol"]["x"]) == FIRST - 2
    assert len(drawn["stopped"]["x"]) == 20
    best = [v for v in drawn["best so far"]["y"] if v is not None]
    assert best == sorted(best)
    assert best[-1] == pytest.approx(frame["value"].max(), abs=1e-5)
    bars = plots["plot-importance"]["data"][0]
    assert bars["y"] == ["direction", "fast"]
    assert bars["x"] == [0.1, 1.2]
    assert plots["plot-parameter-1"]["layout"]["xaxis"]["type"] == "log"
    assert plots["plot-blocks"]["data"][0]["y"] == [0.5 * (m - 3) for m in range(1, 9)]


def test_a_heat_map_has_the_median_of_each_cell(page: Elements) -> None:
    heat, ring = page.plots()["plot-pair-0"]["data"]
    frame = trials()
    frame = frame[np.isfinite(frame["value"])]
    for row, side in enumerate(heat["y"]):
        mine = frame[frame["param_direction"] == side]
        values = [v for v in heat["z"][row] if v is not None]
        assert len(values) <= mine["param_fast"].nunique()
        assert max(values) <= mine["value"].max() + 1e-5
        # One cell per tenth of the logarithm of the range.
        low, high = frame["param_fast"].min(), frame["param_fast"].max()
        cell = np.minimum((10 * np.log(mine["param_fast"] / low) / np.log(high / low)), 9).astype(
            int
        )
        wanted = mine["value"].groupby(cell).median()
        np.testing.assert_allclose(values, wanted.to_numpy(), atol=1e-5)
    best = frame.loc[frame["value"].idxmax()]
    assert ring["y"] == [best["param_direction"]]


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    info = {**INFO, "next": hostile, "fallbacks": [hostile], "host": hostile}
    given: dict[str, Any] = {"objective": {"name": hostile}, "trials_digest": hostile}
    text = render_run(
        write_search(tmp_path / "run", name=hostile, strategy=hostile, changed=given, info=info)
    )
    scripts = [a for a, _ in Elements(text).named("script")]
    assert len([a for a in scripts if not a]) == 2
    assert hostile not in text


def test_a_plateau_is_shown_where_one_was_looked_for(tmp_path: Path) -> None:
    plateau = {"params": {"fast": 14}, "value": 1.375, "median": 1.25, "best_median": 0.625}
    page = Elements(render_run(write_search(tmp_path / "run", changed={"plateau": plateau})))
    assert "plateau" in [a["id"] for a, _ in page.named("section")]
    for said in ("14", "1.375", "1.250", "0.625"):
        assert said in page.text


def test_early_stopping_that_was_off_says_why(tmp_path: Path) -> None:
    stops = {"on": False, "reason": "it is switched off", "agreements": []}
    page = Elements(render_run(write_search(tmp_path / "run", changed={"stops": stops})))
    assert "Early stopping was off: it is switched off. Every point was run in full." in page.text


def test_a_search_without_a_winner_says_how_its_points_ended(tmp_path: Path) -> None:
    given = {
        "best": None, "blocks": [], "overfitting": None, "importance": None, "benchmark": None,
        "outcomes": {"TOO_FEW_TRADES": 60, "RUINED": 30},
    }  # fmt: skip
    folder = write_search(tmp_path / "run", changed=given)
    (folder / "equity.parquet").unlink()
    page = Elements(render_run(folder))
    assert "No winner" in page.text
    assert re.search(r"too few trades\s+60", page.text)
    assert not re.search(r"\b(nan|inf|None)\b", page.text)


def test_a_folder_with_the_manifest_alone_has_a_page(tmp_path: Path) -> None:
    folder = write_search(tmp_path / "run")
    for path in folder.iterdir():
        if path.name != "manifest.json":
            path.unlink()
    page = Elements(render_run(folder))
    assert "No record of how this run went." in page.text
    assert not re.search(r"\b(nan|inf|None)\b", page.text)


def test_little_explained_means_that_the_bars_mean_nothing(tmp_path: Path) -> None:
    weak = {"names": ["fast", "direction"], "shares": [0.1, -0.1], "r2": -0.2, "points": 72}
    page = Elements(render_run(write_search(tmp_path / "run", changed={"importance": weak})))
    assert "It explains 0 % of the ranks" in page.text
    assert "the order of the bars means nothing" in page.text


def test_the_cases_are_what_they_say() -> None:
    frame, given = trials(), facts()
    assert len(frame) == POINTS == given["counts"]["trials"]
    assert int((frame["stage"] > 0).sum()) == given["stops"]["stopped"]
