"""Replaced: what was at the address of an application that has registered, and is not it."""

import contextlib

import msgspec

from stepstream.bus.errors import ConfigError
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.forget import unfinished
from stepstream.checkpoint.apps import App, apps, put
from stepstream.checkpoint.registry import register
from stepstream.consumers.remote.functions import bus_of, same_place


async def replace_others(wire: Wire, new: App) -> None:
    """Let go of what was at the URL of an application: what stood for it before it had a name, and its former names."""
    for one in await apps(wire):
        if one.name == new.name or not same_place(one.url, new.url):
            continue
        if _is_unnamed(one):
            await put(wire, one.name, lambda _: None)
        elif one.functions:
            await _replace(wire, one, new.name)


async def drop_unnamed(wire: Wire, url: str) -> None:
    """Drop what stands for the application at a URL, for it has a name now."""
    for one in await apps(wire):
        if _is_unnamed(one) and same_place(one.url, url):
            await put(wire, one.name, lambda _: None)


def _is_unnamed(app: App) -> bool:
    """Whether it was only ever asked for by its URL, which stands for its name."""
    return app.name == app.url


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
    with contextlib.suppress(ConfigError):  # what it had registered could not be registered today
        for function in bus_of(gone).functions.values():
            await register(wire, function)
