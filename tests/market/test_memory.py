"""The memory budget: admission, sampling, eviction, and the limits of the machine."""

from __future__ import annotations

import gc
import json
import mmap
import os
import threading
import time

import numpy as np
import pytest

from ares.core.errors import ConfigError, MemoryBudgetError
from ares.market.budget import cgroup_limit, memory_limit, parse_size, peak_of_process, tree_bytes
from ares.market.memory import Demand, MemoryManager

MIB = 1 << 20


class Cache:
    """A cache of `size` bytes that tells the others when it is emptied."""

    def __init__(self, name, size, log):
        self.name, self.nbytes, self.log = name, size, log

    def evict(self):
        freed, self.nbytes = self.nbytes, 0
        self.log.append(self.name)
        return freed


@pytest.fixture
def crowd():
    log = []
    caches = [Cache(name, 100, log) for name in "abc"]
    manager = MemoryManager(budget=250, usage=lambda: sum(c.nbytes for c in caches))
    for cache in caches:
        manager.register(cache)
    return manager, caches, log


def test_the_least_recently_used_go_until_the_budget_holds(crowd):
    manager, caches, log = crowd
    manager.touch(caches[0])
    assert manager.check_memory_usage()
    assert log == ["b"]
    assert not manager.check_memory_usage()
    assert log == ["b"]
    profile = manager.profile_memory_usage()
    assert profile["evictions"] == 1
    assert profile["evicted_bytes"] == 100
    assert (profile["used_bytes"], profile["peak_bytes"], profile["cache_bytes"]) == (200, 300, 200)
    json.dumps(profile)


def test_cleaning_up_without_pressure_empties_every_cache(crowd):
    manager, caches, log = crowd
    caches[0].nbytes = 0
    assert manager.cleanup() == 200
    assert log == ["a", "b", "c"]


def test_a_registered_cache_is_not_kept_alive(crowd):
    manager, caches, _ = crowd
    del caches[:]
    gc.collect()
    assert manager.profile_memory_usage()["caches"] == 0
    assert manager.cleanup() == 0


def test_watching_evicts_and_remembers_the_peak(crowd):
    manager, caches, log = crowd
    with manager.watch(interval=0.005):
        for _ in range(400):
            if log:
                break
            time.sleep(0.005)
    assert log == ["a"]
    assert manager.profile_memory_usage()["peak_bytes"] == 300
    assert sum(c.nbytes for c in caches) == 200


def test_a_budget_that_the_process_alone_passes_says_what_would_fit():
    MemoryManager(budget=(300 << 20) + 1, usage=lambda: 300 << 20).check_base()
    for base, fits in ((300, 1024), (3000, 6000)):
        manager = MemoryManager(budget=base << 20, usage=lambda base=base: base << 20)
        with pytest.raises(MemoryBudgetError, match=rf"--memory {fits}MiB") as caught:
            manager.check_base()
        assert f"{base} MiB" in str(caught.value)


def test_pressure_that_nothing_relieves_is_warned_of_once(caplog):
    manager = MemoryManager(budget=10, usage=lambda: 100)
    for _ in range(3):
        assert manager.check_memory_usage()
    assert len(caplog.records) == 1


def test_the_process_tree_is_measured():
    manager = MemoryManager()
    assert manager.budget_bytes == int(0.8 * manager.limit_bytes)
    assert 10 << 20 < manager.base_bytes < manager.limit_bytes
    with mmap.mmap(-1, 64 << 20) as block:  # an array may lie in memory that was freed before
        block.write(bytes(64 << 20))
        assert tree_bytes() - manager.base_bytes > 32 << 20
    assert MemoryManager(budget="2GiB").budget_bytes == 2 << 30


@pytest.mark.parametrize("threshold", [0, -1, 1.5, float("nan")])
def test_a_threshold_is_a_share(threshold):
    with pytest.raises(ConfigError, match="memory_threshold"):
        MemoryManager(threshold)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GiB", 2 << 30),
        ("500 MB", 500_000_000),
        ("1.5k", 1536),
        ("7", 7),
        ("7B", 7),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "2XB", "two", "1e9", "GiB"])
def test_what_is_no_size(text):
    with pytest.raises(ConfigError, match="size"):
        parse_size(text)


def group(root, path, name, text):
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_the_smallest_limit_of_a_cgroup_and_its_parents_counts(tmp_path):
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    group(tmp_path, "a", "memory.max", "5000\n")
    group(tmp_path, "a/b", "memory.max", "max\n")
    assert cgroup_limit(root=tmp_path, own=own) == 5000
    group(tmp_path, "a/b", "memory.max", "3000\n")
    assert cgroup_limit(root=tmp_path, own=own) == 3000


def test_cgroups_of_version_1(tmp_path):
    own = tmp_path / "own"
    own.write_text("7:cpu:/x\n4:memory:/docker/abc\n")
    group(tmp_path, "memory", "memory.limit_in_bytes", "9223372036854771712\n")
    assert cgroup_limit(root=tmp_path, own=own) is None
    group(tmp_path, "memory", "memory.limit_in_bytes", "4000\n")  # the container's own view
    assert cgroup_limit(root=tmp_path, own=own) == 4000


def test_without_cgroups_physical_memory_is_the_limit(tmp_path):
    assert cgroup_limit(root=tmp_path, own=tmp_path / "absent") is None
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < memory_limit() <= pages * 1.01


def manager_of(base: int, budget: int) -> MemoryManager:
    return MemoryManager(budget=budget * MIB, usage=lambda: base * MIB)


def test_a_stage_that_fits_keeps_its_workers():
    manager = manager_of(300, 1000)
    demand = Demand(fixed_bytes=100 * MIB, row_bytes=100.0, rows=MIB, worker_bytes=200 * MIB)
    assert manager.admit("a stage", demand, workers=3) == 3


@pytest.mark.parametrize(("budget", "workers"), [(900, 3), (899, 2), (700, 2), (699, 1), (500, 1)])
def test_workers_are_taken_away_until_a_stage_fits(budget, workers):
    manager = manager_of(300, budget)
    demand = Demand(fixed_bytes=100 * MIB, row_bytes=100.0, rows=MIB, worker_bytes=200 * MIB)
    assert manager.admit("a stage", demand, workers=3) == workers


def test_a_refusal_names_the_stage_and_what_would_fit():
    manager = manager_of(300, 499)
    demand = Demand(fixed_bytes=100 * MIB, row_bytes=100.0, rows=MIB, worker_bytes=200 * MIB)
    with pytest.raises(MemoryBudgetError) as caught:
        manager.admit("step 5, training", demand, workers=3)
    text = str(caught.value)
    assert "step 5, training" in text
    assert "--memory 500MiB" in text
    assert "1,038,090 of the 1,048,576 bars" in text
    fitting = Demand(100 * MIB, 100.0, 1_038_090)
    assert manager.admit("step 5, training", fitting) == 1
    assert manager_of(300, 500).admit("step 5, training", demand) == 1


def test_no_rows_are_offered_where_none_would_fit():
    with pytest.raises(MemoryBudgetError) as caught:
        manager_of(300, 399).admit("a stage", Demand(100 * MIB, 100.0, MIB))
    assert "--timerange" not in str(caught.value)


def test_a_manager_that_does_not_enforce_refuses_nothing():
    manager = MemoryManager(budget=1, usage=lambda: 10, enforced=False)
    assert manager.admit("a stage", Demand(1 << 50), workers=7) == 7


def test_a_stage_knows_its_own_peak_and_the_manager_the_highest():
    used = [100]
    manager = MemoryManager(budget=10_000, usage=lambda: used[0])
    with manager.stage("outer") as outer:
        used[0] = 300
        with manager.stage("inner") as inner:
            manager.sample()
            used[0] = 200
        used[0] = 250
    with manager.stage("later") as later:
        pass
    assert (outer.peak_bytes, inner.peak_bytes, later.peak_bytes) == (300, 300, 250)
    assert manager.profile_memory_usage()["peak_bytes"] == 300


def test_one_thread_samples_for_all_who_ask():
    def samplers() -> int:
        return sum(thread.name == "ares-memory" for thread in threading.enumerate())

    manager = MemoryManager()
    with manager.watch(), manager.stage("outer"), manager.stage("inner"), manager.watch():
        assert samplers() == 1
    assert samplers() == 0


def test_a_peak_between_two_samples_is_seen():
    """The kernel keeps the highest resident memory of the process; nothing is reset for that."""
    manager = MemoryManager()
    room = peak_of_process() - tree_bytes()
    with manager.stage("short", interval=60.0) as stage:
        block = np.ones(max(room, 0) // 8 + (64 * MIB) // 8)
        del block
    assert stage.peak_bytes > manager.base_bytes + 48 * MIB
