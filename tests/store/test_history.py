"""The workspace's memory: repeats never count, others count in the order they came."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.errors import StoreError
from ares.store.history import History

_names = st.sampled_from("abcdef")


@given(st.lists(st.tuples(_names, _names), max_size=20), _names, _names)
def test_looks_count_other_models_that_came_before(
    tmp_path_factory: pytest.TempPathFactory, looks: list[tuple[str, str]], holdout: str, model: str
) -> None:
    history = History(tmp_path_factory.mktemp("history") / "history.sqlite")
    for each in looks:
        history.record_look(*each)
    others = list(dict.fromkeys(m for h, m in looks if h == holdout))
    expected = others.index(model) if model in others else len(others)
    assert history.looks_before(holdout, model) == expected


def test_repeating_a_configuration_never_counts(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    assert history.validations_before("data", "one") == 0
    for _ in range(3):
        history.record_validation("data", "one")
        assert history.validations_before("data", "one") == 0
    assert history.validations_before("data", "two") == 1
    assert history.validations_before("other data", "two") == 0


def test_the_last_promotion_is_the_champion(tmp_path: Path) -> None:
    history = History(tmp_path / "deep" / "history.sqlite")
    assert history.champion("BTCUSD bitfinex 1m") is None
    for run in ("first", "second", "first"):
        history.promote("BTCUSD bitfinex 1m", run)
        assert history.champion("BTCUSD bitfinex 1m") == run
    assert history.champion("ETHUSD bitfinex 1m") is None


def test_a_damaged_or_foreign_database_is_a_clear_error(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"not a database, but long enough to be read as a header" * 40)
    with pytest.raises(StoreError, match="must be readable"):
        History(damaged).champion("x")
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match="schema number"):
        History(newer).champion("x")
