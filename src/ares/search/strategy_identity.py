"""What code and settings a strategy consists of: the part of a cache key that names it."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.metadata
import inspect
import logging
import sys
import sysconfig
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ares.backtest.user import UserStrategy
from ares.core.errors import FingerprintError
from ares.core.identity import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import ModuleType

_log = logging.getLogger("ares.search")
_MAX_FILES: Final = 500


def strategy_identity(strategy: Any) -> str | None:
    """Digest of a strategy: its class, its settings and its code.

    The code of a user's class is its file, every file that it imports outside the standard
    library and site-packages, and the versions of the distributions imported on the way; the code
    of a built-in is part of the environment salt. What a strategy reads besides (files, the
    environment) is not seen: give it as a setting, or do not cache.

    Returns:
        None where there is no source file (a notebook), where the file does not say what the class
        is (made by a function) or is not what was loaded, or where a setting has no canonical
        encoding: such a strategy cannot be cached.
    """
    asked, source = "", ""
    if isinstance(strategy, UserStrategy):  # a guard around the user's object
        asked, source, strategy = strategy.asked, strategy.source, strategy.inner
    kind = type(strategy)
    try:
        settings = _settings(strategy)
        if kind.__module__.partition(".")[0] == "ares":
            return fingerprint((kind.__module__, kind.__qualname__, settings))
        code = [code_closure(path, loaded=source) for path in _files_of(kind, asked, settings)]
        return fingerprint((asked, kind.__qualname__, settings, code))
    except (FingerprintError, _NoCodeError) as error:
        _log.warning("results of %s are not cached: %s", asked or kind.__qualname__, error)
        return None


class _NoCodeError(Exception):
    """Nothing says what code a strategy runs."""


def _files_of(kind: type, asked: str, settings: dict[str, Any]) -> list[Path]:
    """The files of a strategy's class (first) and of its settings' classes."""
    first = _source_of(kind)
    if first is None:
        raise _NoCodeError("its class has no source file")
    if not asked and not _is_in_its_module(kind):
        raise _NoCodeError("its class is made by a function, and its file does not say what it is")
    others = (_source_of(one) for one in _local_types(settings.values()))
    return list(dict.fromkeys([first, *(path for path in others if path is not None)]))


def _source_of(kind: type) -> Path | None:
    try:
        source = inspect.getsourcefile(kind)
    except TypeError:
        return None
    return Path(source) if source is not None and Path(source).is_file() else None


def _is_in_its_module(kind: type) -> bool:
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is kind


def _local_types(values: Iterable[Any]) -> Iterator[type]:
    """Classes of dataclasses among settings that are neither of Ares nor installed."""
    for value in values:
        kind = type(value)
        if not dataclasses.is_dataclass(kind) or kind.__module__.partition(".")[0] == "ares":
            continue
        source = _source_of(kind)
        if source is not None and not _installed(source.resolve()):
            yield kind
        yield from _local_types(getattr(value, f.name) for f in dataclasses.fields(kind))


def callable_identity(function: str | Callable[..., Any]) -> str | None:
    """Digest of a function by its name and the code of its file; of a name by itself.

    Returns:
        None where there is no source file, or where the file and the name do not say what the
        function does: it carries values of its own, or is made by another one.
    """
    if isinstance(function, str):
        return fingerprint(function)
    name = getattr(function, "__qualname__", "<locals>")
    if not inspect.isfunction(function) or "<" in name:
        return None
    if function.__closure__ or function.__defaults__ or function.__kwdefaults__:
        return None
    source = inspect.getsourcefile(function)
    if source is None or not Path(source).is_file():
        return None
    try:
        return fingerprint((name, code_closure(Path(source))))
    except _NoCodeError:
        return None


def _settings(strategy: Any) -> dict[str, Any]:
    values = dict(getattr(strategy, "__dict__", {}))
    for base in type(strategy).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(strategy, name):
                values[name] = getattr(strategy, name)
    return {k: v for k, v in values.items() if not isinstance(v, functools.cached_property)}


_SEEN: weakref.WeakKeyDictionary[ModuleType, str] = weakref.WeakKeyDictionary()
"""Digests of the files of loaded modules, when they were first looked at."""


def code_closure(start: Path, *, loaded: str = "") -> dict[str, Any]:
    """Digests of `start` and of the local files that it imports, and versions of the rest.

    Args:
        start: Where to begin.
        loaded: Digest of `start` when it was loaded, where that is known.

    Raises:
        _NoCodeError: a file is not what this process runs: it was changed since it was loaded.
    """
    start = start.resolve()
    files: dict[Path, str] = {}
    versions: dict[str, str] = {}
    waiting = [start]
    while waiting and len(files) < _MAX_FILES:
        path = waiting.pop()
        if path in files:
            continue
        body = path.read_bytes()
        files[path] = hashlib.blake2b(body, digest_size=20).hexdigest()
        known = loaded if path == start and loaded else _first_seen(path, files[path])
        if known != files[path]:
            raise _NoCodeError(f"{path.name} was changed since it was loaded; start anew")
        for name in sorted(set(_imported(body, path))):
            local = _local_file(name, path)
            if local is not None:
                waiting.append(local)
            elif (top := name.partition(".")[0]) and top not in sys.stdlib_module_names:
                versions[top] = _version(top)
    # Paths are no identity: the same files elsewhere are the same code.
    return {"files": sorted(files.values()), "first": files[start], "versions": versions}


def _first_seen(path: Path, digest: str) -> str:
    """The digest that a file had when its module was first looked at; a module is loaded once."""
    name = str(path)
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == name:
            return _SEEN.setdefault(module, digest)
    return digest


def _imported(body: bytes, path: Path) -> Iterator[str]:
    """Names of modules that a source file imports, and of the packages that hold them.

    Anywhere in the file, `importlib.import_module("name")` with it; relative ones stay relative.
    """
    try:
        tree = ast.parse(body, filename=str(path))
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield from _with_parents(prefix)
            joint = "" if prefix.endswith(".") or not prefix else "."
            yield from (f"{prefix}{joint}{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield from _with_parents(argument.value)


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def _with_parents(name: str) -> Iterator[str]:
    dots = len(name) - len(name.lstrip("."))
    if dots:
        yield "." * dots
    parts = [part for part in name.split(".") if part]
    yield from ("." * dots + ".".join(parts[: i + 1]) for i in range(len(parts)))


def _local_file(name: str, importer: Path) -> Path | None:
    """The file of an imported module, unless it belongs to Ares, Python or site-packages."""
    dots = len(name) - len(name.lstrip("."))
    parts = [p for p in name.lstrip(".").split(".") if p]
    if dots:
        folder = importer.parents[dots - 1] if dots <= len(importer.parents) else importer.parent
        return _module_file(folder, parts)
    if not parts or parts[0] == "ares" or parts[0] in sys.stdlib_module_names:
        return None
    loaded = getattr(sys.modules.get(name), "__file__", None)
    candidates = [Path(loaded)] if loaded else []
    for folder in (importer.parent, *(Path(p or ".") for p in sys.path)):
        found = _module_file(folder, parts)
        if found is not None:
            candidates.append(found)
    mine = [c.resolve() for c in candidates if c.suffix == ".py" and not _installed(c.resolve())]
    return mine[0] if mine else None


def _module_file(folder: Path, parts: list[str]) -> Path | None:
    target = folder.joinpath(*parts)
    for path in (target.with_name(target.name + ".py"), target / "__init__.py"):
        if path.is_file():
            return path.resolve()
    return None


def _installed(path: Path) -> bool:
    roots = {sysconfig.get_path(k) for k in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(path.is_relative_to(root) for root in map(Path, sorted(r for r in roots if r)))


@functools.cache
def _version(top: str) -> str:
    """Version of the distribution that has a module of this name, loaded or not."""
    owners = _distributions().get(top)
    return importlib.metadata.version(owners[0]) if owners else "unknown"


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()
