"""Sending: a message goes to the webhook, or to the command. What came of it is told in words without secrets."""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import tempfile
from base64 import b64encode
from html import escape
from typing import IO, NamedTuple, Self
from urllib.parse import quote, quote_plus, unquote, urlsplit

import httpx2

from stepstream.bus.alerts import destination
from stepstream.bus.environment import plain_environment
from stepstream.bus.process.tasks import cancelled
from stepstream.bus.settings import Settings
from stepstream.consumers.alerts.message import Message
from stepstream.consumers.remote.calls.lanes import certificates, plain_client

SENT_WITHIN_S = 10.0
"""How long a webhook may take to answer, and a command to end."""
_MOST_READ = 4_096
_SHOWN = 200
_ENDS_S = 1.0
"""How long it is waited for the end of what a command has written, once it has ended itself."""
_SECRET = 6
"""From how many characters on a part of the webhook's address is taken for a secret."""


class Outcome(NamedTuple):
    """What came of sending: whether it arrived, in words, and whether it may have arrived though nobody said so."""

    ok: bool
    words: str
    is_unknown: bool = False


async def send(configured: Settings, told: Message, seconds: float = SENT_WITHIN_S) -> Outcome:
    """Send a message where the settings say; it never raises, and takes no longer than `seconds`."""
    try:
        return await _sent(configured, told, seconds)
    except Exception as error:  # noqa: BLE001 - whatever is wrong, it is told and tried again later, not at once
        return Outcome(False, f"it could not be sent ({type(error).__name__})", is_unknown=True)


async def _sent(configured: Settings, told: Message, seconds: float) -> Outcome:
    if configured.alert_webhook:
        is_slack = destination.is_slack(configured.alert_webhook, configured.alert_format)
        return await _post(configured.alert_webhook, told.body(slack=is_slack), seconds)
    words = destination.words_of(configured.alert_command, "BUS_ALERT_COMMAND")
    if not words:
        return Outcome(False, "nowhere to send: set BUS_ALERT_WEBHOOK or BUS_ALERT_COMMAND")
    return await _run([*words], told.body(slack=configured.alert_format == "slack"), seconds)


async def _post(url: str, body: bytes, seconds: float) -> Outcome:
    """Post to the webhook. No redirect is followed and no proxy looked for: the address is a secret, and goes nowhere
    else."""
    where = destination.shown(url)
    headers = {"content-type": "application/json", "user-agent": "stepstream"}
    try:
        async with (
            asyncio.timeout(seconds),
            plain_client(verify=certificates(), timeout=seconds) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            said = b""
            async for part in answer.aiter_raw():
                said += part
                if len(said) > _MOST_READ:
                    break
            return _answered(url, answer.status_code, said)
    except (TimeoutError, httpx2.ReadTimeout, httpx2.WriteTimeout):
        return Outcome(False, f"{where} did not answer within {seconds:g} s", is_unknown=True)
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        return Outcome(False, f"{where} is not reached: {_without(url, str(error)) or type(error).__name__}")
    except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, UnicodeError) as error:
        return Outcome(False, f"{where}: no whole answer ({type(error).__name__})", is_unknown=True)


def _answered(url: str, status: int, said: bytes) -> Outcome:
    where = destination.shown(url)
    if 200 <= status < 300:
        return Outcome(True, f"{where} answered {status}")
    if 300 <= status < 400:
        return Outcome(False, f"{where} answered {status}, a redirect, which is not followed: set where it leads to")
    told = " ".join(said.decode(errors="replace").split())
    printable = "".join(sign for sign in told if sign.isprintable())
    shown = _without(url, printable)[:_SHOWN]
    return Outcome(False, f"{where} answered {status}{f': {shown}' if shown else ''}")


def _without(url: str, text: str) -> str:
    """Return a text without what may be secret in an address."""
    parts = urlsplit(url)
    words = [*parts.path.split("/"), *parts.query.replace("&", "=").split("=")]
    words += [parts.username or "", parts.password or ""]
    # As they are sent, too, and as somebody may show what was sent: without %, in JSON or HTML.
    words += [unquote(one) for one in words]
    user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    words.append(b64encode(user.encode()).decode())
    forms = {
        form
        for one in words
        for form in (one, quote(one, safe=""), quote_plus(one), escape(one), json.dumps(one)[1:-1])
    }
    for secret in sorted(forms, key=len, reverse=True):
        if len(secret) >= _SECRET:
            text = text.replace(secret, "…")
    return text


async def _run(words: list[str], body: bytes, seconds: float) -> Outcome:
    """Run the command with the message on its standard input; what it has started ends with it."""
    # A file, not a pipe: whether and when the command reads is its own business.
    with tempfile.TemporaryFile() as given:
        given.write(body)
        given.seek(0)
        return await _run_with(words, given, seconds)


async def _run_with(words: list[str], given: IO[bytes], seconds: float) -> Outcome:
    name = words[0]
    async with _Kept() as said:
        try:
            process = await asyncio.create_subprocess_exec(
                *words, stdin=given, stdout=asyncio.subprocess.DEVNULL, stderr=said.inlet,
                env=plain_environment(), start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            told = error.strerror if isinstance(error, OSError) else "it has a zero byte"
            return Outcome(False, f"the command {name} does not start: {told}")
        try:
            async with asyncio.timeout(seconds):
                code = await process.wait()
        except TimeoutError:
            told = f"the command {name} did not end within {seconds:g} s, and was killed"
            return Outcome(False, told, is_unknown=True)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if code == 0:
            return Outcome(True, f"the command {name} ended with code 0")
        last = await said.last_line()
    ended = f"ended with code {code}" if code > 0 else f"was ended by signal {-code}"
    return Outcome(False, f"the command {name} {ended}{f': {last}' if last else ''}")


class _Kept:
    """The end of what a command writes to standard error. A pipe of our own: what outlives the command may hold it."""

    async def __aenter__(self) -> Self:
        outlet, self.inlet = os.pipe()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        self._pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: protocol, os.fdopen(outlet, "rb", buffering=0)
        )
        self._kept = b""
        self._reading = asyncio.ensure_future(self._read(reader))
        return self

    async def __aexit__(self, *error: object) -> None:
        self._close()
        self._pipe.close()
        await cancelled(self._reading)

    async def last_line(self) -> str:
        """Return the last line, or the last part of it, once all of it was read, or nobody closes it."""
        self._close()
        await asyncio.wait([self._reading], timeout=_ENDS_S)
        lines = self._kept.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return "".join(sign for sign in last if sign.isprintable())[-_SHOWN:]

    def _close(self) -> None:
        """Close our end of it: then it ends where the command's is closed."""
        if self.inlet >= 0:
            os.close(self.inlet)
            self.inlet = -1

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while part := await reader.read(_MOST_READ):
            self._kept = (self._kept + part)[-_MOST_READ:]
