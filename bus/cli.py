"""`bus COMMAND`: finds the commands each folder announces in pyproject.toml, and imports only the one called."""

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from stepstream.bus.process.terminal import plain, warn

SUMMARIES = {
    "dev": "Run everything on your machine: page, API, worker, and a Redis server.",
    "serve": "Serve the HTTP API and the status page.",
    "worker": "Run an application's functions until SIGTERM or Ctrl-C.",
    "send": "Publish an event.",
    "trigger": "Publish an event as one starts a script.",
    "runs": "List runs, newest first.",
    "run": "Show one run, its steps and the end of its log.",
    "event": "Show what became of an event: which functions it started, and why each other one did not begin.",
    "replay": "Begin runs for an event that came before, of all functions that listen to it today or of one.",
    "find": "Say what a word names: a run, an event, a function, a limit's key.",
    "logs": "Print what a run has written.",
    "cancel": "Cancel a run, or all that match.",
    "rerun": "Run again, for the same event.",
    "invoke": "Run a function by its slug, without an event.",
    "signal": "Send a value to the run that waits for a signal.",
    "pause": "Pause a function, or the events of a name: work stays in line.",
    "resume": "Resume a function, or the events of a name, that bus pause has paused.",
    "functions": "List the registered functions with their runs.",
    "events": "List events, newest first.",
    "streams": "List streams, and how far each function has read them.",
    "schedules": "List schedules: their last tick, the next one, which were missed.",
    "limits": "Show limits: who holds places, who waits.",
    "errors": "List of what runs failed, the newest first, in groups.",
    "top": "Show what is wrong, then functions, the busiest first, their rates of the last 5 minutes, and workers.",
    "workers": "List the workers and what each has in hand.",
    "alerts": "List the rules of alerts: what fires since when, and where it is sent.",
    "delayed": "List the events that are to be published later.",
    "apps": "List the applications behind HTTP.",
    "users": "List who may log in to the page, or change that.",
    "audit": "List who has done what, to what, by what and from where, newest first: the last 10,000 acts.",
    "redis": "Print the lines of redis-cli that show what a page or a command shows, raw.",
    "blobs": "Count the large results in the store, and those that belong to no run any more.",
    "doctor": "Say whether this Redis is fit.",
    "check": "Look whether every run has a holder, and every key an owner.",
}
"""What `bus --help` says of each command, in its order; one that is not here comes last. Each is the beginning of its
docstring, which is not read for that: to import all commands takes two seconds.
"""
_GO_ON = ("worker", "serve", "dev")
"""The commands whose process goes on: what they say belongs to their log."""
_TAKES_FLAGS = {"ignore_unknown_options": True}
"""For `trigger`: its flags are those of the event."""


def announced() -> list[str]:
    """Return the names of all commands, in the order of `bus --help`."""
    order = {name: n for n, name in enumerate(SUMMARIES)}
    names = {entry.name for entry in importlib.metadata.entry_points(group="bus.commands")}
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


def application(*loaded: str) -> typer.Typer:
    """Return the command line in which these commands can be run; of the others it has the names and summaries.

    A command imports what it needs, which is most of the time it takes: only the one that is asked for is loaded.
    """
    app = typer.Typer(
        help="Durable functions over Redis Streams. Begin with: bus dev shop:app",
        epilog="bus COMMAND --help says more of each. Complete names with Tab: bus --install-completion",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        callback=_group,
    )
    found = {entry.name: entry for entry in importlib.metadata.entry_points(group="bus.commands")}
    for name in announced():
        if name in loaded:
            app.command(name, context_settings=_TAKES_FLAGS if name == "trigger" else None)(found[name].load())
        else:
            app.command(name, help=SUMMARIES.get(name, ""))(_not_loaded)
    return app


def asked_for(words: Sequence[str]) -> str:
    """Return the command among the words of a command line: the first that is no option; empty when there is none."""
    return next((word for word in words if not word.startswith("-")), "")


def _not_loaded() -> None:
    raise AssertionError("only a command that is loaded is asked for")


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"stepstream {importlib.metadata.version('stepstream')}\n")
        raise typer.Exit


def _group(
    ctx: typer.Context,
    _asked: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Make ready for a command: look at the settings, of which one may be mistyped."""
    from stepstream.bus import settings
    from stepstream.bus.process import failpoints, open_files

    configured, warnings = settings.read()
    for warning in warnings:
        _complain(warning, str(ctx.invoked_subcommand), "warning")
    failpoints.arm(configured.failpoint)
    open_files.raise_limit()


def main() -> None:
    """Run a command. Its error becomes one line on standard error, with the way out, and no traceback.

    Exit code 1 for a BusError, 2 for a command line that is not understood.
    """
    from stepstream.bus.errors import BusError

    # A shell that completes a command line has it in a variable: zsh and fish in one, bash in the other.
    typed = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS")
    words = typed.split()[1:] if typed and "_BUS_COMPLETE" in os.environ else sys.argv[1:]
    command = asked_for(words)
    try:
        try:
            code = application(command)(standalone_mode=False)
        finally:
            sys.stdout.flush()
    except TyperException as error:
        _not_understood(error, words)
        raise SystemExit(2) from None
    except Abort:
        raise SystemExit(1) from None
    except BusError as error:
        _complain(str(error), command, "error")
        raise SystemExit(1) from None
    except BrokenPipeError:
        # Whoever read has enough (bus runs | head -1). Python would complain when it flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    raise SystemExit(code or 0)


def _complain(words: str, command: str, level: str) -> None:
    """Say what is wrong; of a process that goes on in its log, as a line of that."""
    if command not in _GO_ON:
        warn(words)
        return
    from stepstream.bus.observe import log

    log.tell(os.environ.get("BUS_LOG_FORMAT", "auto"), words, shown=f"bus: {plain(words)}", level=level)


def _not_understood(error: TyperException, words: Sequence[str]) -> None:
    """Say in one line what is wrong with a command line, and where more is said; without a command, say all."""
    said = error.format_message().strip()
    if not words:  # then that is the help
        sys.stderr.write(f"{said}\n")
        return
    told = " ".join(said.split()).rstrip(".")
    context = getattr(error, "ctx", None)
    asked = f"{context.command_path} --help" if context is not None else "bus --help"
    number = next((word for word in words if word[:1] == "-" and word[1:2].isdecimal()), "")
    behind = ""
    if number and told.endswith(f"option: {number}"):
        behind = f": a word that begins so goes behind --, as in bus {asked_for(words)} … -- {number}"
    warn(f"{told}{behind} ({asked} says more)")
