"""The command line: argv -> configuration -> manager -> exit code. The only place that prints.

Importing this package imports nothing heavy: `ares --help` answers at once.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from ares.core.interrupts import interruptible

if TYPE_CHECKING:
    import typer


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the `ares` command with `argv` (default: the process's) and exit with its code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    sys.unraisablehook = _complain_of
    try:
        with interruptible(signal.SIGTERM):
            from ares.ares_launcher.app import build_app

            if "--json" in arguments:
                raise SystemExit(_answer_in_json(build_app(), arguments))
            build_app()(args=arguments, prog_name="ares")
    except KeyboardInterrupt:  # before a command had begun
        raise SystemExit(130) from None
    raise SystemExit(0)


def _complain_of(lost: sys.UnraisableHookArgs) -> None:
    """What Python says of an exception that compiled code drops; Ctrl-C is remembered elsewhere."""
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)


def _answer_in_json(app: typer.Typer, arguments: list[str]) -> int:
    """Run a command that answers with one JSON object, also where it was called wrongly."""
    import typer

    try:
        return app(args=arguments, prog_name="ares", standalone_mode=False) or 0
    except typer.Abort:
        return 1
    except typer.TyperException as error:
        from ares.ares_launcher.output import emit

        said = (
            f"{error.format_message()} `ares --help` and `ares COMMAND --help` say what there is."
        )
        emit({"error": {"type": "UsageError", "message": said, "exit_code": error.exit_code}})
        return error.exit_code
