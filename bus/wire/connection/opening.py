"""Opening a connection. redis-py does the TLS handshake, AUTH and SELECT; its retries are off.

By default it repeats a command whose connection broke, and so would publish an event twice.
"""

import asyncio
import errno
from collections.abc import Callable, Sequence
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
    where: Address,
    patience: float,
    name: str,
    unnamed: Callable[[str], None] | None = None,
    shas: Sequence[str] = (),
) -> tuple[asyncio.StreamWriter, list[bool]]:
    """Connect, authenticate and select the database; return the open stream, whose transport the caller takes over.

    The first command names the connection: a server that accepts no clients answers it with an error. `unnamed` is
    called when this user may not name connections. Also returned is which of the scripts with these SHA-1s the server
    has, asked in the same round trip; none, as far as is known, when this user may not ask.

    Raises StoreUnavailable when nothing answers, or the server accepts no client, or not with this password (which may
    change).
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
        there = await _connect(connection, name, unnamed, shas)
    except (redis.RedisError, OSError, TimeoutError) as error:
        raise unavailable(where, error) from None  # the cause may contain the password
    # Private, and pinned by tests/redis/test_pipeline.py: after connect() all replies are read, the transport is idle.
    writer: asyncio.StreamWriter = connection._writer  # noqa: SLF001
    # redis-py must not close the stream that we go on with.
    connection._reader = connection._writer = None  # noqa: SLF001
    return writer, there


def unavailable(where: Address, error: Exception) -> StoreUnavailable:
    """Return why no connection could be opened, and what to do."""
    message = where.hide(str(error))
    if isinstance(error, redis.AuthenticationError):
        return StoreUnavailable(
            f"Redis at {where.shown} refuses the user or the password of BUS_REDIS_URL: {message}", state="WRONGPASS"
        )
    if isinstance(error, redis.BusyLoadingError):
        return StoreUnavailable(f"Redis is loading its data: {message}", state="LOADING")
    if "max number of clients" in message:
        return StoreUnavailable(
            f"Redis at {where.shown} takes no more connections ({message}): raise maxclients, or run fewer processes",
            state="maxclients",
        )
    if isinstance(error, redis.ResponseError):
        word = as_sent(error).partition(" ")[0]
        return StoreUnavailable(f"Redis at {where.shown} refuses the connection: {message}", state=word)
    if _number_of(error) in _NO_FILES:
        return StoreUnavailable(
            f"no connection to Redis at {where.shown}: this process may open no more files; raise ulimit -n",
            state="files",
        )
    told = f"no Redis at {where.shown}: {message.rstrip('.')}; {_way_out(where.kind, message)}"
    return StoreUnavailable(told, state="refused")


def _way_out(kind: str, message: str) -> str:
    """Return what to do where no Redis is met: it may be there, and not trusted, or spoken to in another way."""
    small = message.lower()
    if "certificate" in small:
        return (
            "name who has signed its certificate, BUS_REDIS_URL=rediss://…?ssl_ca_certs=/path/ca.pem, and the host as "
            "the certificate does"
        )
    if kind == "rediss" and any(word in small for word in ("timeout", "ssl", "closed")):
        return "if it speaks no TLS at this port, BUS_REDIS_URL begins with redis://"
    if kind == "redis" and any(word in small for word in ("reset by peer", "closed", "protocol error")):
        return "if it speaks TLS at this port, BUS_REDIS_URL begins with rediss://"
    return "run bus dev, start a server, or set BUS_REDIS_URL"


_NO_FILES = {errno.EMFILE, errno.ENFILE}


def _number_of(error: BaseException | None) -> int | None:
    """Return the errno of the system error that caused an error; None when there is none."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


async def _connect(
    connection: Any, name: str, unnamed: Callable[[str], None] | None, shas: Sequence[str]
) -> list[bool]:
    there = [False] * len(shas)
    try:
        await connection.connect()
        commands = [("CLIENT", "SETNAME", name), *([("SCRIPT", "EXISTS", *shas)] if shas else [])]
        await connection.send_packed_command(connection.pack_commands(commands))
        named = await _answer(connection)  # raises for NOAUTH: the server wants a password, and the URL has none
        found: list[int] | redis.ResponseError = await _answer(connection) if shas else []
        if not isinstance(found, redis.ResponseError):
            there = [bool(one) for one in found]
        if isinstance(named, redis.ResponseError):
            refused = translated(as_sent(named))
            if isinstance(refused, StoreUnavailable) and not isinstance(refused, RightMissing):
                # In a hosted server's own words: is this command refused, or every command? PING tells.
                await connection.send_command("PING")
                await connection.read_response()
            if unnamed is not None:
                unnamed(as_sent(named))
    except BaseException:
        # Cancelled after the socket is open, redis-py does not close it; uvloop's close() would wait for it for ever.
        writer: asyncio.StreamWriter | None = connection._writer  # noqa: SLF001
        if writer is not None:
            writer.transport.abort()
            connection._reader = connection._writer = None  # noqa: SLF001
        raise
    return there


async def _answer(connection: Any) -> Any:
    """Return a reply, or the error that refuses this one command; raise what is wrong with the connection."""
    try:
        return await connection.read_response()
    except redis.ResponseError as error:
        return error


def threaded(where: Address, timeout: float) -> "redis.Redis":
    """Return a blocking client, for use in a thread: without retries, with a finite timeout."""
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
    return redis.Redis.from_pool(pool)  # closing the client closes the pool


threaded_errors: tuple[type[Exception], ...] = (redis.RedisError, OSError)
"""What a threaded() client raises when the server is away."""


def as_sent(refused: Exception) -> str:
    """Return an error reply as the server sent it: redis-py strips the first word of those it knows."""
    word = refused.status_code if isinstance(refused, redis.RedisError) else None
    return f"{word} {refused}" if word else str(refused)
