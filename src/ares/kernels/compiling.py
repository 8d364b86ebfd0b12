"""The one way to compile a kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(
    signature: Any, *, allocates: bool = True, inlined: bool = False
) -> Callable[[_Function], _Function]:
    """Compile for one signature, kept on disk, without the GIL; x / 0 is infinite or NaN.

    Args:
        signature: numba's; the arrays it reads are read-only.
        allocates: Whether it makes arrays. One that does not need not count references to those
            it is given: the counters are atomic, and cost more than most bars do.
        inlined: Make it part of each kernel that calls it.
    """
    compiler: Callable[[_Function], _Function] = numba.njit(
        signature,
        cache=True,
        nogil=True,
        error_model="numpy",
        forceinline=inlined,
        _nrt=allocates,
    )
    return compiler
