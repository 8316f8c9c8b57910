"""Calls of a connected application: asked by whoever drives a run, taken by gateways, held and answered by workers.

A call is a hash of its own (`bus:connect:{<app>}:call:<id>`); one that waits has an entry in the application's stream
of requests, on which gateways block. It is `waiting`, `sent` to a worker, `begun` (a worker has it in hand, and renews
its lease on it), and `answered`. Whoever asked blocks on a stream of its own process, and deletes the call.

What is asked and answered has data and results in it: it is sealed on its way through Redis.
"""

from collections.abc import Sequence
from urllib.parse import quote, unquote

import msgspec

from stepstream.bus.encryption.sealing import CannotOpen, opened_text, sealed_text
from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.bus.values.ids import token
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire

MOST_WAITING = 10_000
"""How many calls of an application may wait for its workers."""
_KEPT_ANSWERS = 10_000
_KEPT_ANSWERS_MS = 3_600_000
_KEPT_ANSWER_MS = 60_000

_ASK = script(__file__, "connect_ask")
_LOOK = script(__file__, "connect_look")
_END = script(__file__, "connect_end")
_PUT_BACK = script(__file__, "connect_put_back")
_HOLD = script(__file__, "connect_hold")
_ANSWER = script(__file__, "connect_answer")
_TELL = script(__file__, "connect_tell")


class _Slug(msgspec.Struct):
    """A function whose calls a gateway takes."""

    slug: str


_TAKE = script(__file__, "connect_take", item=_Slug)


def call_id(app: str) -> str:
    """Return a new call's id; it names its application, for workers tell nothing else when they answer."""
    return f"{token()}.{quote(app, safe='')}"


def app_of_call(call: str) -> str:
    """Return the application of a call."""
    return unquote(call.partition(".")[2])


class Asked(msgspec.Struct, frozen=True):
    """A call that is put where gateways take it. `slug` is the function as the application's SDK calls it."""

    id: str
    slug: str
    step: str
    run: str
    body: bytes


class Reply(msgspec.Struct, frozen=True):
    """What a worker has answered, with the `status` that it would have over HTTP; `body` is what it says."""

    status: int
    body: bytes
    sdk: str = ""
    version: str = ""
    is_final: bool = False
    after: str = ""


class Leases(msgspec.Struct, frozen=True):
    """How often workers send heartbeats and renew leases, and how long those last, ms. Made of BUS_LEASE."""

    beat_ms: int
    extend_ms: int
    call_ms: int
    worker_ms: int
    waiting_ms: int
    look_ms: int


def leases_of(configured: Settings) -> Leases:
    """Return the leases of connections. SDKs count in whole seconds, so a call's is never shorter than 4 s."""
    lease = configured.lease_ms
    extend = max(1_000, lease // 2 // 1_000 * 1_000)
    beat = max(1_000, lease // 1_000 * 1_000)
    return Leases(
        beat_ms=beat,
        extend_ms=extend,
        call_ms=max(2 * lease, 4 * extend),
        worker_ms=max(30_000, 3 * beat),  # the Python SDK says so every ten seconds, whatever it is told
        waiting_ms=max(30_000, 3 * lease),
        look_ms=lease // 2,
    )


# -- who asks ---------------------------------------------------------------------------------------------------------


async def ask(wire: Wire, app: str, asked: Asked, process: str, for_ms: int) -> str:
    """Put a call where gateways take it: `asked`; `nobody` when no worker is connected, `full` when too many wait.

    CannotSeal when the codec fails.
    """
    word = await wire.lasting_script(
        _ASK, [keys.connect(app)], asked.id, process, asked.slug, asked.step, asked.run,
        sealed_text(asked.body), for_ms, MOST_WAITING,
    )  # fmt: skip
    return codec.text(word)


async def look(wire: Wire, app: str, call: str, for_ms: int) -> tuple[str, int]:
    """Return what has become of a call, and how long its worker has it from now on, ms.

    One that waits is kept for `for_ms` more; one whose gateway died before a worker began waits again. `lost`, `nobody`
    and `gone` are its ends: it is deleted.
    """
    word, left = await wire.lasting_script(_LOOK, [keys.connect(app)], call, for_ms)
    return codec.text(word), int(left)


async def end(wire: Wire, app: str, call: str) -> Reply | None:
    """Take the answer of a call, which is deleted; None when it has none. CannotOpen."""
    state, status, sdk, version, final, after, output = await wire.lasting_script(_END, [keys.connect(app)], call)
    if state != b"answered":
        return None
    return Reply(
        int(status), opened_text(output), codec.text(sdk), codec.text(version), final == b"true", codec.text(after)
    )


def give_up(wire: Wire, app: str, call: str) -> None:
    """Delete a call: nobody waits for its answer any more."""
    wire.tell_script(_END, [keys.connect(app)], call)


# -- gateways ---------------------------------------------------------------------------------------------------------


async def take(wire: Wire, app: str, gateway: str, slugs: Sequence[str], most: int, for_ms: int) -> list[Asked]:
    """Take calls of some functions that wait, the oldest first.

    One that this process cannot open is not among them: it goes to another gateway once its lease has run out.
    """
    rows: list[list[bytes]] = []
    for part in parts(slugs):
        if len(rows) < most:
            rows += await wire.script(_TAKE, [keys.connect(app)], gateway, for_ms, most - len(rows), *part)
    found: list[Asked] = []
    for *names, body in rows:
        call, slug, step, run = map(codec.text, names)
        try:
            found.append(Asked(call, slug, step, run, opened_text(body)))
        except CannotOpen as error:
            wire.notice("a call of a connected application cannot be opened here", app=app, run=run, error=str(error))
    return found


async def put_back(wire: Wire, app: str, call: str, for_ms: int) -> None:
    """Put a call back in the line that its worker has not acknowledged."""
    await wire.lasting_script(_PUT_BACK, [keys.connect(app)], call, for_ms)


async def hold(wire: Wire, app: str, call: str, connection: str, for_ms: int) -> bool:
    """Note that a worker has a call in hand; False when nobody waits for it any more."""
    return bool(
        await wire.lasting_script(_HOLD, [keys.connect(app)], call, connection, for_ms, patience=for_ms / 1_000)
    )


async def answer(wire: Wire, app: str, call: str, reply: Reply, patience: float) -> bool:
    """Keep a worker's answer for whoever asked, and tell them; False when nobody waits for it any more."""
    process = await wire.lasting_script(
        _ANSWER, [keys.connect(app)], call, _KEPT_ANSWER_MS, reply.status, reply.sdk, reply.version,
        "true" if reply.is_final else "", reply.after, sealed_text(reply.body), patience=patience,
    )  # fmt: skip
    if process:
        told = [keys.connect_answers(codec.text(process))]
        await wire.lasting_script(_TELL, told, call, _KEPT_ANSWERS, _KEPT_ANSWERS_MS, patience=patience)
    return bool(process)
