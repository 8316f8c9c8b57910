"""/v1/alerts: the rules, what fires, how sending went; try it, set a threshold."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BadRequest
from stepstream.checkpoint.alerts.kept import RuleNotFound, reset_threshold, set_threshold
from stepstream.consumers.alerts.told import AlertsTold, alerts_told
from stepstream.consumers.alerts.trial import AlertNotSent, NowhereToSend, try_out
from stepstream.web.answers import value
from stepstream.web.api.shapes import Plain
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.bodies import Body
from stepstream.web.trust.audit import acts_on
from stepstream.web.trust.principal import principal_of


class ThresholdWanted(msgspec.Struct, forbid_unknown_fields=True):
    """A threshold, as BUS_ALERT_RULES has it: `10m`, `1000`, `20%/1h`, `off`."""

    threshold: str


class ThresholdSet(msgspec.Struct, frozen=True):
    """A rule, and the threshold that it has for all processes."""

    rule: str
    threshold: str


class ThresholdReset(msgspec.Struct, frozen=True):
    """A rule, and whether it had a threshold that is taken back now."""

    rule: str
    was_set: bool


class Tried(msgspec.Struct, frozen=True):
    """What was answered."""

    answered: str


_WANTED = Body(ThresholdWanted)


async def _alerts(request: Request) -> Response:
    return value(Plain(await alerts_told(wire_of(request))))


async def _test(request: Request) -> Response:
    return value(Plain(Tried(await try_out(wire_of(request).settings, principal_of(request).name))))


async def _set(request: Request) -> Response:
    rule, wanted = request.path_params["rule"], await _WANTED.of(request)
    acts_on(request, wanted.threshold)
    made = await set_threshold(wire_of(request), rule, wanted.threshold)
    return value(Plain(ThresholdSet(rule, made.text)))


async def _reset(request: Request) -> Response:
    rule = request.path_params["rule"]
    return value(Plain(ThresholdReset(rule, await reset_threshold(wire_of(request), rule))))


routes = [
    NeedsRoute(
        "GET",
        "/v1/alerts",
        _alerts,
        needs="read",
        name="api_alerts",
        about=About(
            summary="The rules of alerts with their thresholds, what fires since when, where this process sends that, "
            "and how sending went last.",
            answer=Plain[AlertsTold],
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/alerts/test",
        _test,
        needs="operate",
        name="api_test_alerts",
        about=About(
            summary="Send an alert that says that nothing is wrong, from this process; answers when that has arrived.",
            answer=Plain[Tried],
            errors=(NowhereToSend, AlertNotSent),
        ),
    ),
    NeedsRoute(
        "PUT",
        "/v1/alerts/rules/{rule:path}",
        _set,
        needs="operate",
        name="api_set_alert_rule",
        about=About(
            summary='Set the threshold of a rule for all processes, in place of settings: `{"threshold": "30m"}`. '
            "The rule `waiting:shop-report` is `waiting` for that function only.",
            body=_WANTED,
            answer=Plain[ThresholdSet],
            errors=(RuleNotFound, BadRequest),
        ),
    ),
    NeedsRoute(
        "DELETE",
        "/v1/alerts/rules/{rule:path}",
        _reset,
        needs="operate",
        name="api_reset_alert_rule",
        about=About(
            summary="Let the threshold of a rule be that of the settings again; `was_set` tells whether it was not.",
            answer=Plain[ThresholdReset],
            errors=(RuleNotFound,),
        ),
    ),
]
