"""How commands speak: tables and sentences for people, one JSON object for machines."""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, ParamSpec, TypeVar

import typer

from ares.core.errors import AresError
from ares.core.interrupts import interruptible
from ares.core.secrets import redact

if TYPE_CHECKING:
    from rich.console import Console

_NUMBER: Final = re.compile(r"[+-]?[\d,]*\.?\d+(e\+\d+)?( (%|s|[KMGT]?i?B))?")

P = ParamSpec("P")
R = TypeVar("R")


def guarded(command: Callable[P, R], *, resumes: bool = False) -> Callable[P, R]:
    """Turn errors of a command into one message and its exit code; `--debug` shows the traceback.

    `resumes` says that the command, interrupted, goes on from there the next time; with `--fresh`
    none does.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        as_json, debug = bool(kwargs.get("as_json")), bool(kwargs.get("debug"))
        _show_warnings()
        try:
            with interruptible(signal.SIGTERM):
                return command(*args, **kwargs)
        except AresError as error:
            code, kind, message = error.exit_code, type(error).__name__, str(error)
            trace = traceback.format_exc()
        except KeyboardInterrupt:
            resumed = resumes and not kwargs.get("fresh")
            code, kind, message = 130, "Interrupted", _interrupted(resumes=resumed)
            trace = traceback.format_exc()
        except BrokenPipeError:
            _ignore_rest()
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except Exception as error:  # noqa: BLE001  # the outermost frame: nothing may pass unsaid
            code, kind = 1, type(error).__name__
            message = f"Internal error: {kind}: {error}. --debug shows where; please report it."
            trace = traceback.format_exc()
        _complain(code, kind, message, trace if debug else "", as_json=as_json)
        raise typer.Exit(code)

    return run


def _interrupted(*, resumes: bool) -> str:
    return f"Interrupted. The same command {'continues' if resumes else 'begins anew'}."


def _ignore_rest() -> NoReturn:
    """The reader has gone (`ares ... | head`): what is left to say goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(0)


def _complain(code: int, kind: str, message: str, trace: str, *, as_json: bool) -> None:
    message = printable(message)
    if trace:
        sys.stderr.write(redact(trace))
    if as_json:
        emit({"error": {"type": kind, "message": message, "exit_code": code}})
    else:
        _print_marked("Error:", "red", message)


def _show_warnings() -> None:
    """Log records of level WARNING reach the person once, on standard error.

    Records that say the same with other numbers have one text for all of them as `once`
    (`extra={"once": ...}`): the first is shown.
    """
    logger = logging.getLogger("ares")
    if not any(isinstance(handler, _ToStderr) for handler in logger.handlers):
        logger.addHandler(_ToStderr())


class _ToStderr(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = printable(record.getMessage())
        kind = getattr(record, "once", text)
        if kind not in self._seen:
            self._seen.add(kind)
            _print_marked("Warning:", "yellow", text)


def _print_marked(word: str, colour: str, text: str) -> None:
    """Print a coloured word and a text on standard error."""
    from rich.text import Text

    said = Text.assemble((word, colour), " ", text)
    console(stderr=True).print(said, highlight=False, soft_wrap=True)


def printable(text: str) -> str:
    """`text` without control characters, and secrets: no input can drive the terminal."""
    text = redact(text)
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)


@functools.cache
def console(*, stderr: bool = False) -> Console:
    """The one console of a stream: what is printed during live progress must go through it."""
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            _ignore_rest()

    return Quiet(stderr=stderr)


def prints_aside(*, as_json: bool) -> AbstractContextManager[Any]:
    """Send what a user's own code prints to standard error where standard output is for JSON."""
    return redirect_stdout(sys.stderr) if as_json else nullcontext()


def emit(value: object) -> None:
    """Print one JSON object; NaN and infinities become null."""
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False)
    sys.stdout.write(redact(text) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a numpy scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; columns whose cells are all numbers are right-aligned.

    What is wider than the terminal is folded and never cut: first the words, the first column and
    numbers only where there is no room for them in one piece.
    """
    from rich.table import Table
    from rich.text import Text

    body = [[printable(str(cell)) for cell in row] for row in rows]
    numeric = [bool(body) and all(_is_number(row[k]) for row in body) for k in range(len(header))]
    whole = _in_one_piece(header, body, numeric, console().width)
    shown = Table(header_style="bold")
    for index, name in enumerate(header):
        justify: Literal["left", "right"] = "right" if numeric[index] else "left"
        shown.add_column(name, justify=justify, overflow="fold", no_wrap=index in whole)
    for row in body:
        shown.add_row(*map(Text, row))  # as it stands: markup and emoji codes mean nothing
    if title:
        say(title)
    console().print(shown)


def fitting(
    header: Sequence[str], rows: Sequence[Sequence[object]], importance: Sequence[str]
) -> tuple[tuple[str, ...], list[tuple[object, ...]], tuple[str, ...]]:
    """The columns of a table that fit into the terminal without a fold.

    Args:
        header: Names of the columns.
        rows: Their cells.
        importance: The names again, the most important one first; that one stays in any case.

    Returns:
        Names and cells of the columns that stay, in their order, and the names of the others. What
        is empty in every row is neither.
    """
    from rich.cells import cell_len

    frame, left = 3, console().width - 1
    kept: set[int] = set()
    said = [name for name in importance if any(str(row[header.index(name)]) for row in rows)]
    for name in said:
        k = header.index(name)
        cells = (name, *(printable(str(row[k])) for row in rows))
        wide = frame + max(cell_len(line) for cell in cells for line in cell.split("\n"))
        if not kept or wide <= left:
            kept.add(k)
            left -= wide
    stay = sorted(kept)
    return (
        tuple(header[k] for k in stay),
        [tuple(row[k] for k in stay) for row in rows],
        tuple(name for name in said if header.index(name) not in kept),
    )


def _in_one_piece(
    header: Sequence[str], body: Sequence[Sequence[str]], numeric: Sequence[bool], width: int
) -> set[int]:
    """Columns that need not be folded: the first one and those of numbers, as far as they fit."""
    from rich.cells import cell_len

    least, frame = 6, 3
    left = width - 1 - (least + frame) * len(header)
    whole = set()
    for k in sorted(range(len(header)), key=lambda k: k != 0):
        lines = [
            line for cell in (header[k], *(row[k] for row in body)) for line in cell.split("\n")
        ]
        longest = max(map(cell_len, lines))
        more = max(longest - least, 0)
        if (k == 0 or numeric[k]) and more <= left:
            whole.add(k)
            left -= more
    return whole


def say(text: str) -> None:
    """Print a sentence."""
    from rich.text import Text

    console().print(Text(printable(text)), highlight=False, soft_wrap=True)


def _is_number(cell: str) -> bool:
    return cell in {"", "-"} or _NUMBER.fullmatch(cell) is not None


def size(count: float) -> str:
    """Bytes for people: 1.5 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def number(value: float | None, digits: int = 2) -> str:
    """Write a number for people: `-` where it is undefined, an exponent where it is huge."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:,.{digits}f}" if abs(value) < 1e15 else f"{value:.3g}"


def percent(value: float | None) -> str:
    """Write a share in percent: `-` where it is undefined."""
    return "-" if value is None or not math.isfinite(value) else f"{number(100 * value)} %"
