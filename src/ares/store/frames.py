"""pandas Series and DataFrames as plain parts, which `ares.store.codecs` can write.

Columns and indexes: numpy dtypes (numbers, bool, datetime64, timedelta64), time zones, text with
missing values, categories of these. `attrs`, names and a DatetimeIndex's frequency are kept.
pandas is imported only where a frame is met.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from ares.core.errors import FingerprintError

if TYPE_CHECKING:
    import pandas as pd

_PIECE = 1 << 14
_PRESENT, _NONE, _NAN, _NA = 0, 1, 2, 3


def is_frame(value: object) -> bool:
    """Whether `value` is exactly a pandas Series or DataFrame."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and type(value) in (pandas.Series, pandas.DataFrame)


def take_apart(value: Any) -> dict[str, object]:
    """Plain parts of a Series or DataFrame.

    Raises:
        FingerprintError: a column or index has a type that cannot be stored.
    """
    import pandas as pd

    index = _take_index(value.index)
    if isinstance(value, pd.Series):
        return {
            "kind": "series",
            "index": index,
            "name": value.name,
            "values": _take_values(value),
            "attrs": dict(value.attrs),
        }
    return {
        "kind": "frame",
        "index": index,
        "labels": _take_index(value.columns),
        "columns": [_take_values(value.iloc[:, i]) for i in range(value.shape[1])],
        "attrs": dict(value.attrs),
    }


def put_together(parts: dict[str, Any]) -> pd.Series[Any] | pd.DataFrame:
    """The Series or DataFrame of `parts`: a fresh copy, which may be written to."""
    import pandas as pd

    index = _put_index(parts["index"])
    if parts["kind"] == "series":
        series = _series(parts["values"], index)
        series.name = parts["name"]
        series.attrs = parts["attrs"]
        return series
    columns = {i: _series(column, index) for i, column in enumerate(parts["columns"])}
    frame = pd.DataFrame(columns, index=index, copy=True)
    frame.columns = _put_index(parts["labels"])
    frame.attrs = parts["attrs"]
    return frame


def _series(parts: Any, index: pd.Index[Any]) -> pd.Series[Any]:
    import pandas as pd

    values = _put_values(parts)
    # The dtype is named, or objects that look like text would become text.
    made: pd.Series[Any] = pd.Series(values, index=index, dtype=values.dtype, copy=True)
    return made


def _take_index(index: Any) -> dict[str, object]:
    import pandas as pd

    if isinstance(index, pd.RangeIndex):
        return {"range": [index.start, index.stop, index.step], "name": index.name}
    if isinstance(index, pd.MultiIndex):
        raise FingerprintError(
            "an index with several levels cannot be stored", remedy="Use reset_index() first."
        )
    frequency = index.freqstr if isinstance(index, pd.DatetimeIndex) else None
    return {"values": _take_values(index), "name": index.name, "freq": frequency}


def _put_index(parts: dict[str, Any]) -> pd.Index[Any]:
    import pandas as pd

    if "range" in parts:
        start, stop, step = parts["range"]
        return pd.RangeIndex(start, stop, step, name=parts["name"])
    values = _put_values(parts["values"])
    if parts["freq"] is not None:
        return pd.DatetimeIndex(values, freq=parts["freq"], name=parts["name"])
    index: pd.Index[Any] = pd.Index(values, dtype=values.dtype, name=parts["name"], copy=True)
    return index


def _take_values(values: Any) -> Any:
    """An array where numpy has the dtype, else a dict that says how to make one."""
    import pandas as pd

    dtype, array = values.dtype, values.array
    if isinstance(dtype, pd.CategoricalDtype):
        return {
            "as": "category",
            "codes": np.asarray(array.codes),
            "categories": _take_index(dtype.categories),
            "ordered": bool(dtype.ordered),
        }
    if isinstance(dtype, pd.DatetimeTZDtype):
        naive = np.asarray(array.tz_convert("UTC").tz_localize(None))
        return {"as": "zoned", "values": naive, "zone": str(dtype.tz)}
    if isinstance(dtype, pd.StringDtype):
        return {"as": "text", "dtype": str(dtype), **_take_text(array)}
    if isinstance(dtype, np.dtype) and dtype.kind in "biufcmM":
        return np.asarray(array)
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        return {"as": "text", "dtype": "object", **_take_text(array)}
    raise FingerprintError(
        "a column of this type cannot be stored",
        value=str(dtype),
        remedy="Convert it to numbers, bool, datetime64, text or category first.",
    )


def _put_values(parts: Any) -> Any:
    import pandas as pd

    if isinstance(parts, np.ndarray):
        return parts.copy()
    match parts["as"]:
        case "category":
            categories = _put_index(parts["categories"])
            return pd.Categorical.from_codes(
                parts["codes"].copy(), categories, ordered=parts["ordered"]
            )
        case "zoned":
            naive = pd.DatetimeIndex(parts["values"].copy())
            return naive.tz_localize("UTC").tz_convert(parts["zone"]).array
        case _:
            return _put_text(parts)


def _take_text(array: Any) -> dict[str, object]:
    """Text as one UTF-8 blob, the length of each item in bytes, and which kind of missing it is."""
    blobs, missing = [], np.zeros(len(array), dtype=np.uint8)
    lengths = np.zeros(len(array), dtype=np.int64)
    for start in range(0, len(array), _PIECE):
        items = _encoded(array[start : start + _PIECE], missing[start : start + _PIECE])
        lengths[start : start + _PIECE] = [len(item) for item in items]
        blobs.append(b"".join(items))
    return {"text": b"".join(blobs), "lengths": lengths, "missing": missing}


def _encoded(array: Any, missing: Any) -> list[bytes]:
    """The items as UTF-8; writes which kind of missing they are."""
    import pandas as pd

    items = []
    for i, item in enumerate(array):
        if isinstance(item, str):
            items.append(item.encode("utf-8", "surrogatepass"))
            continue
        if item is None:
            missing[i] = _NONE
        elif item is pd.NA:
            missing[i] = _NA
        elif isinstance(item, float) and np.isnan(item):
            missing[i] = _NAN
        else:
            raise FingerprintError(
                "a column of objects must hold text only", value=type(item).__qualname__
            )
        items.append(b"")
    return items


def _put_text(parts: dict[str, Any]) -> Any:
    import pandas as pd

    ends = np.cumsum(parts["lengths"]).tolist()
    starts = [0, *ends]
    text: bytes = parts["text"]
    if starts[-1] != len(text):
        raise ValueError("the lengths of a text column must add up to its text")
    substitutes = {_NONE: None, _NAN: np.nan, _NA: pd.NA}
    items = [
        substitutes[kind] if kind else text[start:end].decode("utf-8", "surrogatepass")
        for start, end, kind in zip(starts, ends, parts["missing"].tolist(), strict=False)
    ]
    if parts["dtype"] == "object":
        made = np.empty(len(items), dtype=object)
        made[:] = items
        return made
    return pd.array(items, dtype=parts["dtype"])
