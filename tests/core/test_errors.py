"""The error tree: exit codes, the drawn tree, messages with rule, value and remedy."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from ares.core import errors
from ares.core.errors import AresError, DataError, said_by
from ares.core.secrets import register_secret


def _classes() -> dict[str, type[AresError]]:
    return {
        name: cls
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, AresError)
    }


def test_the_drawn_tree_is_the_real_tree() -> None:
    drawn = dict(re.findall(r"(\w+Error)\s+(\d+)  ", errors.__doc__ or ""))
    assert drawn == {name: str(cls.exit_code) for name, cls in _classes().items()}


def test_input_errors_exit_with_two_and_are_value_errors() -> None:
    for cls in _classes().values():
        if issubclass(cls, errors.InputError):
            assert cls.exit_code == 2
            assert issubclass(cls, ValueError)


def test_a_message_has_place_rule_value_and_remedy() -> None:
    error = DataError("prices are positive", where="x.csv, row 7", value=-1, remedy="Remove it.")
    assert str(error) == "x.csv, row 7: prices are positive; got -1. Remove it."
    assert len(str(DataError("short", value="x" * 10_000))) < 300


@pytest.mark.parametrize("cls", _classes().values())
def test_errors_cross_process_borders(cls: type[AresError]) -> None:
    error = cls("rule", value=3, where="here", remedy="Do that.")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert str(again) == str(error)


def test_what_others_say_is_short_and_keeps_secrets_wherever_it_is_cut() -> None:
    secret = "a-key-of-somebody-4711"
    register_secret(secret)
    for before in range(1_975, 2_003):
        said = said_by(ValueError("x" * before + secret + "y" * 10**6))
        assert len(said) == 2_000
        assert "a-key" not in said
    assert said_by(KeyError("fast")) == "'fast'"
