from __future__ import annotations

import contextlib
import dataclasses
import enum
import hashlib
import json
import math
import struct
from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ares.core.errors import ArtifactError, FingerprintError, InputError
from ares.store import codecs, registry
from ares.store.codecs import ForeignSchemaError, decode, encode, register


@register(schema=1)
class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


@register(schema=3)
@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    label: str
    colour: Colour
    values: npt.NDArray[np.float64]
    twice: float = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise InputError("x must not be negative")
        object.__setattr__(self, "twice", 2 * self.x)


@register(schema=1)
class Options(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
    depth: int = 3
    names: tuple[str, ...] = ()


def same(a: Any, b: Any) -> bool:
    """Equality that sees types, signs of zero and the order of keys."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        if a.dtype != b.dtype.newbyteorder("=") and a.dtype.newbyteorder("=") != b.dtype:
            return False
        return a.shape == b.shape and all(map(same, a.ravel().tolist(), b.ravel().tolist()))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (dict, MappingProxyType)):
        return same(list(a), list(b)) and same(list(a.values()), list(b.values()))
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, float):
        if math.isnan(a):
            return math.isnan(b)
        return a == b and math.copysign(1, a) == math.copysign(1, b)
    return bool(a == b)


DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    hnp.datetime64_dtypes(endianness="?"),
    hnp.timedelta64_dtypes(endianness="?"),
    hnp.unicode_string_dtypes(endianness="?", max_len=5),
    hnp.byte_string_dtypes(endianness="?", max_len=5),
)
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
TEXT = st.text(st.characters(), max_size=20) | st.text(max_size=3).map(lambda t: t * 400)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary() | ARRAYS
) | st.integers(-(10**9000), 10**9000)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(TEXT | st.integers(), inner, max_size=4)
        | st.dictionaries(TEXT, inner, max_size=4).map(MappingProxyType)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_values_come_back_and_equal_values_have_equal_bytes(value):
    data = encode(value)
    back = decode(data)
    assert same(value, back)
    assert encode(back) == data
    assert hashlib.sha256(data[:-32]).hexdigest() == codecs.content_digest(data)


@given(ARRAYS)
def test_memory_order_and_byte_order_do_not_show(array):
    data = encode(array)
    assert encode(np.asfortranarray(array)) == data or array.ndim == 0
    assert encode(array.astype(array.dtype.newbyteorder(">"))) == data
    assert encode(np.repeat(array[..., None], 2, axis=-1)[..., 0]) == data
    back = decode(data)
    assert not back.flags.writeable
    assert back.flags.c_contiguous
    assert back.dtype.isnative
    assert back.ctypes.data % 16 == 0 or back.size == 0


def test_one_nan_whatever_its_bits():
    odd = np.array([0x7FF8000000000001, 0xFFF8000000000000], dtype=np.uint64).view(np.float64)
    assert encode(odd) == encode(np.array([np.nan, np.nan]))
    assert encode(float(odd[1])) == encode(math.nan)
    assert encode(odd.view(np.complex128)) == encode(np.array([complex(math.nan, math.nan)]))
    assert encode(-0.0) != encode(0.0)


def test_numpy_scalars_are_their_python_kin():
    for scalar, kin in [
        (np.int8(3), 3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float64(0.1), 0.1),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
    ]:
        assert encode(scalar) == encode(kin)
        assert type(decode(encode(scalar))) is type(kin)
    moment = np.datetime64("2020-01-02T03", "h")
    back = decode(encode(moment))
    assert back == moment
    assert back.dtype == moment.dtype


def test_dicts_keep_the_order_that_they_were_given():
    assert list(decode(encode({"b": 1, "a": 2, 3: 4}))) == ["b", "a", 3]  # type: ignore[call-overload]
    assert encode({"a": 1, "b": 2}) != encode({"b": 2, "a": 1})


def test_text_of_many_megabytes():
    text = "Baum=\n\u2603\U0001f600\ud800" * 1_500_000
    data = encode({"model": text})
    assert decode(data) == {"model": text}
    assert len(data) < 1.01 * len(text.encode("utf-8", "surrogatepass"))


def test_registered_types_come_back_through_their_constructor():
    point = Point(1.5, "p", Colour.BLUE, np.arange(3.0))
    data = encode([point, Options(depth=4, names=("a",)), Colour.RED])
    back, options, colour = decode(data)  # type: ignore[misc]
    assert (back.x, back.label, back.colour, back.twice) == (1.5, "p", Colour.BLUE, 3.0)
    assert back.values.tolist() == [0.0, 1.0, 2.0]
    assert options == Options(depth=4, names=("a",))
    assert colour is Colour.RED
    assert encode([back, options, colour]) == data


def test_what_a_constructor_refuses_is_damage():
    forged = reforge(encode(Point(1.5, "p", Colour.RED, np.zeros(1))), b"1.5", b"-15")
    with pytest.raises(ArtifactError, match="not be negative"):
        decode(forged)


def reforge(data: bytes, old: bytes, new: bytes) -> bytes:
    """Change content and make the checksum fit, as somebody who knows the format can."""
    assert len(old) == len(new)
    assert old in data
    body = data[:-32].replace(old, new)
    return body + hashlib.sha256(body).digest()


def test_another_schema_number_of_a_type_is_foreign_or_migrated(monkeypatch):
    name = registry.qualified_name(Options)
    data = encode(Options(depth=7))
    for schema, migrate in [(2, None), (0, lambda number, fields: fields)]:
        changed = registry.Registration(Options, schema, migrate)
        monkeypatch.setitem(registry._registry, name, changed)
        with pytest.raises(ForeignSchemaError, match=f"schema number {schema}"):
            decode(data)

    def migrate(number: int, fields: registry.Fields) -> registry.Fields:
        return {**fields, "depth": fields["depth"] + number}  # type: ignore[operator]

    monkeypatch.setitem(registry._registry, name, registry.Registration(Options, 2, migrate))
    assert decode(data) == Options(depth=8)
    monkeypatch.delitem(registry._registry, name)
    with pytest.raises(ForeignSchemaError, match="type of a stored value"):
        decode(data)


def test_another_schema_number_of_the_format_is_foreign():
    data = encode([1, 2])
    for schema, age in [(2, "newer"), (0, "older")]:
        body = data[:8] + struct.pack("<I", schema) + data[12:-32]
        with pytest.raises(ForeignSchemaError, match=age):
            decode(body + hashlib.sha256(body).digest())
        with pytest.raises(ArtifactError, match="checksum"):
            decode(body + data[-32:])


def test_unknown_kinds_are_foreign():
    with pytest.raises(ForeignSchemaError, match="elput"):
        decode(reforge(encode((1,)), b'"tuple"', b'"elput"'))


class Unregistered(enum.Enum):
    A = 1


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        object(),
        Unregistered.A,
        OrderedDict(a=1),
        {1.5: 1},
        {True: 1},
        {(1,): 1},
        np.array([object()]),
        np.zeros(2, dtype=[("a", "i4")]),
        np.longdouble(1),
        np.zeros(2, dtype=np.longdouble),
        np.ma.masked_array([1.0, 2.0]),
        bytearray(b"1"),
        range(3),
        len,
        dataclasses.make_dataclass("Loose", ["a"])(1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused(value):
    with pytest.raises(FingerprintError):
        encode([value])


def test_a_cycle_is_refused():
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(FingerprintError, match="200"):
        encode(cycle)


def test_only_frozen_and_plain_classes_can_be_registered():
    class Flags(enum.Flag):
        A = 1

    loose = dataclasses.make_dataclass("Loose", ["a"])
    for cls in (Flags, loose, int):
        with pytest.raises(FingerprintError):
            register(schema=1)(cls)
    with pytest.raises(FingerprintError, match="one schema number"):
        register(schema=2)(Options)


SMALL = encode({"a": np.arange(3.0), "b": (1, "x", None), "c": Options(depth=2)})


def test_truncation_at_every_offset_is_damage():
    for end in range(len(SMALL)):
        with pytest.raises(ArtifactError):
            decode(SMALL[:end])
    with pytest.raises(ArtifactError):
        decode(SMALL + b"\0")


def test_a_flipped_byte_at_every_offset_is_damage():
    for offset in range(len(SMALL)):
        for mask in (0x01, 0x80, 0xFF):
            damaged = bytearray(SMALL)
            damaged[offset] ^= mask
            with pytest.raises(ArtifactError):
                decode(bytes(damaged))
            with pytest.raises(ArtifactError):
                codecs.check(bytes(damaged))


@settings(max_examples=200)
@given(st.data())
def test_forged_content_with_a_fitting_checksum_is_a_value_or_an_artifact_error(data):
    body = bytearray(SMALL[:-32])
    for _ in range(data.draw(st.integers(1, 4))):
        offset = data.draw(st.integers(8, len(body) - 1))
        body[offset] = data.draw(st.integers(0, 255))
    forged = bytes(body) + hashlib.sha256(body).digest()
    with contextlib.suppress(ArtifactError):
        decode(forged)


@pytest.mark.parametrize(
    "tree",
    [
        {"t": "array", "d": "|O", "s": [1], "b": [0, 8]},
        {"t": "array", "d": "<f8", "s": [10**18], "b": [0, 8]},
        {"t": "array", "d": "<f8", "s": [2], "b": [0, 8]},
        {"t": "array", "d": "<f8", "s": [1], "b": [-8, 8]},
        {"t": "array", "d": "<f8", "s": [1], "b": [0, 10**9]},
        {"t": "bytes", "b": [8, -8]},
        {"t": "object", "n": "os:system", "s": 1, "v": {"command": "true"}},
        {"t": "object", "n": "ares.nothing:Thing", "s": 1, "v": {}},
        {"t": "object", "n": "builtins:eval", "s": 1, "v": {}},
        {"t": "frame", "v": {}},
        {"t": "dict", "k": [[1]], "v": [1]},
        {"t": "dict", "k": [1, 2], "v": [1]},
        {},
    ],
)
def test_forged_trees_are_refused(tree):
    text = json.dumps(tree).encode()
    head = codecs.MAGIC + struct.pack("<IQ", codecs.SCHEMA, len(text)) + text
    body = head + bytes(-len(head) % 64) + bytes(64)
    with pytest.raises(ArtifactError):
        decode(body + hashlib.sha256(body).digest())


def test_a_pickle_is_not_executed(bomb):
    for data in (bomb, codecs.MAGIC + bomb, bomb * 50):
        with pytest.raises(ArtifactError):
            decode(data)


PRINT_DIGEST = """
from ares.store.codecs import encode, content_digest
import numpy as np
names = {"alpha", "beta", "gamma", "delta"}
value = {"names": sorted(names), "n": len(names), "a": np.arange(5.0), 7: ("x" * 2000, 1e-300)}
print(content_digest(encode(value)))
"""


def test_bytes_are_equal_in_every_process(child):
    runs = [child(PRINT_DIGEST, PYTHONHASHSEED=seed) for seed in ("0", "1", "random")]
    expected = encode(
        {
            "names": ["alpha", "beta", "delta", "gamma"],
            "n": 4,
            "a": np.arange(5.0),
            7: ("x" * 2000, 1e-300),
        }
    )
    assert {run.stdout.strip() for run in runs} == {codecs.content_digest(expected)}


def test_the_format_of_schema_1_stays_readable():
    # Bytes made by the first version; a change of the format must raise the schema number.
    data = bytes.fromhex(
        "89415245530d0a1a0100000038000000000000005b312c7b2274223a226172726179222c2264223a223c6938"
        "222c2273223a5b325d2c2262223a5b302c31365d7d2c226162222c6e756c6c5d"
    )
    data += bytes(-len(data) % 64) + struct.pack("<2q", 5, -6) + bytes(48)
    data += hashlib.sha256(data).digest()
    first, array, text, nothing = decode(data)  # type: ignore[misc]
    assert (first, array.tolist(), text, nothing) == (1, [5, -6], "ab", None)
    assert encode([1, np.array([5, -6]), "ab", None]) == data


IMPORT = """
import sys
import ares.store, ares.store.runs
heavy = {"pandas", "pyarrow", "pydantic", "numba", "scipy", "lightgbm"} & set(sys.modules)
assert not heavy, heavy
"""


def test_importing_the_store_is_light(child):
    assert child(IMPORT).returncode == 0


FIND = """
import sys
from ares.store.codecs import decode
print(decode(bytes.fromhex(sys.argv[1])))
"""


def test_a_module_of_ares_is_imported_where_its_type_is_met(child, monkeypatch):
    from ares.store import workspace

    data = encode({"k": 1})
    assert child(FIND, data.hex()).stdout == "{'k': 1}\n"
    assert registry.find("ares.store.workspace:Workspace") is None
    monkeypatch.setitem(
        registry._registry,
        "ares.store.workspace:Workspace",
        registry.Registration(workspace.Workspace, 1, None),
    )
    assert registry.find("ares.store.workspace:Workspace") is not None
