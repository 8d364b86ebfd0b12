"""Where configuration values come from: command line > environment > file > mode > defaults."""

from __future__ import annotations

import difflib
import functools
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from ares.core.config import QUICK, Config
from ares.core.errors import ConfigError

_MAX_FILE_BYTES: Final = 1 << 20
_PREFIX: Final = "ARES_"
_SECRET_WORDS: Final = ("apikey", "api_key", "secret", "token", "password", "passphrase")

Tree = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """A checked configuration and, per dotted key, where its value came from."""

    config: Config
    origins: dict[str, str]


def load_settings(
    source: Config | Mapping[str, Any] | str | Path | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    spelled: Mapping[str, str] | None = None,
) -> Settings:
    """Merge all sources into one checked configuration.

    Args:
        source: A TOML or JSON file, a dict of sections, a `Config`, or nothing.
        overrides: Dotted keys of the command line, e.g. `{"search.trials": 64}`.
        environ: Environment; `ARES_SEARCH__TRIALS=64` sets `search.trials`. Default: the process's.
        spelled: By key of `overrides`, what the user typed to give it: errors name that.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a value out of its range, a file
            that cannot be read.
    """
    if isinstance(source, Config):
        given, name = source.model_dump(exclude_unset=True), "config"
    elif isinstance(source, str | Path):
        given, name = read_config_file(Path(source)), str(source)
    else:
        given, name = _copy(source or {}), "dict"
    layers: list[tuple[str, Tree]] = [(name, given)]
    layers.append(("environment", _from_environment(os.environ if environ is None else environ)))
    layers.append(("command line", _nest(overrides or {})))
    for origin, tree in layers:
        _check_keys(tree, Config, functools.partial(_place, origin, spelled or {}), "")
    merged: Tree = {}
    origins = {key: "default" for key, _ in _leaves(Config().model_dump())}
    if _mode_of(layers) == "quick":
        layers.insert(0, ("mode quick", _copy(QUICK)))
    for origin, tree in layers:
        _merge(merged, tree)
        for key, _ in _leaves(tree):
            known = _leaf_of(key, origins)
            if known is not None:
                origins[known] = origin
    return Settings(_validate(merged, origins, spelled or {}), origins)


def read_config_file(path: Path) -> Tree:
    """Read a TOML or JSON file of at most 1 MiB into nested dicts."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            "the configuration file must be readable",
            where=str(path),
            value=error.strerror,
            remedy="`ares config init` writes one.",
        ) from error
    if len(raw) > _MAX_FILE_BYTES:
        raise ConfigError(
            "a configuration file may have 1 MiB",
            where=str(path),
            value=len(raw),
            remedy="Is this a configuration? `ares config init` writes one.",
        )
    try:
        text = raw.decode("utf-8-sig")
        tree = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"the file must be valid TOML or JSON: {error}",
            where=str(path),
            remedy="Correct that line; `ares config init` writes a file to begin with.",
        ) from None
    except RecursionError:
        raise ConfigError(
            "the file nests too deeply",
            where=str(path),
            remedy="`ares config init` writes a file to begin with.",
        ) from None
    if not isinstance(tree, dict):
        raise ConfigError(
            "the file must hold sections",
            where=str(path),
            value=type(tree).__name__,
            remedy="`ares config init` writes a file with all of them.",
        )
    return tree


def shaping_values(config: Config) -> Tree:
    """The fields that shape results, as nested dicts: what digests and `config.toml` hold."""
    return _filtered(config, "shapes_result")


def to_toml(tree: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> str:
    """Write nested sections as TOML; keys whose value is None are left out.

    With `origins`, each line says where its value came from.
    """
    lines: list[str] = []
    for section, body in _tables(tree):
        lines.append(f"[{section}]")
        for key, value in body.items():
            note = f"  # {origins[f'{section}.{key}']}" if origins else ""
            if value is None:
                if origins:
                    lines.append(f"# {key} is not set{note}")
            else:
                lines.append(f"{key} = {_toml_value(value)}{note}")
        lines.append("")
    return "\n".join(lines)


def _toml_value(value: object) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    # JSON's bool, int, float and str read the same in TOML, but for the escape of DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _tables(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Tree]]:
    for name, body in tree.items():
        leaves = {k: v for k, v in body.items() if not isinstance(v, Mapping)}
        if leaves:
            yield f"{prefix}{name}", leaves
        tables = {k: v for k, v in body.items() if isinstance(v, Mapping)}
        yield from _tables(tables, f"{prefix}{name}.")


def _filtered(model: BaseModel, effect: str) -> Tree:
    kept: Tree = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            inner = _filtered(value, effect)
            if inner:
                kept[name] = inner
        elif isinstance(field.json_schema_extra, dict) and (
            field.json_schema_extra["effect"] == effect
        ):
            kept[name] = value
    return kept


def _mode_of(layers: list[tuple[str, Tree]]) -> object:
    mode: object = None
    for _, tree in layers:
        section = tree.get("enhanced_training_manager")
        if isinstance(section, Mapping):
            mode = section.get("mode", mode)
    return mode


def _copy(tree: Mapping[str, Any]) -> Tree:
    return {k: _copy(v) if isinstance(v, Mapping) else _plain(v) for k, v in tree.items()}


def _plain(value: Any) -> Any:
    return _copy(value.model_dump(exclude_unset=True)) if isinstance(value, BaseModel) else value


def _merge(base: Tree, top: Mapping[str, Any]) -> None:
    for key, value in top.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = _copy(value) if isinstance(value, Mapping) else value


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _nest(flat: Mapping[str, Any]) -> Tree:
    tree: Tree = {}
    for dotted, value in flat.items():
        node = tree
        *parents, leaf = dotted.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(
                    "a key is a section or a value, not both",
                    where=dotted,
                    remedy="Leave one of the two away; `ares config show` lists the keys.",
                )
        if isinstance(node.get(leaf), dict):
            raise ConfigError(
                "a key is a section or a value, not both",
                where=dotted,
                remedy="Leave one of the two away; `ares config show` lists the keys.",
            )
        node[leaf] = value
    return tree


def _from_environment(environ: Mapping[str, str]) -> Tree:
    """`ARES_SECTION__KEY=value`; a value is read as JSON where it is JSON, else as text."""
    flat: dict[str, Any] = {}
    for name in sorted(environ):
        if name.startswith(_PREFIX) and "__" in name:
            flat[name[len(_PREFIX) :].lower().replace("__", ".")] = _parsed(environ[name])
    return _nest(flat)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _leaf_of(key: str, leaves: Iterable[str]) -> str | None:
    """The leaf of the configuration that `key` is, or wrongly goes on below."""
    return next((leaf for leaf in leaves if key == leaf or key.startswith(f"{leaf}.")), None)


def _place(origin: str, spelled: Mapping[str, str], key: str) -> str:
    """Where a key was given, and the key."""
    if origin == "command line":
        for known, typed in spelled.items():
            if key == known or known.startswith(f"{key}.") or key.startswith(f"{known}."):
                return typed
    return f"{origin}: {key}"


def _check_keys(
    tree: Mapping[str, Any], model: type[BaseModel], place: Callable[[str], str], prefix: str
) -> None:
    for key, value in tree.items():
        where = place(f"{prefix}{key}")
        field = model.model_fields.get(str(key))
        if any(word in str(key).lower() for word in _SECRET_WORDS):
            raise ConfigError(
                "secrets do not belong in a configuration",
                where=where,
                remedy="Put keys into the environment.",
            )
        if field is None:
            near = difflib.get_close_matches(str(key), list(model.model_fields), 1, 0.0)
            raise ConfigError(
                "this key is not known", where=where, remedy=f"Did you mean {prefix}{near[0]!s}?"
            )
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            if not isinstance(value, Mapping):
                raise ConfigError(
                    "this key is a section",
                    where=where,
                    value=value,
                    remedy="Name one of its keys; `ares config show` lists them.",
                )
            _check_keys(value, inner, place, f"{prefix}{key}.")


def _without_secrets(value: object) -> object:
    """A value to show: of an address neither who asks nor what for, which may be a password or key."""
    if not isinstance(value, str) or "://" not in value:
        return value
    scheme, _, rest = value.partition("://")
    return f"{scheme}://..." if "@" in rest else re.sub(r"[?#].*", "?...", value, flags=re.DOTALL)


def _validate(tree: Tree, origins: Mapping[str, str], spelled: Mapping[str, str]) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        known = _leaf_of(key, origins)
        place = _place(origins[known], spelled, key) if known else key
        rule = first["msg"].removeprefix("Value error, ")
        raise ConfigError(
            rule[:1].lower() + rule[1:],
            where=place,
            value=_without_secrets(first["input"]),
            remedy=_nearest(first) + "`ares config schema` lists every key with its range.",
        ) from None


def _nearest(fault: Any) -> str:
    """A guess at what was meant, where a key takes a few words only."""
    words = re.findall(r"'([^']+)'", str(fault.get("ctx", {}).get("expected", "")))
    given = fault["input"].lower() if isinstance(fault["input"], str) else ""
    near = difflib.get_close_matches(given, words, 1)
    return f"Did you mean {near[0]}? " if near and fault["type"] == "literal_error" else ""
