"""Array aliases by dtype, and the few literals that several layers share."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Float64Array: TypeAlias = npt.NDArray[np.float64]
Int64Array: TypeAlias = npt.NDArray[np.int64]
Int8Array: TypeAlias = npt.NDArray[np.int8]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

Fill: TypeAlias = Literal["next_open", "close"]
Mode: TypeAlias = Literal["quick", "full"]


def readonly(array: npt.NDArray[np.generic]) -> None:
    """Freeze `array` in place: values between parts of Ares are never written to."""
    array.flags.writeable = False
