"""The site: the status page and the HTTP API."""

from collections.abc import Sequence
from importlib.resources import files

from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from stepstream.bus import settings
from stepstream.bus.bus import Bus
from stepstream.producers import http
from stepstream.web.api import (
    actions,
    cancellations,
    controls,
    delayed,
    described,
    error_groups,
    events,
    found,
    health,
    live,
    operations,
    v1,
    worker_list,
)
from stepstream.web.api.engine import alerts as api_alerts
from stepstream.web.api.engine import apps as api_apps
from stepstream.web.api.engine import audit as api_audit
from stepstream.web.api.engine import functions as api_functions
from stepstream.web.api.engine import limits as api_limits
from stepstream.web.api.engine import metrics
from stepstream.web.api.engine import schedules as api_schedules
from stepstream.web.api.engine import system as api_system
from stepstream.web.beside import after_registration
from stepstream.web.connect import listing, start
from stepstream.web.connect.gateway import Gateway
from stepstream.web.live import changes, route
from stepstream.web.pages import apps, forms, login, overview, run, search
from stepstream.web.pages import runs as run_list
from stepstream.web.pages.engine import alerts as alert_pages
from stepstream.web.pages.engine import audit as audit_pages
from stepstream.web.pages.engine import errors, limits, schedules, system, workers
from stepstream.web.pages.engine import operations as operation_pages
from stepstream.web.pages.events import acting as event_acts
from stepstream.web.pages.events import event
from stepstream.web.pages.events import name as event_name
from stepstream.web.pages.events import names as event_list
from stepstream.web.pages.functions import acting, one
from stepstream.web.pages.functions import listing as function_list
from stepstream.web.part import Part
from stepstream.web.routing import NeedsRoute
from stepstream.web.sdk import dev, gql, listening, realtime, register, runs
from stepstream.web.store import Store


class Site(Part):
    """The status page and the HTTP API. The buses it is given are registered before the first event."""

    def __init__(self, buses: Sequence[Bus], configured: settings.Settings | None, hosts: Sequence[str]) -> None:
        super().__init__(buses, configured, hosts, _routes)
        self.state.gateway = Gateway(self._store)


def _routes(store: Store, configured: settings.Settings) -> list[BaseRoute]:
    return [
        NeedsRoute(
            "POST", "/e/{key}", after_registration(http.endpoint(lambda: store.publisher, configured)), needs="publish"
        ),
        *actions.routes,
        *v1.routes,
        *cancellations.routes,
        *operations.routes,
        *controls.routes,
        *api_limits.routes,
        *api_schedules.routes,
        *api_functions.routes,  # behind those of its limits: an id may hold slashes
        *api_apps.routes,
        *api_system.routes,
        *metrics.routes,
        *delayed.routes,
        *changes.routes,
        *live.routes,
        *found.routes,
        *events.routes,
        *error_groups.routes,
        *worker_list.routes,
        *api_audit.routes,
        *api_alerts.routes,
        *health.routes,
        *described.routes,
        *register.routes,
        *start.routes,
        *listing.routes,
        *gql.routes,
        *realtime.routes,
        *listening.routes,
        *runs.routes,
        *([] if configured.is_keyed else dev.routes),  # by this route SDKs find a server that signs nothing
        *overview.routes,
        *run_list.routes,
        *run.routes,
        *event_list.routes,
        *event_acts.routes,
        *event_name.routes,
        *event.routes,
        *limits.routes,
        *schedules.routes,
        *workers.routes,
        *errors.routes,
        *system.routes,
        *operation_pages.routes,
        *audit_pages.routes,
        *alert_pages.routes,
        *function_list.routes,
        *acting.routes,
        *one.routes,
        *apps.routes,
        *search.routes,
        *route.routes,
        *forms.routes,
        *login.routes,
        Mount("/static", StaticFiles(directory=str(files("stepstream.web.pages") / "static")), name="static"),
    ]


def create_app(*buses: Bus, configured: settings.Settings | None = None, hosts: Sequence[str] = ()) -> Site:
    """Return the site as an ASGI application. Without `configured`, its settings are those of the environment.

    It answers to localhost, to the address a request comes in at, and to the names in `hosts` and BUS_ALLOW_HOSTS:
    `shop.example`, `*.shop.example`, or `*` for any, if something in front of it checks the Host header.
    """
    return Site(buses, configured, hosts)
