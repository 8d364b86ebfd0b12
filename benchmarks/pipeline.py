"""The whole pipeline on the embedded sample: cold, then with every step kept.

Each run is a process of its own, imports included, as a person waits for it. Printed are the times,
their ratio, the longest steps and the peak memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

WARM_RUNS = 5


def train(home: str) -> tuple[float, dict[str, Any]]:
    command = [sys.executable, "-m", "ares.ares_launcher", "train", "--mode", "quick", "--json"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ARES_")}
    began = time.perf_counter()
    done = subprocess.run(
        command, env={**clean, "ARES_HOME": home}, capture_output=True, check=True
    )
    return time.perf_counter() - began, json.loads(done.stdout)


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        cold, made = train(home)
        warm = sorted((train(home) for _ in range(WARM_RUNS)), key=lambda run: run[0])
    if not all(step["cached"] for _, kept in warm for step in kept["steps"]):
        raise SystemExit("a step was made again")
    median = warm[WARM_RUNS // 2][0]
    print(f"cold {cold:.1f} s; every step kept {median:.2f} s (median of {WARM_RUNS},")
    print(f"  {warm[0][0]:.2f} to {warm[-1][0]:.2f}); ratio {cold / median:.1f}")
    for step in sorted(made["steps"], key=lambda step: -step["seconds"])[:5]:
        peak = step["peak_memory_bytes"] / 2**20
        print(f"  step {step['number']:2d} {step['name']}: {step['seconds']:.1f} s, {peak:.0f} MiB")


if __name__ == "__main__":
    main()
