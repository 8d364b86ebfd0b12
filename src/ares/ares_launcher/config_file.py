"""The commented configuration file that `ares config init` writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ares.core.config import QUICK
from ares.core.settings import to_toml

if TYPE_CHECKING:
    from pydantic import BaseModel


def template(config: BaseModel) -> str:
    """Return every section and key of `config` as TOML, each key with its description.

    Keys without a default are written as comments, and so are those that the mode decides: a value
    in a file would beat the mode.
    """
    by_mode = {f"{section}.{key}" for section, keys in QUICK.items() for key in keys}
    notes = dict(_notes(config, ""))
    lines = [
        "# Ares configuration. Every key is optional; `ares config schema` gives the ranges.",
        "",
    ]
    section = ""
    for line in to_toml(config.model_dump(), dict.fromkeys(notes, "")).splitlines():
        text = line.removesuffix("  # ")
        if text.startswith("["):
            section = text.strip("[]")
        key = text.removeprefix("# ").split(" ")[0]
        note = notes.get(f"{section}.{key}")
        if note:
            lines.append(f"# {note}")
        if f"{section}.{key}" in by_mode:
            text = f"# {text}  # by mode"
        lines.append(text.replace(" is not set", " ="))
    return "\n".join(lines) + "\n"


def _notes(model: BaseModel, prefix: str) -> list[tuple[str, str]]:
    from pydantic import BaseModel as Base

    found: list[tuple[str, str]] = []
    for name, field in type(model).model_fields.items():
        value: Any = getattr(model, name)
        if isinstance(value, Base):
            found += _notes(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", field.description or ""))
    return found
