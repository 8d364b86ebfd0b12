"""Configuration: precedence, origins, strict keys with the nearest name, ranges."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from ares.core.config import QUICK, Config
from ares.core.errors import ConfigError
from ares.core.settings import load_settings, shaping_values, to_toml


def test_command_line_beats_environment_beats_file_beats_mode_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "ares.toml"
    file.write_text(
        '[enhanced_training_manager]\nmode = "quick"\nseed = 1\n'
        "[search]\ngeneration = 8\nblocks = 8\n[data]\nmax_gap = 7\n"
    )
    settings = load_settings(
        file,
        environ={"ARES_SEARCH__BLOCKS": "10", "ARES_DATA__MAX_GAP": "9", "OTHER": "1"},
        overrides={"data.max_gap": 11},
    )
    config, origins = settings.config, settings.origins
    assert (config.search.generation, origins["search.generation"]) == (8, str(file))
    assert (config.search.blocks, origins["search.blocks"]) == (10, "environment")
    assert (config.data.max_gap, origins["data.max_gap"]) == (11, "command line")
    assert config.search.trials == QUICK["search"]["trials"]
    assert origins["search.trials"] == "mode quick"
    assert origins["costs.borrow"] == "default"


def test_a_value_in_the_file_beats_the_mode_of_the_command_line() -> None:
    settings = load_settings(
        {"search": {"trials": 5}}, overrides={"enhanced_training_manager.mode": "quick"}
    )
    assert settings.config.search.trials == 5
    assert settings.config.monte_carlo.paths == QUICK["monte_carlo"]["paths"]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"serch": {}}, "Did you mean search?"),
        ({"search": {"trails": 3}}, "Did you mean search.trials?"),
        ({"computational_optimization": {"caching": {"max_size": 3}}}, "caching.max_cache_size?"),
        ({"search": {"trials": 0}}, "search.trials: input should be greater than or equal to 1"),
        ({"search": {"trials": "many"}}, "search.trials"),
        ({"search": 3}, "this key is a section"),
        ({"data": {"holdout": float("nan")}}, "data.holdout"),
        ({"data": {"holdout": 0.95}}, "less than 0.9"),
        ({"data": {"bad_prints": "ignore"}}, "'drop', 'keep' or 'error'"),
        ({"splits": {"first": 0.9}}, "first must be below final"),
        ({"data": {"api_key": "x"}}, "secrets do not belong"),
        ({"enhanced_training_manager": {"mode": "turbo"}}, "'quick' or 'full'"),
    ],
)
def test_bad_configuration_says_where_and_what(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(tree, environ={})
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_errors_name_their_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="command line: search.trials"):
        load_settings({}, environ={}, overrides={"search.trials": -1})
    with pytest.raises(ConfigError, match="environment: search.nope"):
        load_settings({}, environ={"ARES_SEARCH__NOPE": "1"})
    broken = tmp_path / "broken.toml"
    broken.write_text("[search\n")
    with pytest.raises(ConfigError, match=r"broken.toml: the file must be valid TOML or JSON"):
        load_settings(broken, environ={})
    with pytest.raises(ConfigError, match="must be readable"):
        load_settings(tmp_path / "missing.toml", environ={})
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * (1 << 21))
    with pytest.raises(ConfigError, match="1 MiB"):
        load_settings(huge, environ={})
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    with pytest.raises(ConfigError, match=r"deep\.json"):
        load_settings(deep, environ={})
    listed = tmp_path / "list.json"
    listed.write_text("[1]")
    with pytest.raises(ConfigError, match="must hold sections"):
        load_settings(listed, environ={})


def _fields(model: type[BaseModel]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += _fields(inner)
        else:
            found.append((name, field))
    return found


def test_every_field_is_marked_and_described() -> None:
    for name, field in _fields(Config):
        assert field.json_schema_extra["effect"] in {"shapes_result", "volatile"}, name
        assert field.description, name


def test_switches_of_the_toolkit_do_not_shape_results() -> None:
    plain = load_settings({}, environ={}).config
    switched = load_settings(
        {
            "enhanced_training_manager": {
                "enable_caching": False,
                "enable_parallelization": False,
                "enable_memory_management": False,
            },
            "computational_optimization": {
                "caching": {"enabled": False, "max_cache_size": 5},
                "parallelization": {"max_workers": 7},
                "memory_management": {"memory_threshold": 0.5, "budget": "2GiB"},
            },
            "data": {"data": ["somewhere.csv"]},
        },
        environ={},
    ).config
    assert shaping_values(plain) == shaping_values(switched)
    assert "paths" in shaping_values(plain)["monte_carlo"]


@given(
    st.fixed_dictionaries(
        {
            "search": st.fixed_dictionaries(
                {"trials": st.integers(1, 9999), "penalty": st.floats(0, 9)}
            ),
            "data": st.fixed_dictionaries({"symbol": st.text(min_size=1, max_size=40)}),
            "monte_carlo": st.fixed_dictionaries(
                {"stress": st.lists(st.floats(0.1, 9), max_size=3)}
            ),
        }
    )
)
def test_toml_and_json_round_trips(tree: dict[str, Any]) -> None:
    try:
        config = load_settings(tree, environ={}).config
    except ConfigError:
        assert "\ud800" <= max(tree["data"]["symbol"]) <= "\udfff"
        return
    again = load_settings(tomllib.loads(to_toml(shaping_values(config))), environ={}).config
    assert shaping_values(again) == shaping_values(config)
    assert Config.model_validate_json(config.model_dump_json()) == config
    assert load_settings(config, environ={}).config == config


def test_annotated_toml_reads_back() -> None:
    settings = load_settings({"search": {"trials": 7}}, environ={})
    text = to_toml(settings.config.model_dump(), settings.origins)
    assert "trials = 7  # dict" in text
    assert load_settings(tomllib.loads(text), environ={}).config == settings.config


def test_the_schema_is_json_and_names_every_section() -> None:
    schema = json.loads(json.dumps(Config.model_json_schema()))
    assert set(schema["properties"]) == set(Config.model_fields)


def test_quick_mode_names_real_fields() -> None:
    load_settings(QUICK, environ={})


@pytest.mark.parametrize(
    "keys", [("search.trials", "search.trials.x"), ("search.trials.x", "search.trials")]
)
def test_a_key_cannot_be_a_section_and_a_value(keys: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="a section or a value, not both"):
        load_settings(overrides=dict.fromkeys(keys, 3), environ={})


def test_deep_json_in_the_environment_is_text() -> None:
    with pytest.raises(ConfigError, match="valid integer"):
        load_settings(environ={"ARES_SEARCH__TRIALS": "[" * 100_000})


@pytest.mark.parametrize(
    "address",
    ["https://h.example/?apikey=QQQQSECRET", "https://me:QQQQSECRET@h.example", "http://h/#QQQQSECRET",
     "https://h/?a=b@QQQQSECRET", "https://me:a?QQQQSECRET@h"],
)  # fmt: skip
def test_a_refused_address_is_shown_without_secrets(address: str) -> None:
    with pytest.raises(ConfigError, match=r"base_url") as caught:
        load_settings(environ={"ARES_DATA__BASE_URL": address})
    assert "SECRET" not in str(caught.value)
    assert "http" in str(caught.value)


def test_a_table_in_place_of_a_value_is_told_where_it_was_given():
    with pytest.raises(ConfigError, match=r"^command line: search\.trials: .*integer"):
        load_settings(overrides={"search.trials.foo": 1}, environ={})
    with pytest.raises(ConfigError, match=r"^environment: search\.trials: .*integer"):
        load_settings(environ={"ARES_SEARCH__TRIALS__FOO": "1"})
    with pytest.raises(ConfigError, match=r"^--set search\.trials\.foo: .*integer"):
        load_settings(
            overrides={"search.trials.foo": 1},
            environ={},
            spelled={"search.trials.foo": "--set search.trials.foo"},
        )
