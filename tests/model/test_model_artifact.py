"""Model files: a round trip, and every kind of damage refused before anything runs."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import ares
from ares.core.errors import AresError, ArtifactError
from ares.model.artifact import model_files, model_from_files
from ares.store.runs import write_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from small_runs import Finished

pytestmark = pytest.mark.slow


class Bomb:
    """What an attacker would hide in a pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was executed",))


@pytest.fixture(scope="module")
def files(finished: Finished) -> dict[str, bytes]:
    folder = finished.run_dir / "models"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def run_dir(finished: Finished, tmp_path: Path) -> Path:
    shutil.copytree(finished.run_dir, tmp_path / "run")
    return tmp_path / "run"


def one_text(files: dict[str, bytes]) -> str:
    return next(name for name in sorted(files) if name.endswith(".txt"))


def resealed(files: dict[str, bytes], name: str, body: bytes) -> dict[str, bytes]:
    """Replace a text and its SHA-256 in model.json, as a careful attacker would."""
    before = hashlib.sha256(files[name]).hexdigest().encode()
    after = hashlib.sha256(body).hexdigest().encode()
    return {**files, name: body, "model.json": files["model.json"].replace(before, after)}


def test_files_and_model_are_the_same_thing(files: dict[str, bytes], finished: Finished) -> None:
    model = model_from_files(files)
    assert model_files(model) == files
    again = model_from_files(model_files(model))
    assert again.predict(finished.bars).equals(model.predict(finished.bars))


def test_all_files_are_text_without_code(files: dict[str, bytes]) -> None:
    assert len(files) >= 3
    for name, body in files.items():
        assert body.decode("ascii").startswith('{\n "model"' if name == "model.json" else "tree\n")


@pytest.mark.parametrize("window", [None, 1])
def test_a_changed_byte_is_refused(run_dir: Path, window: int | None) -> None:
    folder = run_dir / ("models" if window is None else f"windows/{window}")
    for path in [folder / "model.json", folder / one_text({p.name: b"" for p in folder.iterdir()})]:
        body = path.read_bytes()
        path.write_bytes(body.replace(b"0", b"1", 1))
        with pytest.raises(ArtifactError):
            ares.load(run_dir, window=window)
        path.write_bytes(body)
    ares.load(run_dir, window=window)


def test_a_missing_file_a_missing_window_and_no_run_are_refused(
    run_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="hold this model"):
        ares.load(run_dir, window=7)
    (run_dir / "models" / "model.json").unlink()
    with pytest.raises(ArtifactError):
        ares.load(run_dir)
    with pytest.raises(AresError):
        ares.load(tmp_path)


def test_a_pickle_in_place_of_a_text_is_never_executed(
    files: dict[str, bytes], run_dir: Path
) -> None:
    name = one_text(files)
    body = pickle.dumps(Bomb())
    with pytest.raises(ArtifactError):
        model_from_files({**files, name: body})
    with pytest.raises(ArtifactError):
        model_from_files(resealed(files, name, body))
    with pytest.raises(ArtifactError):
        model_from_files({**files, "model.json": body})
    (run_dir / "models" / name).write_bytes(body)
    write_manifest(run_dir)  # even with a manifest that fits
    with pytest.raises(ArtifactError):
        ares.load(run_dir)


def test_a_child_outside_its_tree_is_refused(files: dict[str, bytes]) -> None:
    name = next(n for n in sorted(files) if b"\nleft_child=" in files[n])
    lines = files[name].split(b"\n")
    at = next(i for i, line in enumerate(lines) if line.startswith(b"left_child="))
    first, *rest = lines[at].removeprefix(b"left_child=").split(b" ")
    lines[at] = b"left_child=" + b" ".join([b"99999", *rest])
    sizes = next(i for i, line in enumerate(lines) if line.startswith(b"tree_sizes="))
    size, *others = lines[sizes].removeprefix(b"tree_sizes=").split(b" ")
    longer = str(int(size) + 5 - len(first)).encode()
    lines[sizes] = b"tree_sizes=" + b" ".join([longer, *others])
    with pytest.raises(ArtifactError, match="child"):
        model_from_files(resealed(files, name, b"\n".join(lines)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda tree: tree.update(schema=2),
        lambda tree: tree.update(model=[]),
        lambda tree: tree["model"].update(type="Popen"),
        lambda tree: tree["model"].update(type="Stacker"),
        lambda tree: tree["model"]["fields"].pop("regimes"),
        lambda tree: tree["model"]["fields"].update(extra=1),
        lambda tree: tree["model"]["fields"]["regimes"]["fields"].pop("names"),
    ],
)
def test_other_trees_are_refused(files: dict[str, bytes], damage: Any) -> None:
    tree = json.loads(files["model.json"])
    damage(tree)
    with pytest.raises(ArtifactError):
        model_from_files({**files, "model.json": json.dumps(tree).encode()})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_what_is_no_model_json_is_refused(files: dict[str, bytes], body: bytes) -> None:
    with pytest.raises(ArtifactError):
        model_from_files({**files, "model.json": body})
