"""Gateway: requests that an app leaves to the bus: step.fetch, and calls of AI providers (step.ai.infer)."""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from stepstream.bus.errors import NonRetriable
from stepstream.bus.values import codec
from stepstream.consumers.turn.steps.fetch import Fetcher

WITHIN_S = 3_600.0
"""How long an answer may take; a model may think for long."""
_KEY_HEADERS = {"anthropic": "x-api-key", "gemini": "x-goog-api-key", "azure-openai": "api-key"}
_BEARER = "authorization"
_VERSIONS = {"anthropic": {"anthropic-version": "2023-06-01"}}
_LONGEST_TOLD = 2_000


class ProviderError(Exception):
    """An AI provider answered with an error; another attempt may do."""


class Request(msgspec.Struct):
    """What an app asks for by step.fetch."""

    url: str
    method: str = "GET"
    headers: dict[str, str] | None = None
    body: str | None = None


class Inference(msgspec.Struct):
    """What an app asks an AI provider, whose ways `format` names."""

    url: str
    body: Raw = Raw(b"{}")
    auth_key: str = ""
    format: str = "openai-chat"
    headers: dict[str, str] | None = None


async def fetched(fetcher: Fetcher, asked: Request) -> Raw:
    """Return what an app is told of an answer, whatever its status."""
    answer = await fetcher.ask(asked.method.upper(), asked.url, asked.headers or {}, asked.body, WITHIN_S)
    return Raw(
        codec.encode({"url": asked.url, "status_code": answer.status, "headers": answer.headers, "body": answer.body})
    )


async def inferred(fetcher: Fetcher, asked: Inference) -> Raw:
    """Return a provider's answer; ProviderError for any that is no success, or no JSON."""
    given = {"content-type": "application/json", **_key(asked), **(asked.headers or {})}
    # As Go writes them: not everything that answers ignores the case.
    headers = {name.title(): one for name, one in given.items()}
    answer = await fetcher.ask("POST", asked.url, headers, bytes(asked.body), WITHIN_S)
    if not 200 <= answer.status < 300:
        raise ProviderError(f"{asked.format} answered {answer.status}: {answer.body[:_LONGEST_TOLD]}")
    try:
        codec.decode(answer.body)
    except msgspec.DecodeError as error:
        raise NonRetriable(f"{asked.format} answered no JSON: {error}") from None
    return Raw(answer.body.encode())


def _key(asked: Inference) -> Mapping[str, str]:
    if not asked.auth_key:
        return {}
    header = _KEY_HEADERS.get(asked.format)
    key = {_BEARER: f"Bearer {asked.auth_key}"} if header is None else {header: asked.auth_key}
    return {**_VERSIONS.get(asked.format, {}), **key}
