"""What a newcomer gets wrong on the command line, and what is said about it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ares.ares_launcher import options

if TYPE_CHECKING:
    from command_line import Ares


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "--mode", "quik"), "--mode (enhanced_training_manager.mode): "),
        (("config", "init", "--mode", "fulll"), "--mode (enhanced_training_manager.mode): "),
        (("backtest", "--fill", "clos"), "--fill (search.fill): "),
        (("optimize", "--fill", "clos"), "--fill (search.fill): "),
        (("precompute", "--fill", "clos"), "--fill (search.fill): "),
        (("backtest", "--symbol", ""), "--symbol (data.symbol): "),
        (("train", "--memory", "much"), "--memory (computational_optimization.memory_manageme"),
        (("optimize", "--set", "search.fill=clos"), "--set search.fill: "),
        (("train", "--set", "search.fil=close"), "--set search.fil: "),
        (("train", "--set", "serch.fill=close"), "--set serch.fill: "),
        (("config", "show", "--set", "costs.fee=-1"), "--set costs.fee: "),
    ],
)
def test_a_wrong_value_is_told_under_what_was_typed(
    ares_here: Ares, arguments: tuple[str, ...], said: str
) -> None:
    done = ares_here(*arguments)
    assert done.code == 2
    assert done.err.startswith(f"Error: {said}"), done.err


def test_a_value_from_elsewhere_is_told_from_there(ares_here: Ares, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[search]\nfill = "clos"\n')
    file = ares_here("backtest", "--config", "a.toml", "--fee", "0.1")
    assert file.err.startswith("Error: a.toml: search.fill: ")
    assert "Did you mean close?" in file.err
    environment = ares_here("train", "--trials", "9", ARES_SEARCH__FILL="clos")
    assert environment.err.startswith("Error: environment: search.fill: ")


def test_every_key_that_an_option_sets_has_an_option_of_that_name() -> None:
    from ares.ares_launcher import search_commands, train_commands
    from ares.core.settings import load_settings

    known = load_settings({}, environ={}).origins
    commands = (search_commands.optimize, train_commands.train)
    shown = {
        word
        for command in commands
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        for meta in getattr(parameter.annotation, "__metadata__", ())
        for word in (meta.default, *meta.param_decls)  # typer takes the first one apart
    }
    assert set(options.SPELLED) <= set(known)
    assert set(options.SPELLED.values()) <= shown
