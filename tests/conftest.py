"""Fixtures and Hypothesis profiles that every test shares."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from ares.market.bars import Bars
    from small_runs import Finished

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("dev", max_examples=30, **_COMMON)
settings.register_profile("ci", max_examples=60, derandomize=True, print_blob=True, **_COMMON)
settings.register_profile("laws", max_examples=500, **_COMMON)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") == "true" else "dev")
)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # by nohup or a shell's &: tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real market data beside the checkout: skipped where absent, required in CI."""
    if not _SHARED.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"real market data must be at {_SHARED} when CI=true")
        pytest.skip("no real market data beside this checkout")
    return _SHARED


@pytest.fixture(scope="session")
def sample_bars() -> Bars:
    """The embedded sample: daily Nasdaq Composite bars, 1999 to 2018."""
    from ares.market.sources import sample

    return sample()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One small run of the whole pipeline, which no test may change."""
    import small_runs

    root = tmp_path_factory.mktemp("finished")
    bars = small_runs.small_bars()
    csv = small_runs.write_csv(bars, root / "bars.csv")
    result = small_runs.train(root / "home", csv)
    assert result.run_dir is not None
    return small_runs.Finished(root / "home", csv, result.run_dir, result, bars)
