"""Costs of trading: fee and slippage per side, borrow and funding by elapsed time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ares.core.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable

_BASIS_POINT: Final = 1e-4


@dataclass(frozen=True)
class Costs:
    """What trading costs. Rates are fractions of traded or held value.

    Attributes:
        fee: Paid in cash per side, as a fraction of the traded value; 0 <= fee < 1.
        slippage: Buying fills at price * (1 + slippage), selling at price * (1 - slippage).
        borrow: Annual rate on a short's value, by elapsed time in years of 365.25 days.
        funding: Pairs (time in ns UTC or anything `numpy.datetime64` reads, rate), by time: at each
            such time an open position pays rate * signed value, so shorts receive a positive rate.

    Raises:
        ParameterError: a rate out of its range, or funding times that do not increase.
    """

    fee: float
    slippage: float
    borrow: float = 0.0
    funding: tuple[tuple[int, float], ...] | None = None

    def __post_init__(self) -> None:
        for name, limit in (("fee", 1.0), ("slippage", 1.0), ("borrow", math.inf)):
            object.__setattr__(self, name, _rate(name, getattr(self, name), limit))
        if self.funding is not None:
            object.__setattr__(self, "funding", _funding(self.funding))

    def times(self, factor: float) -> Costs:
        """Fee, slippage and borrow times `factor`; funding is a price of the market and stays."""
        return replace(
            self,
            fee=self.fee * factor,
            slippage=self.slippage * factor,
            borrow=self.borrow * factor,
        )


def default_costs(calendar: str) -> Costs:
    """10 + 5 basis points per side on round-the-clock markets, else 1 + 2."""
    if calendar == "24/7":
        return Costs(fee=10 * _BASIS_POINT, slippage=5 * _BASIS_POINT)
    return Costs(fee=1 * _BASIS_POINT, slippage=2 * _BASIS_POINT)


def _rate(name: str, value: Any, limit: float) -> float:
    try:
        rate = float(value)
    except (TypeError, ValueError):
        rate = math.nan
    if isinstance(value, bool | str) or not 0.0 <= rate < limit:
        raise ParameterError(
            f"{name} is a fraction, at least 0" + (" and below 1" if limit == 1.0 else ""),
            value=value,
            where=f"costs: {name}",
            remedy="10 basis points are 0.001.",
        )
    return rate + 0.0  # -0.0 becomes 0.0


def _funding(pairs: Iterable[Any]) -> tuple[tuple[int, float], ...]:
    import numpy as np

    checked: list[tuple[int, float]] = []
    for row, pair in enumerate(pairs):
        where = f"costs: funding[{row}]"
        try:
            time, rate = pair
            if not isinstance(time, int | np.integer):
                time = np.datetime64(time, "ns").astype(np.int64)
            entry = (int(time), float(rate))
        except (TypeError, ValueError) as error:
            raise ParameterError(
                "funding is pairs of (time, rate)", value=pair, where=where
            ) from error
        if not math.isfinite(entry[1]):
            raise ParameterError("a funding rate must be finite", value=rate, where=where)
        if checked and entry[0] <= checked[-1][0]:
            raise ParameterError("funding times must increase", value=time, where=where)
        checked.append(entry)
    return tuple(checked)
