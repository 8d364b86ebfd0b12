from __future__ import annotations

import datetime as dt
import hashlib
import os
import shutil
from pathlib import Path

import pytest

from ares.core.errors import ArtifactError, InputError
from ares.store import Workspace, runs
from ares.store.atomic import read_json
from ares.store.jsonio import json_bytes
from ares.store.temporaries import sweep_orphans

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
ID = "20260102T030405Z-abcdef01"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


def fill(folder: Path, content: str = "model") -> Path:
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "analyst.txt").write_text(content)
    (folder / "params.json").write_text("{}")
    (folder / "run_info.json").write_text("{}")
    (folder / "report.html").write_text("<p>")
    return folder


def staged(folder: Path, content: str = "model") -> Path:
    runs.write_manifest(fill(folder, content), {"seed": 7, "score": float("nan")})
    return folder


def publish(workspace: Workspace, run_id: str = ID, content: str = "model") -> Path:
    staging = workspace.work(hashlib.sha256(os.urandom(8)).hexdigest())
    return runs.publish_run(workspace, staged(staging, content), run_id)


def test_run_ids():
    assert runs.run_id(NOW, "abcdef0123456789") == ID
    elsewhere = NOW.astimezone(dt.timezone(dt.timedelta(hours=5)))
    assert runs.run_id(elsewhere, "abcdef0123456789") == ID
    for now, digest in [(NOW.replace(tzinfo=None), "abcdef01"), (NOW, "abc"), (NOW, "../../../x")]:
        with pytest.raises(InputError):
            runs.run_id(now, digest)


def test_a_run_is_published_and_read_back(workspace):
    path = publish(workspace)
    assert path == workspace.runs / ID
    manifest = runs.read_manifest(path)
    assert manifest.sections == {"seed": 7, "score": None}
    assert sorted(manifest.files) == ["models/analyst.txt", "params.json"]
    entry = manifest.files["models/analyst.txt"]
    assert entry == runs.FileEntry(hashlib.sha256(b"model").hexdigest(), 5)
    assert runs.read_listed(path, "models/analyst.txt", entry) == b"model"
    content = read_json(path / "manifest.json")
    assert isinstance(content, dict)
    assert content["schema"] == 1
    assert content["files"]["params.json"]["bytes"] == 2
    assert content["volatile"] == ["report.html", "run_info.json"]


def test_equal_runs_have_equal_manifests(tmp_path):
    one, two = staged(tmp_path / "one"), fill(tmp_path / "two")
    (two / "run_info.json").write_text('{"host": "other"}')
    digest = runs.write_manifest(two, {"score": float("nan"), "seed": 7}).digest
    assert digest == runs.read_manifest(one).digest
    assert (one / "manifest.json").read_bytes() == (two / "manifest.json").read_bytes()
    assert runs.write_manifest(two, {"seed": 8}).digest != digest


def test_colliding_ids_get_a_suffix(workspace):
    paths = [publish(workspace, content=str(i)) for i in range(12)]
    assert [path.name for path in paths[:3]] == [ID, f"{ID}-2", f"{ID}-3"]
    assert [run.path for run in runs.list_runs(workspace)] == paths
    assert runs.find_run(workspace, "last") == paths[-1]
    assert runs.find_run(workspace, ID) == paths[0]
    assert runs.find_run(workspace, f"{ID}-12") == paths[11]
    with pytest.raises(InputError, match=f"{ID}-10, {ID}-11, {ID}-12"):
        runs.find_run(workspace, f"{ID}-1")


PUBLISH = f"""
import sys
from pathlib import Path
from ares.store import Workspace, runs
home = Path(sys.argv[1])
runs.publish_run(Workspace(home), home / "staging", "{ID}")
"""


def test_killed_at_every_point_a_run_is_there_whole_or_not_at_all(tmp_path, crashes):
    homes = [tmp_path / str(n) for n in range(6)]
    for home in homes:
        staged(home / "staging")
    assert crashes(PUBLISH, homes) == 4
    for n, home in enumerate(homes):
        listed = runs.list_runs(Workspace(home))
        assert len(listed) == (n >= 2)
        if not listed:  # resumed
            assert runs.publish_run(Workspace(home), home / "staging", ID).name == ID
        sweep_orphans(home)
        assert runs.read_manifest(home / "runs" / ID).sections["seed"] == 7
        assert not (home / "staging").exists()


MANIFEST = """
import sys
from pathlib import Path
from ares.store import runs
runs.write_manifest(Path(sys.argv[1]), {"seed": 8})
"""


def test_a_manifest_killed_at_every_point_is_the_old_one_or_the_new(tmp_path, crashes):
    folders = [staged(tmp_path / str(n)) for n in range(8)]
    assert crashes(MANIFEST, folders) == 6
    seeds = [runs.read_manifest(folder).sections["seed"] for folder in folders]
    assert seeds == [7] * 4 + [8] * 4


def test_a_flipped_byte_or_a_cut_at_every_offset_of_the_manifest_is_found(tmp_path):
    folder = staged(tmp_path / "run")
    path = folder / "manifest.json"
    whole = path.read_bytes()
    for offset in range(len(whole)):
        for damage in (
            whole[:offset],
            whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :],
            whole[:offset] + b" " + whole[offset:],
        ):
            path.write_bytes(damage)
            with pytest.raises(ArtifactError, match=r"manifest\.json"):
                runs.read_manifest(folder, verify_files=False)
    path.write_bytes(whole)
    runs.read_manifest(folder)


def test_a_changed_cut_missing_or_replaced_file_is_found(workspace, tmp_path):
    run = publish(workspace)
    path = run / "models" / "analyst.txt"
    outside = tmp_path / "outside"
    outside.write_bytes(b"model")
    for damage in (b"modem", b"mode", b"", b"model!"):
        path.write_bytes(damage)
        with pytest.raises(ArtifactError, match=r"analyst\.txt"):
            runs.read_manifest(run)
    path.unlink()
    with pytest.raises(ArtifactError):
        runs.read_manifest(run)
    path.symlink_to(outside)  # the content would fit
    with pytest.raises(ArtifactError):
        runs.read_manifest(run)
    path.unlink()
    path.parent.rmdir()
    (tmp_path / "analyst.txt").write_bytes(b"model")
    path.parent.symlink_to(tmp_path)
    with pytest.raises(ArtifactError, match="symbolic"):
        runs.read_manifest(run)
    (run / "manifest.json").unlink()
    with pytest.raises(ArtifactError):
        runs.read_manifest(run)
    assert [bool(summary.problem) for summary in runs.list_runs(workspace)] == [True]


def forge(folder: Path, **changes: object) -> None:
    """Write a manifest with a fitting checksum, as somebody who knows the format can."""
    content = read_json(folder / "manifest.json")
    assert isinstance(content, dict)
    del content["checksum"]
    content.update(changes)
    checksum = hashlib.sha256(json_bytes(content)).hexdigest()
    (folder / "manifest.json").write_bytes(json_bytes({**content, "checksum": checksum}))


@pytest.mark.parametrize(
    "name",
    ["../outside", "/etc/passwd", "a/../../outside", "", ".", "a//b", "..\\x", "a\0b", "C:x"],
)
def test_a_manifest_that_leads_outside_is_refused(tmp_path, name):
    folder = staged(tmp_path / "run")
    (tmp_path / "outside").write_bytes(b"model")
    entry = {"sha256": hashlib.sha256(b"model").hexdigest(), "bytes": 5}
    forge(folder, files={name: entry})
    with pytest.raises(ArtifactError, match="inside the run folder"):
        runs.read_manifest(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": []},
        {"files": {"params.json": None}},
        {"files": {"params.json": {"sha256": "x", "bytes": 2}}},
        {"files": {"params.json": {"sha256": "0" * 64, "bytes": True}}},
        {"files": {"params.json": {"sha256": "0" * 64, "bytes": -1}}},
    ],
)
def test_malformed_entries_are_refused(tmp_path, changes):
    folder = staged(tmp_path / "run")
    forge(folder, **changes)
    with pytest.raises(ArtifactError, match="listed file|list the run"):
        runs.read_manifest(folder)


@pytest.mark.parametrize("schema", [2, 0, "1", True, None, 1.0])
def test_another_schema_number_is_a_clear_error(tmp_path, schema):
    folder = staged(tmp_path / "run")
    forge(folder, schema=schema)
    with pytest.raises(ArtifactError, match="schema number 1"):
        runs.read_manifest(folder)


@pytest.mark.parametrize("name", ["manifest.json", "params.json", "models/analyst.txt"])
def test_a_planted_pickle_is_not_executed(workspace, bomb, name):
    run = publish(workspace)
    (run / name).write_bytes(bomb)
    with pytest.raises(ArtifactError):
        runs.read_manifest(run)


@pytest.mark.parametrize("text", ["[]", "1e999", "{}", '{"schema":1,"x":1e999}', "[" * 10**5, ""])
def test_other_json_is_no_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError):
        runs.read_manifest(tmp_path)


def test_only_whole_and_listed_folders_are_published(workspace, tmp_path):
    folder = fill(tmp_path / "a")
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        runs.publish_run(workspace, folder, ID)
    runs.write_manifest(folder)
    (folder / "late.txt").write_text("late")
    with pytest.raises(ArtifactError, match=r"late\.txt"):
        runs.publish_run(workspace, folder, ID)
    (folder / "late.txt").unlink()
    for bad in ("../x", "x", f"{ID}-2", f"{ID}\n", ""):
        with pytest.raises(InputError):
            runs.publish_run(workspace, folder, bad)
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(ArtifactError, match="symbolic"):
        runs.write_manifest(folder)
    (folder / "link").unlink()
    with pytest.raises(InputError, match="files"):
        runs.write_manifest(folder, {"files": {}})
    assert runs.list_runs(workspace) == []
    assert runs.publish_run(workspace, folder, ID).is_dir()


def test_listing_passes_over_what_is_no_run(workspace, tmp_path):
    assert runs.list_runs(workspace) == []
    first = publish(workspace, "20250101T000000Z-00000000")
    second = publish(workspace, "20260101T000000Z-00000000")
    (workspace.runs / "notes").mkdir()
    (workspace.runs / "20270101T000000Z-00000000").write_text("a file")
    (workspace.runs / "20280101T000000Z-00000000").symlink_to(first)
    (workspace.runs / f".ares-tmp-1-{'0' * 16}").mkdir()
    listed = runs.list_runs(workspace)
    assert [run.path for run in listed] == [first, second]
    assert listed[0].started == dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
    assert listed[0].sections["seed"] == 7
    shutil.copytree(second, workspace.runs / "20269999T000000Z-00000000")
    assert len(runs.list_runs(workspace)) == 3


def test_finding_runs(workspace):
    with pytest.raises(InputError, match="none yet"):
        runs.find_run(workspace, "last")
    first = publish(workspace, "20250101T000000Z-00000000")
    second = publish(workspace, "20250102T000000Z-00000000")
    (publish(workspace, "20250103T000000Z-00000000") / "manifest.json").write_text("damaged")
    assert runs.find_run(workspace, "last") == second
    assert runs.find_run(workspace, "20250101") == first
    with pytest.raises(InputError, match="20250101T000000Z-00000000, 20250102"):
        runs.find_run(workspace, "2025")
    for query in ("", ".", "..", "../runs", "/", "a\0b", "x" * 5000, "2025*", "none", "*"):
        with pytest.raises(InputError, match="Newest runs: 20250103"):
            runs.find_run(workspace, query)
