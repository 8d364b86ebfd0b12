"""`ares config init|show|schema` and `ares doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ares.ares_launcher import options as opt
from ares.ares_launcher.output import emit, guarded, say, table


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    config = typer.Typer(help="Write, show and explain the configuration.", no_args_is_help=True)
    config.command("init")(guarded(config_init))
    config.command("show")(guarded(config_show))
    config.command("schema")(guarded(config_schema))
    app.add_typer(config, name="config")
    app.command("doctor")(guarded(doctor))


def parse_set(pairs: list[str] | None) -> dict[str, Any]:
    """Read `key=value` pairs; a value is JSON where it can be, else text."""
    import json

    from ares.core.errors import ConfigError

    values: dict[str, Any] = {}
    for pair in pairs or []:
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise ConfigError("--set takes key=value", value=pair, remedy="E.g. --set fast=10.")
        try:
            values[key.strip()] = json.loads(text)
        except (ValueError, RecursionError):
            values[key.strip()] = text
    return values


def config_init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("ares.toml"),
    mode: Annotated[str, typer.Option("--mode", help="quick or full.")] = "full",
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Write a configuration file with every key explained."""
    from ares.ares_launcher.config_file import template
    from ares.core.errors import ConfigError
    from ares.core.settings import load_settings
    from ares.store.atomic import write_atomic

    if path.exists():
        raise ConfigError(
            "an existing file is not overwritten",
            where=str(path),
            remedy="Name another file, or remove this one first.",
        )
    overrides = {"enhanced_training_manager.mode": mode}
    typed = opt.spelled(overrides)
    settings = load_settings(None, environ={}, overrides=overrides, spelled=typed)
    write_atomic(path, template(settings.config).encode())
    if as_json:
        emit({"path": path})
    else:
        say(f"Wrote {path}. Edit it, then: ares train --config {path}")


def config_show(
    config: opt.ConfigFile = None,
    set_: opt.Set = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Show the effective configuration and where each value came from."""
    from ares.core.settings import load_settings, to_toml

    pairs = parse_set(set_)
    settings = load_settings(config, overrides=pairs, spelled=opt.spelled((), pairs))
    if as_json:
        values = settings.config.model_dump(mode="json")
        emit({"config": values, "origins": settings.origins})
    else:
        say(to_toml(settings.config.model_dump(), settings.origins))


def config_schema(as_json: opt.Json = False, debug: opt.Debug = False) -> None:
    """Print the JSON schema of the configuration."""
    from ares.core.config import Config

    emit(Config.model_json_schema())


def doctor(home: opt.Home = None, as_json: opt.Json = False, debug: opt.Debug = False) -> None:
    """Check this machine and say what to do.

    Versions, folders, memory, processors, compiled kernels.
    """
    from ares.ares_launcher.doctor import examine

    checks = examine(home)
    if as_json:
        emit({"ok": all(check.ok for check in checks), "checks": [vars(c) for c in checks]})
    else:
        rows = [("ok" if c.ok else "PROBLEM", c.name, c.found, c.remedy) for c in checks]
        table("", ("", "what", "found", "what to do"), rows)
    if not all(check.ok for check in checks):
        raise typer.Exit(2)
