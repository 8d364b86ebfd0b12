"""An interruption while the command line is put together, before any command runs."""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from ares.ares_launcher import app, main

if TYPE_CHECKING:
    from collections.abc import Callable


class Dropped:
    """Python drops what this raises when it goes, as compiled code does that imports something."""

    def __init__(self, what: Callable[[], None]) -> None:
        self._what = what

    def __del__(self) -> None:
        self._what()


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `main` sets lasts as long as a process, and here no longer than a test."""
    logger = logging.getLogger("ares")
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(logger, "handlers", logger.handlers[:])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_it_ends_the_process_without_noise(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
    dropped: bool,
    options: list[str],
) -> None:
    build = app.build_app

    def interrupted() -> object:
        if dropped:
            Dropped(lambda: signal.raise_signal(number))
        else:
            signal.raise_signal(number)
        return build()

    monkeypatch.setattr(app, "build_app", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["config", "show", *options])
    assert ended.value.code == 130
    out, err = capfd.readouterr()
    assert out == "" or (dropped and "Interrupted" in out)
    assert err == "" or (dropped and err.startswith("Error: Interrupted") and len(err) < 80)


def test_other_errors_that_python_drops_are_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ValueError("not kept")

    def build() -> None:
        Dropped(broken)
        raise SystemExit(4)

    monkeypatch.setattr(app, "build_app", build)
    with pytest.raises(SystemExit, match="4"):
        main([])
    assert "ValueError: not kept" in capfd.readouterr().err
