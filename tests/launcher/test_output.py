"""Tables on a narrow terminal: whatever does not fit is folded, nothing is cut."""

from __future__ import annotations

import io
import random
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


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(
            st.lists(WORDS.filter(len), min_size=n, max_size=n), min_size=1, max_size=4
        )
    ),
    st.randoms(use_true_random=False),
    st.sampled_from([30, 60, 80]),
)
@example([["x" * 26, "y" * 25, "z" * 20]], random.Random(0), 80)
def test_columns_that_fit_are_shown_without_a_fold_the_important_ones_first(
    rows: list[list[str]], chance: random.Random, width: int
) -> None:
    header = [f"h{k}" for k in range(len(rows[0]))]
    importance = chance.sample(header, len(header))
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with mock.patch.object(output, "console", return_value=console):
        names, cells, others = output.fitting(header, rows, importance)
        output.table("", names, cells)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    wide = {n: max(map(len, (n, *(row[k] for row in rows)))) for k, n in enumerate(header)}
    assert sorted((*names, *others)) == header
    assert list(names) == sorted(names)
    assert importance[0] in names
    room = width - 1 - sum(wide[name] + 3 for name in names)
    if room < 0:
        assert names == (importance[0],)  # which has to be folded
        return
    assert len(lines) == 4 + len(rows)  # two of the frame, the header and the line under it
    assert all(len(line) <= width for line in lines)
    for k, name in enumerate(importance):
        if name in others:  # there was no room for it beside those before it
            before = [n for n in importance[:k] if n in names]
            assert 1 + sum(wide[n] + 3 for n in (*before, name)) > width
    for row, shown_cells in zip(rows, cells, strict=True):
        assert list(shown_cells) == [row[header.index(name)] for name in names]


def test_what_is_empty_in_every_row_is_no_column() -> None:
    assert output.fitting(("a", "b"), [("1", ""), ("2", "")], ("b", "a")) == (
        ("a",), [("1",), ("2",)], (),
    )  # fmt: skip


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
