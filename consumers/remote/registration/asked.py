"""Asked: what an application asks to have registered, read. What makes no sense is refused before anything is done."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from stepstream.bus.errors import BusError, ConfigError
from stepstream.bus.function import check_slug_part
from stepstream.bus.values import codec
from stepstream.checkpoint.apps import App
from stepstream.consumers.remote.functions import connected_url, is_callable, without_ids
from stepstream.consumers.remote.system import stored_slug

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)$")
_UNSAFE_JS = ((3, 22, 0), (3, 53, 1))
"""Versions of the JavaScript SDK with a known hole (CVE-2026-42047), the first and the last.

They are registered, and told of: the hole is where the application is reached, which a refusal here does not close.
"""
_NAMES = (
    "appName", "appVersion", "batchEvents", "capabilities", "deployType", "featureObservations", "functions",
    "idempotencyKey", "maxSize", "rateLimit",
)  # fmt: skip
_SPELT = {name.lower(): name for name in _NAMES}
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


class Asked(msgspec.Struct, frozen=True):
    """A registration: the application as it is to be, and a checksum of all that it has sent."""

    app: App
    checksum: str


def named(asked: Any) -> Any:
    """Return what an SDK sent with its names spelt as the protocol has them: they count whatever their case."""
    if isinstance(asked, dict):
        inner = cast("dict[str, Any]", asked)
        return {_SPELT.get(name.lower(), name[:1].lower() + name[1:]): named(one) for name, one in inner.items()}
    if isinstance(asked, list):
        return [named(one) for one in cast("list[Any]", asked)]
    return asked


def read(asked: Mapping[str, Any], *, connected: bool = False) -> Asked:
    """Return a registration as an application has sent it, names spelt as the protocol has them.

    RegistrationRefused for what makes no sense. One that is `connected` has no URL: its workers have come to us.
    """
    name = asked.get("appName")
    if not isinstance(name, str) or not name:
        raise RegistrationRefused("App ID required: appName is missing or empty", "invalid_request")
    name = stored_slug(name)
    url, several = connected_url(name) if connected else asked.get("url"), asked.get("functions")
    if not isinstance(url, str) or not (connected or is_callable(url)):
        raise RegistrationRefused(
            f"url: must say where the application is called, got {url!r}", "invalid_request", name
        )
    if several is not None and not isinstance(several, list):
        raise RegistrationRefused("functions: must be a list", "invalid_request", name)
    try:
        check_slug_part("app", name)
    except ConfigError as error:
        raise RegistrationRefused(f"appName: {error}", "invalid_request", name) from None
    app = App(
        name=name,
        url=url if connected else without_ids(url),
        sdk=str(asked.get("sdk") or ""),
        framework=str(asked.get("framework") or ""),
        app_version=str(asked.get("appVersion") or ""),
        functions=_by_slug(cast("list[Any]", several or []), name),
    )
    return Asked(app, _checksum(asked))


def as_refused(asked: Mapping[str, Any], name: str) -> App:
    """Return what can be told of an application that has been refused, and perhaps was never known."""
    url = str(asked.get("url") or "")
    return App(name=name, url=without_ids(url) if is_callable(url) else "", sdk=str(asked.get("sdk") or ""))


def known_hole(sdk: str) -> str:
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


def _checksum(asked: Mapping[str, Any]) -> str:
    seen = {field: one for field, one in asked.items() if field not in _UNSEEN}
    return hashlib.sha256(codec.canonical(seen)).hexdigest()
