"""A real browser draws every plot, complains about nothing, and fits a phone."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ares.report.page import render_run
from report_cases import Elements, write_run
from search_cases import write_search

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_PROBE = """<!DOCTYPE html><title>probe</title><body style="margin:0">
<iframe id="f" src="report.html" style="border:0;width:375px;height:900px"></iframe>
<pre id="out"></pre><script>
setTimeout(function () {
  var d = document.getElementById("f").contentDocument;
  var wide = Array.from(d.querySelectorAll("main *")).filter(function (e) {
    return e.getBoundingClientRect().right > 376 && !e.closest(".scroll, svg, pre");
  });
  document.getElementById("out").textContent = JSON.stringify({
    scroll: d.documentElement.scrollWidth,
    client: d.documentElement.clientWidth,
    wide: wide.map(function (e) { return e.tagName + "." + e.className; }),
    drawn: Array.from(d.querySelectorAll(".canvas")).filter(function (e) {
      return e.querySelector(".main-svg");
    }).map(function (e) { return e.id; }),
    banner: d.querySelector(".banner h2").textContent,
    later: d.querySelectorAll(".banner .later").length
  });
}, 4000);
</script>"""


def _browser() -> str:
    for name in _NAMES:
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no Chromium on this machine")


@pytest.mark.slow
def test_a_browser_draws_all_of_it_without_complaint(tmp_path: Path) -> None:
    sections = {"verdict": "Evidence of edge: all good.", "edge": True}
    weaker = {"verdict": "No evidence of edge: many tries.", "validations_before": 9, "edge": False}
    text = render_run(write_run(tmp_path / "run", sections=sections, info=weaker))
    found = _drawn(tmp_path, text)
    assert found["banner"] == "No evidence of edge"  # what the history leaves of the verdict
    assert found["later"] == 1


@pytest.mark.slow
def test_a_browser_draws_the_page_of_a_search(tmp_path: Path) -> None:
    info = {"next": "ares backtest --set fast=12 --data " + "/a/long/path" * 20}
    text = render_run(write_search(tmp_path / "run", info=info))
    assert _drawn(tmp_path, text)["banner"] == "The best point"


def _drawn(tmp_path: Path, text: str) -> dict[str, Any]:
    """Draw a page as wide as a phone; every plot is there, nothing sticks out or complains."""
    browser = _browser()
    (tmp_path / "report.html").write_text(text)
    (tmp_path / "probe.html").write_text(_PROBE)
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--allow-file-access-from-files",
            "--enable-logging=stderr",
            "--virtual-time-budget=8000",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            (tmp_path / "probe.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
    assert said is not None, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(html.unescape(said.group(1)))
    assert set(found["drawn"]) == set(Elements(text).plots())
    assert len(found["drawn"]) >= 8
    assert found["scroll"] == found["client"]
    assert found["wide"] == []
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return found
