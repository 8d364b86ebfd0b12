"""Tables on a narrow terminal: whatever does not fit is folded, nothing is cut."""

from __future__ import annotations

import io
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from ares.ares_launcher import output

WORDS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters=" "))


def printed(header: tuple[str, ...], row: tuple[str, ...], width: int) -> str:
    """A table of one row on a terminal of this width."""
    text = io.StringIO()
    console = Console(file=text, width=width, color_system=None)
    with mock.patch.object(output, "console", return_value=console):
        output.table("", header, [row])
    return text.getvalue()


def shown(header: tuple[str, ...], row: tuple[str, ...], width: int) -> list[str]:
    """What stands in each column of a table of one row, without white space."""
    lines = printed(header, row, width).splitlines()
    assert all(len(line) <= width for line in lines)
    said = []
    for edge in "┃│":
        body = [line.strip(edge).split(edge) for line in lines if line.startswith(edge)]
        said.append(["".join("".join(part).split()) for part in zip(*body, strict=True)])
    assert said[0] == ["".join(name.split()) for name in header]
    return said[1]


@given(
    st.lists(st.lists(WORDS, max_size=6).map(" ".join), min_size=1, max_size=7),
    st.sampled_from([40, 80]),
)
@example(["\\"], 40)
@example([":x:", "[red]"], 40)
def test_no_character_of_a_cell_is_cut(cells: list[str], width: int) -> None:
    header = tuple(f"h{k}" for k in range(len(cells)))
    assert shown(header, tuple(cells), width) == ["".join(cell.split()) for cell in cells]


def test_the_widest_tables_fit_into_eighty_columns() -> None:
    """A person with an old terminal reads every number, and the name of a run in one piece."""
    run = "20261127T012643Z-356a5e85"
    tables = {
        ("exchange", "symbol", "timeframe", "bars", "first", "last", "size"): (
            "bitfinex", "BTC/USDT:USDT", "15m", "12,345,678", "2013-01-01T00:00:00Z",
            "2025-12-31T23:45:00Z", "512.3 MiB",
        ),
        ("run", "kind", "strategy", "market", "found", "note"): (
            run, "optimize", "bollinger_reversion", "BTCUSD bitfinex 15m",
            "no evidence of edge, Sharpe -0.38", "champion",
        ),
        ("metric", run, run, run): ("walk forward efficiency", "0.1234", "12,345.6789", "-0.5"),
    }  # fmt: skip
    for header, row in tables.items():
        assert shown(header, row, 80) == ["".join(cell.split()) for cell in row]
        assert row[0] in printed(header, row, 80)
