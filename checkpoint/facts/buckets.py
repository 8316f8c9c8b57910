"""Buckets: how long something took, counted by third parts of a decade, from 1 ms to a day."""

import math
from collections.abc import Iterable, Sequence

COUNT = 24
"""Bucket b holds what took from 10^(b/3) ms on, up to the next one's; the last one all that took longer."""

Buckets = list[int]
"""How many fell into each bucket."""


def bucket_of(ms: float) -> int:
    """Return the bucket of a time; the scripts reckon likewise (fragment `facts`)."""
    return 0 if ms < 1 else min(COUNT - 1, math.floor(math.log(ms) * 3 / math.log(10) + 1e-9))


def from_ms(bucket: int) -> float:
    """Return the shortest time that falls into a bucket, ms."""
    return 0.0 if bucket == 0 else 10 ** (bucket / 3)


def summed(several: Iterable[Sequence[int]]) -> Buckets:
    """Return what fell into each bucket of several."""
    total = [0] * COUNT
    for one in several:
        for bucket, count in enumerate(one):
            total[bucket] += count
    return total


def percentile(buckets: Sequence[int], share: float) -> float | None:
    """Return the time that a share (0.95) of all took at most, ms, as well as buckets tell; None when there is nothing.

    It lies in the right bucket, so it is off by a factor of 2.2 at most.
    """
    total = sum(buckets)
    if not total:
        return None
    left = share * total
    for bucket, count in enumerate(buckets):
        if count and left <= count:
            low, high = max(1.0, from_ms(bucket)), from_ms(bucket + 1)
            return low * (high / low) ** (max(0.0, left) / count)
        left -= count
    return from_ms(COUNT)


def percentiles(buckets: Sequence[int], *shares: float) -> list[float | None]:
    """Return several percentiles: `percentiles(minute.took, 0.5, 0.95)`."""
    return [percentile(buckets, share) for share in shares]
