"""Train on a file, and print what each step was predicted to take and took above the base.

`python measure_steps.py BARS.parquet HOME`, in a process of its own: memory that earlier work left
behind would count.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ares.enhanced_training_manager import EnhancedTrainingManager
from ares.pipeline import footprint, step

sys.path.insert(0, str(Path(__file__).parents[1]))

if TYPE_CHECKING:
    from collections.abc import Mapping


def main(path: str, home: str) -> None:
    """Measure one run."""
    from ares.core.settings import load_settings
    from small_runs import SMALL

    manager = EnhancedTrainingManager(
        load_settings(None, overrides={**SMALL, "search.min_trades": 1}, environ={}), home=home
    )
    predicted: dict[int, int] = {}
    key = step.Runner._key

    def noting(runner: Any, called: Any, arguments: Mapping[str, object]) -> str:
        if not runner._scope:
            predicted[called.number] = footprint.demand_of(called.number, arguments).total()
        return key(runner, called, arguments)

    step.Runner._key = noting  # type: ignore[method-assign]
    market = {"symbol": "WALK", "exchange": "test", "timeframe": "1m"}
    result = manager.execute_enhanced_training({**market, "data": [path]})
    base = manager.get_memory_manager().base_bytes
    print(
        json.dumps(
            [
                {
                    "number": record.number,
                    "predicted": predicted[record.number],
                    "taken": record.peak_memory_bytes - base,
                }
                for record in result.steps
                if not record.scope
            ]
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
