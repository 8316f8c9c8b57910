"""`bus COMMAND`: finds the commands each folder announces in pyproject.toml, and imports only the one called."""

import importlib.metadata
import sys
from typing import Annotated

import typer

from stepstream.bus import settings
from stepstream.bus.errors import BusError
from stepstream.bus.process import failpoints, open_files

_ORDER = ("dev", "serve", "worker", "send", "runs", "run")


def application(command: str = "") -> typer.Typer:
    """Return the command line with `command` alone; with every announced one when that is none of them.

    A command imports what it needs, which is most of the time it takes: only the one that is asked for is loaded. For
    `--help` and for a mistyped name, all are: help shows a line of each, and the nearest name is suggested.
    """
    app = typer.Typer(
        help="Durable functions over Redis Streams. Begin with: bus dev shop:app",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        callback=_group,
    )
    found = {entry.name: entry for entry in importlib.metadata.entry_points(group="bus.commands")}
    names = sorted(found, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    for name in [command] if command in found else names:
        app.command(name)(found[name].load())
    return app


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"stepstream {importlib.metadata.version('stepstream')}\n")
        raise typer.Exit


def _group(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Without this, Typer takes an application with one command for that command."""


def main() -> None:
    """Run a command. A BusError becomes one line on standard error and exit code 1, without a traceback."""
    try:
        configured, warnings = settings.read()
        for warning in warnings:
            sys.stderr.write(f"bus: {warning}\n")
        failpoints.arm(configured.failpoint)
        open_files.raise_limit()
        application(sys.argv[1] if len(sys.argv) > 1 else "")()
    except BusError as error:
        sys.stderr.write(f"bus: {error}\n")
        raise SystemExit(1) from None
