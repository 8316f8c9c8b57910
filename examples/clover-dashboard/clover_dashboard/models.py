"""The models that are asked. A stand-in: it answers at once and the same, unless it is told otherwise."""

import hashlib
from enum import StrEnum

import msgspec
from stand_ins import outside


class Model(StrEnum):
    """The models there are."""

    SONNET = "sonnet"
    OPUS = "opus"
    GPT = "gpt"
    GEMINI = "gemini"


class Answer(msgspec.Struct):
    """What a model said to a query, and how often it named the brand."""

    query: str
    model: Model
    text: str
    mentions: int


async def ask(model: Model, query: str, brand: str) -> Answer:
    """Ask a model."""
    await outside(f"ask/{model}/{query}")
    mentions = hashlib.sha256(f"{model} {query} {brand}".encode()).digest()[0] % 4
    return Answer(query, model, f"{query}: " + ", ".join([brand] * mentions or ["others"]), mentions)
