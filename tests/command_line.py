"""Run `ares` as a person would, and small files of bars to run it on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Done:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON object that it must be."""
        return json.loads(self.out)


Ares = Callable[..., Done]


Row = list[Any]
HEADER = "timestamp,open,high,low,close,volume"


def bars(count: int, seed: int = 0) -> list[Row]:
    """Rows of a random walk: time in ms, prices with two decimals."""
    generator = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(generator.normal(0, 1e-3, count)))
    rows: list[Row] = []
    before = 100.0
    for i, price in enumerate(close):
        o, c = round(before, 2), round(float(price), 2)
        high, low = round(max(o, c) + 0.03, 2), round(min(o, c) - 0.03, 2)
        rows.append([1_577_836_800_000 + 60_000 * i, o, high, low, c, 1.5])
        before = price
    return rows


def write_bars(path: Path, rows: list[Row], header: str | None = HEADER) -> Path:
    """Write rows as CSV."""
    lines = [header] if header else []
    lines += [",".join(str(cell) for cell in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path
