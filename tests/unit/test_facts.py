"""Which errors are the same, and what percentiles buckets tell."""

import json
import statistics

import pytest

from stepstream.checkpoint.facts.buckets import COUNT, bucket_of, from_ms, percentile, percentiles, summed
from stepstream.checkpoint.facts.marks import LETTERS, frame_of, told_of
from stepstream.checkpoint.run.memo import Failure

PYTHON = """Traceback (most recent call last):
  File "/srv/app/shop/orders.py", line 12, in ship
    await pack(order)
  File "/srv/app/shop/packing.py", line 80, in pack
    return client.post(url)
  File "/srv/venv/lib/python3.12/site-packages/httpx/_client.py", line 9, in post
    raise ConnectError
ConnectError: refused
"""
ANOTHER_MACHINE = (
    PYTHON.replace("/srv/app", "C:\\Users\\ada\\app").replace("/shop/", "\\shop\\").replace("line 80", "line 8")
)
JAVASCRIPT = """TypeError: Cannot read properties of undefined (reading 'id')
    at Object.get (/app/node_modules/undici/lib/fetch.js:3:1)
    at async chargeCard (file:///app/src/functions.ts:12:9)
    at async ship (file:///app/src/functions.ts:40:3)
    at node:internal/process/task_queues:95:5
"""
NAMELESS = "Error: no\n    at /app/src/index.ts:7:11\n    at node:internal/main:1:2"
INSTALLED = """Traceback (most recent call last):
  File "/usr/lib/python3/site-packages/shop/orders.py", line 12, in ship
    pack()
  File "/usr/lib/python3/site-packages/boto/client.py", line 80, in call
    raise Refused
Refused
"""
GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "/srv/app/shop/orders.py", line 3, in ship
  |     async with asyncio.TaskGroup():
  | ExceptionGroup: unhandled errors (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/srv/app/shop/orders.py", line 9, in label
    |     raise ValueError
    | ValueError
"""


@pytest.mark.parametrize(
    ("stack", "frame"),
    [
        (PYTHON, "shop/packing.py: pack"),
        (ANOTHER_MACHINE, "shop/packing.py: pack"),
        (JAVASCRIPT, "src/functions.ts: chargeCard"),
        (NAMELESS, "src/index.ts"),
        (INSTALLED, "shop/orders.py: ship"),
        (GROUP, "shop/orders.py: label"),
        ("", ""),
        ("no such file: a.txt\n", ""),
    ],
)
def test_an_error_is_raised_where_the_authors_code_is_nearest(stack: str, frame: str) -> None:
    assert frame_of(stack) == frame


def test_an_error_stays_the_same_when_lines_machines_and_messages_change() -> None:
    one, other = told_of("ConnectError", "refused", PYTHON), told_of("ConnectError", "o2 refused", ANOTHER_MACHINE)
    assert one[:LETTERS] == other[:LETTERS]
    assert one[:LETTERS] not in {
        told_of("Other", "refused", PYTHON)[:LETTERS],
        told_of("ConnectError", "refused")[:LETTERS],
    }
    assert json.loads(one[LETTERS:]) == {"name": "ConnectError", "frame": "shop/packing.py: pack", "message": "refused"}


def _author(depth: int) -> None:
    if depth:
        _author(depth - 1)
    json.loads("{")


def test_what_a_handler_raises_is_told_by_the_frame_of_its_author() -> None:
    try:
        _author(2)
    except ValueError as error:
        failure = Failure.of(error)
    assert frame_of(failure.stack) == "unit/test_facts.py: _author"


def test_times_fall_into_the_bucket_that_begins_below_them() -> None:
    assert [bucket_of(ms) for ms in (0, 0.9, 1, 2, 2.2, 9.9, 10, 100, 999, 1_000, 10_000, 10**9)] == [
        0, 0, 0, 0, 1, 2, 3, 6, 8, 9, 12, 23,
    ]  # fmt: skip
    assert all(from_ms(bucket_of(ms)) <= ms for ms in (5, 60_000, 86_400_000))
    assert COUNT == 24


def test_percentiles_lie_in_the_bucket_of_what_they_tell() -> None:
    took = [float(1.01**n) for n in range(1_000)]
    buckets = summed([[int(b == bucket_of(ms)) for b in range(COUNT)] for ms in took])
    exact = statistics.quantiles(took, n=100)
    for share, found in zip((0.5, 0.95, 0.99), percentiles(buckets, 0.5, 0.95, 0.99), strict=True):
        assert found is not None
        assert 1 / 2.2 < found / exact[round(100 * share) - 1] < 2.2
    assert percentile([0] * COUNT, 0.5) is None
    assert percentile([1] + [0] * (COUNT - 1), 1.0) == pytest.approx(from_ms(1))
