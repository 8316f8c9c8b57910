"""`bus send`."""

import asyncio
import json
import sys
from typing import Annotated, Any

import typer

from bus import settings
from bus.bus import Bus, NewEvent
from bus.errors import ConfigError, EventInvalid
from bus.wire.wire import Wire


def send(
    name: Annotated[str, typer.Argument(help="The event's name, for example order/paid.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[JSON] [key=value …]", help="Its data.")] = None,
    id: Annotated[str | None, typer.Option(help="Your own id: sent twice within 24 h, it is stored once.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Publish an event: bus send order/paid '{"cents": 995}', or bus send order/paid cents=995 gift=true."""
    data = _data(words or [])
    stored = asyncio.run(_send(NewEvent(name, data, id)))
    if as_json:
        sys.stdout.write(json.dumps({"id": stored.id, "entry": stored.entry, "duplicate": stored.duplicate}) + "\n")
    else:
        sys.stdout.write(f"{stored.id}{'  (was there already)' if stored.duplicate else ''}\n")


async def _send(event: NewEvent) -> Any:
    configured, _ = settings.read()
    sender = Bus("cli")
    wire = Wire(configured, "bus-send")
    sender.connect(wire)
    try:
        return (await sender.publish([event]))[0]
    finally:
        await wire.close()


def _data(words: list[str]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if word.lstrip().startswith("{"):
            try:
                value = json.loads(word)
            except json.JSONDecodeError as error:
                raise EventInvalid(f"{word[:60]!r} is not JSON: {error}", field="data") from None
            data.update(value)
        elif equals and key:
            data[key] = _value(text)
        else:
            raise ConfigError(f"{word!r} is neither a JSON object nor key=value")
    return data


def _value(text: str) -> Any:
    """Numbers, true, false and null are themselves; the rest is text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
