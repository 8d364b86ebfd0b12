"""The frame of every page: one file that needs nothing else and asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

from ares.report.text import Html, esc, join, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

_POLICY: Final = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)
_FOOTER: Final = (
    "Drag over a plot to zoom, double-click to see all of it. Times are UTC. Past results, tested "
    "or traded, are no promise of future ones."
)


@dataclass(frozen=True)
class Card:
    """One section of a page.

    Attributes:
        name: Its anchor.
        title: Its head.
        short: Its name in the navigation; not there where empty.
        body: Its content.
        lead: A sentence below the head.
        kind: Further classes.
    """

    name: str
    title: str
    short: str
    body: Html
    lead: str = ""
    kind: str = ""


def page(
    title: str, subtitle: str, cards: Sequence[Card], *, kind: str, volatile: Html | None = None
) -> str:
    """A whole page.

    Args:
        title: Head and title of the page.
        subtitle: One line below it.
        cards: In order.
        kind: Word above the head.
        volatile: Content of the one element that may differ between equal runs; none without it.
    """
    library, script = _library(), _asset("page.js")
    policy = _POLICY.format(scripts=" ".join(_hash(text) for text in (library, script)))
    anchors = [(card.name, card.short) for card in cards if card.short]
    sections = join(_section(card) for card in cards)
    if volatile is not None:
        anchors.append(("volatile", "This run"))
        sections = join((sections, Html(f'<section id="volatile">{volatile}</section>')))
    links = join(tag("a", text, href=f"#{name}") for name, text in anchors)
    return "".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="referrer" content="no-referrer">\n',
            '<link rel="icon" href="data:,">\n',
            f"<title>{esc(title)}</title>\n<style>\n{_asset('page.css')}</style>\n</head>\n<body>\n",
            f'<header class="top"><p class="brand">{esc(kind)}</p><h1>{esc(title)}</h1>',
            f'<p class="sub">{esc(subtitle)}</p></header>\n',
            f'<nav aria-label="Sections"><div>{links}</div></nav>\n<main>\n{sections}</main>\n',
            f"<footer><p>{esc(_FOOTER)}</p><noscript><p>The plots need JavaScript; all tables",
            " are complete without it.</p></noscript></footer>\n",
            f"<script>{library}</script>\n<script>{script}</script>\n</body>\n</html>\n",
        )
    )


def _section(card: Card) -> Html:
    lead = tag("p", card.lead, class_="lead") if card.lead else Html()
    kind = f"card {card.kind}".strip()
    head = tag("h2", card.title)
    return Html(tag("section", head, lead, card.body, class_=kind, id=card.name) + "\n")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _asset(name: str) -> str:
    return resources.files("ares.report").joinpath(name).read_text(encoding="utf-8")


def _library() -> str:
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text.replace("</script", "<\\/script").replace("\r\n", "\n")
