"""One notion of identity: equal values share a fingerprint, look-alikes do not.

`fingerprint` is blake2b over a canonical, type-tagged encoding; `_make_hashable` is its in-memory
twin and draws the same distinctions. Neither ever uses `hash()`, `repr` or `id`.

Rules: bool, int, float, str, bytes and None are distinct types (1, 1.0, True and "1" differ), numpy
scalars equal their Python kin; -0.0 and 0.0 are one value, NaN is one value; tuples and lists are
one sequence type that carries its length; dicts and sets are order-free; arrays carry dtype and
shape; frozen dataclasses and pydantic models carry class name and fields; dates, enums and paths
are tagged; anything else raises `FingerprintError`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import hashlib
import struct
from collections.abc import Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import PurePath
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from ares.core.errors import FingerprintError

DIGEST_BYTES: Final = 20
_MAX_DEPTH: Final = 200
_PIECE: Final = 1 << 16


class _Hash(Protocol):
    def update(self, data: Any, /) -> None: ...
    def digest(self) -> bytes: ...


def fingerprint(value: object) -> str:
    """Digest of `value` as 40 hexadecimal digits, equal on every machine and in every process.

    Raises:
        FingerprintError: `value`, or something inside it, has no canonical encoding.
    """
    return _digest(value, 0).hex()


def seed_for(run_seed: int, name: str) -> int:
    """Seed in [0, 2**63) of the random stream `name` in a run with seed `run_seed`.

    Streams with different names are independent; nothing depends on the order of the calls.
    """
    return int(fingerprint(("seed", int(run_seed), name))[:16], 16) >> 1


def _make_hashable(obj: object) -> Hashable:
    """Nested tuples that compare equal exactly where `fingerprint` is equal.

    Raises:
        FingerprintError: as `fingerprint`.
    """
    return _hashable(obj, 0)


def _hashable(obj: object, depth: int) -> Hashable:
    kind, body = _normal_form(obj, depth)
    match body:
        case _Pairs():
            pairs = ((_hashable(k, depth + 1), _hashable(v, depth + 1)) for k, v in body.pairs)
            return (kind, frozenset(pairs))
        case _Unordered():
            return (kind, frozenset(_hashable(item, depth + 1) for item in body.items))
        case list():
            return (kind, *(_hashable(item, depth + 1) for item in body))
        case _:
            return (kind, body)


def _digest(value: object, depth: int) -> bytes:
    """Digest of one node: tag, length of the body, body. Children enter by their digests."""
    kind, body = _normal_form(value, depth)
    node = hashlib.blake2b(digest_size=DIGEST_BYTES)
    match body:
        case _Pairs():
            parts = sorted(_digest(k, depth + 1) + _digest(v, depth + 1) for k, v in body.pairs)
            _feed(node, kind, b"".join(parts))
        case _Unordered():
            _feed(node, kind, b"".join(sorted(_digest(i, depth + 1) for i in body.items)))
        case list():
            _feed(node, kind, b"".join(_digest(item, depth + 1) for item in body))
        case _:
            _feed(node, kind, body)
    return node.digest()


def _feed(node: _Hash, kind: str, body: bytes) -> None:
    tag = kind.encode()
    node.update(struct.pack("<II", len(tag), len(body) & 0xFFFFFFFF) + tag)
    node.update(body)


@dataclasses.dataclass(frozen=True)
class _Pairs:
    """Key-value pairs without an order."""

    pairs: list[tuple[object, object]]


@dataclasses.dataclass(frozen=True)
class _Unordered:
    """Distinct items without an order."""

    items: list[object]


def _normal_form(
    value: object, depth: int
) -> tuple[str, bytes | list[object] | _Pairs | _Unordered]:
    """Type tag and canonical body: bytes of a leaf, or the children of a container."""
    if depth > _MAX_DEPTH:
        raise FingerprintError("values may nest at most 200 levels deep (or contain a cycle)")
    leaf = _leaf(value)
    if leaf is not None:
        return leaf
    match value:
        case Mapping():
            return "map", _Pairs(list(value.items()))
        case AbstractSet():
            return "set", _Unordered(list(value))
        case list() | tuple():
            return "seq", [len(value), *value] if not _is_record(value) else _record(value)
        case _:
            return "obj", _object_fields(value)


def _is_record(value: Sequence[object]) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _record(value: Any) -> list[object]:
    """A named tuple is its name and its fields, so it never equals a bare tuple."""
    return [type(value).__qualname__, *zip(value._fields, value, strict=True)]


def _object_fields(value: object) -> list[object]:
    name = type(value).__qualname__
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if not value.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise FingerprintError(
                "only frozen dataclasses have an identity", value=name, remedy="Freeze it."
            )
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.compare}
        return [name, fields]
    model_fields = getattr(type(value), "model_fields", None)  # pydantic, without importing it
    if isinstance(model_fields, Mapping):
        return [name, {key: getattr(value, key) for key in model_fields}]
    raise FingerprintError(
        "this type has no canonical encoding",
        value=f"{type(value).__module__}.{name}",
        remedy="Use numbers, strings, bytes, dates, arrays, containers of these, or frozen"
        " dataclasses.",
    )


def _leaf(value: object) -> tuple[str, bytes] | None:
    match value:
        case None:
            return "none", b""
        case enum.Enum():
            return "enum", f"{type(value).__qualname__}.{value.name}".encode()
        case bool() | np.bool_():
            return "bool", b"\1" if value else b"\0"
        case np.datetime64() | np.timedelta64():
            unit = np.datetime_data(value.dtype)[0]
            return type(value).__name__, f"{value.astype(np.int64)}{unit}".encode()
        case int() | np.integer():
            return "int", str(int(value)).encode()
        case float() | np.floating():
            return "float", _float_bytes(value)
        case str():  # also numpy.str_
            return "str", value.encode("utf-8", "surrogatepass")
        case bytes() | bytearray() | memoryview():
            return "bytes", bytes(value)
        case np.ndarray():
            return _array(value)
        case _:
            return _leaf_of_time(value)


def _float_bytes(value: float | np.floating[Any]) -> bytes:
    number = float(value)
    if type(value) is np.longdouble and number != value:
        raise FingerprintError("a long double must be exact as a 64-bit float", value=value)
    if number != number:  # noqa: PLR0124  # NaN has many bit patterns and is one value
        return b"nan"
    return struct.pack("<d", number + 0.0)  # -0.0 + 0.0 is 0.0


def _leaf_of_time(value: object) -> tuple[str, bytes] | None:
    match value:
        case dt.datetime() | dt.date() | dt.time():
            return type(value).__name__, value.isoformat().encode()
        case dt.timedelta():
            micro = value // dt.timedelta(microseconds=1)
            return "timedelta", str(micro).encode()
        case PurePath():
            return "path", str(value).encode("utf-8", "surrogateescape")
        case _:
            return None


def _array(value: npt.NDArray[Any]) -> tuple[str, bytes]:
    dtype = value.dtype
    if dtype.hasobject or dtype.names is not None:
        raise FingerprintError(
            "arrays must have a plain dtype", value=str(dtype), remedy="Convert it first."
        )
    plain = np.ascontiguousarray(value, dtype=dtype.newbyteorder("<"))
    head = f"{plain.dtype.str}{value.shape}|".encode()
    flat = plain.reshape(-1)
    if dtype.kind in "mM":
        flat = flat.view("<i8")
    body = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for begin in range(0, len(flat), _PIECE):  # so that a large array is never copied whole
        piece = flat[begin : begin + _PIECE]
        if dtype.kind in "fc":
            piece = piece + piece.dtype.type(0)  # -0.0 becomes 0.0
            if dtype.kind == "f":
                piece[np.isnan(piece)] = np.nan
        body.update(piece.data)
    return "array", head + body.digest()
