"""Bucket: blobs as objects of S3, or of what speaks its protocol (MinIO, R2, Ceph), by the object_store library.

It has threads of its own, which a fork does not have: a store is opened in the process that uses it.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import S3Store

from stepstream.bus.blobs.location import Location
from stepstream.bus.blobs.store import AT_ONCE, TIMEOUT_S, Blob, check_key, in_time, is_key
from stepstream.bus.environment import s3_endpoint
from stepstream.bus.errors import BlobGone, ConfigError, StoreUnfit
from stepstream.bus.values.clock import now_ms

_RETRIES = 3
_CONNECT_S = 5.0
_SHOWN = 300
_WAYS_OUT = {
    "missing": "make the bucket, or name another one in BUS_BLOBS_URL",
    "refused": (
        "which key is shown is up to AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the machine's role; "
        "it needs s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket there"
    ),
    "keyless": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role",
    "timeout": "does the address that AWS_ENDPOINT_URL or AWS_REGION leads to answer?",
    "unreachable": "does the address that AWS_ENDPOINT_URL or AWS_REGION leads to answer?",
    "wrong": "is what AWS_ENDPOINT_URL or AWS_REGION leads to a store of S3's protocol?",
}


class Bucket:
    """A store of blobs in a bucket, below a prefix. Credentials are of the environment, or the machine's role."""

    def __init__(self, where: Location, timeout_s: float = TIMEOUT_S) -> None:
        self.shown = where.url
        self._timeout_s = timeout_s
        _check_endpoint(s3_endpoint())
        try:
            self._store = S3Store(
                where.bucket,
                prefix=where.path or None,
                client_options={
                    "timeout": timedelta(seconds=timeout_s / 3),  # of one attempt
                    "connect_timeout": timedelta(seconds=min(_CONNECT_S, timeout_s / 6)),
                    "allow_http": True,  # where the endpoint says so, as with AWS's tools; AWS itself is asked by https
                },
                retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=timeout_s / 2)},
            )
        except (BaseError, ValueError) as error:  # variables of AWS that make no sense
            raise ConfigError(f"BUS_BLOBS_URL {where.url}: {_first_words(str(error))}") from None

    async def put(self, key: str, data: bytes) -> None:
        """Write a blob, by one request: it is there whole when the bucket has answered."""
        check_key(key)
        async with self._asked():
            await self._store.put_async(key, data, use_multipart=False)

    async def get(self, key: str) -> bytes:
        """Return a blob; BlobGone where the bucket says that it does not have the key."""
        check_key(key)
        async with self._asked(key):
            return bytes(await (await self._store.get_async(key)).bytes_async())

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete blobs, for good unless the bucket keeps versions."""
        paths = [check_key(key) for key in keys]
        for first in range(0, len(paths), AT_ONCE):
            part = paths[first : first + AT_ONCE]
            async with self._asked():
                await self._store.delete_async(part)

    async def list(self, prefix: str = "", older_than_ms: int = 0) -> AsyncIterator[Blob]:
        """Tell of blobs below a part of the prefix, last written so long ago."""
        until = now_ms() - older_than_ms
        below = check_key(prefix) if prefix else None
        pages = self._store.list(below, chunk_size=AT_ONCE)  # pyright: ignore[reportUnknownMemberType] - Arrow's form
        while True:
            async with self._asked():
                page = await anext(pages, None)
            if page is None:
                return
            for one in page:
                blob = Blob(one["path"], one["size"], int(one["last_modified"].timestamp() * 1_000))
                if blob.written_ms <= until and is_key(blob.key):
                    yield blob

    async def tidy(self) -> int:
        """Do nothing: what is not written whole is not there at all."""
        return 0

    @asynccontextmanager
    async def _asked(self, key: str = "") -> AsyncGenerator[None]:
        """Turn what the library raises into StoreUnfit with the way out; with `key`, into BlobGone where it is that."""
        async with in_time(self.shown, self._timeout_s):
            try:
                yield
            except (BaseError, OSError, ValueError) as error:
                text = str(error)
                if key and "<Code>NoSuchKey</Code>" in text:
                    raise BlobGone(key, self.shown) from None
                state = _state(text)
                way_out = _WAYS_OUT["keyless" if _is_keyless(text) else state]
                raise StoreUnfit(f"{self.shown}: {_first_words(text)}: {way_out}", state=state) from None


def _check_endpoint(endpoint: str) -> None:
    """Raise ConfigError, which shows no password, for an address that the library would stumble over."""
    if not endpoint:
        return
    try:
        parts = urlsplit(endpoint)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or "@" in endpoint or not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
        raise ConfigError(
            "AWS_ENDPOINT_URL must be an address like https://minio.example.com:9000, without user and password; "
            "what it is set to is not shown"
        )


def _is_keyless(text: str) -> bool:
    """Whether the library has looked for the machine's role, which it does when nothing else gives credentials."""
    return "/latest/api/token" in text or "/latest/meta-data/" in text


def _state(text: str) -> str:
    """Return what of StoreUnfit an error is; the library has but one kind for most.

    A request that deletes many is answered with 200, and a code for each: AccessDenied, InternalError, SlowDown.
    """
    if "<Code>NoSuchBucket</Code>" in text:
        return "missing"
    if _is_keyless(text) or re.search(r"status code: 40[13]|\(code: AccessDenied\)", text):
        return "refused"
    if "kind: Timeout" in text:
        return "timeout"
    if "kind: Connect" in text or re.search(r"status code: (5\d\d|429)|\(code: (InternalError|SlowDown)\)", text):
        return "unreachable"
    return "wrong"


def _first_words(text: str) -> str:
    """Return what an error says to people: the library adds its own structure below, and S3 its XML."""
    told = text.partition("\n\nDebug source")[0]
    code, message = (re.search(rf"<{tag}>([^<]*)</{tag}>", told) for tag in ("Code", "Message"))
    told = " ".join(told.partition(": <")[0].split())
    said = f" ({code[1]}{f': {message[1]}' if message else ''})" if code else ""
    return f"{told[:_SHOWN]}{said[:_SHOWN]}"
