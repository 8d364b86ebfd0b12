"""The command line: fast help, exit codes, one JSON object, no tracebacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from command_line import call_here

if TYPE_CHECKING:
    from command_line import Ares

HEAVY = {"numpy", "pandas", "pyarrow", "numba", "pydantic", "rich", "plotly", "lightgbm", "sklearn"}


def test_help_imports_little_and_nothing_heavy() -> None:
    """Time follows from what is imported; the count is what a test can hold on to."""
    code = (
        "import sys; from ares.ares_launcher.app import build_app; import typer.main;"
        "typer.main.get_command(build_app()); print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    assert not HEAVY & set(modules)
    assert len(modules) < 300


def test_every_command_is_listed_and_explains_itself(ares: Ares) -> None:
    listed = ares("--help")
    assert listed.code == 0
    for command in (
        "train", "blank", "backtest", "optimize", "signal", "runs", "report", "data", "import",
        "config", "cache", "doctor",
    ):  # fmt: skip
        assert f"  {command} " in listed.out
        assert ares(command, "--help").code == 0
    assert ares("--version").out.startswith("ares ")


@pytest.mark.parametrize("group", ["", "data", "runs", "cache", "config"])
def test_no_line_of_a_list_of_commands_is_cut_in_eighty_columns(tmp_path: Path, group: str) -> None:
    given = (group, "--help") if group else ("--help",)
    lines = call_here(tmp_path, *given, COLUMNS="80").out.split("Commands:")[1].splitlines()
    assert len(lines) > 3
    assert not [line for line in lines if line.endswith("...") or len(line) > 80]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "--bogus"), "No such option: --bogus"),
        (("train", "--until", "99"), "--until"),
        (("train", "--until"), "--until"),
        (("nonsense",), "nonsense"),
        (("data", "resample"), "--symbol"),
        (("data", "list", "more"), "more"),
        (("data",), ""),
    ],
)
def test_a_usage_error_is_a_json_object_where_that_was_asked_for(
    ares: Ares, arguments: tuple[str, ...], said: str
) -> None:
    done = ares(*arguments, "--json")
    assert done.code == 2
    error = done.json["error"]
    assert (error["type"], error["exit_code"]) == ("UsageError", 2)
    assert said in error["message"]
    assert not done.err


def test_help_and_success_are_what_they_were_beside_json(ares: Ares) -> None:
    assert ares("train", "--help", "--json").out.startswith("Usage: ares train")
    done = ares("data", "list", "--json")
    assert (done.code, done.json) == (0, {"datasets": []})
    assert ares("train", "--set", "nonsense=1", "--json").json["error"]["exit_code"] == 2


def test_usage_errors_exit_with_two(ares: Ares) -> None:
    for arguments in (("nonsense",), ("train", "--bogus"), ("train", "--until", "99"), ()):
        assert ares(*arguments).code == 2


def test_debug_shows_where(ares: Ares, tmp_path: Path) -> None:
    clean = {**os.environ, "ARES_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "ares.ares_launcher", "data", "check", "none.csv", "--debug"]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_errors_under_json_are_one_object(ares: Ares) -> None:
    done = ares("data", "check", "missing.csv", "--json")
    assert done.code == 2
    assert done.json["error"]["type"] == "DataError"
    assert "must exist" in done.json["error"]["message"]


def test_config_init_writes_what_config_show_reads(ares: Ares, tmp_path: Path) -> None:
    assert ares("config", "init", "mine.toml", "--mode", "quick").code == 0
    text = (tmp_path / "mine.toml").read_text()
    assert 'mode = "quick"' in text
    assert "# trials = 192  # by mode" in text
    (tmp_path / "full.toml").write_text(text.replace('mode = "quick"', 'mode = "full"'))
    full = ares("config", "show", "-c", "full.toml", "--json").json["config"]
    assert full["search"]["trials"] == 512
    again = ares("config", "init", "mine.toml")
    assert again.code == 2
    assert "not overwritten" in again.err
    shown = ares("config", "show", "-c", "mine.toml", "--set", "search.trials=7", "--json")
    assert shown.json["config"]["search"]["trials"] == 7
    assert shown.json["origins"]["search.trials"] == "command line"
    assert shown.json["origins"]["search.blocks"] == "mine.toml"
    lines = ares("config", "show", ARES_SEARCH__BLOCKS="12").out
    assert "blocks = 12  # environment" in lines


def test_config_schema_is_json(ares: Ares) -> None:
    assert "search" in ares("config", "schema").json["properties"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "serch.trials=3"), "Did you mean search?"),
        (("--set", "search.trials=0"), "greater than or equal to 1"),
        (("--set", "search.trials"), "--set takes key=value"),
        (("--symbol", "../../x"), "has no '..'"),
        (("--config", "missing.toml"), "must be readable"),
        (("--data", "missing.csv"), "must exist"),
        (("--symbol", "BTCUSD"), "ares import --symbol BTCUSD"),
        (("--timeframe", "7m"), "timeframe"),
        (("--memory", "lots"), "memory_management.budget"),
        (("--mode", "turbo"), "'quick' or 'full'"),
        (("--timerange", "2020-2019"), "2020"),
    ],
)
def test_bad_input_to_train_is_one_clear_message(
    ares: Ares, arguments: tuple[str, ...], message: str
) -> None:
    done = ares("train", *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.out == ""


def test_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    command = f"{sys.executable} -m ares.ares_launcher config schema | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr == ""


def test_doctor_finds_this_machine_fit(ares: Ares) -> None:
    done = ares("doctor", "--json")
    assert done.code == 0
    names = [check["name"] for check in done.json["checks"]]
    assert {"Python", "libraries", "workspace", "kernels", "embedded sample"} <= set(names)


def test_doctor_names_an_unusable_workspace(ares: Ares, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, not a folder")
    done = ares("doctor", "--json", home=blocked)
    assert done.code == 2
    broken = [check["name"] for check in done.json["checks"] if not check["ok"]]
    assert broken == ["workspace"]
