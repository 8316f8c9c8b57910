"""The durable function: a step for each query and model, then one that stores.

Run it with `bus dev clover_dashboard.functions:app`.
"""

import asyncio

import msgspec

from clover_dashboard.collections import Collections, opened
from clover_dashboard.models import Model, ask
from stepstream import Bus, Context, EventData, Step


class CollectionStart(EventData, name="collection.start"):
    """Somebody wants to know what models say of a brand."""

    collection_id: str
    brand: str
    queries: list[str]
    models: list[Model]


class Collected(msgspec.Struct):
    """What a collection came to."""

    collection_id: str
    answers: int
    mentions: int


app = Bus("clover-dashboard", lifespan=opened)


@app.function("collection", on=CollectionStart, retries=3)
async def collection(ctx: Context[CollectionStart, Collections], step: Step) -> Collected:
    """Ask each model each query, all at once; what one answered is kept, whatever happens to the others."""
    wanted = ctx.event.data
    pairs = [(model, query) for query in wanted.queries for model in wanted.models]
    answers = await asyncio.gather(
        *(step.run(f"ask {model}: {query}", ask, model, query, wanted.brand, timeout="2m") for model, query in pairs)
    )
    mentions = await step.run("store", ctx.state.finish, wanted.collection_id, wanted.brand, answers)
    return Collected(wanted.collection_id, len(answers), mentions)
