"""Structs in Thrift's compact protocol, as Parquet writes its footer and page headers.

Only what is needed to check a file before a native reader sees it: field numbers to values,
without names. The bytes are hostile: depth, length and number of values are bounded.

Source: thrift-compact-protocol.md of Apache Thrift.
"""

from __future__ import annotations

import struct
from typing import Any, Final

_STOP, _TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(
    13
)
_MAX_DEPTH: Final = 32


class ThriftError(ValueError):
    """The bytes are no struct, or one that is too large."""


class LongListError(ThriftError):
    """A list of the outermost struct is longer than allowed."""

    def __init__(self, field: int, size: int) -> None:
        super().__init__(f"the list of field {field} has {size} elements")
        self.field = field
        self.size = size


class Thrift:
    """Reads structs from `data`, from position `at` on, which it moves behind them.

    Args:
        data: The bytes.
        at: Where the struct begins.
        most_values: Values of all structs together that it may hold.
        longest: Lengths that lists in these fields of the outermost struct may have.
    """

    def __init__(
        self,
        data: bytes,
        at: int = 0,
        *,
        most_values: int = 10_000,
        longest: dict[int, int] | None = None,
    ) -> None:
        self.data = data
        self.at = at
        self._left = most_values
        self._longest = longest or {}

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """One struct: field number to bool, int, float, bytes, list or struct.

        Raises:
            ThriftError: The bytes are no struct, or one that is too large.
        """
        if depth > _MAX_DEPTH:
            raise ThriftError("structs are nested too deeply")
        found: dict[int, Any] = {}
        number = 0
        while True:
            head = self._byte()
            kind = head & 15
            if kind == _STOP:
                return found
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            if kind in (_TRUE, _FALSE):
                found[number] = kind == _TRUE
            else:
                if depth == 0 and number in self._longest and kind == _LIST:
                    self._check_length(number)
                found[number] = self._value(kind, depth)

    def _check_length(self, field: int) -> None:
        at = self.at
        size = self._byte() >> 4
        size = self._varint() if size == 15 else size
        self.at = at
        if size > self._longest[field]:
            raise LongListError(field, size)

    def _value(self, kind: int, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ThriftError("there are too many values")
        if kind in (_I16, _I32, _I64):
            return self._zigzag()
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth)
        if kind == _DOUBLE:
            return struct.unpack("<d", self._bytes(8))[0]
        if kind in (_BYTE, _TRUE, _FALSE):  # an element of a list: one byte
            return self._byte()
        raise ThriftError("a value has a type that Parquet does not use")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        size, kind = head >> 4, head & 15
        if size == 15:
            size = self._varint()
        if size > len(self.data) - self.at:  # an element takes a byte at least
            raise ThriftError("a list is longer than the file")
        return [self._value(kind, depth + 1) for _ in range(size)]

    def _byte(self) -> int:
        if self.at >= len(self.data):
            raise ThriftError("a struct ends too early")
        value = self.data[self.at]
        self.at += 1
        return value

    def _bytes(self, size: int) -> bytes:
        start, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise ThriftError("a struct ends too early")
        return self.data[start : self.at]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ThriftError("a number is too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
