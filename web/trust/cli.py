"""`bus users` and `bus audit`: who may log in, and who has done what."""

import sys
from getpass import getpass
from typing import Annotated, get_args

import typer

from stepstream.bus.errors import BadRequest, ConfigError
from stepstream.bus.process.terminal import say
from stepstream.bus.trust.roles import Role, role_of
from stepstream.bus.wire.once import once
from stepstream.checkpoint.audit_log import Act, acted, acts
from stepstream.checkpoint.cli.printing import clock, print_json, print_none, print_table, words
from stepstream.web.trust.passwords import hashed
from stepstream.web.trust.users import add, change, check_name, remove
from stepstream.web.trust.users import users as all_users

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def audit(
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many.")] = 20,
    cursor: Annotated[str, typer.Option(help="Those before this one: the id of an act.")] = "",
    as_json: _Json = False,
) -> None:
    """List who has done what, to what, by what and from where, newest first: the last 10,000 acts.

    Acts of the page, of the API and of commands: bus audit --limit 50
    """
    found = once(lambda wire: acts(wire, limit=limit, cursor=cursor), shows=True)
    if as_json:
        print_json(found)
        return
    if not found.acts:
        print_none("nobody has done anything yet" if not cursor else "there is nothing older")
        return
    print_table(("when", "who", "what", words("on"), "by", "from", words("outcome")), map(_row, found.acts))
    if found.cursor:
        say(f"older ones: bus audit --limit {limit} --cursor {found.cursor}")


def _row(one: Act) -> tuple[str, ...]:
    return (clock(one.at), one.who or "anybody", one.what, one.on, one.way, one.source, one.outcome)


_USERS = (
    "write: bus users, bus users add NAME --role operate, bus users role NAME admin, bus users password NAME, or "
    "bus users remove NAME"
)


def users(
    words_: Annotated[
        list[str] | None,
        typer.Argument(metavar="[add NAME | role NAME ROLE | password NAME | remove NAME]", help="What is changed."),
    ] = None,
    role: Annotated[str, typer.Option(help="With add: read, operate or admin.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input, and ask nobody.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """List who may log in to the page, or change that: bus users add ada --role operate.

    The password is asked for. People log in where the site has BUS_SESSION_KEY. Another password ends their sessions,
    and so does removing them; another role counts at once.
    """
    match words_ or []:
        case []:
            _list_users(as_json=as_json)
        case ["add", name]:
            made = _role(role, f"bus users add {name} --role")
            new = hashed(_password(check_name(name), from_stdin=password_stdin))
            once(lambda wire: acted(wire, "add_user", f"{name} {made}", add(wire, name, made, new)))
            _tell(name, f"may log in, with the role {made}", as_json=as_json)
        case ["role", name, given]:
            made = _role(given, f"bus users role {name}")
            once(lambda wire: acted(wire, "change_role", f"{name} {made}", change(wire, name, role=made)))
            _tell(name, f"has the role {made} now", as_json=as_json)
        case ["password", name]:
            new = hashed(_password(check_name(name), from_stdin=password_stdin))
            once(lambda wire: acted(wire, "change_password", name, change(wire, name, password=new)))
            _tell(name, "has another password; their sessions are over", as_json=as_json)
        case ["remove", name]:
            once(lambda wire: acted(wire, "remove_user", name, remove(wire, name)))
            _tell(name, "may not log in any more; their sessions are over", as_json=as_json)
        case _:
            raise ConfigError(_USERS)


def _list_users(*, as_json: bool) -> None:
    found = once(all_users, shows=True)
    if as_json:
        print_json([{"name": name, "role": user.role, "since": user.since} for name, user in found.items()])
    elif found:
        print_table(("name", "role", "since"), ((name, user.role, clock(user.since)) for name, user in found.items()))
    else:
        print_none("no user; add one: bus users add NAME --role admin")


def _role(given: str, way: str) -> Role:
    found = role_of(given)
    if found is None:
        problem = f"{given[:40]!r} is no role" if given else "which role"
        raise BadRequest(f"{problem}: {way} {'|'.join(get_args(Role))}")
    return found


def _password(name: str, *, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise BadRequest("nobody can be asked for the password here: give it with --password-stdin")
    first = getpass(f"password of {name}: ")
    if getpass("again: ") != first:
        raise BadRequest("these are two passwords; nothing was changed")
    return first


def _tell(name: str, words: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"user": name})
    else:
        say(f"{name} {words}")
