"""Which types can be stored: enums, frozen dataclasses and pydantic models that say so.

Each carries a schema number. Stored values name their type; only registered types are ever made,
by their own constructors, and only modules of Ares are imported to find one.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, TypeVar

from ares.core.errors import ArtifactError, FingerprintError

T = TypeVar("T", bound=type)
Fields: TypeAlias = dict[str, object]
Migration: TypeAlias = Callable[[int, Fields], Fields]

_OWN_MODULE: Final = re.compile(r"ares(\.[a-z_][a-z0-9_]*)+")


class ForeignSchemaError(ArtifactError):
    """Whole, but written by another version: an unknown type or schema number."""


@dataclasses.dataclass(frozen=True)
class Registration:
    """A type that can be stored."""

    cls: type
    schema: int
    migrate: Migration | None


# Types announce themselves here while their modules are imported; nothing is ever removed.
_registry: dict[str, Registration] = {}


def register(*, schema: int, migrate: Migration | None = None) -> Callable[[T], T]:
    """Class decorator: values of this enum, frozen dataclass or pydantic model can be stored.

    The qualified name and the schema number are stored with each value. Fields pass through the
    constructor on the way back, so its checks hold for what is read, too.

    Args:
        schema: Number to raise when the meaning of the fields changes.
        migrate: `(older schema, its fields) -> today's fields`; without it older values are
            foreign.

    Raises:
        FingerprintError: the class is of none of these kinds, or the name is taken.
    """

    def decorate(cls: T) -> T:
        if _kind(cls) is None:
            raise FingerprintError(
                "only enums (no flags), frozen dataclasses and pydantic models can be stored",
                value=cls.__qualname__,
            )
        name = qualified_name(cls)
        earlier = _registry.get(name)
        if earlier is not None and earlier.schema != schema:
            raise FingerprintError("a name is registered with one schema number", value=name)
        _registry[name] = Registration(cls, schema, migrate)
        return cls

    return decorate


def known(name: str) -> Registration | None:
    """The registration of `name`, if its module has been imported."""
    return _registry.get(name)


def find(name: str) -> Registration | None:
    """The registration of `name`; a module of Ares that defines it is imported first."""
    module, _, _ = name.rpartition(":")
    own = _OWN_MODULE.fullmatch(module)
    if name not in _registry and own and module not in sys.modules:
        try:
            importlib.import_module(module)
        except ImportError:
            return None
    return _registry.get(name)


def _kind(cls: type) -> str | None:
    if issubclass(cls, enum.Enum):
        return None if issubclass(cls, enum.Flag) else "enum"
    if dataclasses.is_dataclass(cls):
        return "dataclass" if cls.__dataclass_params__.frozen else None  # type: ignore[attr-defined]
    is_model = isinstance(getattr(cls, "model_fields", None), Mapping)
    return "model" if is_model else None  # pydantic, without importing it


def fields_of(value: Any) -> Fields:
    """The fields of a registered value that its constructor takes."""
    match _kind(type(value)):
        case "enum":
            return {"name": value.name}
        case "dataclass":
            return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        case _:
            return {name: getattr(value, name) for name in type(value).model_fields}


def build(cls: Any, fields: Fields) -> Any:
    """A value of a registered type, made by its constructor."""
    match _kind(cls):
        case "enum":
            return cls[fields["name"]]
        case "dataclass":
            return cls(**fields)
        case _:
            return cls.model_validate(fields)


def qualified_name(cls: type) -> str:
    """Module and name of a class, as stored."""
    return f"{cls.__module__}:{cls.__qualname__}"
