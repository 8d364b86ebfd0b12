"""Strategies of the user, loaded from `path/to/file.py:MyStrategy`."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib.util
import inspect
import sys
import traceback
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from ares.backtest.space import ParameterSpace
from ares.backtest.strategies import BUILT_IN, ModelSignal, ScoreThreshold
from ares.core.errors import AresError, InputError, said_by

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from ares.backtest.signals import Signals
    from ares.backtest.strategy import Strategy
    from ares.market.bars import Bars

_T = TypeVar("_T")
_NEEDED: Final = ("name", "space", "prepare", "signals")
_CALLS: Final[dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]]] = {
    "prepare": ("(bars, *, max_gap=None)", (None,), {"max_gap": None}),
    "signals": ("(prepared, params)", (None, {}), {}),
    "lookback": ("(params)", ({},), {}),
}
_OF_SCORES: Final = (ScoreThreshold.name, ModelSignal.name)


@dataclass(frozen=True, eq=False)
class UserStrategy:
    """A user's strategy: what it raises, or answers wrongly, names its file and line.

    Attributes:
        inner: The instance of the user's class.
        path: Its source file.
        source: Digest of that file as it was loaded.
        asked: The name in that file by which its class was asked for.
    """

    inner: Any
    path: Path
    source: str = ""
    asked: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is no importable module's: another process loads the file, then the settings.
        return _reload, (str(self.path), self.asked, self.source), vars(self.inner)

    def __setstate__(self, settings: dict[str, Any]) -> None:
        vars(self.inner).update(settings)

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
                where=f"{self.path}: {type(self.inner).__name__}",
                remedy="ParameterSpace.from_bounds makes one from a dict.",
            )
        return space

    def prepare(self, bars: Bars, *, max_gap: int | None = None) -> Any:
        """What its `signals` needs of the market."""
        return self._guard("prepare", lambda: self.inner.prepare(bars, max_gap=max_gap))

    def signals(self, prepared: Any, params: Mapping[str, Any]) -> Signals:
        """Its signals, which the engine checks. It gets a copy of the parameters to change."""
        signals: Signals = self._guard(
            "signals", lambda: self.inner.signals(prepared, dict(params))
        )
        return signals

    @property
    def where(self) -> str:
        """File and line of `signals`, for what the engine finds wrong with them."""
        return self._where("signals")

    def lookback(self, params: Mapping[str, Any]) -> int:
        """Bars its slowest signal needs; 0 where it does not say."""
        if not hasattr(self.inner, "lookback"):
            return 0
        bars = self._guard("lookback", lambda: self.inner.lookback(dict(params)))
        whole = isinstance(bars, Integral) or (isinstance(bars, float) and bars.is_integer())
        if not whole or isinstance(bars, bool) or bars < 0:
            raise InputError(
                "lookback answers a number of bars, at least 0",
                value="None" if bars is None else bars,
                where=self._where("lookback"),
            )
        return int(bars)

    def _where(self, method: str) -> str:
        kind = type(self.inner)
        return (
            f"{_place(self.path, _first_line(kind, method, self.path))}: {kind.__name__}.{method}"
        )

    def _guard(self, method: str, call: Callable[[], _T]) -> _T:
        kind = type(self.inner)
        line = _first_line(kind, method, self.path)
        return run_guarded(self.path, f"{kind.__name__}.{method}", call, line=line)


def load_strategy(spec: str) -> Strategy:
    """The built-in strategy of that name, or an instance of a class in a file of the user's.

    Args:
        spec: A built-in name ("SmaCross", "sma_cross") or "path/to/file.py:MyStrategy". The class is made
            without arguments and has `name`, `space`, `prepare` and `signals`. The file's code is
            run; it may import files beside it.

    Raises:
        InputError: no such strategy, file or class; an incomplete class; or its code raises. The
            message names file and line.
    """
    plain = spec.replace("_", "").lower()
    spelled = {name.lower(): name for name in BUILT_IN}.get(plain)
    if spelled is not None:
        return BUILT_IN[spelled]
    file, colon, name = spec.rpartition(":")
    if not colon or not name.isidentifier():
        _refuse_spec(spec, plain)
    path = Path(file).resolve()
    if path.suffix != ".py" or not path.is_file():
        raise InputError(
            "the strategy's file must be a Python file that exists",
            value=file,
            remedy="Check the path and its spelling.",
        )
    source = _digest(path)
    module = run_guarded(path, "import", lambda: import_file(path))
    found = getattr(module, name, None)
    if not isinstance(found, type) or found.__module__.partition(".")[0] == "ares":
        near = difflib.get_close_matches(name, _classes(vars(module)), 1, 0.0)
        raise InputError(
            "the file must define this class",
            value=name,
            where=str(path),
            remedy=f"Did you mean {near[0]}?" if near else "It has no class of its own.",
        )
    inner = run_guarded(path, f"{name}()", found, line=_first_line(found, "__init__", path))
    strategy = UserStrategy(inner, path, source, name)
    _check_shape(strategy)
    return strategy


def _reload(path: str, name: str, source: str) -> Strategy:
    """A user's strategy in another process.

    Raises:
        InputError: the file is missing there, or is not the one that was sent for.
    """
    file = Path(path)
    if not file.is_file() or _digest(file) != source:
        raise InputError(
            "a strategy's file must be the same in every worker",
            value="missing" if not file.is_file() else "changed since it was loaded",
            where=path,
            remedy="Start anew after changing it; workers on other machines need it at this path.",
        )
    return load_strategy(f"{path}:{name}")


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=20).hexdigest()


def _refuse_spec(spec: str, plain: str) -> NoReturn:
    rule = "a strategy is a built-in name or path/to/file.py:MyStrategy"
    for name in _OF_SCORES:
        if plain == name.lower():
            raise InputError(
                f"{name} trades a score that is given in Python",
                value=spec,
                remedy=f"simulate(bars, {name}(score), ...) runs it; a strategy of your own, as "
                "path/to/file.py:MyStrategy, answers ScoreRule(score, enter, exit).",
            )
    file = Path(spec.rstrip(":"))
    if file.suffix == ".py":
        names = _named_strategies(file) if file.is_file() else []
        choice = f"{file}:{(names or ['MyStrategy'])[0]}"
        raise InputError(rule, value=spec, remedy=f"Name the class, too: {choice}.")
    near = difflib.get_close_matches(spec, BUILT_IN, 1, 0.0)[0]
    raise InputError(
        rule,
        value=spec,
        remedy=f"Built in are {', '.join(BUILT_IN)}; the nearest name is {near}.",
    )


def _named_strategies(file: Path) -> list[str]:
    """Names of the classes in a source file that have signals; its code is not run."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and any(isinstance(part, ast.FunctionDef) and part.name == "signals" for part in node.body)
    ]


def _classes(names: Mapping[str, Any]) -> list[str]:
    """Names of classes that are not Ares' own."""
    return [
        name
        for name, value in names.items()
        if isinstance(value, type) and value.__module__.partition(".")[0] != "ares"
    ]


def _check_shape(strategy: UserStrategy) -> None:
    """Refuse an incomplete class before any bar is read."""
    inner, path = strategy.inner, strategy.path
    kind = type(inner)
    missing = [attribute for attribute in _NEEDED if not hasattr(inner, attribute)]
    if missing:
        raise InputError(
            f"a strategy has {', '.join(_NEEDED)}",
            value=f"no {missing[0]}",
            where=f"{path}: {kind.__name__}",
        )
    if not isinstance(inner.name, str) or not inner.name:
        raise InputError(
            "name must be a text", value=inner.name, where=f"{path}: {kind.__name__}.name"
        )
    _ = strategy.space
    for method, (shape, args, kwargs) in _CALLS.items():
        function = getattr(inner, method, None)
        if function is None and method not in _NEEDED:
            continue
        where = f"{_place(path, _first_line(kind, method, path))}: {kind.__name__}.{method}"
        if not callable(function):
            raise InputError(
                f"{method} must be a method", value=type(function).__name__, where=where
            )
        try:
            inspect.signature(function).bind(*args, **kwargs)
        except TypeError:
            shown = str(inspect.signature(function))
            raise InputError(
                f"{method} is called as {method}{shape}", value=shown, where=where
            ) from None
        except ValueError:  # compiled code may hide its signature
            continue


def import_file(path: Path) -> ModuleType:
    """Run a user's file as a module of its own; it may import files beside it."""
    digest = hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest()
    name = f"ares_user_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no loader for {path}")
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # files beside it, as for a script, but never first
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def run_guarded(path: Path, what: str, call: Callable[[], _T], *, line: int = 0) -> _T:
    """Run the user's code; what it raises becomes an InputError with file and line.

    Args:
        path: The user's file.
        what: What is run, for the message.
        call: Runs it.
        line: Line of the file to name where no frame of it was reached.
    """
    try:
        return call()
    except InputError as error:
        if error.where.startswith(str(path)):
            raise
        place = f"{_place(path, _raised_at(path, error) or line)}: {what}"
        where = f"{place}, {error.where}" if error.where else place
        raise type(error)(
            error.rule, value=error.value, where=where, remedy=error.remedy
        ) from error
    except AresError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SyntaxError) and error.filename == str(path):
            line = error.lineno or line
            said = error.msg
        else:
            line = _raised_at(path, error) or line
            said = said_by(error)
        raise InputError(
            f"{what} raised {type(error).__name__}" + (f": {said}" if said else ""),
            where=_place(path, line),
        ) from error


def _raised_at(path: Path, error: BaseException) -> int:
    """Line of the innermost frame in the user's file; 0 where there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((f.lineno or 0 for f in reversed(frames) if Path(f.filename) == path), 0)


def _first_line(kind: type, method: str, path: Path) -> int:
    """Line at which a method is defined; 0 where it is no plain function of this file."""
    function: Any = getattr(kind, method, None)
    code = getattr(inspect.unwrap(function), "__code__", None)
    return int(code.co_firstlineno) if code is not None and code.co_filename == str(path) else 0


def _place(path: Path, line: int) -> str:
    return f"{path}:{line}" if line else str(path)
