"""Where a run comes from: configuration, digests, and what varies between equal runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ares.report.run_data import dig, rows
from ares.report.shell import Card
from ares.report.tables import bullets, details, empty, facts, note, part, pill, table
from ares.report.text import DASH, Html, day, join, plain, plural, seconds, size, tag, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ares.report.run_data import RunData


def provenance(run: RunData) -> Card:
    """Configuration and digests: what has to be equal for results to be equal."""
    sections = run.sections
    digests = (
        ("Training data", dig(sections, "data", "digest")),
        ("Held-back data", dig(sections, "data", "holdout_digest")),
        ("Configuration", sections.get("configuration")),
        ("Code", dig(sections, "code", "digest")),
        ("Sources", dig(sections, "code", "sources")),
        ("Trials", dig(run.steps[12], "trials_digest")),
    )
    libraries = dig(sections, "libraries") or {}
    steps = [
        (whole(s.get("number")), s.get("name"), tag("code", s.get("digest") or DASH))
        for s in rows(sections, "steps")
    ]
    body = (
        facts((("Mode", sections.get("mode") or DASH), ("Seed", plain(sections.get("seed"))))),
        table(("What", "Digest"), [(n, tag("code", d or DASH)) for n, d in digests], words=2),
        details("Digests of the steps' results", table(("Step", "Name", "Digest"), steps, words=3)),
        details(
            "Libraries",
            table(("Library", "Version"), sorted(libraries.items()), words=2),
        ),
        details("Configuration", tag("pre", run.config or DASH)),
    )
    lead = "Runs that agree in all of this agree in every result, byte by byte."
    return Card("provenance", "Configuration and provenance", "Provenance", join(body), lead)


def volatile(run: RunData) -> Html:
    """What may differ between equal runs: time, memory, machine, fallbacks, history."""
    head = tag("h2", "This run")
    if run.info is None:
        return join((head, empty("No record of how this run went.")))
    info = run.info
    lead = "When, where and how it ran. Nothing here shapes a result."
    return join(
        (
            head,
            tag("p", lead, class_="lead"),
            _later(run, info),
            facts(
                (
                    ("Run", info.get("run_id") or DASH),
                    ("Started (UTC)", str(info.get("started") or DASH)[:19].replace("T", " ")),
                    ("Took", seconds(info.get("seconds"))),
                    ("Peak memory", size(dig(info, "memory", "peak_bytes"))),
                    ("Memory budget", size(dig(info, "memory", "budget_bytes"))),
                    ("Workers", whole(info.get("jobs"))),
                    ("Host", info.get("host") or DASH),
                    ("Platform", info.get("platform") or DASH),
                    ("Champion met", info.get("champion") or "none"),
                )
            ),
            part("Fallbacks", bullets(rows(info, "fallbacks")) or empty("None were needed.")),
            part("Steps", _steps(rows(info, "steps"))),
            details("Effective configuration", _settings(info)),
        )
    )


def _later(run: RunData, info: Mapping[str, Any]) -> Html:
    """The verdict as it reads with everything that this workspace tried before."""
    verdict = info.get("verdict")
    before = info.get("validations_before")
    if not verdict or (verdict == run.sections.get("verdict") and not before):
        return Html()
    count = plural(before, "other configuration was", "other configurations were")
    text = f"With its history: {count} validated on the same data before. {verdict}"
    return tag("p", text, class_="later", data_edge="yes" if info.get("edge") is True else "no")


def _steps(records: list[Any]) -> Html:
    heads = ("Step", "Name", "", "Time", "Peak memory")
    main = [r for r in records if not r.get("scope")]
    body: list[tuple[object, ...]] = [
        (
            whole(r.get("number")),
            r.get("name"),
            pill("from store") if r.get("cached") else "",
            seconds(r.get("seconds")),
            size(r.get("peak_memory_bytes")),
        )
        for r in sorted(main, key=lambda r: r.get("number") or 0)
    ]
    scopes = list(dict.fromkeys(str(r["scope"]) for r in records if r.get("scope")))
    inner = []
    for scope in scopes:
        mine = [r for r in records if r.get("scope") == scope]
        stored = sum(bool(r.get("cached")) for r in mine)
        peak = max((r.get("peak_memory_bytes") or 0 for r in mine), default=0)
        took = sum(r.get("seconds") or 0.0 for r in mine)
        inner.append((scope, whole(len(mine)), whole(stored), seconds(took), size(peak)))
    found = table(heads, body, words=3)
    if not inner:
        return found
    heads = ("Within step 13", "Steps", "From store", "Time", "Peak memory")
    return join((found, note("Refits inside the windows:"), table(heads, inner)))


def _settings(info: Mapping[str, Any]) -> Html:
    origins = info.get("origins") or {}
    lines = [
        (tag("code", name), plain(value), origins.get(name, ""))
        for name, value in _flat(info.get("config") or {})
    ]
    return table(("Setting", "Value", "From"), lines, words=3)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in sorted(tree.items()):
        name = f"{prefix}{key}"
        found += _flat(value, f"{name}.") if isinstance(value, dict) else [(name, value)]
    return found


def subtitle(run: RunData) -> str:
    """One line on what was tested: span and size."""
    data = dig(run.sections, "data") or {}
    return (
        f"{plural(data.get('bars'), 'training bar')}, {day(data.get('first'))} to "
        f"{day(data.get('last'))}; mode {run.sections.get('mode') or DASH}"
    )
