"""JSON with one spelling per value: sorted keys, no NaN, nothing converted behind one's back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import numpy as np

from ares.core.errors import ArtifactError, FingerprintError

_MAX_DEPTH: Final = 200


def json_bytes(value: object) -> bytes:
    """Canonical JSON of `value`: UTF-8, two spaces, sorted keys, a line end at the end.

    Mappings with string keys, lists, tuples, strings, numbers (also numpy scalars), booleans and
    None. NaN becomes null.

    Raises:
        FingerprintError: another type, a key that is no string, an infinity or over 200 levels.
    """
    plain = _plain(value, 0)
    text = json.dumps(plain, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        return (text + "\n").encode()
    except UnicodeEncodeError as error:
        raise FingerprintError(
            "text must be valid Unicode to be JSON", value=error.reason
        ) from None


def parse_json(data: bytes, *, where: str) -> object:
    """Parse JSON bytes; NaN, Infinity and repeated keys are refused.

    Raises:
        ArtifactError: `data` is not such JSON; the message starts with `where`.
    """
    try:
        parsed: object = json.loads(
            data.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique
        )
    except (ValueError, RecursionError) as error:
        raise ArtifactError("the file must be valid JSON", value=str(error), where=where) from error
    return parsed


def _plain(value: object, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise FingerprintError("values may nest at most 200 levels deep (or contain a cycle)")
    match value:
        case None | bool() | str():
            return value if value is None or isinstance(value, bool) else str(value)
        case np.bool_():
            return bool(value)
        case int() | np.integer():
            return int(value)
        case float() | np.floating():
            number = float(value)
            if math.isinf(number):
                raise FingerprintError("JSON has no infinity", value=number)
            return None if math.isnan(number) else number
        case Mapping():
            return {_key(key): _plain(item, depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item, depth + 1) for item in value]
        case _:
            raise FingerprintError("JSON cannot say this type", value=type(value).__qualname__)


def _key(key: object) -> str:
    if isinstance(key, str):
        return str(key)
    raise FingerprintError("keys of JSON objects are strings", value=key)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("an object repeats a key")
    return made
