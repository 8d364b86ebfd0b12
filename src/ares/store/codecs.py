"""Values to bytes and back, without pickle: nothing that is read can run code.

File: magic (8 bytes), schema number of the format (u32), length of the tree (u64), the tree (JSON),
the blobs, SHA-256 of all before (32 bytes); numbers little-endian. The tree holds the structure
and the small values, the blobs hold arrays, bytes and long text, each at a multiple of 64 bytes.

| value | comes back as |
| --- | --- |
| None, bool, int, float, str, bytes | itself |
| numpy scalars of these kinds | their Python kin, as in `ares.core.identity` |
| list, tuple, dict, `MappingProxyType` (keys: str or int) | itself; the order of keys is kept |
| arrays of bool, int, float, complex, datetime64, timedelta64, fixed text | read-only, C order |
| pandas Series and DataFrame | a fresh copy, see `ares.store.frames` |
| enums, frozen dataclasses, pydantic models with `@register` | an instance made by its constructor |

The bytes depend on the value only: not on process, hash seed, memory order or machine. Dicts with
another order of keys are other values here. NaN is written as one NaN, whatever its bits;
-0.0 is kept.
"""

from __future__ import annotations

import enum
import hashlib
import json
import math
import re
import struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ares.core.errors import ArtifactError, FingerprintError
from ares.store import frames, registry
from ares.store.registry import ForeignSchemaError, register

if TYPE_CHECKING:
    import mmap

__all__ = [
    "MAGIC",
    "SCHEMA",
    "ForeignSchemaError",
    "check",
    "check_head",
    "content_digest",
    "decode",
    "encode",
    "encode_parts",
    "register",
]

SCHEMA: Final = 1
MAGIC: Final = b"\x89ARES\r\n\x1a"
DIGEST_BYTES: Final = 32
_HEAD: Final = struct.Struct("<8sIQ")
_ALIGNMENT: Final = 64
_LONG_TEXT: Final = 1024
_LONG_INT_BITS: Final = 63
_MAX_DEPTH: Final = 200
_PIECE: Final = 1 << 16
_DTYPE: Final = re.compile(
    r"[<|](b1|i[1248]|u[1248]|f[248]|c8|c16|[mM]8(\[\d*[A-Za-zμ]+\])?|[US]\d+)"
)


def encode(value: object) -> bytes:
    """Bytes of `value`, equal for equal values in every process.

    Raises:
        FingerprintError: `value`, or something inside it, is of no type of the module's table.
    """
    return b"".join(encode_parts(value))


def encode_parts(value: object) -> list[Any]:
    """The bytes of `encode` as buffers, the last one their digest; arrays are not copied.

    Raises:
        FingerprintError: as `encode`.
    """
    writer = _Writer()
    tree = json.dumps(writer.node(value, 0), separators=(",", ":"), allow_nan=False).encode()
    parts: list[Any] = [_HEAD.pack(MAGIC, SCHEMA, len(tree)), tree]
    parts += [_padding(_HEAD.size + len(tree)), *writer.blobs]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return [*parts, digest.digest()]


def decode(
    data: bytes | mmap.mmap, *, where: str = "stored value", checked: bool = False
) -> object:
    """The value that `encode` made `data` of; its arrays are read-only views of `data`.

    Args:
        data: The whole content.
        where: Starts the message of an error.
        checked: Its checksum was verified already.

    Raises:
        ForeignSchemaError: whole, but of another version of Ares.
        ArtifactError: cut, changed or no such file.
    """
    if not checked:
        check(data, where=where)
    (length,) = struct.unpack_from("<Q", data, 12)
    end = _HEAD.size + length
    try:
        tree = json.loads(bytes(data[_HEAD.size : end]))
        blobs = end + len(_padding(end))
        return _Reader(memoryview(data)[blobs:-DIGEST_BYTES], where).value(tree)
    except ArtifactError:
        raise
    except Exception as error:  # constructors of registered types run here
        raise ArtifactError(
            "the content must follow the format of its schema number",
            value=f"{type(error).__name__}: {error}",
            where=where,
        ) from error


def content_digest(data: bytes | mmap.mmap) -> str:
    """Digest of encoded bytes as 64 hexadecimal digits, read from their end (not recomputed)."""
    return data[-DIGEST_BYTES:].hex()


def check(data: bytes | mmap.mmap, *, where: str = "stored value") -> None:
    """Check magic, schema number, length and checksum of encoded bytes without decoding them.

    Raises:
        ForeignSchemaError: whole, but of another version of Ares.
        ArtifactError: cut, changed or no such file.
    """
    check_head(data, hashlib.sha256(memoryview(data)[:-DIGEST_BYTES]).hexdigest(), where=where)


def check_head(data: bytes | mmap.mmap, found: str, *, where: str) -> None:
    """The same where the SHA-256 of all but the last bytes was `found`.

    Raises:
        ForeignSchemaError: as `check`, like `ArtifactError`.
    """
    if len(data) < _HEAD.size + DIGEST_BYTES or data[: len(MAGIC)] != MAGIC:
        raise ArtifactError(
            "the file must be a value stored by Ares",
            value=bytes(data[: len(MAGIC)]),
            where=where,
        )
    if bytes.fromhex(found) != data[-DIGEST_BYTES:]:
        raise ArtifactError(
            "the checksum of a stored value must match",
            value=found,
            where=where,
            remedy="It was cut or changed; remove it, it will be made anew.",
        )
    _, schema, _ = _HEAD.unpack_from(data)
    if schema != SCHEMA:
        age = "newer" if schema > SCHEMA else "older"
        raise ForeignSchemaError(
            f"stored values have schema number {SCHEMA}",
            value=schema,
            where=where,
            remedy=f"It was written by a {age} version of Ares; use that one or make it anew.",
        )


class _Writer:
    """Turns values into tree nodes and collects their blobs."""

    def __init__(self) -> None:
        self.blobs: list[Any] = []
        self._offset = 0

    def node(self, value: object, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise FingerprintError("values may nest at most 200 levels deep (or contain a cycle)")
        kind = type(value)
        if value is None or kind is bool:
            return value
        if isinstance(value, enum.Enum):
            return self._registered(value, depth)
        if kind is int or isinstance(value, np.integer):
            return self._int(int(value))  # type: ignore[call-overload]  # narrowed by `kind`
        if kind is float or isinstance(value, (np.float64, np.float32, np.float16)):
            return self._float(float(value))  # type: ignore[arg-type]  # narrowed by `kind`
        if isinstance(value, np.bool_):
            return bool(value)
        if kind is str or isinstance(value, np.str_):
            return self._text(str(value))
        if kind is bytes:
            return {"t": "bytes", "b": self._blob(value)}
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, (np.datetime64, np.timedelta64)):
            return {"t": "time", "v": self._array(np.asarray(value))}
        return self._container(value, depth)

    def _container(self, value: object, depth: int) -> Any:
        kind = type(value)
        if kind is list:
            return [self.node(item, depth + 1) for item in value]  # type: ignore[attr-defined]
        if kind is tuple:
            return {"t": "tuple", "v": [self.node(item, depth + 1) for item in value]}  # type: ignore[attr-defined]
        if isinstance(value, (dict, MappingProxyType)) and kind in (dict, MappingProxyType):
            return {
                "t": "dict" if kind is dict else "proxy",
                "k": [self._key(key) for key in value],
                "v": [self.node(item, depth + 1) for item in value.values()],
            }
        if frames.is_frame(value):
            return {"t": "frame", "v": self.node(frames.take_apart(value), depth + 1)}
        return self._registered(value, depth)

    def _registered(self, value: object, depth: int) -> Any:
        name = registry.qualified_name(type(value))
        known = registry.known(name)
        if known is None or known.cls is not type(value):
            raise FingerprintError(
                "this type cannot be stored",
                value=name,
                remedy="Use a type of the table in ares.store.codecs, or register it there.",
            )
        fields = {
            name: self.node(item, depth + 1) for name, item in registry.fields_of(value).items()
        }
        return {"t": "object", "n": name, "s": known.schema, "v": fields}

    def _key(self, key: object) -> Any:
        if type(key) is str:
            return self._text(key)
        if type(key) is int:
            return self._int(key)
        raise FingerprintError("keys of stored dicts are str or int", value=key)

    @staticmethod
    def _int(value: int) -> Any:
        # Longer ones would meet the limit of decimal conversion.
        return value if value.bit_length() <= _LONG_INT_BITS else {"t": "int", "v": f"{value:x}"}

    @staticmethod
    def _float(value: float) -> Any:
        return value if math.isfinite(value) else {"t": "float", "v": str(value).lstrip("+")}

    def _text(self, value: str) -> Any:
        if len(value) < _LONG_TEXT:
            return value
        return {"t": "str", "b": self._blob(value.encode("utf-8", "surrogatepass"))}

    def _array(self, value: npt.NDArray[Any]) -> Any:
        dtype = value.dtype.newbyteorder("<")
        if type(value) is not np.ndarray or not _DTYPE.fullmatch(dtype.str):
            raise FingerprintError(
                "stored arrays must be plain and have a plain dtype",
                value=f"{type(value).__qualname__} of {value.dtype}",
            )
        plain = np.ascontiguousarray(value, dtype=dtype)
        if dtype.kind in "fc":
            plain = _one_nan(plain)
        blob = self._blob(plain.reshape(-1).view(np.uint8).data if plain.nbytes else b"")
        return {"t": "array", "d": dtype.str, "s": list(value.shape), "b": blob}

    def _blob(self, data: Any) -> list[int]:
        place = [self._offset, len(data)]
        padding = _padding(len(data))
        self.blobs += [data, padding]
        self._offset += len(data) + len(padding)
        return place


class _Reader:
    """Turns tree nodes back into values."""

    def __init__(self, blobs: memoryview, where: str) -> None:
        self._blobs = blobs
        self._where = where

    def value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.value(item) for item in node]
        if not isinstance(node, dict):
            return node
        match node["t"]:
            case "tuple":
                return tuple(self.value(item) for item in node["v"])
            case "dict":
                return self._dict(node)
            case "proxy":
                return MappingProxyType(self._dict(node))
            case "array":
                return self._array(node)
            case "str":
                return str(self._blob(node["b"]), "utf-8", "surrogatepass")
            case "bytes":
                return bytes(self._blob(node["b"]))
            case "int":
                return int(node["v"], 16)
            case "float":
                return float(node["v"])
            case "time":
                return self._array(node["v"])[()]
            case "frame":
                return frames.put_together(self.value(node["v"]))
            case "object":
                return self._object(node)
            case tag:
                raise ForeignSchemaError("unknown kind of value", value=tag, where=self._where)

    def _dict(self, node: Any) -> dict[Any, Any]:
        keys = [self.value(key) for key in node["k"]]
        return dict(zip(keys, map(self.value, node["v"]), strict=True))

    def _blob(self, place: Any) -> memoryview:
        start, length = place
        if not 0 <= start <= start + length <= len(self._blobs):
            raise ValueError("a blob lies outside the file")
        return self._blobs[start : start + length]

    def _array(self, node: Any) -> npt.NDArray[Any]:
        if not _DTYPE.fullmatch(node["d"]):
            raise ValueError("not a plain dtype")
        dtype = np.dtype(node["d"])
        blob = self._blob(node["b"])
        flat = np.frombuffer(blob, dtype) if len(blob) else np.empty(0, dtype)
        array = flat.reshape(node["s"]) if flat.size else np.zeros(node["s"], dtype)
        if array.nbytes != len(blob):
            raise ValueError("an array's shape must match its bytes")
        array.flags.writeable = False
        return array

    def _object(self, node: Any) -> Any:
        name, schema = node["n"], node["s"]
        known = registry.find(name)
        if known is None:
            raise ForeignSchemaError(
                "the type of a stored value must be known", value=name, where=self._where
            )
        fields = {key: self.value(item) for key, item in node["v"].items()}
        if schema != known.schema:
            if known.migrate is None or schema > known.schema:
                raise ForeignSchemaError(
                    f"{name} has schema number {known.schema}", value=schema, where=self._where
                )
            fields = known.migrate(schema, fields)
        return registry.build(known.cls, fields)


def _one_nan(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array with every NaN in the one bit pattern of `np.nan`."""
    flat = array.reshape(-1)
    reals = flat.view(f"<f{array.dtype.itemsize // 2}") if array.dtype.kind == "c" else flat
    if not any(_odd_nans(reals[i : i + _PIECE]) for i in range(0, len(reals), _PIECE)):
        return array
    reals = reals.copy()
    reals[np.isnan(reals)] = np.nan
    return reals.view(array.dtype).reshape(array.shape)


def _odd_nans(reals: npt.NDArray[Any]) -> bool:
    """Whether a NaN has other bits than `np.nan`."""
    nans = reals[np.isnan(reals)]
    bits = np.dtype(f"<u{reals.dtype.itemsize}")
    return bool((nans.view(bits) != np.array(np.nan, reals.dtype).view(bits)).any())


def _padding(length: int) -> bytes:
    return bytes(-length % _ALIGNMENT)
