"""Strategies of the user, loaded from `path/to/file.py:MyStrategy`."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ares.backtest.space import ParameterSpace
from ares.backtest.strategies import BUILT_IN
from ares.core.errors import AresError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from ares.backtest.signals import Signals
    from ares.backtest.strategy import Strategy
    from ares.market.bars import Bars

_T = TypeVar("_T")
_NEEDED = ("name", "space", "prepare", "signals")


@dataclass(frozen=True, eq=False)
class UserStrategy:
    """A user's strategy: what it raises names its file and line.

    Attributes:
        inner: The instance of the user's class.
        path: Its source file.
    """

    inner: Any
    path: Path

    @property
    def name(self) -> str:
        """Name of the strategy."""
        return str(self.inner.name)

    @property
    def space(self) -> ParameterSpace:
        """Its parameters."""
        space = self._guard("space", lambda: self.inner.space)
        if not isinstance(space, ParameterSpace):
            raise InputError(
                "space must be a ParameterSpace",
                value=type(space).__name__,
                where=str(self.path),
                remedy="ParameterSpace.from_bounds makes one from a dict.",
            )
        return space

    def prepare(self, bars: Bars, *, max_gap: int | None = None) -> Any:
        """What its `signals` needs of the market."""
        return self._guard("prepare", lambda: self.inner.prepare(bars, max_gap=max_gap))

    def signals(self, prepared: Any, params: Mapping[str, Any]) -> Signals:
        """Its signals; they are checked by the engine."""
        signals: Signals = self._guard("signals", lambda: self.inner.signals(prepared, params))
        return signals

    def lookback(self, params: Mapping[str, Any]) -> int:
        """Bars its slowest signal needs; 0 where it does not say."""
        if not hasattr(self.inner, "lookback"):
            return 0
        return int(self._guard("lookback", lambda: self.inner.lookback(params)))

    def _guard(self, what: str, call: Callable[[], _T]) -> _T:
        return _guarded(self.path, f"{type(self.inner).__name__}.{what}", call)


def load_strategy(spec: str) -> Strategy:
    """The built-in strategy of that name, or an instance of a class in a file of the user's.

    Args:
        spec: A built-in name ("SmaCross", "sma_cross") or "path/to/file.py:MyStrategy". The class is made
            without arguments and has `name`, `space`, `prepare` and `signals`. The file's code is
            run.

    Raises:
        InputError: no such strategy, file or class; an incomplete class; or its code raises. The
            message names file and line.
    """
    spelled = {name.lower(): name for name in BUILT_IN}.get(spec.replace("_", "").lower())
    if spelled is not None:
        return BUILT_IN[spelled]
    file, colon, name = spec.rpartition(":")
    if not colon or not name.isidentifier():
        near = difflib.get_close_matches(spec, BUILT_IN, 1, 0.0)[0]
        raise InputError(
            "a strategy is a built-in name or path/to/file.py:MyStrategy",
            value=spec,
            remedy=f"Built in are {', '.join(BUILT_IN)}; the nearest name is {near}.",
        )
    path = Path(file).resolve()
    if path.suffix != ".py" or not path.is_file():
        raise InputError("the strategy's file must be a Python file that exists", value=file)
    module = _guarded(path, "import", lambda: _import(path))
    found = getattr(module, name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        near_classes = difflib.get_close_matches(name, classes, 1, 0.0)
        raise InputError(
            "the file must define this class",
            value=name,
            where=str(path),
            remedy=f"Did you mean {near_classes[0]}?" if near_classes else "",
        )
    inner = _guarded(path, f"{name}()", found)
    missing = [attribute for attribute in _NEEDED if not hasattr(inner, attribute)]
    if missing:
        raise InputError(
            f"a strategy has {', '.join(_NEEDED)}",
            value=f"no {missing[0]}",
            where=f"{path}: {name}",
        )
    return UserStrategy(inner, path)


def _import(path: Path) -> ModuleType:
    digest = hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest()
    name = f"ares_user_strategy_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no loader for {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _guarded(path: Path, what: str, call: Callable[[], _T]) -> _T:
    """Run the user's code; what it raises becomes an InputError with file and line."""
    try:
        return call()
    except AresError:
        raise
    except Exception as error:
        line = 0
        if isinstance(error, SyntaxError) and error.filename == str(path):
            line = error.lineno or 0
        for frame in traceback.extract_tb(error.__traceback__):
            if Path(frame.filename) == path:
                line = frame.lineno or 0
        raise InputError(
            f"{what} raised {type(error).__name__}: {error}", where=f"{path}:{line}"
        ) from error
