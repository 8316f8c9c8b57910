"""Messages: publish one to a channel, and read those that a channel keeps."""

from collections.abc import Sequence
from typing import Any

import msgspec

from stepstream.bus.errors import BadRequest, NonRetriable
from stepstream.bus.values import codec
from stepstream.bus.values.ids import entry_ms, entry_place
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.streams import Fields, fields_of
from stepstream.bus.wire.wire import Wire

MAX_MESSAGE_BYTES = 512 * 1024
MAX_CHANNEL_CHARS = 255
MAX_TOPIC_CHARS = 255
MOST_MESSAGES = 1_000
"""How many messages a channel keeps: the newest."""
KEPT_MS = 3_600_000
"""How long a channel keeps them after the last one."""
_MOST_BYTES = 8 * 1024 * 1024
_FEWEST = 16
_PAGE = 100

_PUBLISH = script(__file__, "live_publish")


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a channel. `data` is what was published, as plain JSON values."""

    id: str
    """Its place in the channel: what comes after it is asked for by it."""
    channel: str
    topic: str
    json: bytes
    run: str = ""
    """The run that published it; empty when none did."""
    kind: str = "data"
    """`data`, or what SDKs send in pieces: `datastream-start`, `chunk`, `datastream-end`, `raw`."""
    stream: str = ""

    @property
    def data(self) -> Any:
        """What was published."""
        return codec.decode(self.json)

    @property
    def at(self) -> int:
        """When it was published, Unix ms."""
        return entry_ms(self.id)


def check_channel(channel: str) -> None:
    """Raise BadRequest for a text that names no channel."""
    if not 1 <= len(channel) <= MAX_CHANNEL_CHARS:
        raise BadRequest(f"a channel's name has 1 to {MAX_CHANNEL_CHARS} characters, got {len(channel)}")


def check_topic(topic: str) -> None:
    """Raise BadRequest for a text that names no topic."""
    if not 1 <= len(topic) <= MAX_TOPIC_CHARS:
        raise BadRequest(f"a topic's name has 1 to {MAX_TOPIC_CHARS} characters, got {len(topic)}")


def check_message(channel: str, topic: str, data: bytes) -> None:
    """Raise BadRequest for what cannot be published; the data is JSON by now."""
    check_channel(channel)
    check_topic(topic)
    if len(data) > MAX_MESSAGE_BYTES:
        raise BadRequest(
            f"a message's data has at most {MAX_MESSAGE_BYTES} bytes as JSON, got {len(data)}: publish where it lies"
        )


async def publish(
    wire: Wire, channel: str, topic: str, data: bytes, *, run: str = "", kind: str = "data", stream: str = ""
) -> str:
    """Add a message to its channel; return its id. Not fenced, and when Redis was away maybe twice in the stream.

    Raises BadRequest. A channel keeps fewer messages when large ones come: of each size about 8 MiB.
    """
    check_message(channel, topic, data)
    most = max(_FEWEST, min(MOST_MESSAGES, _MOST_BYTES // (len(data) + 1)))
    return codec.text(
        await wire.lasting_script(_PUBLISH, [keys.live(channel)], most, KEPT_MS, topic, data, run, kind, stream)
    )


async def publish_of_run(wire: Wire, run: str, channel: str, topic: str, data: bytes) -> None:
    """Publish for a run's code; NonRetriable for what cannot be: trying again does not mend it."""
    try:
        await publish(wire, channel, topic, data, run=run)
    except BadRequest as error:
        raise NonRetriable(str(error)) from None


async def between(wire: Wire, channel: str, after: str, last: str) -> tuple[list[Message], bool]:
    """Return the next messages after one, up to `last`; and whether some in between are no longer kept."""
    rows = await wire.load("XRANGE", keys.live(channel), after, last, "COUNT", _PAGE)
    is_there = bool(rows) and codec.text(rows[0][0]) == after
    is_gap = bool(rows) and not is_there and entry_place(after) > (0, 0)
    return messages_of(channel, rows[1:] if is_there else rows), is_gap


def messages_of(channel: str, rows: Sequence[Any]) -> list[Message]:
    """Return the messages of entries as Redis gives them."""
    return [_message(channel, codec.text(entry), fields_of(flat)) for entry, flat in rows if flat]


def _message(channel: str, entry: str, fields: Fields) -> Message:
    """Return the message of an entry; one added by hand may lack fields."""
    return Message(
        id=entry,
        channel=channel,
        topic=codec.text(fields.get(b"topic", b"")),
        json=fields.get(b"data", b"null"),
        run=codec.text(fields.get(b"run", b"")),
        kind=codec.text(fields.get(b"kind", b"data")),
        stream=codec.text(fields.get(b"stream", b"")),
    )
