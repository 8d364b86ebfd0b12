"""What Parquet or its engines forget of a frame: some types, labels that are no text, a frequency.

It stands as JSON in the metadata of the file and is put back after reading.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from ares.core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

KEY: Final = "ares.types"
"""Metadata: types of the columns, and the frequency of the index."""
LABELS_KEY: Final = "ares.labels"
"""Metadata of files that fastparquet wrote, which knows text labels only: labels and index."""


def as_note(value: Any) -> str:
    """JSON of a note, sorted, so that equal notes have equal bytes.

    Raises:
        DataError: it is not made of numbers, text, lists and dicts.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError):
        raise DataError("labels and names must be text or numbers", value=value) from None


def of(frame: pd.DataFrame) -> dict[str, Any]:
    """The types of a frame's columns, and the frequency of its index."""
    return {
        "columns": [_type_of(dtype) for dtype in frame.dtypes],
        "freq": getattr(frame.index, "freqstr", None) if frame.index.dtype.kind == "M" else None,
    }


def restored(frame: pd.DataFrame, notes: dict[str, str]) -> pd.DataFrame:
    """A frame as it was before an engine wrote and read it.

    Raises:
        DataError: the notes are damaged or of another frame.
    """
    try:
        if LABELS_KEY in notes:
            frame = _put_together(frame, json.loads(notes[LABELS_KEY]))
        if KEY in notes:
            types = json.loads(notes[KEY])
            for position, wanted in enumerate(types["columns"]):
                _restore_type(frame, position, wanted)
            if types["freq"] is not None:
                frame.index.freq = types["freq"]  # type: ignore[attr-defined]  # of times
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise DataError("the note on types is damaged", value=str(error)[:200]) from None
    return frame


def taken_apart(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A frame with text labels and no index but a range, and what it had instead."""
    import pandas as pd

    note: dict[str, Any] = {
        "labels": [list(frame.columns), str(frame.columns.dtype), frame.columns.name],
        "names": list(frame.index.names),
    }
    plain = frame.copy(deep=False)
    plain.columns = pd.Index([str(label) for label in frame.columns], dtype="str")
    if isinstance(frame.index, pd.RangeIndex):
        note["range"] = [frame.index.start, frame.index.stop, frame.index.step]
        return plain.reset_index(drop=True), note
    levels = [f"index {n}" for n in range(frame.index.nlevels)]
    plain.index = plain.index.set_names(levels)
    return plain.reset_index(), note


def _put_together(plain: pd.DataFrame, note: dict[str, Any]) -> pd.DataFrame:
    """The frame that `taken_apart` was given, types apart."""
    import pandas as pd

    if "range" in note:
        frame = plain
        start, stop, step = note["range"]
        frame.index = pd.RangeIndex(start, stop, step, name=note["names"][0])
    else:
        frame = plain.set_index([f"index {n}" for n in range(len(note["names"]))])
        frame.index = frame.index.set_names(note["names"])
    labels, dtype, name = note["labels"]
    frame.columns = pd.Index(labels, dtype=dtype, name=name)
    return frame


def _type_of(dtype: Any) -> Any:
    """The name of a type; of categories all that makes them, where they are text or numbers."""
    import pandas as pd

    if not isinstance(dtype, pd.CategoricalDtype):
        return str(dtype)
    values = dtype.categories.tolist()
    if any(type(value) not in {str, int, float, bool} for value in values):
        return "category"
    return [values, str(dtype.categories.dtype), bool(dtype.ordered)]


def _restore_type(frame: pd.DataFrame, position: int, wanted: Any) -> None:
    import pandas as pd

    column = frame.iloc[:, position]
    made: Any = column
    if isinstance(wanted, list):
        values, dtype, ordered = wanted
        made = column.astype(pd.CategoricalDtype(pd.Index(values, dtype=dtype), ordered=ordered))
    elif str(column.dtype) != wanted:
        made = column.astype(wanted)
    if made.dtype is not column.dtype and made.dtype != column.dtype:
        frame.isetitem(position, made)
