"""Run folders: published complete or not at all, listed, found, and checked when read.

`manifest.json` names every file that depends on results, with its SHA-256 and size, beside free
sections. Files whose content varies between equal runs (`VOLATILE_FILES`) are named without a
digest, so that equal runs have equal manifests. The manifest carries its own checksum.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ares.core.errors import ArtifactError, FingerprintError, InputError
from ares.store.atomic import (
    publish_dir,
    read_checked,
    read_regular,
    write_atomic,
)
from ares.store.jsonio import json_bytes, parse_json
from ares.store.temporaries import is_temporary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ares.store.workspace import Workspace

SCHEMA: Final = 1
MANIFEST: Final = "manifest.json"
VOLATILE_FILES: Final = ("log.jsonl", "report.html", "run_info.json")
_RESERVED: Final = frozenset({"schema", "files", "volatile", "checksum"})
_RUN_ID: Final = re.compile(r"(\d{8}T\d{6}Z)-([0-9a-f]{8})(?:-([1-9]\d{0,8}))?")
_QUERY: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_MAX_MANIFEST: Final = 1 << 26


@dataclass(frozen=True)
class FileEntry:
    """SHA-256 (64 hexadecimal digits) and size in bytes of one file of a run."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What a run says of itself.

    Attributes:
        files: Entry of every listed file by its path relative to the run folder, `/` between parts.
        sections: The free sections.
        digest: SHA-256 of `manifest.json`; equal runs have equal digests.
    """

    files: Mapping[str, FileEntry]
    sections: Mapping[str, Any]
    digest: str


@dataclass(frozen=True)
class RunSummary:
    """One published run.

    Attributes:
        run_id: Name of its folder.
        path: The folder.
        started: Time stamp of the id, UTC.
        sections: Free sections of its manifest; empty where `problem` is not.
        problem: Why the manifest cannot be read, or an empty string.
    """

    run_id: str
    path: Path
    started: dt.datetime
    sections: Mapping[str, Any]
    problem: str


def run_id(now: dt.datetime, digest: str) -> str:
    """Id of a run: UTC time stamp to the second, `-`, and the first 8 digits of `digest`.

    Raises:
        InputError: `now` has no time zone, or `digest` is not hexadecimal.
    """
    if now.tzinfo is None:
        raise InputError("the time of a run id must have a time zone", value=str(now))
    if not re.fullmatch(r"[0-9a-f]{8,}", digest):
        raise InputError("the digest of a run id has 8 hex digits or more", value=digest)
    return f"{now.astimezone(dt.UTC):%Y%m%dT%H%M%SZ}-{digest[:8]}"


def write_manifest(folder: Path, sections: Mapping[str, object] | None = None) -> Manifest:
    """Write `manifest.json` over all files that are in `folder` now.

    Args:
        folder: The unfinished run.
        sections: Free sections, as `ares.store.atomic.write_json` takes them.

    Raises:
        InputError: a section has a reserved name.
        ArtifactError: `folder` holds a symbolic link or another thing that is no file.
        StoreError: the manifest cannot be written.
    """
    taken = _RESERVED & set(sections or {})
    if taken:
        raise InputError("these manifest sections are reserved", value=sorted(taken))
    files: dict[str, object] = {}
    volatile = []
    for name in _tree(folder):
        if name in VOLATILE_FILES:
            volatile.append(name)
        elif name != MANIFEST:
            data = read_regular(folder / name)
            files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    body = {**(sections or {}), "schema": SCHEMA, "files": files, "volatile": volatile}
    checksum = hashlib.sha256(json_bytes(body)).hexdigest()
    write_atomic(folder / MANIFEST, json_bytes({**body, "checksum": checksum}))
    return read_manifest(folder)


def read_manifest(run_dir: str | os.PathLike[str], *, verify_files: bool = True) -> Manifest:
    """The manifest of a run folder; by default every listed file is read and checked.

    Args:
        run_dir: A run folder, finished or not.
        verify_files: Whether size and SHA-256 of the listed files are checked, too.

    Raises:
        ArtifactError: missing, changed, of another schema number, naming a path outside the
            folder, or a file differs.
    """
    folder = Path(run_dir)
    where = str(folder / MANIFEST)
    raw = read_regular(folder / MANIFEST, max_bytes=_MAX_MANIFEST)
    content = parse_json(raw, where=where)
    if not isinstance(content, dict):
        raise ArtifactError("the manifest must be a JSON object", where=where)
    if type(content.get("schema")) is not int or content["schema"] != SCHEMA:
        raise ArtifactError(
            f"the manifest must have schema number {SCHEMA}",
            value=content.get("schema"),
            where=where,
            remedy="Read it with the version of Ares that wrote it.",
        )
    checksum = content.pop("checksum", None)
    if not _is_canonical(raw, content, checksum):
        raise ArtifactError(
            "the manifest's checksum must match",
            value=checksum,
            where=where,
            remedy="It was changed; restore it or train again.",
        )
    files = _entries(content.get("files"), where)
    if verify_files:
        for name, entry in files.items():
            read_listed(folder, name, entry)
    sections = {name: value for name, value in content.items() if name not in _RESERVED}
    return Manifest(
        MappingProxyType(files), MappingProxyType(sections), hashlib.sha256(raw).hexdigest()
    )


def read_listed(run_dir: str | os.PathLike[str], name: str, entry: FileEntry) -> bytes:
    """Checked content of one file of a run: what is returned is what was checked.

    Raises:
        ArtifactError: missing, changed, or reached through a symbolic link.
    """
    folder = Path(run_dir)
    path = folder
    for part in PurePosixPath(name).parts[:-1]:
        path /= part
        if path.is_symlink():
            raise ArtifactError("a run holds no symbolic links", where=str(path))
    return read_checked(folder / name, sha256=entry.sha256, size=entry.bytes)


def publish_run(workspace: Workspace, staging: Path, run_id: str) -> Path:
    """Check the finished folder `staging` and give it its name below `runs/`.

    Returns:
        The run folder; its name is `run_id`, with `-2`, `-3`, ... appended where it is taken.

    Raises:
        InputError: `run_id` was not made by `run_id`.
        ArtifactError: `staging` has no manifest, or a file differs from it.
        StoreError: the disk is full, read-only or failing; `staging` is then still there.
    """
    match = _RUN_ID.fullmatch(run_id)
    if match is None or match.group(3):
        raise InputError("a run id is a time stamp, '-' and 8 hex digits", value=run_id)
    manifest = read_manifest(staging)
    allowed = {*manifest.files, *VOLATILE_FILES, MANIFEST}
    unlisted = [name for name in _tree(staging) if name not in allowed]
    if unlisted:
        raise ArtifactError(
            "every file of a run must be in its manifest", value=unlisted, where=str(staging)
        )
    return publish_dir(staging, workspace.runs / run_id)


def list_runs(workspace: Workspace) -> list[RunSummary]:
    """All published runs, oldest first; a damaged one is listed with its problem.

    Files of the runs are not checked. Links and other things in `runs/` are passed over.
    """
    try:
        names = [
            entry.name
            for entry in os.scandir(workspace.runs)
            if entry.is_dir(follow_symlinks=False)
        ]
    except OSError:
        return []
    return sorted((_summary(workspace.runs / n) for n in names if _RUN_ID.fullmatch(n)), key=_age)


def find_run(workspace: Workspace, query: str, *, kind: str | None = None) -> Path:
    """Folder of a published run by its id, the beginning of its id, or `last` (whole runs only).

    Args:
        workspace: Where to look.
        query: Id, beginning of an id, or `last`.
        kind: Only runs whose manifest says this kind ("train", "backtest", "optimize").

    Raises:
        InputError: no run, or several, fit; the message names candidates.
    """
    runs = [r for r in list_runs(workspace) if kind is None or r.sections.get("kind", kind) == kind]
    if query == "last":
        whole = [run for run in runs if not run.problem]
        if whole:
            return whole[-1].path
    elif _QUERY.fullmatch(query):
        fitting = [run for run in runs if run.run_id.startswith(query)]
        exact = [run for run in fitting if run.run_id == query] or fitting
        if len(exact) == 1:
            return exact[0].path
        if exact:
            raise InputError(
                "a run is named by its id or an unambiguous beginning of it",
                value=query,
                where="run",
                remedy="Choose one of " + ", ".join(run.run_id for run in exact[-5:]) + ".",
            )
    newest = ", ".join(run.run_id for run in reversed(runs[-3:])) or "none yet"
    if kind is not None:
        _refuse_other_kind(list_runs(workspace), query, kind, newest)
    raise InputError(
        "no run of this workspace has this id" if kind is None else f"no {kind} run has this id",
        value=query,
        where=str(workspace.runs),
        remedy=f"Newest runs: {newest}.",
    )


def _refuse_other_kind(runs: list[RunSummary], query: str, kind: str, newest: str) -> None:
    """Say what a run is, where it is none of the kind that is needed."""
    if query == "last":
        raise InputError(
            f"there is no run of `ares {kind}` in this workspace",
            remedy=f"`ares {kind}` makes one.",
        )
    others = [run for run in runs if _QUERY.fullmatch(query) and run.run_id.startswith(query)]
    if others:
        made_by = " or ".join(sorted({f"`ares {run.sections['kind']}`" for run in others}))
        raise InputError(
            f"this command takes a run of `ares {kind}`, and this one is of {made_by}",
            value=query,
            remedy=f"Newest runs of `ares {kind}`: {newest}.",
        )


def _summary(path: Path) -> RunSummary:
    match = _RUN_ID.fullmatch(path.name)
    stamp = match.group(1) if match else ""
    started = _parse_stamp(stamp)
    try:
        sections, problem = read_manifest(path, verify_files=False).sections, ""
    except ArtifactError as error:
        sections, problem = MappingProxyType({}), str(error)
    return RunSummary(path.name, path, started, sections, problem)


def _parse_stamp(stamp: str) -> dt.datetime:
    try:
        return dt.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    except ValueError:  # digits that are no date
        return dt.datetime.min.replace(tzinfo=dt.UTC)


def _age(run: RunSummary) -> tuple[dt.datetime, int, str, int]:
    """Order of runs: time stamp, then when the manifest was written, then the id."""
    try:
        written = (run.path / MANIFEST).stat().st_mtime_ns
    except OSError:
        written = 0
    name, _, suffix = run.run_id[25:].partition("-")
    return run.started, written, name, int(suffix or 1)


def _entries(files: object, where: str) -> dict[str, FileEntry]:
    if not isinstance(files, dict):
        raise ArtifactError("the manifest must list the run's files", where=where)
    entries = {}
    for name, entry in files.items():
        if not _is_inside(name):
            raise ArtifactError(
                "listed files must lie inside the run folder", value=name, where=where
            )
        sha256 = entry.get("sha256") if isinstance(entry, dict) else None
        size = entry.get("bytes") if isinstance(entry, dict) else None
        if not (isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256)):
            raise ArtifactError("a listed file has a SHA-256", value=sha256, where=where)
        if type(size) is not int or size < 0:
            raise ArtifactError("a listed file has a size in bytes", value=size, where=where)
        entries[name] = FileEntry(sha256, size)
    return entries


def _is_canonical(raw: bytes, content: dict[str, object], checksum: object) -> bool:
    """Whether `raw` is the one spelling of `content` with the checksum that belongs to it."""
    try:
        wanted = hashlib.sha256(json_bytes(content)).hexdigest()
        return checksum == wanted and raw == json_bytes({**content, "checksum": checksum})
    except FingerprintError:  # an infinity or half a surrogate pair, which is never written
        return False


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return not any(part in ("", ".", "..") for part in parts) and not set(name) & {"\\", "\0", ":"}


def _tree(folder: Path) -> list[str]:
    """Relative names of all files below `folder`, sorted; temporary files do not count."""
    names = []
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(root, name)
            if path.is_symlink():
                raise ArtifactError("a run holds no symbolic links", where=str(path))
        names += [
            Path(root, name).relative_to(folder).as_posix()
            for name in files
            if not is_temporary(name)
        ]
    return sorted(names)
