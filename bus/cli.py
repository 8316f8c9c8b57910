"""`bus COMMAND`: finds the commands each folder announces in pyproject.toml, and imports none of them itself."""

import importlib.metadata
import sys

import typer

from stepstream.bus import settings
from stepstream.bus.errors import BusError
from stepstream.bus.process import failpoints, files

_ORDER = ("dev", "serve", "worker", "send", "runs", "run")


def application() -> typer.Typer:
    """Return the command-line application with every announced command."""
    app = typer.Typer(
        help="Durable functions over Redis Streams. Begin with: bus dev examples.plushify:app",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    found = {entry.name: entry for entry in importlib.metadata.entry_points(group="bus.commands")}
    for name in sorted(found, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)):
        app.command(name)(found[name].load())
    return app


def main() -> None:
    """Run a command; an error of ours is one line and exit code 1, never a traceback."""
    try:
        configured, warnings = settings.read()
        for warning in warnings:
            sys.stderr.write(f"bus: {warning}\n")
        failpoints.arm(configured.failpoint)
        files.raise_limit()
        application()()
    except BusError as error:
        sys.stderr.write(f"bus: {error}\n")
        raise SystemExit(1) from None
