"""Trace contexts, as W3C has them (`traceparent`), and the ids of what is told of a run.

Ids are made of the run's, never at random: whichever worker goes on with a run, after however long a sleep and however
many crashes, tells of the same trace and the same parents, and nothing about that is kept anywhere.
"""

import hashlib
import re
from typing import NamedTuple

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_STORED = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")
_SAMPLED = 1


class TraceContext(NamedTuple):
    """A span of a trace, whoever has begun it; `sampled`: whether its spans are kept."""

    trace_id: int
    span_id: int
    sampled: bool

    def __str__(self) -> str:
        """Return it as the header `traceparent` has it."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{_SAMPLED if self.sampled else 0:02x}"


def parsed(traceparent: str | None) -> TraceContext | None:
    """Return what a `traceparent` says; None for what is none: W3C has it ignored then, and not refused."""
    found = _TRACEPARENT.fullmatch(traceparent.strip(" \t")) if traceparent else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    context = TraceContext(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & _SAMPLED))
    if version == "ff" or (version == "00" and more) or not context.trace_id or not context.span_id:
        return None
    return context


def as_stored(traceparent: str | None) -> str | None:
    """Return a `traceparent` as it is stored with an event; None for what is none."""
    context = parsed(traceparent)
    return None if context is None else str(context)


def is_stored(text: str) -> bool:
    """Whether a text is a trace as events have it: what was added by hand in another form is none."""
    return _STORED.fullmatch(text) is not None


def trace_of(run: str, parent: TraceContext | None) -> int:
    """Return the id of the trace that a run belongs to: that of what published its event, or one of its own."""
    return parent.trace_id if parent is not None else int.from_bytes(_hashed("trace", run)[:16])


def shown_trace(run: str, traceparent: str | None) -> str:
    """Return the id of a run's trace as trace stores have it, 32 hex digits; `traceparent` is that of its event."""
    return f"{trace_of(run, parsed(traceparent)):032x}"


def span_of(*of: str) -> int:
    """Return the id of a span: of a run (its id), of a step (with the step's), of an attempt (with its number)."""
    return int.from_bytes(_hashed("span", *of)[:8]) or 1


def _hashed(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()
