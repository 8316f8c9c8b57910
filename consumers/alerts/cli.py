"""`bus alerts`: what fires, and where that is sent; try it, and set thresholds."""

from typing import Annotated

import typer

from stepstream.bus.errors import ConfigError
from stepstream.bus.process.terminal import say
from stepstream.bus.wire.once import once
from stepstream.checkpoint.alerts.kept import reset_threshold, set_threshold
from stepstream.checkpoint.audit_log import acted, user
from stepstream.checkpoint.cli.printing import Cell, ago, print_json, print_table, words
from stepstream.consumers.alerts.told import AlertsTold, RuleTold, alerts_told
from stepstream.consumers.alerts.trial import try_out

_USAGE = "write: bus alerts, bus alerts test, bus alerts set waiting 30m, or bus alerts reset waiting"


def alerts(
    words_: Annotated[
        list[str] | None,
        typer.Argument(metavar="[test | set RULE THRESHOLD | reset RULE]", help="What is done."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the rules of alerts: what fires since when, and where it is sent. Try it, or set a threshold.

    bus alerts test sends one from here, so with the BUS_ALERT_… of this shell. bus alerts set waiting 30m counts for
    all workers and sites, in place of their settings, until bus alerts reset waiting; off turns a rule off. Of one
    function only: bus alerts set waiting:shop-report 2h
    """
    match words_ or []:
        case []:
            found = once(alerts_told, shows=True)
            if as_json:
                print_json(found)
            else:
                _print(found)
        case ["test"]:
            told = once(lambda wire: acted(wire, "test_alerts", "", try_out(wire.settings, user())))
            _tell({"sent": told}, told, as_json=as_json)
        case ["set", rule, text]:
            on = f"{rule} {text}"
            made = once(lambda wire: acted(wire, "set_alert_rule", on, set_threshold(wire, rule, text)))
            _tell({"rule": rule, "threshold": made.text}, f"{rule} is {made.text} for all", as_json=as_json)
        case ["reset", rule]:
            was = once(lambda wire: acted(wire, "reset_alert_rule", rule, reset_threshold(wire, rule)))
            told = "is as the settings say" if was else "was not set"
            _tell({"rule": rule, "was_set": was}, f"{rule} {told}", as_json=as_json)
        case _:
            raise ConfigError(_USAGE)


def _print(found: AlertsTold) -> None:
    print_table(("rule", "threshold", "state", words("what")), map(_row, found.rules))
    say(
        f"sent to {found.destination}"
        if found.destination
        else "nowhere to send from here: BUS_ALERT_WEBHOOK is not set"
    )
    say(f"{found.by} looks" if found.by else "no process looks: start a worker or bus serve with BUS_ALERT_WEBHOOK")
    if found.delivery is not None:
        went = "went well" if found.delivery.ok else "failed"
        say(f"sending {went} {ago(found.delivery.at)}: {found.delivery.words}")
    for field in found.unreadable:
        say(f"field {field!r} of bus:alerts says nothing, and is passed over")


def _row(one: RuleTold) -> tuple[Cell, ...]:
    own = [f"{each.function}: {each.threshold} ({each.by})" for each in one.functions]
    told = "; ".join(each.words for each in one.alerts if each.state == "firing")
    since = f", {ago(one.since)}" if one.since else ""
    return (
        one.rule,
        f"{one.threshold}{'' if one.by == 'default' else f' ({one.by})'}",
        f"{one.state}{since}",
        "; ".join([*own, told] if told else own),
    )


def _tell(content: dict[str, object], told: str, *, as_json: bool) -> None:
    if as_json:
        print_json(content)
    else:
        say(told)
