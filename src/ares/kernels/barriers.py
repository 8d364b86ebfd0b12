"""Triple-barrier labels: one trade per row, walked bar by bar until a barrier is touched."""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int8Array = npt.NDArray[np.int8]

LOWER, TIME, UPPER, NONE = -1, 0, 1, 2

_F: Final = numba.types.Array(numba.float64, 1, "C", readonly=True)
_I: Final = numba.types.Array(numba.int64, 1, "C", readonly=True)
_B: Final = numba.types.Array(numba.int8, 1, "C", readonly=True)


def walk_barriers(
    prices: tuple[Float64Array, Float64Array, Float64Array, Float64Array],
    time: tuple[Int64Array, int],
    rows: Int64Array,
    limit: Int64Array,
    side: Int8Array,
    up: Float64Array,
    down: Float64Array,
    *,
    horizon: int,
    at_close: bool,
    rates: tuple[float, float, float],
    funding: tuple[Int64Array, Float64Array],
) -> tuple[Int8Array, Int64Array, Float64Array]:
    """Follow one trade per row until a barrier, the horizon or the end.

    Args:
        prices: Open, high, low, close, float64 (n,).
        time: Open times (int64 ns) and the length of a bar (ns).
        rows: int64 (m,), bars at whose close the decision is made.
        limit: int64 (m,), first bar that the trade may not reach.
        side: int8 (m,), +1 long, -1 short.
        up: float64 (m,), distance of the profit barrier as a fraction of the fill price.
        down: float64 (m,), distance of the loss barrier.
        horizon: Bars to the time exit.
        at_close: Fill at the close of the row instead of the next open.
        rates: Fee and slippage per side, borrow per nanosecond on a short's value.
        funding: Times (int64 ns, increasing) and rates.

    Returns:
        Outcome (+1 profit barrier, -1 loss barrier, 0 time, 2 none), bar of the exit, net return.

    Raises:
        ValueError: arrays of unequal length, or a bar outside the prices.
    """
    n, m = len(prices[0]), len(rows)
    if any(len(array) != m for array in (limit, side, up, down)):
        raise ValueError("rows, limit, side, up and down must have one length")
    if any(len(array) != n for array in (*prices, time[0])):
        raise ValueError("prices and times must have one length")
    if m and (rows.min() < 0 or rows.max() >= n or limit.max() > n):
        raise ValueError(f"rows and limits must lie inside {n} bars")
    outcome = np.empty(m, dtype=np.int8)
    leave = np.empty(m, dtype=np.int64)
    net = np.empty(m)
    _walk(
        *prices, *time, rows, limit, side, up, down, horizon, at_close, *rates, *funding,
        outcome, leave, net,
    )  # fmt: skip
    return outcome, leave, net


@numba.njit(
    numba.types.Tuple((numba.int64, numba.int64, numba.float64))(
        _F, _F, _F, _F, numba.int64, numba.int64, numba.int64, numba.float64, numba.float64,
        numba.float64, numba.int64, numba.boolean,
    ),
    cache=True, nogil=True, error_model="numpy",
)  # fmt: skip
def _leave(opening, high, low, closing, entry, stop, side, price, upper, lower, horizon, at_close):  # type: ignore[no-untyped-def]
    """Outcome, exit bar and price without slippage; NONE where nothing happens before `stop`."""
    first = entry + 1 if at_close else entry
    for bar in range(first, stop):
        due = bar == entry + horizon
        if due and not at_close:
            return TIME, bar, opening[bar]
        if side * (opening[bar] - lower) <= 0.0:
            return LOWER, bar, opening[bar]
        if bar > entry and side * (opening[bar] - upper) >= 0.0:
            return UPPER, bar, opening[bar]
        worst = low[bar] if side > 0 else high[bar]
        best = high[bar] if side > 0 else low[bar]
        if side * (worst - lower) <= 0.0:
            return LOWER, bar, lower
        if side * (best - upper) >= 0.0:
            return UPPER, bar, upper
        if due:
            return TIME, bar, closing[bar]
    return NONE, -1, price


@numba.njit(
    numba.float64(
        _F, _F, _I, numba.int64, numba.int64, numba.int64, numba.int64, numba.boolean,
        numba.boolean, numba.float64, _I, _F,
    ),
    cache=True, nogil=True, error_model="numpy",
)  # fmt: skip
def _accrued(  # type: ignore[no-untyped-def]
    opening, closing, time, interval, entry, leave, side, at_close, inside, borrow, due, rate
):
    """Borrow and funding of one unit: between bars at the last close, inside a bar at its open.

    `inside` says that the trade was left inside or at the close of its last bar.
    """
    total = 0.0
    clock = time[entry] + interval if at_close else time[entry]
    paid = np.searchsorted(due, clock, side="right")
    first = entry + 1 if at_close else entry
    for bar in range(first, leave + 1):
        for part in range(2):
            if (part == 0 and bar == entry) or (part == 1 and bar == leave and not inside):
                continue
            now = time[bar] + part * interval
            value = closing[bar - 1] if part == 0 else opening[bar]
            if now <= clock:
                continue
            if side < 0:
                total += borrow * (now - clock) * value
            while paid < len(due) and due[paid] <= now:
                total += rate[paid] * side * value
                paid += 1
            clock = now
    return total


@numba.njit(
    numba.void(
        _F, _F, _F, _F, _I, numba.int64, _I, _I, _B, _F, _F, numba.int64, numba.boolean,
        numba.float64, numba.float64, numba.float64, _I, _F,
        numba.int8[::1], numba.int64[::1], numba.float64[::1],
    ),
    cache=True, nogil=True, error_model="numpy",
)  # fmt: skip
def _walk(  # type: ignore[no-untyped-def]
    opening, high, low, closing, time, interval, rows, limit, sides, up, down, horizon, at_close,
    fee, slippage, borrow, due, rate, outcome, leave, net,
):  # fmt: skip
    accrues = borrow > 0.0 or len(due) > 0
    for i in range(len(rows)):
        outcome[i], leave[i], net[i] = NONE, -1, np.nan
        side = np.int64(sides[i])
        entry = rows[i] if at_close else rows[i] + 1
        if side == 0 or entry >= limit[i] or not (up[i] > 0.0 and down[i] > 0.0):
            continue
        price = closing[entry] if at_close else opening[entry]
        fill = price * (1.0 + side * slippage)
        upper = fill * (1.0 + side * up[i])
        lower = fill * (1.0 - side * down[i])
        kind, bar, gross = _leave(
            opening,
            high,
            low,
            closing,
            entry,
            limit[i],
            side,
            price,
            upper,
            lower,
            horizon,
            at_close,
        )
        if kind == NONE:
            continue
        paid = gross if kind == UPPER else gross * (1.0 - side * slippage)
        inside = gross != opening[bar] or (kind == TIME and at_close)
        held = 0.0
        if accrues:
            held = _accrued(
                opening, closing, time, interval, entry, bar, side, at_close, inside, borrow, due,
                rate,
            )  # fmt: skip
        outcome[i], leave[i] = kind, bar
        net[i] = (side * (paid - fill) - fee * (fill + paid) - held) / fill
