"""Columns in their smallest type that loses nothing."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import InputError
from ares.market.reading.frames import restore_decimals

if TYPE_CHECKING:
    import pandas as pd

    from ares.core.types import Float64Array

_MAX_DECIMALS: Final = 15
_CATEGORY_SHARE: Final = 0.5
_HEAD: Final = 512
"""Rows that are tried before all of a column."""
_INTEGERS: Final = (
    np.int8,
    np.uint8,
    np.int16,
    np.uint16,
    np.int32,
    np.uint32,
    np.int64,
    np.uint64,
)


def exact_decimals(values: Float64Array) -> int | None:
    """Fewest decimals at which float32 gives every value back exactly; None where none does.

    Args:
        values: float64; NaN is allowed and infinities are not.
    """
    known = values[~np.isnan(values)]
    if not np.isfinite(known).all() or bool(np.any((known == 0) & np.signbit(known))):
        return None
    with np.errstate(over="ignore"):
        small = known.astype(np.float32).astype(np.float64)
    if not np.isfinite(small).all():
        return None
    head = slice(0, _HEAD)
    for places in range(_MAX_DECIMALS + 1):
        if np.array_equal(restore_decimals(small[head], places), known[head]) and np.array_equal(
            restore_decimals(small, places), known
        ):
            return places
    return None


def smaller(column: pd.Series[Any]) -> tuple[pd.Series[Any], int | None]:
    """The column in its smallest lossless type, and its decimals where it became float32."""
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iu":
        return column.astype(_smallest_integer(column)), None
    if dtype == np.float64:
        places = exact_decimals(column.to_numpy())
        if places is not None:
            return column.astype(np.float32), places
    elif _is_text(column) and column.nunique() <= _CATEGORY_SHARE * len(column):
        with contextlib.suppress(UnicodeEncodeError):  # a lone surrogate has no category
            category = column.astype("category")
            if category.memory_usage(deep=True) < column.memory_usage(deep=True):
                return category, None
    return column, None


def _smallest_integer(column: pd.Series[Any]) -> Any:
    if not len(column):
        return column.dtype
    low, high = int(column.min()), int(column.max())
    for kind in _INTEGERS:
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return np.dtype(kind)
    raise InputError("integers of a column must fit into 64 bits", value=(low, high))


def _is_text(column: pd.Series[Any]) -> bool:
    import pandas as pd

    if isinstance(column.dtype, pd.StringDtype):
        return True
    return column.dtype == np.dtype(object) and all(
        isinstance(value, str) or value is None or value is pd.NA or _is_nan(value)
        for value in column
    )


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
