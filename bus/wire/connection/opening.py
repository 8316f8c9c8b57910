"""Opening a connection: URL, TLS, AUTH are redis-py's work.

redis-py's own retries are off: it retries by default, and so publishes twice.
"""

import asyncio
import errno
from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio.connection as async_connection
import redis.connection as thread_connection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from stepstream.bus.errors import RightMissing, StoreUnavailable
from stepstream.bus.values.address import Address
from stepstream.bus.wire.connection.refusals import translated


async def opened(
    where: Address, patience: float, name: str, unnamed: Callable[[str], None] | None = None
) -> asyncio.StreamWriter:
    """Connect, authenticate and select; return the open stream, whose transport may be taken over.

    Naming the connection is its greeting: a server that lets nobody in says so then. `unnamed` is told when this user
    may not.

    Raises StoreUnavailable: nothing answers, the server lets nobody in, or not with this password, which may change.
    """
    kind: Any = {
        "redis": async_connection.Connection,
        "rediss": async_connection.SSLConnection,
        "unix": async_connection.UnixDomainSocketConnection,
    }[where.kind]
    connection: Any = kind(
        **where.options,
        protocol=2,
        socket_timeout=patience,
        socket_connect_timeout=patience,
        retry=AsyncRetry(NoBackoff(), 0),
        driver_info=None,
    )
    try:
        await _connect(connection, name, unnamed)
    except (redis.RedisError, OSError, TimeoutError) as error:
        raise unavailable(where, error) from None  # its cause may tell what we hide
    # Private, and pinned by tests/redis/test_pipeline.py: after connect() all replies are read, the transport is idle.
    writer: asyncio.StreamWriter = connection._writer  # noqa: SLF001
    # redis-py's part is done: it must not close what we go on with.
    connection._reader = connection._writer = None  # noqa: SLF001
    return writer


def unavailable(where: Address, error: Exception) -> StoreUnavailable:
    """Return why no connection opens, with the way out."""
    told = where.hide(str(error))
    if isinstance(error, redis.AuthenticationError):
        return StoreUnavailable(
            f"Redis at {where.shown} refuses the user or the password of BUS_REDIS_URL: {told}", state="WRONGPASS"
        )
    if isinstance(error, redis.BusyLoadingError):
        return StoreUnavailable(f"Redis is loading its data: {told}", state="LOADING")
    if "max number of clients" in told:
        return StoreUnavailable(
            f"Redis at {where.shown} takes no more connections ({told}): raise its maxclients, or run fewer processes",
            state="maxclients",
        )
    if isinstance(error, redis.ResponseError):
        word = words(error).partition(" ")[0]
        return StoreUnavailable(f"Redis at {where.shown} does not let us in: {told}", state=word)
    if _number_of(error) in _NO_FILES:
        return StoreUnavailable(
            f"no connection to Redis at {where.shown}: this process may open no more files: raise ulimit -n",
            state="files",
        )
    return StoreUnavailable(f"no Redis at {where.shown}: {told}; start one, or set BUS_REDIS_URL", state="refused")


_NO_FILES = {errno.EMFILE, errno.ENFILE}


def _number_of(error: BaseException | None) -> int | None:
    """Return the number of the system's error behind one, or None."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


async def _connect(connection: Any, name: str, unnamed: Callable[[str], None] | None) -> None:
    try:
        await connection.connect()
        await connection.send_command("CLIENT", "SETNAME", name)
        try:
            await connection.read_response()
        except redis.AuthenticationError:  # NOAUTH: it wants a password, and there is none
            raise
        except redis.ResponseError as error:
            refused = translated(words(error))
            if isinstance(refused, StoreUnavailable) and not isinstance(refused, RightMissing):
                # This command, in words of a host's own, or all?
                await connection.send_command("PING")
                await connection.read_response()
            if unnamed is not None:
                unnamed(words(error))
    except BaseException:
        # Cancelled between its connecting and its greeting, redis-py leaves the socket open; uvloop's close() would
        # wait for it for ever.
        writer: asyncio.StreamWriter | None = connection._writer  # noqa: SLF001
        if writer is not None:
            writer.transport.abort()
            connection._reader = connection._writer = None  # noqa: SLF001
        raise


def threaded(where: Address, timeout: float) -> "redis.Redis":
    """Return a blocking client for a thread of its own: no retries, a finite timeout."""
    kind: Any = {
        "redis": thread_connection.Connection,
        "rediss": thread_connection.SSLConnection,
        "unix": thread_connection.UnixDomainSocketConnection,
    }[where.kind]
    pool = thread_connection.ConnectionPool(
        connection_class=kind,
        **where.options,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        driver_info=None,
    )
    return redis.Redis.from_pool(pool)  # and closes it


threaded_errors: tuple[type[Exception], ...] = (redis.RedisError, OSError)
"""What a threaded() client raises when the server is away."""


def words(refused: Exception) -> str:
    """Return an error reply as the server said it: redis-py takes the first word off those it knows."""
    word = refused.status_code if isinstance(refused, redis.RedisError) else None
    return f"{word} {refused}" if word else str(refused)
