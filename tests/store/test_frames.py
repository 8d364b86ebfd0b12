from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import pandas as hpd

from ares.core.errors import FingerprintError
from ares.store.codecs import decode, encode

TEXT = pd.array(["ä", None, "", "\U0001f600"], dtype="str")
FRAMES = {
    "numbers": pd.DataFrame({"a": [1, 2], "b": [0.5, np.nan], "c": [True, False]}),
    "small numbers": pd.DataFrame({"a": np.array([1, 2], np.int8), "b": np.float32([0.1, 2])}),
    "text": pd.DataFrame({"a": TEXT, "b": TEXT.astype(object)}),
    "nullable text": pd.DataFrame({"a": pd.array(["x", pd.NA], dtype="string")}),
    "text as objects": pd.DataFrame({"a": pd.Series(["x", "y"], dtype=object)}),
    "objects": pd.DataFrame({"a": np.array(["x", None], dtype=object)}),
    "times": pd.DataFrame(
        {
            "a": pd.date_range("2020", periods=3, unit="ns"),
            "b": pd.date_range("2020-03-29", periods=3, freq="h", tz="Europe/Berlin"),
            "c": pd.to_timedelta([1, 2, None], unit="s"),
        }
    ),
    "utc index": pd.DataFrame(
        {"a": [1.0, 2.0]}, index=pd.date_range("2020", periods=2, freq="D", tz="UTC", name="day")
    ),
    "uneven index": pd.DataFrame(
        {"a": [1.0, 2.0, 3.0]}, index=pd.DatetimeIndex(["2020-01-01", "2020-01-05", "2019-01-01"])
    ),
    "category": pd.DataFrame(
        {
            "a": pd.Categorical(["u", "v", None], categories=["w", "v", "u"], ordered=True),
            "b": pd.Categorical([3, 1, 3]),
        }
    ),
    "text index": pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="key")),
    "integer labels": pd.DataFrame([[1.0, 2.0]], columns=[3, 1]),
    "equal labels": pd.DataFrame([[1.0, 2]], columns=["a", "a"]),
    "empty": pd.DataFrame({"a": np.array([], float), "b": np.array([], object)}),
    "no columns": pd.DataFrame(index=[1, 2]),
    "strided range": pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(5, 1, -2, name="n")),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_come_back_with_equal_bytes(name):
    frame = FRAMES[name]
    data = encode({"frame": frame})
    back = decode(data)["frame"]  # type: ignore[index]
    pd.testing.assert_frame_equal(frame, back, check_freq=True, check_index_type="exact")
    assert encode({"frame": back}) == data


@given(
    hpd.data_frames(
        [
            hpd.column("i", dtype=np.int64),
            hpd.column("f", dtype=np.float64),
            hpd.column("b", dtype=bool),
            hpd.column("t", elements=st.text(max_size=5), dtype=object),
        ]
    )
)
def test_any_frame_of_plain_columns_comes_back(frame):
    back = decode(encode(frame))
    pd.testing.assert_frame_equal(frame, back, check_index_type="exact")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "series",
    [
        pd.Series([1.0, 2.0], name="equity", index=pd.date_range("2020", periods=2, tz="UTC")),
        pd.Series(["a", None], dtype="str"),
        pd.Series([True], name=3),
        pd.Series([], dtype="float64"),
    ],
)
def test_series_come_back(series):
    back = decode(encode(series))
    pd.testing.assert_series_equal(series, back, check_freq=True)  # type: ignore[arg-type]


def test_attrs_are_kept_and_the_frame_is_a_fresh_copy():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    frame.attrs = {"decimals": {"a": 2}, "warmup": 5}
    data = encode(frame)
    back = decode(data)
    assert isinstance(back, pd.DataFrame)
    assert back.attrs == frame.attrs
    back.iloc[0, 0] = 9.0
    back["b"] += 1
    assert encode(frame) == data
    pd.testing.assert_frame_equal(decode(data), frame)  # type: ignore[arg-type]


def test_the_blocks_of_a_frame_do_not_show():
    whole = pd.DataFrame(np.arange(6.0).reshape(3, 2), columns=["a", "b"])
    pieces = pd.concat([whole[["a"]], whole[["b"]]], axis=1)
    assert encode(whole) == encode(pieces)
    assert encode(whole) != encode(whole.astype(np.float32))
    assert encode(whole) != encode(whole[["b", "a"]])


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": [object()]}),
        pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}),
        pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, 2)])),
        pd.DataFrame({"a": pd.period_range("2020", periods=1, freq="M")}),
    ],
    ids=["object", "nullable integer", "levels", "period"],
)
def test_other_columns_are_refused(frame):
    with pytest.raises(FingerprintError):
        encode(frame)
