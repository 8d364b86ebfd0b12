"""Objectives by name, or of the user, loaded from `path/to/file.py:function`."""

from __future__ import annotations

import difflib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from ares.backtest.user import import_file, run_guarded
from ares.core.errors import InputError
from ares.search.objective import Named

if TYPE_CHECKING:
    from ares.search.objective import Statistic

NAMES: tuple[str, ...] = get_args(Named)


def load_objective(spec: str) -> Named | Statistic:
    """The objective that `spec` names: one of `NAMES`, or a function in a file of the user's.

    The function is called with the `BlockResults` of one continuous run and the trading days per
    year, and answers a float: more is better. Its value is taken as it is, without penalty; where
    it raises or gives NaN the point has no score. The file's code is run; it may import files
    beside it.

    Raises:
        InputError: no such name, file or function; a function that does not take two arguments;
            or the file's code raises.
    """
    if spec in NAMES:
        return cast("Named", spec)
    file, colon, name = spec.rpartition(":")
    if not colon or not name.isidentifier():
        near = difflib.get_close_matches(spec.lower(), NAMES, 1, 0.0)[0]
        raise InputError(
            f"the objective is one of {', '.join(NAMES)}, or path/to/file.py:function",
            value=spec,
            where="--objective",
            remedy=f"The nearest name is {near}.",
        )
    path = Path(file).resolve()
    if path.suffix != ".py" or not path.is_file():
        raise InputError(
            "the objective's file must be a Python file that exists",
            value=file,
            where="--objective",
            remedy="Check the path and its spelling.",
        )
    module = run_guarded(path, "import", lambda: import_file(path))
    function: Any = getattr(module, name, None)
    if not inspect.isfunction(function):
        mine = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        near_ = difflib.get_close_matches(name, mine, 1, 0.0)
        raise InputError(
            "the file must define this function",
            value=name,
            where=str(path),
            remedy=f"Did you mean {near_[0]}?" if near_ else "It defines no function.",
        )
    try:
        inspect.signature(function).bind(None, 365.0)
    except TypeError:
        raise InputError(
            "an objective is called as f(blocks, days_per_year)",
            value=f"{name}{inspect.signature(function)}",
            where=f"{path}:{function.__code__.co_firstlineno}",
        ) from None
    return cast("Statistic", function)
