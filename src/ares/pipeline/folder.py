"""A finished run folder: written beside its place, then named by one rename."""

from __future__ import annotations

import platform
import shutil
import sys
from typing import TYPE_CHECKING, Any

from ares.store.atomic import write_atomic, write_json
from ares.store.runs import publish_run, run_id, write_manifest

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ares.store.workspace import Workspace


def publish_files(
    workspace: Workspace,
    staging: Path,
    files: Mapping[str, bytes],
    sections: Mapping[str, Any],
    *,
    started: dt.datetime,
    info: Mapping[str, Any],
    log: Path | None = None,
    render: Callable[[Path], str] | None = None,
) -> Path:
    """Publish files as a run folder.

    Args:
        workspace: Where runs lie.
        staging: Folder to write into first; what is in it is removed.
        files: Content that shapes the run's identity, by relative path.
        sections: Free sections of the manifest.
        started: When the work began, UTC; part of the run's id.
        info: Volatile entries of `run_info.json` beside id, start, command and host.
        log: The run's log.
        render: Makes `report.html` from the written folder.

    Raises:
        StoreError: the workspace cannot be written; nothing is half there.
    """
    shutil.rmtree(staging, ignore_errors=True)
    for name, body in files.items():
        write_atomic(staging / name, body)
    manifest = write_manifest(staging, sections)
    name = run_id(started, manifest.digest)
    volatile = {
        "run_id": name,
        "started": started.isoformat(timespec="seconds"),
        "command": sys.argv,
        "host": platform.node(),
        "platform": platform.platform(),
        "home": str(workspace.home),
    }
    write_json(staging / "run_info.json", {**volatile, **info})
    if log is not None:
        shutil.copyfile(log, staging / "log.jsonl")
    if render is not None:
        write_atomic(staging / "report.html", render(staging).encode())
    return publish_run(workspace, staging, name)
