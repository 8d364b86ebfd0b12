"""Arrays by address, so that a kernel can take as many of them as a batch has points.

The caller keeps the arrays alive for as long as the kernel runs.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba.core import cgutils, types
from numba.extending import intrinsic, overload


@intrinsic  # type: ignore[untyped-decorator]  # numba is not typed
def _pointer(_: Any, address: Any) -> Any:
    """The integer as a pointer."""

    def lower(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), lower


def floats_at(address: int, n: int) -> npt.NDArray[np.float64]:
    """The n float64 that lie at `address`, not copied."""
    return np.ctypeslib.as_array((ctypes.c_double * int(n)).from_address(int(address)))


def ints_at(address: int, n: int) -> npt.NDArray[np.int64]:
    """The n int64 that lie at `address`, not copied."""
    return np.ctypeslib.as_array((ctypes.c_int64 * int(n)).from_address(int(address)))


@overload(floats_at)  # type: ignore[untyped-decorator]
def _floats_at(address: int, n: int) -> Any:  # noqa: ARG001  # numba matches the names
    def compiled(address: int, n: int) -> Any:
        return numba.carray(_pointer(address), n, np.float64)

    return compiled


@overload(ints_at)  # type: ignore[untyped-decorator]
def _ints_at(address: int, n: int) -> Any:  # noqa: ARG001  # numba matches the names
    def compiled(address: int, n: int) -> Any:
        return numba.carray(_pointer(address), n, np.int64)

    return compiled
