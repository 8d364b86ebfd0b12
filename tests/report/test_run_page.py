from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ares.core.errors import ArtifactError, InputError
from ares.learn import regimes as learnt
from ares.report.page import render_run
from ares.store.runs import write_manifest
from report_cases import DAYS, VERDICT, Elements, steps, write_info, write_run

SECTIONS = [
    "verdict",
    "equity",
    "months",
    "trades",
    "monte-carlo",
    "regimes",
    "data",
    "models",
    "calibration",
    "search",
    "parameters",
    "overfitting",
    "ab",
    "provenance",
    "volatile",
]
VOLATILE = re.compile(r'<section id="volatile">.*?</section>', re.DOTALL)
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(1)>{{title}}</script>'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "run", info={})


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return render_run(folder)


@pytest.fixture(scope="module")
def elements(text: str) -> Elements:
    return Elements(text)


def test_all_sections_are_there_in_order(elements: Elements) -> None:
    assert elements.declarations == ["DOCTYPE html"]
    assert [attributes["id"] for attributes, _ in elements.named("section")] == SECTIONS


def test_every_anchor_has_its_section(elements: Elements) -> None:
    anchors = [attributes["href"] for attributes, _ in elements.named("a")]
    assert len(anchors) > 10
    assert {str(a).removeprefix("#") for a in anchors} <= set(SECTIONS)


def test_the_headline_numbers_are_those_of_the_manifest(text: str, elements: Elements) -> None:
    tiles = dict(re.findall(r'<dt>([^<]*)</dt><dd class="value[^"]*">([^<]*)</dd>', text))
    assert tiles["Return out of sample"] == "\N{MINUS SIGN}12.5 %"
    assert tiles["Return per year"] == "+6.2 %"
    assert tiles["Sharpe ratio"] == "1.50"
    assert tiles["Deflated Sharpe ratio"] == "0.949"  # cut: 0.9499 is below 0.95
    assert tiles["p against buy and hold"] == "&lt; 0.0001"
    assert tiles["Sharpe, buy and hold"] == "\N{EN DASH}"
    assert tiles["Trades"] == "40"
    assert tiles["Recommendation"] == "hold"
    assert VERDICT in elements.text
    assert "Effective sample, wild" in elements.text


def test_undefined_numbers_are_dashes(elements: Elements) -> None:
    assert not re.search(r"\b(nan|null|inf)\b", elements.text)
    assert "None" not in elements.text.replace("None at all", "").replace("None were", "")
    assert "NaN" not in elements.text
    assert "\N{EN DASH}" in elements.text


def test_months_are_the_products_of_their_days(folder: Path, text: str) -> None:
    equity = pd.read_parquet(folder / "equity.parquet")
    growth = 1.0
    for day, daily in zip(equity["day"], equity["daily_return"], strict=True):
        if (day.year, day.month) == (2001, 3):
            growth *= 1.0 + daily
    row = re.findall(r'class="cell[^"]*"[^>]*>(?:<span[^>]*>)?([^<]*)<', text)
    assert row[2] == f"{100 * (growth - 1):.1f} %".replace("-", "\N{MINUS SIGN}")
    assert row[6:12] == ["\N{EN DASH}"] * 6


def test_the_drawn_equity_is_the_stored_one(folder: Path, elements: Elements) -> None:
    plot = elements.plots()["plot-equity"]
    equity = pd.read_parquet(folder / "equity.parquet")
    strategy, matched, held = plot["data"]
    np.testing.assert_allclose(strategy["y"], equity["equity"], rtol=1e-5)
    np.testing.assert_allclose(held["y"], (1 + equity["benchmark_return"]).cumprod(), rtol=1e-5)
    np.testing.assert_allclose(
        matched["y"], (1 + 0.5 * equity["benchmark_return"]).cumprod(), rtol=1e-5
    )
    assert strategy["x"][0] == "2001-01-01"
    borders = [shape["x0"] for shape in plot["layout"]["shapes"]]
    assert borders == ["2001-01-01", "2001-03-22"]


def test_drawdown_starts_from_the_initial_cash(folder: Path, elements: Elements) -> None:
    drawn = elements.plots()["plot-drawdown"]["data"][0]["y"]
    peak, expected = 1.0, []
    for value in pd.read_parquet(folder / "equity.parquet")["equity"]:
        peak = max(peak, value)
        expected.append(value / peak - 1.0)
    np.testing.assert_allclose(drawn, expected, rtol=1e-4, atol=1e-9)


def test_regime_stripes_cover_exactly_their_days(folder: Path, elements: Elements) -> None:
    market = pd.read_parquet(folder / "market.parquet")
    days = market["day"].dt.strftime("%Y-%m-%d").tolist()
    for trace in elements.plots()["plot-regimes"]["data"][:-1]:
        covered: set[str] = set()
        for left, right in zip(trace["x"][::5], trace["x"][2::5], strict=True):
            covered |= {d for d in days if left <= d < right or (right == days[-1] == d)}
        mine = {d for d, r in zip(days, market["regime"], strict=True) if r == trace["name"]}
        assert mine <= covered | {days[-1]}
        assert covered - mine <= {days[-1]}


def test_every_trial_is_drawn_once(folder: Path, elements: Elements) -> None:
    trials = pd.read_parquet(folder / "trials.parquet")
    plots = elements.plots()
    by_name = {trace["name"]: trace for trace in plots["plot-trials"]["data"]}
    full = trials[trials["status"] == "full"]
    shown = by_name["sobol"]["x"] + (by_name["adaptive"]["x"] if "adaptive" in by_name else [])
    assert sorted(shown) == full["number"].tolist()
    assert by_name["stopped"]["x"] == trials.loc[trials["status"] == "stopped", "number"].tolist()
    best = by_name["best so far"]["y"]
    assert best == sorted(best)
    assert best[-1] == pytest.approx(full["value"].max(), rel=1e-5)
    assert {"plot-parameter-0", "plot-parameter-1"} <= set(plots)


def test_nothing_is_loaded_from_anywhere(elements: Elements) -> None:
    for tag, attributes, _ in elements.found:
        for name in ("src", "href", "action", "srcset", "data", "poster", "background"):
            value = attributes.get(name)
            if value is not None:
                assert value.startswith(("#", "data:,")), (tag, name, value)
        assert not [name for name in attributes if name.startswith("on")]
    styles = "".join(text for _, text in elements.named("style"))
    assert "url(" not in styles
    assert "@import" not in styles
    assert not any("url(" in str(a.get("style")) for _, a, _ in elements.found)
    tags = {tag for tag, *_ in elements.found}
    assert not tags & {"iframe", "object", "embed", "base", "form", "img", "audio", "video"}


def test_the_policy_allows_our_two_scripts_and_no_other(elements: Elements) -> None:
    policies = [
        str(attributes["content"])
        for attributes, _ in elements.named("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    (policy,) = policies
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert "http" not in policy
    scripts = [text for attributes, text in elements.named("script") if not attributes]
    hashes = [
        "'sha256-" + base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() + "'"
        for s in scripts
    ]
    assert len(scripts) == 2
    assert directives["script-src"].split() == hashes


def test_data_scripts_are_inert_json_for_existing_places(elements: Elements) -> None:
    places = {attributes.get("id") for tag, attributes, _ in elements.found if tag == "div"}
    for attributes, text in elements.named("script"):
        if attributes:
            assert set(attributes) == {"type", "data-plot"}
            assert attributes["type"] == "application/json"
            assert attributes["data-plot"] in places
            assert not set("<>&") & set(text)
            json.loads(text, parse_constant=pytest.fail)


def test_phones_and_dark_rooms_are_served(text: str, elements: Elements) -> None:
    metas = {str(a.get("name")): a.get("content") for a, _ in elements.named("meta")}
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert "prefers-color-scheme: dark" in text
    held = re.sub(r'<div class="scroll" tabindex="0"><table>.*?</table></div>', "", text)
    assert "<table" not in held  # each table scrolls in its own container


@pytest.mark.parametrize("hostile", [HOSTILE, "%{x}<a href='javascript:alert(1)'>", "a\0b\x1b[2J"])
def test_values_cannot_become_markup(tmp_path: Path, hostile: str) -> None:
    folder = write_run(
        tmp_path / "run",
        symbol=hostile,
        regimes=("calm", hostile, "wild"),
        note=hostile,
        sections={"verdict": hostile, "recommendation": hostile, "mode": hostile},
        info={"host": hostile, "fallbacks": [hostile], "config": {hostile: hostile}},
    )
    (folder / "config.toml").write_text(hostile)
    (folder / "params.json").write_text(json.dumps({hostile: hostile, "enter": hostile}))
    trials = pd.read_parquet(folder / "trials.parquet")
    trials["phase"] = hostile
    renamed = trials.rename(columns={"param_direction": f"param_{hostile}"})
    renamed.to_parquet(folder / "trials.parquet")
    trades = pd.read_parquet(folder / "trades.parquet")
    trades["reason"] = hostile
    trades.to_parquet(folder / "trades.parquet")
    text = render_run(folder)
    elements = Elements(text)
    scripts = elements.named("script")
    assert len([a for a, _ in scripts if not a]) == 2
    assert all(set(a) == {"type", "data-plot"} for a, _ in scripts if a)
    assert not elements.named("img")
    assert not any(name.startswith("on") for _, a, _ in elements.found for name in a)
    assert [a["id"] for a, _ in elements.named("section")] == SECTIONS
    assert not any(c in VOLATILE.sub("", text).split("<script>")[0] for c in "\0\x1b")
    for plot in elements.plots().values():
        for trace in plot["data"]:
            assert "<" not in trace.get("name", "")
            assert "%{x}" not in trace.get("name", "")


def test_equal_runs_have_equal_pages_but_for_the_volatile_section(
    tmp_path: Path, folder: Path, text: str
) -> None:
    copy = tmp_path / "elsewhere" / "other-name"
    shutil.copytree(folder, copy)
    assert render_run(copy) == text
    write_info(copy, {"seconds": 7000.0, "host": "other", "validations_before": 3, "edge": True})
    changed = render_run(copy)
    assert changed != text
    assert len(VOLATILE.findall(text)) == 1
    assert text.count('id="volatile"') == 1
    assert VOLATILE.sub("", changed) == VOLATILE.sub("", text)
    (copy / "run_info.json").unlink()
    assert VOLATILE.sub("", render_run(copy)) == VOLATILE.sub("", text)


def test_the_volatile_section_has_time_memory_and_fallbacks(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", info={"fallbacks": ["a pool broke: serial"]})
    (volatile,) = VOLATILE.findall(render_run(folder))
    for shown in ("61.5 s", "3.0 MiB", "5.0 GiB", "200.0 MiB", "a pool broke: serial", "window 0"):
        assert shown in volatile
    assert "later" not in volatile


def test_earlier_studies_weaken_the_verdict_that_is_shown(tmp_path: Path) -> None:
    verdict = {"verdict": "Evidence of edge: all good.", "edge": True}
    weaker = {"verdict": "No evidence of edge: too many tries.", "validations_before": 9}
    folder = write_run(tmp_path / "run", sections=verdict, info=weaker)
    text = render_run(folder)
    assert "card banner edge" in text
    (volatile,) = VOLATILE.findall(text)
    assert '<p class="later" data-edge="no">' in volatile
    assert "9 other configurations were validated" in volatile


def test_missing_files_leave_sentences(tmp_path: Path) -> None:
    write_manifest(tmp_path, {"kind": "train"})
    elements = Elements(render_run(tmp_path))
    assert [a["id"] for a, _ in elements.named("section")] == SECTIONS
    assert "No verdict" in elements.text
    assert "There were no trades" in elements.text
    assert elements.plots() == {}


@pytest.mark.parametrize("number", range(1, 16))
def test_any_step_may_be_missing_or_undefined(tmp_path: Path, number: int) -> None:
    folder = write_run(tmp_path / "run")
    path = folder / "steps" / f"{number:02d}.json"
    path.write_text(json.dumps(_emptied(steps(("calm", "normal", "wild"), "n")[number])))
    first = Elements(render_run(folder))
    path.unlink()
    second = Elements(render_run(folder))
    for elements in (first, second):
        assert [a["id"] for a, _ in elements.named("section")] == SECTIONS
        assert not re.search(r"\b(nan|inf)\b", elements.text)


def test_runs_without_trades_have_a_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    for name in ("trades", "trials", "oos"):
        frame = pd.read_parquet(folder / f"{name}.parquet")
        frame.iloc[:0].to_parquet(folder / f"{name}.parquet")
    flat = pd.read_parquet(folder / "equity.parquet")
    flat[["equity", "daily_return"]] = (1.0, 0.0)
    flat.to_parquet(folder / "equity.parquet")
    elements = Elements(render_run(folder))
    assert "There were no trades out of sample." in elements.text
    assert elements.plots()["plot-equity"]["data"][0]["y"] == [1.0] * DAYS


def test_bars_without_a_regime_have_a_row_of_their_own(folder: Path, elements: Elements) -> None:
    unknown = int(pd.read_parquet(folder / "oos.parquet")["regime"].isna().sum())
    assert unknown > 0
    assert re.search(rf"not known yet\s*{unknown}\b", elements.text)


@pytest.mark.parametrize("names", [learnt.VOLATILITIES, learnt.DIRECTIONS, ("one", "two", "three")])
def test_names_of_regimes_are_explained_and_stand_in_their_order(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    """By the names that the model gives, which the page does not import."""
    page = Elements(render_run(write_run(tmp_path / "run", regimes=names))).text
    assert ("say how much prices move, not which way" in page) == (names == learnt.VOLATILITIES)
    assert ("ordered by mean return" in page) == (names == learnt.DIRECTIONS)
    assert "names its regimes by return (bear, sideways, bull) or" in page
    rows = page.split("Decisions by regime", 1)[1].split("By the model of each window")[0]
    places = [re.search(rf"\b{name}\s*\d", rows) for name in names]
    starts = [found.start() for found in places if found]
    assert len(starts) == 3
    if names != ("one", "two", "three"):
        assert starts == sorted(starts)


def test_the_two_drawdowns_of_a_page_are_told_apart(elements: Elements) -> None:
    assert "By the last close of each day." in elements.text
    assert "Drawdowns in this card are of days" in elements.text


def test_no_score_at_all_is_drawn_without_a_range(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    trials = pd.read_parquet(folder / "trials.parquet")
    trials["value"], trials["revealed"], trials["status"] = -np.inf, np.nan, "failed"
    trials.to_parquet(folder / "trials.parquet")
    plot = Elements(render_run(folder)).plots()["plot-trials"]
    assert plot["layout"]["yaxis"]["range"] is None
    assert set(plot["data"][0]["y"]) == {None}


def test_other_kinds_and_broken_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        render_run(tmp_path)
    write_manifest(tmp_path, {"kind": "backtest"})
    with pytest.raises(InputError, match="training run"):
        render_run(tmp_path)
    folder = write_run(tmp_path / "run")
    (folder / "steps" / "05.json").write_text("[1]")
    with pytest.raises(ArtifactError, match="JSON object"):
        render_run(folder)
    (folder / "steps" / "05.json").unlink()
    (folder / "trades.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(ArtifactError, match=r"trades\.parquet"):
        render_run(folder)


def test_rendering_is_quick(folder: Path) -> None:
    render_run(folder)
    began = time.process_time()
    render_run(folder)
    assert time.process_time() - began < 2.0


def _emptied(value: object) -> object:
    """The same shape with every number undefined."""
    if isinstance(value, dict):
        return {key: _emptied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_emptied(item) for item in value]
    return value if isinstance(value, str) else None
