"""Sync: an application behind HTTP is asked to register. It calls /fn/register while it is asked, so nothing is locked.

`bus dev` asks every application it knows of, again and again, so that changed code is followed. `bus serve` asks those
of BUS_APPS, and applications whose last sync went wrong.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import httpx2
import msgspec
import structlog

from stepstream.bus.errors import BusError, ConfigError
from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.apps import App, apps, put
from stepstream.consumers.remote.calls.reach import client, signed_in_turn
from stepstream.consumers.remote.functions import is_callable, same_place, without_ids
from stepstream.consumers.remote.protocol import SDK_HEADER
from stepstream.web.sdk.discovery import discover
from stepstream.web.store import Store

_log = structlog.get_logger("apps")

TIMEOUT_S = 10.0
AGAIN_S = 5.0
"""How soon an application is asked again in `bus dev`, and one that could not be synced anywhere."""
HEALTHY_AGAIN_S = 60.0
"""How soon `bus serve` asks an application again that is well."""
_MOST_BYTES = 65_536
_AT_ONCE = 10
_DEFAULT_PATH = "/api/inngest"
_BY_STATUS = {
    401: ("unauthorized", "it did not accept who asks: is its signing key another one?"),
    403: ("forbidden", "something in front of it does not let this server in"),
    404: ("url_not_found", "nothing is served at this path: is it not /api/inngest?"),
    500: ("internal_server_error", "it failed; its own log says why"),
}
_BY_WORDS = (
    (re.compile("signing key.*(invalid|not valid|did not)|invalid signing key", re.IGNORECASE), "invalid_signing_key"),
    (
        re.compile("(no|missing|need).*signing key|signing key.*(missing|required)", re.IGNORECASE),
        "missing_signing_key",
    ),
    (re.compile("no functions", re.IGNORECASE), "no_functions"),
    (re.compile("branch.*(env|name)", re.IGNORECASE), "missing_branch_env_name"),
    (re.compile("function.*(invalid|is not valid)", re.IGNORECASE), "invalid_function"),
)
_OF_REGISTRATION = frozenset({"invalid_function", "invalid_request", "name_taken", "url_refused"})
"""Errors that the registration has noted, with more than the application passes on."""


REPLACED = "replaced"
"""The error of an application whose address is another one's now: nobody asks it any more."""


class Trouble(NamedTuple):
    """Why an application could not be synced: a code for programs, and words for people."""

    code: str
    words: str


async def sync(wire: Wire, url: str) -> App | Trouble:
    """Ask the application at a URL to register; return it as it is registered then, or what was in the way.

    What was in the way is noted on the application, or on one that is called by its URL until it has registered.
    """
    url = complete(url)
    trouble = await _ask_signed(url, wire.settings)
    found = await _at(wire, url)
    if trouble is None:
        if found is not None and found.version:
            return found
        trouble = Trouble(
            "registered_elsewhere",
            "it answers, but has not registered here: let its SDK find this server, with INNGEST_DEV=<our URL>",
        )
    if found is not None and found.error_code in _OF_REGISTRATION:
        return Trouble(found.error_code, found.error)
    code, words = trouble
    unknown = App(name=url, url=url)

    def noted(stands: App | None) -> App:
        return msgspec.structs.replace(stands or unknown, error=words, error_code=code)

    await put(wire, url if found is None else found.name, noted)
    return trouble


def complete(url: str) -> str:
    """Return where an application is asked: with a scheme, and with the path that SDKs have unless another is given."""
    found = without_ids(url.strip())
    if not is_callable(found):
        raise ConfigError(f"{url!r} is no URL of an application: write for example http://127.0.0.1:3000/api/inngest")
    rest = found.partition("://")[2]
    return found if rest.rstrip("/").count("/") else f"{found.rstrip('/')}{_DEFAULT_PATH}"


async def _at(wire: Wire, url: str) -> App | None:
    """Return the application at a URL; of several one that has registered."""
    there = [app for app in await apps(wire) if same_place(app.url, url)]
    return max(there, key=lambda app: (app.version > 0, app.synced), default=None)


async def _ask_signed(url: str, configured: Settings) -> Trouble | None:
    """Ask for a registration, signed with each of our keys until one is accepted; return what was in the way."""
    body = codec.encode({"url": url})
    headers = {"content-type": "application/json", "x-inngest-server-kind": "cloud" if configured.is_keyed else "dev"}
    return await signed_in_turn(
        configured,
        body,
        lambda form, signature: _ask(configured, url, form, headers | signature),
        lambda trouble: trouble is not None and trouble.code in {"unauthorized", "invalid_signing_key"},
    )


async def _ask(configured: Settings, url: str, content: bytes, headers: Mapping[str, str]) -> Trouble | None:
    """Ask once for a registration; return what was in the way."""
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            client(configured, TIMEOUT_S) as http,
            http.stream("PUT", url, content=content, headers=headers) as answer,
        ):
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > _MOST_BYTES:
                    break
    except (TimeoutError, httpx2.TimeoutException):
        return Trouble("unreachable", f"no answer within {TIMEOUT_S:g} s: is something else at this address?")
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        return Trouble("unreachable", f"cannot be reached ({error or type(error).__name__}): is it started?")
    if answer.status_code == 200:
        if SDK_HEADER not in answer.headers:
            return Trouble("not_an_sdk", "what answers there is no Inngest SDK: is the path right?")
        return _refused_inside(body)
    return _trouble(answer.status_code, body)


class _Inside(msgspec.Struct):
    status: int = 200


def _refused_inside(body: bytes) -> Trouble | None:
    """Return what was in the way when a registration was refused, and the SDK hands that on as a success.

    The Python SDK does: 200, with our own answer as its body.
    """
    try:
        inside = codec.decode_as(body, _Inside)
    except msgspec.MsgspecError:
        return None
    return _trouble(inside.status, body) if inside.status >= 400 else None


def _trouble(status: int, body: bytes) -> Trouble:
    told = _told(body)
    if status == 400 or told:
        code = next((code for words, code in _BY_WORDS if told and words.search(told)), "")
        if code or status == 400:
            return Trouble(code or "bad_request", told or "it refused to register, and did not say why")
    code, words = _BY_STATUS.get(status, ("bad_response", f"it answered with HTTP status {status}"))
    return Trouble(code, f"{words} ({told})" if told else words)


def _told(body: bytes) -> str:
    """Return what the answer of an SDK says."""
    try:
        told = codec.decode(body)
    except msgspec.MsgspecError:
        return ""
    if not isinstance(told, dict):
        return ""
    fields = cast("dict[str, Any]", told)
    found = fields.get("message") or fields.get("error") or ""
    return found[:500] if isinstance(found, str) else ""


class Syncing:
    """Keeps applications synced: those of some URLs from the beginning, and others once they are known.

    With `follows` every one is asked every five seconds, as somebody may be changing its code; else those that are well
    once a minute, of those URLs only. With `discovers` it looks for one on this machine, until the first is there.
    """

    def __init__(self, store: Store, urls: Sequence[str], *, follows: bool, discovers: bool = False) -> None:
        self._store = store
        self._discovers = discovers
        self._urls = [complete(url) for url in urls]
        self._follows = follows
        self._round = 0
        self._told: dict[str, str] = {}

    async def run(self) -> None:
        """Ask again and again, until it is cancelled."""
        while True:
            try:
                await self._once()
            except BusError as error:  # Redis does not serve: the connection has told of it
                _log.debug("applications could not be synced", error=str(error))
            except Exception as error:  # noqa: BLE001 - the loop's top: one odd application stops no other
                _log.error("asking applications to register failed", exc_info=error)
            self._round += 1
            await asyncio.sleep(AGAIN_S)

    async def _once(self) -> None:
        wire = self._store.wire
        known = await apps(wire)
        due = [url for url in self._urls if not any(same_place(app.url, url) for app in known)]
        self._discovers = self._discovers and not any(app.version for app in known)
        if self._discovers:
            due += await discover()
        is_long = self._round % round(HEALTHY_AGAIN_S / AGAIN_S) == 0
        for app in known:
            is_ours = any(same_place(app.url, url) for url in self._urls)
            if app.error_code == REPLACED or not is_callable(app.url):
                continue
            if self._follows or not app.is_healthy or (is_ours and is_long):
                due.append(app.url)
        several = list(dict.fromkeys(due))
        for start in range(0, len(several), _AT_ONCE):
            await asyncio.gather(*(self._sync(wire, url) for url in several[start : start + _AT_ONCE]))

    async def _sync(self, wire: Wire, url: str) -> None:
        found = await sync(wire, url)
        words = f"{found.code}: {found.words}" if isinstance(found, Trouble) else f"version {found.version}"
        if self._told.get(url) == words:
            return
        self._told[url] = words
        if isinstance(found, Trouble):
            _log.warning("an application could not be synced", url=url, code=found.code, error=found.words)
        else:
            _log.info("an application is synced", app=found.name, url=url, functions=len(found.functions))
