"""Both managers as their users meet them: imports, initialisation, tools, configuration, getters."""

from __future__ import annotations

import gc
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import small_runs
from ares import EnhancedTrainingManager
from ares.backtest import simulate
from ares.backtest.costs import default_costs
from ares.backtest.strategies import SmaCross
from ares.core.errors import (
    AresError,
    ConfigError,
    DataError,
    InputError,
    MemoryBudgetError,
    ParameterError,
)
from ares.core.settings import load_settings
from ares.enhanced_training_manager import TrainingResult
from ares.enhanced_training_manager_optimized import (
    AdaptiveSampler,
    CachedBacktester,
    EnhancedTrainingManagerOptimized,
    IncrementalTrainer,
    MemoryEfficientDataManager,
    MemoryManager,
    OptimizationResult,
    ParallelBacktester,
    ProgressiveEvaluator,
    StreamingDataProcessor,
    _make_hashable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ares.market.bars import Bars
    from small_runs import Finished

POINT = {"fast": 20, "slow": 100}
MARKET = ("IXIC", "nasdaq", "1d")
QUICK_LOOP = {
    "search": {"trials": 12, "initial_samples": 8, "generation": 4},
    "analyst": {"trees": 10, "max_rows": 1000},
    "computational_optimization": {"parallelization": {"max_workers": 1}},
}


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[EnhancedTrainingManager]:
    found = EnhancedTrainingManager(small_runs.small_config(), home=tmp_path / "home")
    yield found
    found.get_optimized_manager().cleanup()


@pytest.fixture
def toolkit(tmp_path: Path) -> Iterator[EnhancedTrainingManagerOptimized]:
    found = EnhancedTrainingManagerOptimized(QUICK_LOOP, home=tmp_path / "home")
    yield found
    found.cleanup()


@pytest.fixture(scope="session")
def training(sample_bars: Bars) -> Bars:
    return sample_bars[: len(sample_bars) - round(0.2 * len(sample_bars))]


class TestInitialisation:
    def test_initialize_makes_the_workspace(self, manager: EnhancedTrainingManager) -> None:
        assert manager.initialize() is True
        home = manager.get_optimized_manager().workspace.home
        assert (home / "runs").is_dir()
        assert (home / ".ares" / "store").is_dir()

    def test_construction_touches_nothing(self, tmp_path: Path) -> None:
        EnhancedTrainingManager({}, home=tmp_path / "home")
        assert not (tmp_path / "home").exists()

    def test_the_workspace_is_home_else_ares_home_else_the_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def home_of(manager: EnhancedTrainingManager) -> Path:
            return manager.get_optimized_manager().workspace.home.resolve()

        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("ARES_HOME", raising=False)
        assert home_of(EnhancedTrainingManager()) == tmp_path.resolve()
        monkeypatch.setenv("ARES_HOME", str(tmp_path / "one"))
        assert home_of(EnhancedTrainingManager()) == (tmp_path / "one").resolve()
        given = EnhancedTrainingManager(home=tmp_path / "two")
        assert home_of(given) == (tmp_path / "two").resolve()


class TestConfiguration:
    def test_dict_toml_json_and_model_are_one_configuration(self, tmp_path: Path) -> None:
        tree = {"search": {"trials": 77}, "enhanced_training_manager": {"seed": 5}}
        (tmp_path / "c.toml").write_text(
            "[search]\ntrials = 77\n[enhanced_training_manager]\nseed = 5\n"
        )
        (tmp_path / "c.json").write_text(json.dumps(tree))
        sources: list[Any] = [
            tree,
            tmp_path / "c.toml",
            str(tmp_path / "c.json"),
            load_settings(tree, environ={}).config,
            load_settings(tree, environ={}),
        ]
        configs = [EnhancedTrainingManager(source).config for source in sources]
        assert all(config == configs[0] for config in configs)
        assert configs[0].search.trials == 77

    def test_an_unknown_key_names_the_nearest(self) -> None:
        with pytest.raises(ConfigError, match=r"search\.trials"):
            EnhancedTrainingManager({"search": {"trails": 3}})
        with pytest.raises(ConfigError, match="enhanced_training_manager"):
            EnhancedTrainingManagerOptimized({"enhanced_training_manger": {}})

    def test_the_toolkit_has_the_managers_configuration_and_not_the_environments(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = load_settings(
            None, overrides={"computational_optimization.parallelization.max_workers": 3}
        )
        monkeypatch.setenv("ARES_COMPUTATIONAL_OPTIMIZATION__PARALLELIZATION__MAX_WORKERS", "7")
        manager = EnhancedTrainingManager(settings)
        assert manager.get_optimized_manager().jobs == 3
        assert manager.get_optimized_manager().config == manager.config

    @pytest.mark.parametrize("first", [True, False])
    @pytest.mark.parametrize("second", [True, False])
    def test_a_tool_is_on_when_both_its_switches_are(self, first: bool, second: bool) -> None:
        names = ("caching", "parallelization", "early_stopping", "memory_management")
        toolkit = EnhancedTrainingManagerOptimized(
            {
                "enhanced_training_manager": {f"enable_{name}": first for name in names},
                "computational_optimization": {name: {"enabled": second} for name in names}
                | {"parallelization": {"enabled": second, "max_workers": 5}},
            }
        )
        on = first and second
        assert toolkit.caching is on
        assert toolkit.early_stopping is on
        assert toolkit.memory_management is on
        assert toolkit.jobs == (5 if on else 1)


class TestGetters:
    def test_every_getter_gives_its_tool(self, manager: EnhancedTrainingManager) -> None:
        manager._initialize_optimized_tools()
        assert isinstance(manager.get_optimized_manager(), EnhancedTrainingManagerOptimized)
        assert isinstance(manager.get_cached_backtester(), CachedBacktester)
        assert isinstance(manager.get_progressive_evaluator(), ProgressiveEvaluator)
        assert isinstance(manager.get_memory_manager(), MemoryManager)
        assert isinstance(manager.get_data_manager(), MemoryEfficientDataManager)

    def test_getters_give_the_same_object_again(self, manager: EnhancedTrainingManager) -> None:
        assert manager.get_optimized_manager() is manager.get_optimized_manager()
        assert manager.get_cached_backtester() is manager.get_cached_backtester()
        assert manager.get_memory_manager() is manager.get_optimized_manager().memory_manager
        assert manager.get_cached_backtester() is manager.get_optimized_manager().cached_backtester

    def test_the_tools_never_see_the_holdout(
        self, manager: EnhancedTrainingManager, training: Bars
    ) -> None:
        assert manager.get_cached_backtester().problem.bars.digest == training.digest
        assert manager.get_progressive_evaluator().problem.bars.digest == training.digest
        toolkit = manager.get_optimized_manager()
        frame = toolkit._load_and_optimize_data(*MARKET)
        assert len(frame) > len(training)
        assert manager.get_cached_backtester().problem.bars.digest == training.digest


class TestTools:
    def test_cached_backtesting_is_the_full_objective(
        self, manager: EnhancedTrainingManager, training: Bars
    ) -> None:
        value = manager.use_cached_backtesting(POINT)
        again = manager.use_cached_backtesting({"slow": 100.0, "fast": np.int64(20)})
        assert value == again
        assert manager.get_cached_backtester().stats()["memory_hits"] == 1
        run = simulate(
            training, SmaCross(), POINT, costs=default_costs(training.calendar), max_gap=60
        )
        # The objective is the pooled Sharpe less a standard error.
        assert value < run.metrics["sharpe"]
        assert value > run.metrics["sharpe"] - 1.0

    def test_a_point_without_enough_trades_is_minus_infinity(
        self, manager: EnhancedTrainingManager
    ) -> None:
        assert manager.use_cached_backtesting({"fast": 900, "slow": 1000}) == -math.inf
        with pytest.raises(ParameterError):
            manager.use_cached_backtesting({"quick": 3})

    def test_progressive_evaluation_is_the_mean_over_blocks_and_stops_losers(
        self, manager: EnhancedTrainingManager, training: Bars
    ) -> None:
        lengths: list[int] = []

        def mean_return(subset: pd.DataFrame, params: dict[str, Any]) -> float:
            lengths.append(len(subset) - subset.attrs["warmup"])
            return float(params["level"])

        assert manager.use_progressive_evaluation({"level": 1.0}, mean_return) == pytest.approx(1)
        assert sum(lengths) == len(training)
        whole = len(lengths)
        assert manager.use_progressive_evaluation({"level": -1.0}, mean_return) == -math.inf
        assert len(lengths) - whole < whole / 2  # stopped at its first stage

    def test_indicators_are_at_hand(self, manager: EnhancedTrainingManager) -> None:
        found = manager.get_cached_backtester().technical_indicators
        names = ["sma_20", "sma_50", "ema_12", "ema_26", "rsi", "atr", "volatility", "volume_sma"]
        assert set(found) == set(names)

    def test_every_public_tool_stands_alone(self, training: Bars) -> None:
        frame = training.to_frame()
        with ParallelBacktester(2) as pool:
            (value,) = pool.evaluate_batch([POINT], training)
        assert value == CachedBacktester(training).run_cached_backtest(POINT)
        sampler = AdaptiveSampler(8, seed=1)
        point = sampler.suggest_parameters({"fast": (2, 50), "slow": (60, 200)})
        sampler.update_trial_history(point, 0.5)
        assert 2 <= point["fast"] <= 50
        assert MemoryManager(0.8).check_memory_usage() is False
        data = MemoryEfficientDataManager()
        assert data.optimize_dataframe(frame).memory_usage().sum() <= frame.memory_usage().sum()
        assert StreamingDataProcessor(100).chunk_size == 100
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(200, 3)), rng.integers(0, 2, 200)
        model = IncrementalTrainer({}).train_incrementally({"trees": 5}, X, y)
        assert model.predict(X).shape == (200,)
        assert _make_hashable({"b": [1], "a": {2}}) == _make_hashable({"a": {2}, "b": [1]})


class TestCacheKey:
    CODE = (
        "import sys, json, numpy as np\n"
        "from ares import EnhancedTrainingManager\n"
        "m = EnhancedTrainingManager({}, home=sys.argv[1])\n"
        "print(m.generate_cache_key(json.loads(sys.argv[2])))\n"
        "m.get_optimized_manager().cleanup()\n"
    )

    @pytest.mark.parametrize(
        "same",
        [
            {"slow": 100, "fast": 20},
            {"fast": np.int64(20), "slow": np.int32(100)},
            {"fast": 20.0, "slow": np.float64(100.0)},
            {"fast": 20, "slow": 100, "direction": "long", "size": 1},
        ],
    )
    def test_order_kinds_and_defaults_do_not_matter(
        self, manager: EnhancedTrainingManager, same: dict[str, Any]
    ) -> None:
        assert manager.generate_cache_key(same) == manager.generate_cache_key(POINT)

    def test_parameters_costs_and_data_matter(self, tmp_path: Path, training: Bars) -> None:
        changed: list[dict[str, Any]] = [
            {},
            {"costs": {"fee": 0.01}},
            {"data": {"timerange": "20000101-20120101"}},
            {"search": {"fill": "close"}},
        ]
        keys = []
        for tree in changed:
            manager = EnhancedTrainingManager(tree, home=tmp_path)
            keys += [manager.generate_cache_key(POINT), manager.generate_cache_key({"fast": 21})]
            manager.get_optimized_manager().cleanup()
        assert len(set(keys)) == len(keys)

    def test_switches_of_the_tools_do_not_matter(
        self, manager: EnhancedTrainingManager, tmp_path: Path
    ) -> None:
        bare = EnhancedTrainingManager(
            {"enhanced_training_manager": {"enable_caching": False, "seed": 9}}, home=tmp_path
        )
        assert bare.generate_cache_key(POINT) == manager.generate_cache_key(POINT)
        bare.get_optimized_manager().cleanup()

    def test_it_is_stable_across_processes_and_hash_seeds(
        self, manager: EnhancedTrainingManager, tmp_path: Path
    ) -> None:
        found = set()
        for seed in ("1", "2"):
            environ = {k: v for k, v in os.environ.items() if not k.startswith("ARES_")}
            done = subprocess.run(
                [sys.executable, "-c", self.CODE, str(tmp_path / seed), json.dumps(POINT)],
                env=environ | {"PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo"},
                capture_output=True,
                text=True,
                check=True,
            )
            found.add(done.stdout.strip())
        assert found == {manager.generate_cache_key(POINT)}


class TestQuickLoop:
    def test_load_and_optimize_gives_exact_numbers_in_less_memory(
        self, toolkit: EnhancedTrainingManagerOptimized, sample_bars: Bars
    ) -> None:
        toolkit.initialize()
        frame = toolkit._load_and_optimize_data(*MARKET)
        plain = sample_bars.to_frame()
        assert list(frame) == list(plain)
        restored = toolkit.data_manager.restore(frame)
        assert np.array_equal(restored["close"], sample_bars.close)
        assert frame.memory_usage().sum() < plain.memory_usage().sum()

    def test_it_loads_searches_trains_and_blends(
        self, toolkit: EnhancedTrainingManagerOptimized
    ) -> None:
        result = toolkit.execute_optimized_training(*MARKET)
        assert isinstance(result, OptimizationResult)
        assert (result.symbol, result.exchange, result.timeframe) == MARKET
        assert result.best_params is not None
        assert toolkit.cached_backtester is not None
        assert toolkit.cached_backtester.run_cached_backtest(result.best_params) == pytest.approx(
            result.best_score, abs=0
        )
        assert len(result.trials) == 12
        assert 0 <= result.ensemble_weight <= 1
        losses = result.log_loss
        assert losses["blend"] <= min(losses["model"], losses["base_rate"])
        assert result.memory["used_bytes"] > 0
        stats = toolkit.get_optimization_stats()
        assert stats["trials"] == 12
        assert stats["cache"]["misses"] > 0
        assert stats["fallbacks"] == list(result.fallbacks)
        assert toolkit.get_memory_profile()["used_bytes"] > 0

    def test_the_tools_do_not_change_what_it_finds(self, tmp_path: Path) -> None:
        digests = set()
        for caching, workers in ((True, 2), (False, 1)):
            toolkit = EnhancedTrainingManagerOptimized(
                QUICK_LOOP
                | {
                    "enhanced_training_manager": {"enable_caching": caching},
                    "computational_optimization": {"parallelization": {"max_workers": workers}},
                },
                home=tmp_path / str(workers),
            )
            result = toolkit.execute_optimized_training(*MARKET)
            digests.add((result.trials_digest, result.best_score, result.ensemble_weight))
            toolkit.cleanup()
        assert len(digests) == 1

    def test_the_cache_is_under_the_memory_budget(
        self, toolkit: EnhancedTrainingManagerOptimized
    ) -> None:
        toolkit._load_and_optimize_data(*MARKET)
        gc.collect()
        assert toolkit.get_memory_profile()["caches"] == 1
        assert toolkit.cached_backtester is not None
        before = toolkit.cached_backtester.run_cached_backtest(POINT)
        held = toolkit.get_memory_profile()["cache_bytes"]
        assert held >= 16 * 9 * 8  # scoring blocks, columns, bytes of a number
        assert toolkit.memory_manager.cleanup() == held
        assert toolkit.get_memory_profile()["cache_bytes"] == 0
        assert toolkit.cached_backtester.run_cached_backtest(POINT) == before

    def test_patience_belongs_to_early_stopping(self, tmp_path: Path) -> None:
        for enabled, patience in ((True, 3), (False, None)):
            stopping = {"enabled": enabled, "patience": 3}
            tree = {"computational_optimization": {"early_stopping": stopping}}
            toolkit = EnhancedTrainingManagerOptimized(tree, home=tmp_path)
            assert toolkit.patience == patience

    @pytest.mark.parametrize("home", ["whole", "quick"])
    def test_a_budget_below_the_process_is_refused(self, tmp_path: Path, home: str) -> None:
        tree = {"computational_optimization": {"memory_management": {"budget": "1KiB"}}}
        whole = EnhancedTrainingManager(tree, home=tmp_path / home)
        quick = EnhancedTrainingManagerOptimized(tree, home=tmp_path / home)
        market = dict(zip(("symbol", "exchange", "timeframe"), MARKET, strict=True))
        train: dict[str, Callable[[], object]] = {
            "whole": lambda: whole.execute_enhanced_training(market),
            "quick": lambda: quick.execute_optimized_training(*MARKET),
        }
        with pytest.raises(MemoryBudgetError, match="MiB would fit") as caught:
            train[home]()
        assert not (tmp_path / home).exists()
        fits = re.search(r"(\d+) MiB would fit", str(caught.value))
        assert fits is not None
        management = {"budget": f"{fits[1]}MiB"}
        tree = {"computational_optimization": {"memory_management": management}}
        assert EnhancedTrainingManagerOptimized(tree, home=tmp_path / home).initialize()

    def test_cleanup_lets_go_and_can_be_repeated(
        self, toolkit: EnhancedTrainingManagerOptimized
    ) -> None:
        toolkit._load_and_optimize_data(*MARKET)
        toolkit.cleanup()
        assert toolkit.cached_backtester is None
        assert toolkit.progressive_evaluator is None
        toolkit.cleanup()


@pytest.mark.slow
class TestTraining:
    def test_a_run_says_what_it_found(self, finished: Finished) -> None:
        result = finished.result
        assert isinstance(result, TrainingResult)
        assert result.run_id == finished.run_dir.name
        assert result.verdict
        assert result.recommendation in {"promote", "hold", "reject"}
        assert result.costs == {
            "fee": 0.0001,
            "slippage": 0.0002,
            "source": "default for session:UTC 00:00-24:00",
        }
        assert {"total_return", "sharpe", "max_drawdown", "n_trades"} <= set(result.metrics)

    def test_execute_optimized_training_switches_every_tool_on(self, tmp_path: Path) -> None:
        off = {
            f"{section}.{name}": False
            for name in ("caching", "parallelization", "early_stopping", "memory_management")
            for section in ("computational_optimization",)
        }
        names = [key.rsplit(".", 1)[1] for key in off]
        config = small_runs.small_config(
            {f"computational_optimization.{name}.enabled": False for name in names}
            | {f"enhanced_training_manager.enable_{name}": False for name in names}
        )
        manager = EnhancedTrainingManager(config, home=tmp_path / "home", until=4)
        assert not manager.get_optimized_manager().caching
        result = manager.execute_optimized_training(*MARKET)
        toolkit = manager.get_optimized_manager()
        assert [s.number for s in result.steps] == [1, 2, 3, 4]
        assert toolkit.caching
        assert toolkit.early_stopping
        assert toolkit.memory_management
        assert toolkit.config.computational_optimization.parallelization.enabled
        again = EnhancedTrainingManager(config, home=tmp_path / "home", until=4)
        assert all(s.cached for s in again.execute_optimized_training(*MARKET).steps)

    def test_fallbacks_are_recorded_once(self, finished: Finished) -> None:
        info = json.loads((finished.run_dir / "run_info.json").read_text())
        assert info["fallbacks"] == list(finished.result.fallbacks)
        assert len(set(info["fallbacks"])) == len(info["fallbacks"])
        log = (finished.run_dir / "log.jsonl").read_text().splitlines()
        messages = [json.loads(line)["message"] for line in log]
        for note in info["fallbacks"]:
            assert any(note in message for message in messages)

    def test_the_run_folder_is_complete(self, finished: Finished) -> None:
        names = {path.relative_to(finished.run_dir).as_posix().split("/")[0]
                 for path in finished.run_dir.rglob("*")}  # fmt: skip
        assert {
            "manifest.json", "run_info.json", "config.toml", "steps", "models", "windows",
            "params.json", "trials.parquet", "trades.parquet", "equity.parquet", "oos.parquet",
            "report.html", "log.jsonl",
        } <= names  # fmt: skip

    def test_hashed_files_name_no_path_and_no_time(self, finished: Finished) -> None:
        for name, body in small_runs.artifacts(finished.run_dir).items():
            assert str(finished.home).encode() not in body, name
            assert finished.run_dir.name.split("-")[0].encode() not in body, name


class TestBadInput:
    def refused(self, home: Path, changed: dict[str, Any], given: dict[str, Any]) -> AresError:
        manager = EnhancedTrainingManager(small_runs.small_config(changed), home=home)
        with pytest.raises(AresError) as caught:
            manager.execute_enhanced_training(given)
        assert not list((home / "runs").glob("*"))
        return caught.value

    def test_an_unknown_key(self, tmp_path: Path) -> None:
        error = self.refused(tmp_path, {}, {**small_runs.MARKET, "symbl": "X"})
        assert isinstance(error, InputError)
        assert "symbl" in str(error)
        assert "symbol" in error.rule

    def test_an_unknown_market_says_how_to_load_it(self, tmp_path: Path) -> None:
        given = {"symbol": "BTCUSDT", "exchange": "binance", "timeframe": "1h"}
        error = self.refused(tmp_path, {}, given)
        assert error.exit_code == 2
        assert "BTCUSDT" in str(error)
        assert error.remedy

    @pytest.mark.parametrize(
        "given",
        [
            {"symbol": "../../etc"},
            {"symbol": 5},
            {"timeframe": "7q"},
            {"timerange": "yesterday"},
            {"data": ["missing.csv"]},
        ],
    )
    def test_values_that_are_none(self, tmp_path: Path, given: dict[str, Any]) -> None:
        error = self.refused(tmp_path, {}, {**small_runs.MARKET, **given})
        assert error.exit_code == 2

    @pytest.mark.parametrize("n_bars", [3, 120, 260, 500])
    def test_too_few_bars(self, tmp_path: Path, n_bars: int, sample_bars: Bars) -> None:
        csv = small_runs.write_csv(sample_bars[:n_bars], tmp_path / "few.csv")
        error = self.refused(tmp_path / "home", {}, {**small_runs.MARKET, "data": [csv]})
        assert isinstance(error, DataError)
        assert error.remedy

    def test_more_windows_than_bars(self, tmp_path: Path, sample_bars: Bars) -> None:
        csv = small_runs.write_csv(sample_bars[:1500], tmp_path / "few.csv")
        changed = {"walk_forward.windows": 2000}
        error = self.refused(tmp_path / "home", changed, {**small_runs.MARKET, "data": [csv]})
        assert isinstance(error, DataError)
        assert "windows" in error.remedy

    @pytest.mark.parametrize(
        "tree",
        [
            {"splits": {"first": 0.9, "final": 0.5}},
            {"tactician": {"timeframe": "1w"}},
            {"analyst": {"timeframe": "1h"}},
            {"regimes": {"timeframe": "1h"}},
        ],
    )
    def test_contradictions(self, tmp_path: Path, tree: dict[str, Any]) -> None:
        with pytest.raises(AresError) as caught:
            EnhancedTrainingManager(tree, home=tmp_path).execute_enhanced_training(
                small_runs.MARKET
            )
        assert caught.value.exit_code == 2
        assert len(str(caught.value)) > 20

    @pytest.mark.parametrize("until", [0, 17, -1])
    def test_until_outside_the_steps(self, until: int) -> None:
        with pytest.raises(InputError, match="1 to 16"):
            EnhancedTrainingManager(until=until)

    @pytest.mark.parametrize("blocked", ["", "runs", ".ares", ".ares/work"])
    def test_an_unwritable_workspace(self, tmp_path: Path, blocked: str) -> None:
        place = tmp_path / "home" / blocked
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("a file where a folder should be")
        manager = EnhancedTrainingManager(small_runs.small_config(), home=tmp_path / "home")
        with pytest.raises(AresError) as caught:
            manager.execute_enhanced_training(small_runs.MARKET)
        assert str(tmp_path) in str(caught.value)
