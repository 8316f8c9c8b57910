"""`POST /fn/register`: an application behind HTTP says which functions it has. All are taken, or none."""

import contextlib
import hashlib
import re
import uuid
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BusError, ConfigError, EventInvalid
from stepstream.bus.function import check_slug_part
from stepstream.bus.values import codec
from stepstream.bus.wire.registering import Listeners
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.forget import unfinished
from stepstream.checkpoint.apps import App, app_of, apps, put
from stepstream.checkpoint.registry import functions, register
from stepstream.consumers.remote.functions import RemoteBus, bus_of, is_callable, same_place, without_ids
from stepstream.consumers.remote.reach import refusal
from stepstream.consumers.remote.system import stored_slug
from stepstream.producers.body import read_body
from stepstream.producers.strict import parse
from stepstream.web.answers import value
from stepstream.web.keys import keys_of
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of

_PATIENCE_S = 5.0
_NAMES = (
    "appName", "appVersion", "batchEvents", "capabilities", "deployType", "featureObservations", "functions",
    "idempotencyKey", "maxSize", "rateLimit",
)  # fmt: skip
_SPELT = {name.lower(): name for name in _NAMES}
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)$")
_UNSAFE_JS = ((3, 22, 0), (3, 53, 1))
"""Versions of the JavaScript SDK with a known hole (CVE-2026-42047), the first and the last.

They are registered, and told of: the hole is where the application is reached, which a refusal here does not close.
"""
_WAYS = {
    "dev": "set INNGEST_DEV to its address, or give the server BUS_SIGNING_KEY",
    "cloud": "set INNGEST_DEV=0, INNGEST_BASE_URL, INNGEST_SIGNING_KEY and INNGEST_EVENT_KEY",
}
"""What to do where an SDK has taken this server for one of the other kind, by the kind that it is."""
_UNSEEN = ("featureObservations", "idempotencyKey", "deployId")
"""What a checksum is not made of: it differs with each request."""


class RegistrationRefused(BusError):
    """A registration that is refused; `name` is the application, if that can be told."""

    code = "invalid_function"
    status = 400

    def __init__(self, message: str, code: str = "invalid_function", name: str = "") -> None:
        self.code = code
        self.name = name
        super().__init__(message)


async def _register(request: Request) -> Response:
    wire = wire_of(request)
    expected, kind = request.headers.get("x-inngest-expected-server-kind"), keys_of(request).kind
    if expected and expected != kind:
        told = f"Expected server kind {expected[:40]}, got {kind}: {_WAYS[kind]}"
        return value({"error": told, "status": 400, "data": None}, 400)
    try:
        asked = named(parse(await read_body(request)))
        if not isinstance(asked, dict):
            raise EventInvalid(f"the body must be an object, got {type(asked).__name__}")  # noqa: TRY301
    except EventInvalid as error:
        return value({"error": f"Invalid request: {error}", "data": None, "status": 400}, 400)
    try:
        app, is_new = await take_in(wire, cast("dict[str, Any]", asked))
    except RegistrationRefused as error:
        if error.name:
            await _note_refused(wire, cast("dict[str, Any]", asked), error)
        return value({"error": str(error), "code": error.code, "data": None, "status": 400}, 400)
    told = {"ok": True, "sync_id": _id("sync", app.name, app.checksum), "app_id": _id("app", app.name)}
    return value(told | ({"modified": True} if is_new else {}))


def named(asked: Any) -> Any:
    """Return what an SDK sent with its names spelt as the protocol has them: they count whatever their case."""
    if isinstance(asked, dict):
        inner = cast("dict[str, Any]", asked)
        return {_SPELT.get(name.lower(), name[:1].lower() + name[1:]): named(one) for name, one in inner.items()}
    if isinstance(asked, list):
        return [named(one) for one in cast("list[Any]", asked)]
    return asked


async def take_in(wire: Wire, asked: Mapping[str, Any]) -> tuple[App, bool]:
    """Register an application as it asks; return it, and whether that changed anything.

    RegistrationRefused says what is wrong; nothing is changed then.
    """
    name = asked.get("appName")
    if not isinstance(name, str) or not name:
        raise RegistrationRefused("App ID required: appName is missing or empty", "invalid_request")
    name = stored_slug(name)
    url, several = asked.get("url"), asked.get("functions")
    if not isinstance(url, str) or not is_callable(url):
        raise RegistrationRefused(
            f"url: must say where the application is called, got {url!r}", "invalid_request", name
        )
    if several is not None and not isinstance(several, list):
        raise RegistrationRefused("functions: must be a list", "invalid_request", name)
    try:
        check_slug_part("app", name)
    except ConfigError as error:
        raise RegistrationRefused(f"appName: {error}", "invalid_request", name) from None
    checksum = _checksum(asked)
    stands = await app_of(wire, name)
    if stands is not None and stands.checksum == checksum:
        return (stands if stands.is_healthy else await _healthy(wire, name) or stands), False
    new = App(
        name=name,
        url=without_ids(url),
        sdk=str(asked.get("sdk") or ""),
        framework=str(asked.get("framework") or ""),
        app_version=str(asked.get("appVersion") or ""),
        functions=_by_slug(cast("list[Any]", several or []), name),
    )
    bus = _fit(new)
    await _refuse_places(wire, bus)
    await _refuse_native(wire, bus)
    now = await wire.clock()
    gone = {} if stands is None else {**stands.archived, **stands.functions}
    archived = {slug: gone[slug] for slug in sorted(gone.keys() - new.functions.keys()) if await unfinished(wire, slug)}

    def begun(stands: App | None) -> App:
        return msgspec.structs.replace(
            new,
            version=1 if stands is None else stands.version + 1,
            synced=now,
            archived=archived,
            note=_note(stands, new),
        )

    def done(stands: App | None) -> App | None:
        # Somebody else may have registered meanwhile: what is theirs is not ours to call done.
        is_ours = stands is not None and stands.functions == new.functions and stands.url == new.url
        return msgspec.structs.replace(cast("App", stands), checksum=checksum) if is_ours else stands

    # The application first: should this process end in between, workers declare its functions.
    await put(wire, name, begun)
    try:
        for function in bus_of(msgspec.structs.replace(new, archived=gone)).functions.values():
            await register(wire, function)
    except ConfigError as error:
        raise RegistrationRefused(str(error), "invalid_function", name) from None
    await Listeners(wire, [bus.functions]).get_ready(set(), _PATIENCE_S)
    app = await put(wire, name, done)
    await _replace_others(wire, new)
    return app or new, True


async def _replace_others(wire: Wire, new: App) -> None:
    """Let go of what was at the URL of an application: what stood for it before it had a name, and its former names."""
    for one in await apps(wire):
        if one.name == new.name or not same_place(one.url, new.url):
            continue
        if one.name == one.url:
            await put(wire, one.name, lambda _: None)
        elif one.functions:
            await _replace(wire, one, new.name)


async def _replace(wire: Wire, former: App, name: str) -> None:
    """Let an application have no function any more, for its address is another one's; runs in flight go on."""
    left = {slug: config for slug, config in former.functions.items() if await unfinished(wire, slug)}

    def replaced(stands: App | None) -> App | None:
        if stands is None or stands.version != former.version:
            return stands
        words = (
            f"app '{name}' is at its address now: if that is its new id, forget this one: bus apps forget {former.name}"
        )
        return msgspec.structs.replace(
            stands,
            version=stands.version + 1,
            functions={},
            archived={**stands.archived, **left},
            error=words,
            error_code="replaced",
        )

    await put(wire, former.name, replaced)
    gone = msgspec.structs.replace(former, functions={}, archived={**former.archived, **former.functions})
    with contextlib.suppress(ConfigError):  # what it registered is no more what can be registered
        for function in bus_of(gone).functions.values():
            await register(wire, function)


async def _healthy(wire: Wire, name: str) -> App | None:
    """Forget what was wrong: it is registered again as it had been."""
    return await put(wire, name, lambda stands: stands and msgspec.structs.replace(stands, error="", error_code=""))


async def _refuse_places(wire: Wire, bus: RemoteBus) -> None:
    """Refuse an address that no worker would call (BUS_APP_HOSTS), the application's or one of a function."""
    several = [bus.app.url, *(bus.url_of(function) for function in bus.functions.values())]
    for url in {urlsplit(url).netloc: url for url in several}.values():
        told = await refusal(wire.settings, url)
        if told:
            raise RegistrationRefused(f"url: {told}", "url_refused", bus.id)


def _fit(app: App) -> RemoteBus:
    try:
        return bus_of(app)
    except ConfigError as error:
        raise RegistrationRefused(f"At least one function is invalid: {error}", "invalid_function", app.name) from None


def _by_slug(several: list[Any], name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for config in several:
        slug = cast("dict[str, Any]", config).get("id") if isinstance(config, dict) else None
        if not isinstance(slug, str) or not slug:
            raise RegistrationRefused("At least one function is invalid: a function without an id", name=name)
        slug = stored_slug(slug)
        if slug in found:
            raise RegistrationRefused(f"At least one function is invalid: there are two functions '{slug}'", name=name)
        found[slug] = cast("dict[str, Any]", config)
    return found


async def _refuse_native(wire: Wire, bus: RemoteBus) -> None:
    """Refuse a name that a Python bus has, and functions that another bus has."""
    slugs = {function.slug for function in bus.functions.values()}
    for one in await functions(wire):
        if one.bus == bus.id and not one.remote:
            raise RegistrationRefused(
                f"App name '{bus.id}' is that of a Python application, which has '{one.slug}' and perhaps more: "
                "give this app another id",
                "name_taken",
            )
        if one.slug in slugs and one.bus != bus.id:
            raise RegistrationRefused(
                f"At least one function is invalid: function '{one.slug}' belongs to {one.owner} already; "
                "rename the app or the function",
                "name_taken",
                bus.id,
            )


def _unsafe(sdk: str) -> str:
    """Return what is told of an SDK with a known hole; "" for any other."""
    language, _, version = sdk.partition(":")
    found = _VERSION.match(version)
    if language != "js" or found is None:
        return ""
    least, most = _UNSAFE_JS
    if not least <= tuple(map(int, found.groups())) <= most:
        return ""
    return (
        f"SDK {version.removeprefix('v')} has a known vulnerability, CVE-2026-42047: "
        "upgrade the npm package inngest to 3.54.0 or newer"
    )


def _checksum(asked: Mapping[str, Any]) -> str:
    seen = {field: one for field, one in asked.items() if field not in _UNSEEN}
    return hashlib.sha256(codec.canonical(seen)).hexdigest()


def _note(stands: App | None, new: App) -> str:
    """Return what people should know of an application that is registered."""
    moved = stands is not None and stands.url and stands.url != new.url
    words = f"was at {stands.url} before: should both run, give one another id" if stands and moved else ""
    return "; ".join(filter(None, (_unsafe(new.sdk), words)))


async def _note_refused(wire: Wire, asked: Mapping[str, Any], error: RegistrationRefused) -> None:
    """Keep why an application was refused; what it had registered before stays."""
    url = str(asked.get("url") or "")
    unknown = App(name=error.name, url=without_ids(url) if is_callable(url) else "", sdk=str(asked.get("sdk") or ""))

    def noted(stands: App | None) -> App:
        return msgspec.structs.replace(stands or unknown, error=str(error), error_code=error.code)

    await put(wire, error.name, noted)
    for one in await apps(wire) if unknown.url else ():
        if one.name == one.url and same_place(one.url, unknown.url):  # it has a name now
            await put(wire, one.name, lambda _: None)


def _id(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, ":".join(("stepstream", *parts))))


routes = [NeedsRoute("POST", "/fn/register", _register, needs="app", name="sdk_register")]
