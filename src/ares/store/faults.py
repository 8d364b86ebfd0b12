"""Named durability points, where the tests let a process die or a disk fail.

`ARES_FAULT="name:n:mode"` makes the n-th call (counted from 1, in each process) of
`durability_point(name)` fail; `*` in place of the name counts the calls of all points. Modes:

    kill    the process ends at once by SIGKILL, as in a crash
    enospc  OSError: no space left on device
    eio     OSError: input/output error

A test that raises n until a whole run passes without a fault has visited every point.
"""

from __future__ import annotations

import errno
import os
import signal
from typing import Final

from ares.core.errors import ConfigError

VARIABLE: Final = "ARES_FAULT"
_ERRORS: Final = {"enospc": errno.ENOSPC, "eio": errno.EIO}
# Calls counted per specification. A process-wide count is the purpose; it is empty outside tests.
_counts: dict[str, int] = {}


def durability_point(name: str) -> None:
    """Mark a place between two steps of a commit; does nothing unless `ARES_FAULT` says so.

    Args:
        name: Name of the place, for example `write.synced`.

    Raises:
        OSError: the planned fault (modes `enospc` and `eio`).
        ConfigError: `ARES_FAULT` is malformed.
    """
    spec = os.environ.get(VARIABLE)
    if not spec:
        return
    wanted, number, mode = _parse(spec)
    if wanted not in ("*", name):
        return
    _counts[spec] = _counts.get(spec, 0) + 1
    if _counts[spec] != number:
        return
    if mode == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    code = _ERRORS[mode]
    raise OSError(code, f"{os.strerror(code)} (planned fault at {name})")


def reset_faults() -> None:
    """Forget the counted calls of this process, so that a planned fault can fire again."""
    _counts.clear()


def _parse(spec: str) -> tuple[str, int, str]:
    name, _, rest = spec.partition(":")
    number, _, mode = rest.partition(":")
    if not (name and number.isascii() and number.isdigit() and (mode in _ERRORS or mode == "kill")):
        raise ConfigError(
            "a planned fault is written name:n:mode with mode kill, enospc or eio",
            value=spec,
            where=VARIABLE,
        )
    return name, int(number), mode
