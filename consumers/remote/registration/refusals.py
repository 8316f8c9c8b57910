"""Refusals: what of a registration is not taken: addresses that no worker would call, names that others have."""

from urllib.parse import urlsplit

from stepstream.bus.errors import ConfigError
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.apps import App
from stepstream.checkpoint.registry import functions
from stepstream.consumers.remote.calls.reach import refusal
from stepstream.consumers.remote.functions import RemoteBus, bus_of, is_connected
from stepstream.consumers.remote.registration.asked import RegistrationRefused


async def fit_for(wire: Wire, app: App) -> RemoteBus:
    """Return the bus that an application makes; RegistrationRefused when it is not to be registered."""
    try:
        bus = bus_of(app)
    except ConfigError as error:
        raise RegistrationRefused(f"At least one function is invalid: {error}", "invalid_function", app.name) from None
    if not is_connected(app.url):
        await _refuse_places(wire, bus)
    await _refuse_names(wire, bus)
    return bus


async def _refuse_places(wire: Wire, bus: RemoteBus) -> None:
    """Refuse an address that no worker would call (BUS_APP_HOSTS), the application's or one of a function."""
    several = [bus.app.url, *(bus.url_of(function) for function in bus.functions.values())]
    for url in {urlsplit(url).netloc: url for url in several}.values():
        told = await refusal(wire.settings, url)
        if told:
            raise RegistrationRefused(f"url: {told}", "url_refused", bus.id)


async def _refuse_names(wire: Wire, bus: RemoteBus) -> None:
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
