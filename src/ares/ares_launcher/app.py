"""The commands of `ares`, put together. Bodies live beside this file, imported when they run."""

from __future__ import annotations

from typing import Annotated

import typer

from ares.ares_launcher import (
    cache_commands,
    config_commands,
    data_commands,
    load_commands,
    precompute_command,
    run_commands,
    search_commands,
    strategy_commands,
    train_commands,
)


def build_app() -> typer.Typer:
    """Return the whole command line as a typer application."""
    app = typer.Typer(
        name="ares",
        help="From market bars to a trading model you can believe in.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(_root)
    train_commands.register(app)
    strategy_commands.register(app)
    search_commands.register(app)
    load_commands.register(app)
    data_commands.register(app)
    precompute_command.register(app)
    run_commands.register(app)
    cache_commands.register(app)
    config_commands.register(app)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ares {version('ares-trainer')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and end.", is_eager=True, callback=_version
        ),
    ] = False,
) -> None:
    """From market bars to a trading model you can believe in."""
