"""What a run folder holds, read once; parts that are absent are empty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ares.core.errors import ArtifactError
from ares.store.atomic import read_regular
from ares.store.jsonio import parse_json
from ares.store.runs import read_manifest
from ares.store.tables import find_table, read_table

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

STEPS: Final = 15
DIRECTIONS: Final = ("bear", "sideways", "bull")
VOLATILITIES: Final = ("calm", "normal", "wild")
"""The two scales of regimes, as `learn.regimes` names them; that module brings compiled code."""


@dataclass(frozen=True, eq=False)
class RunData:
    """A run folder in memory.

    Attributes:
        sections: Free sections of the manifest.
        config: `config.toml`.
        params: Chosen parameters.
        windows: Parameters of each walk-forward window, by index.
        steps: What step 1 to 15 found; an absent file is an empty mapping.
        equity: day, equity, daily_return, benchmark_return.
        market: day, close, regime.
        trades: One row per round trip out of sample.
        trials: One row per trial of the search.
        oos: Predictions out of sample.
        info: `run_info.json`; None where absent.
    """

    sections: Mapping[str, Any]
    config: str
    params: Mapping[str, Any]
    windows: Mapping[int, Mapping[str, Any]]
    steps: Mapping[int, Mapping[str, Any]]
    equity: pd.DataFrame
    market: pd.DataFrame
    trades: pd.DataFrame
    trials: pd.DataFrame
    oos: pd.DataFrame
    info: Mapping[str, Any] | None


def read_run(folder: Path) -> RunData:
    """Read a finished run folder, or one that is about to be published.

    Raises:
        ArtifactError: no valid manifest, or a file that is there cannot be read.
    """
    manifest = read_manifest(folder, verify_files=False)
    config = folder / "config.toml"
    info = folder / "run_info.json"
    return RunData(
        sections=manifest.sections,
        config=read_regular(config).decode(errors="replace") if config.exists() else "",
        params=json_file(folder / "params.json"),
        windows={
            int(path.parent.name): json_file(path)
            for path in sorted(folder.glob("windows/*/params.json"))
            if path.parent.name.isdecimal()
        },
        steps={n: json_file(folder / "steps" / f"{n:02d}.json") for n in range(1, STEPS + 1)},
        equity=_frame(folder, "equity", "day", "equity", "daily_return"),
        market=_frame(folder, "market", "day", "close", "regime"),
        trades=_frame(folder, "trades", "return", "pnl", "side", "reason"),
        trials=_frame(folder, "trials", "number", "value", "status", "phase"),
        oos=_frame(folder, "oos", "action", "regime", alone=True),  # it has a row for each bar
        info=json_file(info) if info.exists() else None,
    )


def dig(tree: Any, *path: str | int) -> Any:
    """The value at `path` in nested mappings and lists; None where anything is missing."""
    for key in path:
        if isinstance(tree, Mapping):
            tree = tree.get(key)
        elif (
            isinstance(tree, list | tuple)
            and isinstance(key, int)
            and -len(tree) <= key < len(tree)
        ):
            tree = tree[key]
        else:
            return None
    return tree


def rows(tree: Any, *path: str | int) -> list[Any]:
    """The list at `path`; empty where there is none."""
    found = dig(tree, *path)
    return list(found) if isinstance(found, list | tuple) else []


def json_file(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file; an empty one where there is no file."""
    if not path.exists():
        return {}
    found = parse_json(read_regular(path), where=str(path))
    if not isinstance(found, dict):
        raise ArtifactError("the file must hold a JSON object", where=str(path))
    return found


def _frame(folder: Path, stem: str, *needed: str, alone: bool = False) -> pd.DataFrame:
    """A table of the folder, or its needed columns alone; empty where it lacks one of them."""
    import pandas as pd

    path = find_table(folder, stem)
    if path is None:
        return pd.DataFrame(columns=list(needed))
    try:
        frame = read_table(path, needed if alone else None)
    except (OSError, ValueError) as error:
        raise ArtifactError(
            "the table must be readable", value=str(error), where=str(path)
        ) from error
    return frame if set(needed) <= set(frame.columns) else pd.DataFrame(columns=list(needed))
