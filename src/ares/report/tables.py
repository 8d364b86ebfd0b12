"""Tables, facts and cards of a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ares.report.text import DASH, Html, esc, join, number_of, pct, tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FULL_COLOUR: Final = 0.10  # a month of this size has the strongest colour


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, words: int = 1) -> Html:
    """A table in its own scrolling container.

    Args:
        heads: Column heads.
        rows: Cells; escaped unless they are markup.
        words: How many columns from the left hold text; the others are numbers.
    """
    body = [
        join(
            tag("td", cell) if i < words else tag("td", cell, class_="n")
            for i, cell in enumerate(row)
        )
        for row in rows
    ]
    if not body:
        return empty("Nothing to show.")
    head = join(
        tag("th", text, scope="col") if i < words else tag("th", text, scope="col", class_="n")
        for i, text in enumerate(heads)
    )
    inner = tag("thead", tag("tr", head)) + tag("tbody", join(tag("tr", row) for row in body))
    return tag("div", tag("table", Html(inner)), class_="scroll", tabindex="0")


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names and values as a list."""
    items = join(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs)
    return tag("dl", items, class_="facts")


def tiles(pairs: Sequence[tuple[str, object, str]]) -> Html:
    """Headline numbers in one or two rows: name, value, and a class that colours it."""
    items = join(
        tag("div", tag("dt", name), tag("dd", value, class_=f"value {tone}".strip()))
        for name, value, tone in pairs
    )
    across = len(pairs) if len(pairs) <= 6 else -(-len(pairs) // 2)
    return tag("dl", items, class_="tiles", style=f"--across:{across}")


def tone(value: Any) -> str:
    """Class of a number that is good above zero and bad below."""
    found = number_of(value)
    if not found:
        return ""
    return "good" if found > 0 else "bad"


def coloured(text: object, value: Any) -> Html:
    """`text` in the colour of the sign of `value`."""
    return tag("span", text, class_=tone(value)) if tone(value) else esc(text)


def empty(text: str) -> Html:
    """What stands where there is nothing to show."""
    return tag("p", text, class_="empty")


def note(*content: object) -> Html:
    """A quiet paragraph."""
    return tag("p", *content, class_="note")


def part(title: str, *content: object) -> Html:
    """A titled block within a card."""
    return tag("div", tag("h3", title), *content, class_="part")


def columns(*content: object) -> Html:
    """Blocks side by side where there is room."""
    return tag("div", *content, class_="columns")


def details(summary: str, *content: object) -> Html:
    """Content that opens on demand."""
    return tag("details", tag("summary", summary), *content)


def bullets(lines: Iterable[object]) -> Html:
    """A list of sentences; nothing without any."""
    items = join(tag("li", line) for line in lines)
    return tag("ul", items) if items else Html()


def pill(text: object, kind: str = "") -> Html:
    """A small label."""
    return tag("span", text, class_=f"pill {kind}".strip())


def monthly_table(returns: pd.Series) -> Html:
    """Heat map of monthly returns, one row per year.

    Args:
        returns: Daily returns by UTC date; NaN counts as no return.
    """
    import numpy as np

    if returns.empty:
        return empty("No daily returns.")
    values = np.nan_to_num(returns.to_numpy(np.float64))
    years = np.asarray(returns.index.year)  # type: ignore[attr-defined]  # a DatetimeIndex
    months = np.asarray(returns.index.month)  # type: ignore[attr-defined]  # a DatetimeIndex
    rows: list[list[object]] = []
    for year in range(int(years.min()), int(years.max()) + 1):
        mine = years == year
        cells: list[object] = [str(year)]
        for month in range(1, 13):
            found = values[mine & (months == month)]
            cells.append(_heat(float(np.prod(1.0 + found) - 1.0) if len(found) else None))
        cells.append(_heat(float(np.prod(1.0 + values[mine]) - 1.0), total=True))
        rows.append(cells)
    return tag("div", table(("Year", *MONTHS, "Year's total"), rows), class_="heat")


def range_bar(quantiles: Sequence[Any], observed: Any) -> Html:
    """5-95 % as a line, 25-75 % as a bar, the observed value as a tick."""
    points = [number_of(q) for q in (*quantiles, observed)]
    known = [p for p in points if p is not None]
    if len(points) != 6 or len(known) != 6 or max(known) == min(known):
        return Html(DASH)
    low, span = min(known), max(known) - min(known)
    at = [100.0 * (p - low) / span for p in known]
    pieces = (
        ("line", at[0], at[4] - at[0]),
        ("bar", at[1], at[3] - at[1]),
        ("mid", at[2], None),
        ("tick", at[5], None),
    )
    inner = join(
        tag("i", class_=f"r-{name}", style=_place(left, width)) for name, left, width in pieces
    )
    return tag("span", inner, class_="range")


def _place(left: float, width: float | None) -> str:
    return f"left:{left:.1f}%" + ("" if width is None else f";width:{width:.1f}%")


def _heat(value: float | None, *, total: bool = False) -> Html:
    if value is None or number_of(value) is None:
        return tag("span", DASH, class_="cell none")
    share = min(abs(value) / _FULL_COLOUR, 1.0)
    colour = "good" if value > 0 else "bad"
    kind = "cell total" if total else "cell"
    if total or abs(value) < 5e-5:
        return tag("span", coloured(pct(value), value) if total else pct(value), class_=kind)
    style = f"--heat:var(--{colour}-fill);--share:{8 + 62 * share:.0f}%"
    return tag("span", pct(value), class_=kind, style=style)
