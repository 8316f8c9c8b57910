"""Opening a connection (URL, TLS, AUTH: redis-py's work), and Redis's errors as ours.

redis-py's own retries are off: it retries by default, and so publishes twice (reliability T19).
"""

import asyncio
import re
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.asyncio.connection as async_connection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from bus.errors import ConfigError, GroupMissing, ScriptMissing, StoreError, StoreUnavailable

# Redis says these while it cannot serve: states to live through, told by the first *word* (BUSY is not BUSYGROUP).
AWAY = frozenset({
    "OOM", "MISCONF", "READONLY", "LOADING", "BUSY", "NOREPLICAS", "CLUSTERDOWN", "MASTERDOWN", "MOVED", "ASK",
    "TRYAGAIN", "UNBLOCKED", "NOAUTH",
})  # fmt: skip


def translated(text: str) -> Exception:
    """Return our error for a reply that is an error."""
    text = re.sub(r"^ERR (?=[A-Z]+ )", "", text)  # fakeredis puts ERR before Redis's own word
    word = text.partition(" ")[0]
    if word in AWAY:
        return StoreUnavailable(f"Redis cannot serve now: {text}", state=word)
    if word == "NOSCRIPT":
        return ScriptMissing(text)
    if word == "NOGROUP":
        return GroupMissing(text)
    return StoreError(text)


def without_password(url: str) -> str:
    """Return a URL that may be shown: the password is replaced."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")).geturl()


async def opened(url: str, patience: float, name: str) -> asyncio.StreamWriter:
    """Connect, authenticate and select; return the open stream, whose transport may be taken over.

    Raises StoreUnavailable when nothing answers, ConfigError when the URL or the password is wrong.
    """
    try:
        arguments: dict[str, Any] = dict(async_connection.parse_url(url))
    except ValueError as error:
        raise ConfigError(f"BUS_REDIS_URL {without_password(url)!r}: {error}") from None
    kind = arguments.pop("connection_class", async_connection.Connection)
    connection: Any = kind(
        **arguments,
        protocol=2,
        client_name=name,
        socket_timeout=patience,
        socket_connect_timeout=patience,
        retry=AsyncRetry(NoBackoff(), 0),
        driver_info=None,
    )
    try:
        await _connect(connection)
    except redis.AuthenticationError as error:
        raise ConfigError(f"Redis at {without_password(url)} refuses the password: {error}") from None
    except redis.BusyLoadingError as error:
        raise StoreUnavailable(f"Redis is loading its data: {error}", state="LOADING") from error
    except (redis.RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(
            f"no Redis at {without_password(url)}: {error}; start one, or set BUS_REDIS_URL", state="refused"
        ) from error
    # Private, and pinned by tests/redis/test_pipeline.py: after connect() all replies are read, the transport is idle.
    writer: asyncio.StreamWriter = connection._writer  # noqa: SLF001
    # redis-py's part is done: it must not close what we go on with.
    connection._reader = connection._writer = None  # noqa: SLF001
    return writer


async def _connect(connection: Any) -> None:
    try:
        await connection.connect()
    except BaseException:
        # Cancelled between its connecting and its greeting, redis-py leaves the socket open; uvloop's close() would
        # wait for it for ever.
        writer: asyncio.StreamWriter | None = connection._writer  # noqa: SLF001
        if writer is not None:
            writer.transport.abort()
            connection._reader = connection._writer = None  # noqa: SLF001
        raise


def threaded(url: str, timeout: float) -> "redis.Redis":
    """Return a blocking client for a thread of its own: no retries, a finite timeout."""
    return redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
        url,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        driver_info=None,
    )


threaded_errors: tuple[type[Exception], ...] = (redis.RedisError, OSError)
"""What a threaded() client raises when the server is away."""
