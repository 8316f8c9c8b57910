"""Served: which functions have no worker, though events wait for them; for `bus doctor`."""

from stepstream.bus.errors import listed
from stepstream.bus.wire.doctor import Finding
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import functions, workers_serving

_SHOWN = 5


async def unserved(wire: Wire) -> list[Finding]:
    """Return one finding: which functions no worker serves, or that each has one. Empty without functions."""
    slugs = [function.slug for function in await functions(wire)]
    if not slugs:
        return []
    idle = [slug for slug, count in (await workers_serving(wire, slugs)).items() if not count]
    if not idle:
        return [Finding("workers", f"each of {len(slugs)} functions has one")]
    return [
        Finding(
            "workers",
            f"none for {listed(idle, _SHOWN)}",
            "advice",
            "start one: events are kept for 7 days without a worker; a function that is no more: bus functions forget",
        )
    ]
