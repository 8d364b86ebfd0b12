"""The command line: argv -> configuration -> manager -> exit code. The only place that prints.

Importing this package imports nothing heavy: `ares --help` answers at once.
"""

from __future__ import annotations

import sys
from typing import NoReturn


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the `ares` command with `argv` (default: the process's) and exit with its code."""
    from ares.ares_launcher.app import build_app

    arguments = sys.argv[1:] if argv is None else list(argv)
    build_app()(args=arguments, prog_name="ares")
    raise SystemExit(0)
