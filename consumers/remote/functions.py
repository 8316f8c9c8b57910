"""Functions of an application behind HTTP, as the bus has them: what an SDK registers becomes ordinary functions.

Each option is told in docs/inngest-sdk.md. What is refused is a ConfigError with the function, the field and the
reason, which the application gets as the answer to its registration.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import msgspec

from stepstream.bus.bus import Bus
from stepstream.bus.context import Context
from stepstream.bus.errors import ConfigError
from stepstream.bus.function import Function
from stepstream.bus.step import Step
from stepstream.bus.values import codec
from stepstream.checkpoint.apps import App
from stepstream.consumers.remote.options import Config, check_step, options_of, triggers_of

_CONNECTED = "connect://"


class RemoteBus(Bus):
    """The functions of an application behind HTTP. `app` is replaced when it is synced again with the same functions.

    Their handlers are never called: a driver calls the application at `url_of(function)`.
    """

    def __init__(self, app: App) -> None:
        super().__init__(app.name)
        self.app = app
        self.declared = declared(app)
        """A hash of all functions: another one needs another bus."""

    def url_of(self, function: Function[Any, Any]) -> str:
        """Return where a function is called: its URL with the function's id, and without a step's."""
        config = self.app.functions.get(function.slug)
        if config is not None and not is_connected(self.app.url):
            return _step_url(config)
        # It has been removed: where the application is now, for it may have moved since. Or it is at no address of its
        # own, for the application's workers are connected.
        known = config or self.app.archived.get(function.slug, {})
        query = urlsplit(_step_url(known)).query or f"fnId={function.slug}"
        return with_query(self.app.url, query)


def bus_of(app: App) -> RemoteBus:
    """Return the bus of an application; ConfigError with the function, the field and the reason for what is refused.

    Functions that were removed from it are on the bus without triggers, as long as runs of them go on.
    """
    bus = RemoteBus(app)
    for slug, config in app.functions.items():
        _declare(bus, slug, config, has_triggers=True)
    for slug, config in app.archived.items():
        if slug not in app.functions:
            _declare(bus, slug, config, has_triggers=False)
    return bus


def declared(app: App) -> str:
    """Return a hash of what an application's functions are, wherever they are called."""
    codes = {slug: _code(config) for slug, config in app.functions.items()}
    return _short(codec.canonical([codes, sorted(app.archived)]))


def without_ids(url: str) -> str:
    """Return the URL of an application: without the ids that SDKs and servers add, and with a host that is called."""
    if "://" not in url:
        url = f"http://{url}"
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True)
             if name not in {"fnId", "stepId", "deployId"}]  # fmt: skip
    host = parts.netloc
    if parts.scheme == "http":
        host = host.removesuffix(":80")
    elif parts.scheme == "https":
        host = host.removesuffix(":443")
    if host.partition(":")[0] == "0.0.0.0":  # noqa: S104 - where it listens, which is no address to call
        host = host.replace("0.0.0.0", "127.0.0.1", 1)  # noqa: S104
    return urlunsplit((parts.scheme, host, parts.path, urlencode(query), ""))


def with_query(url: str, query: str) -> str:
    """Return a URL with more in its query."""
    return f"{url}{'&' if '?' in url else '?'}{query}"


def is_callable(url: str) -> bool:
    """Whether a URL is one that an application may be called at."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def connected_url(name: str) -> str:
    """Return what stands for the URL of an application whose workers are connected: it is called by its name."""
    return f"{_CONNECTED}{quote(name, safe='')}"


def is_connected(url: str) -> bool:
    """Whether an URL stands for connected workers."""
    return url.startswith(_CONNECTED)


def app_of_url(url: str) -> str:
    """Return the name of the application that `connected_url` stands for."""
    return unquote(urlsplit(url).netloc)


def same_place(one: str, other: str) -> bool:
    """Whether two URLs are of one application: an SDK may call by another of its names the machine it is on."""
    if is_connected(one) or is_connected(other):
        return one == other
    return _place(one) == _place(other)


def _place(url: str) -> str:
    parts = urlsplit(without_ids(url))
    host = "localhost" if parts.hostname in {"127.0.0.1", "::1"} else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port}{parts.path.rstrip('/')}?{parts.query}"


def _step_url(config: Mapping[str, Any]) -> str:
    try:
        url: str = config["steps"]["step"]["runtime"]["url"]
    except (KeyError, TypeError):
        return ""
    query = [(name, value) for name, value in parse_qsl(urlsplit(url).query) if name == "fnId"]
    return with_query(without_ids(url), urlencode(query))


async def _called_over_http(ctx: Context[Any], step: Step) -> None:
    raise NotImplementedError("a function behind HTTP is called by its driver")


def _declare(bus: RemoteBus, slug: str, config: dict[str, Any], *, has_triggers: bool) -> None:
    local = slug.removeprefix(f"{bus.id}-")
    try:
        if local in ("", slug):
            raise ConfigError(f"id: must begin with the application's name and a dash, {bus.id}-")  # noqa: TRY301
        read = msgspec.convert(config, Config)
        if has_triggers:
            check_step(read, connected=is_connected(bus.app.url))
        options = options_of(read)
        if not has_triggers:
            options["name"] = f"{options['name'] or local} (removed from the application)"
        declare = bus.function(local, on=triggers_of(read) if has_triggers else None, **options)
        made = declare(_called_over_http)
        made.code, made.is_remote = _code(config), True
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        raise ConfigError(f"function '{slug}', {path.strip('.`') or 'its configuration'}: {reason}") from None
    except ConfigError as error:
        told = str(error).removeprefix(f"function '{local}'").lstrip(":, ")
        raise ConfigError(f"function '{slug}': {told}") from None


def _code(config: Mapping[str, Any]) -> str:
    """Return a short hash of a function's configuration, wherever it is called."""
    return _short(codec.canonical({name: value for name, value in config.items() if name != "steps"} | _kept(config)))


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return of the steps what is not where they are called."""
    steps = config.get("steps")
    step = cast("dict[str, Any]", steps).get("step") if isinstance(steps, dict) else None
    return {"retries": cast("dict[str, Any]", step).get("retries") if isinstance(step, dict) else None}


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]
