"""A normalised point in bytes and back: what the ledger and the cache know a point by.

Equal points of one space are equal bytes: the names in order with what is no number, as JSON, then
the numbers as 64-bit words. (Decimal text would take as long as all else that a trial costs: a
float needs 17 digits.)
"""

from __future__ import annotations

import functools
import json
import operator
import struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ares.core.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    _Getter: TypeAlias = Callable[[Any], tuple[Any, ...]]

_WORDS: Final[dict[type, str]] = {float: "d", int: "q"}
_PLANS: Final = 1024


def point_bytes(point: Mapping[str, Any]) -> bytes:
    """A normalised point in canonical bytes.

    Raises:
        TypeError: a value is not a number, a text, a truth value or None.
    """
    names, in_order = _in_order(tuple(point))
    values = in_order(point)
    kinds = tuple(map(type, values))
    pack, numbers, others = _plan(kinds)
    try:
        words = pack(*numbers(values))
    except struct.error:  # an integer beyond 64 bits is written as text
        kinds = tuple(str if _is_long(value) else type(value) for value in values)
        pack, numbers, others = _plan(kinds)
        words = pack(*numbers(values))
    return _head(names, kinds, others(values)) + words


def point_of(data: bytes) -> dict[str, Any]:
    """The point that `point_bytes` wrote, names in order.

    Raises:
        ArtifactError: `data` is nothing that it writes.
    """
    head, _, words = data.partition(b"\0")
    try:
        template, names, packer = _parsed(head)
        values = packer.unpack(words)
    except (ValueError, TypeError, KeyError, struct.error) as error:
        raise ArtifactError("a point must be what the search wrote", value=data[:80]) from error
    point = template.copy()
    point.update(zip(names, values, strict=True))
    return point


@functools.lru_cache(_PLANS)
def _in_order(names: tuple[str, ...]) -> tuple[tuple[str, ...], _Getter]:
    """The names in order, and what takes their values from a point."""
    ordered = tuple(sorted(names))
    return ordered, _getter(ordered)


@functools.lru_cache(_PLANS)
def _plan(kinds: tuple[type, ...]) -> tuple[Callable[..., bytes], _Getter, _Getter]:
    """What packs the numbers, takes them from all values, and takes the other values."""
    numbers = tuple(at for at, kind in enumerate(kinds) if kind in _WORDS)
    others = tuple(at for at, kind in enumerate(kinds) if kind not in _WORDS)
    words = struct.Struct("<" + "".join(_WORDS[kinds[at]] for at in numbers))
    return words.pack, _getter(numbers), _getter(others)


def _getter(keys: tuple[Any, ...]) -> _Getter:
    """`operator.itemgetter`, whose answer is a tuple for one key and for none, too."""
    if len(keys) > 1:
        return operator.itemgetter(*keys)
    return lambda items: tuple([items[key] for key in keys])


@functools.lru_cache(_PLANS)
def _head(names: tuple[str, ...], kinds: tuple[type, ...], others: tuple[Any, ...]) -> bytes:
    """Names, the kinds of the numbers, and the other values; one-element lists tell these apart."""
    left = iter(others)
    entries = [[name, _WORDS.get(kind) or [next(left)]] for name, kind in zip(names, kinds)]  # noqa: B905  # same length
    return json.dumps(entries, separators=(",", ":")).encode() + b"\0"


@functools.lru_cache(_PLANS)
def _parsed(head: bytes) -> tuple[dict[str, Any], tuple[str, ...], struct.Struct]:
    """All names with the other values, the names of the numbers, and how these are packed."""
    entries = json.loads(head)
    template = {name: what[0] if isinstance(what, list) else None for name, what in entries}
    numbers = [(name, what) for name, what in entries if not isinstance(what, list)]
    codes = "".join(what for _, what in numbers)
    if not set(codes) <= set(_WORDS.values()):
        raise ValueError(codes)
    return template, tuple(name for name, _ in numbers), struct.Struct("<" + codes)


def _is_long(value: Any) -> bool:
    return type(value) is int and not -(2**63) <= value < 2**63
