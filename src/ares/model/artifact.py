"""A model as plain files: one JSON of numbers, and one LightGBM text per booster. No pickle.

Loading reads the JSON with an allow-list of types, checks each text against its SHA-256 and its
structure, and builds the value through its constructors.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import ArtifactError
from ares.learn.boosting import BoostedTrees
from ares.learn.calibration import Calibrator
from ares.learn.ensembles import Stacker
from ares.learn.regimes import RegimeModel
from ares.learn.specialists import Specialists
from ares.model.trading_model import TrackModel, TradingModel
from ares.store.runs import read_listed, read_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA: Final = 1
_MAX_BYTES: Final = 256 << 20
_LONG_TEXT: Final = 400
_TYPES: Final[dict[str, type]] = {
    cls.__name__: cls
    for cls in (
        TradingModel,
        TrackModel,
        RegimeModel,
        Specialists,
        BoostedTrees,
        Stacker,
        Calibrator,
    )
}


def model_files(model: TradingModel) -> dict[str, bytes]:
    """The files of a model, by name: `model.json` and the boosters' texts."""
    texts: dict[str, bytes] = {}
    tree = {"schema": SCHEMA, "model": _plain(model, "model", texts)}
    body = json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return {"model.json": body.encode() + b"\n", **texts}


def model_from_files(files: Mapping[str, bytes], *, where: str = "model") -> TradingModel:
    """Build the model that `model_files` wrote.

    Raises:
        ArtifactError: a file is missing, damaged, of another schema, or not plain data.
    """
    try:
        model = _value(_tree(files["model.json"], where), files)
    except ArtifactError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ArtifactError(
            "the model's files must follow their schema",
            value=f"{type(error).__name__}: {error}",
            where=where,
            remedy="The run is damaged; train again.",
        ) from error
    if not isinstance(model, TradingModel):
        raise ArtifactError("model.json must hold a trading model", where=where)
    return model


def load_model(run_dir: str | Path, window: int | None = None) -> TradingModel:
    """Load the model of a run, or the model of one of its walk-forward windows.

    The manifest and every file of the model are checked before anything is parsed.

    Args:
        run_dir: A run folder.
        window: Number of a walk-forward window; None is the final model.

    Raises:
        ArtifactError: the folder is no run, is damaged, or has no such window.
    """
    manifest = read_manifest(run_dir, verify_files=False)
    prefix = "models/" if window is None else f"windows/{window}/"
    names = [name for name in manifest.files if name.startswith(prefix)]
    if not names:
        raise ArtifactError(
            "the run must hold this model",
            where=str(run_dir),
            value=prefix,
            remedy="Windows are numbered from 0; leave the window out for the final model.",
        )
    files = {
        name.removeprefix(prefix): read_listed(run_dir, name, manifest.files[name])
        for name in names
    }
    return model_from_files(files, where=f"{run_dir}/{prefix}")


def _tree(body: bytes, where: str) -> Any:
    if len(body) > _MAX_BYTES:
        raise ArtifactError("a model file has at most 256 MiB", value=len(body), where=where)
    tree = json.loads(body)
    if tree["schema"] != SCHEMA:
        raise ArtifactError(
            f"this version of Ares reads model schema {SCHEMA}",
            value=tree["schema"],
            where=where,
            remedy="Train again, or use the version that wrote it.",
        )
    return tree["model"]


def _plain(value: Any, name: str, texts: dict[str, bytes]) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: _plain(getattr(value, f.name), f"{name}.{f.name}", texts)
            for f in dataclasses.fields(value)
        }
        return {"type": type(value).__name__, "fields": fields}
    if isinstance(value, np.ndarray):
        return {"array": value.dtype.name, "shape": value.shape, "data": _numbers(value)}
    if isinstance(value, str) and len(value) > _LONG_TEXT:
        file = name.removeprefix("model.").replace(".", "_") + ".txt"
        texts[file] = value.encode()
        return {"text": file, "sha256": hashlib.sha256(texts[file]).hexdigest()}
    if isinstance(value, tuple | list):
        return [_plain(item, f"{name}.{index}", texts) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {"dict": {key: _plain(item, f"{name}.{key}", texts) for key, item in value.items()}}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def _numbers(array: np.ndarray[Any, Any]) -> list[Any]:
    return [n if math.isfinite(n) else str(n) for n in array.reshape(-1).tolist()]


def _value(node: Any, files: Mapping[str, bytes]) -> Any:
    if isinstance(node, list):
        return tuple(_value(item, files) for item in node)
    if not isinstance(node, dict):
        return node
    if "type" in node:
        cls = _TYPES[node["type"]]
        built = cls(**{key: _value(item, files) for key, item in node["fields"].items()})
        if isinstance(built, BoostedTrees):
            _ = built.shape  # the structure is checked now, not at the first prediction
        return built
    if "array" in node:
        flat = np.array([float(item) for item in node["data"]], dtype=node["array"])
        return flat.reshape(node["shape"])
    if "text" in node:
        body = files[node["text"]]
        if hashlib.sha256(body).hexdigest() != node["sha256"]:
            raise ArtifactError("a model's text must match its SHA-256", where=node["text"])
        return body.decode()
    if "float" in node:
        return float(node["float"])
    return {key: _value(item, files) for key, item in node["dict"].items()}
