"""Told: an operation, and the count before one, as the API and commands with --json tell of them."""

import msgspec

from stepstream.checkpoint.actions.operations import DryCount, Kind, Operation
from stepstream.checkpoint.read.lists.runs import RunLine
from stepstream.checkpoint.read.lists.search import RunQuery

Filters = dict[str, str | int | list[str]]
"""A query by the names of its filters."""


class CountTold(msgspec.Struct, frozen=True, kw_only=True):
    """How many runs match (at least, unless `exact`), the newest of them, and the query that ends with this moment.

    `again` of them have been run again already: a rerun leaves them out, unless it is told `again`. Of `not_evaluated`
    others `where` could not be evaluated, for a number in their event or its size: they do not match.
    """

    kind: Kind
    query: Filters
    count: int
    exact: bool
    looked_at: int
    again: int
    not_evaluated: int
    sample: list[RunLine]


class OperationTold(msgspec.Struct, frozen=True, kw_only=True):
    """An operation, and how far it has come."""

    id: str
    kind: Kind
    query: Filters
    again: bool
    by: str
    created: int
    expected: int | None
    state: str
    ended: int
    looked_at: int
    matched: int
    not_evaluated: int
    """Of how many `where` could not be evaluated: for a number in their event, its size, a key. They do not match."""
    done: int
    failed: int
    failures: dict[str, int]


def count_told(found: DryCount) -> CountTold:
    """Return a count as it is told."""
    return CountTold(
        kind=found.kind,
        query=_filters(found.query),
        count=found.count,
        exact=found.exact,
        looked_at=found.looked_at,
        again=found.again,
        not_evaluated=found.not_evaluated,
        sample=found.sample,
    )


def operation_told(one: Operation) -> OperationTold:
    """Return an operation as it is told."""
    return OperationTold(
        id=one.id,
        kind=one.kind,
        query=_filters(one.query),
        again=one.again,
        by=one.by,
        created=one.created,
        expected=one.expected,
        state=one.state,
        ended=one.ended,
        looked_at=one.looked_at,
        matched=one.matched,
        not_evaluated=one.not_evaluated,
        done=one.done,
        failed=one.failed,
        failures=one.failures,
    )


def _filters(query: RunQuery) -> Filters:
    """Return a query as the filters that it would be read from."""
    told: Filters = {}
    for name, text in query.pairs():
        if name in ("since", "until"):
            told[name] = int(text)
        else:
            told[name] = text
    several = {"status": [*query.statuses], "function": [*query.functions]}
    return {**told, **{name: texts for name, texts in several.items() if texts}}
