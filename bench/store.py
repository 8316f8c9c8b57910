"""A store of a million ended runs, made by the server itself: a script adds some thousands of them with each call.

Their keys are as the engine writes them, of functions that have triggers, workers, some of them limits and schedules,
with what is counted of them by the minute and the errors of which they failed.
"""

import time
from typing import Any, cast

import redis

from stepstream.bus.values import codec
from stepstream.bus.values.ids import owner_letters
from stepstream.bus.wire import keys
from stepstream.checkpoint.facts.marks import About, mark_of

RUNS, FUNCTIONS, WORKERS = 1_000_000, 50, 40
_AT_ONCE = 5_000
_HOUR, _MINUTE_MS = 60, 60_000
_LEASE_MS = 10_000
_FRAMES = tuple(f"shop/orders.py: charge_{n}" for n in range(4))

_FILL = """
-- KEYS[1] prefix of a function; its letters in ids, its event, the first moment, the step between two, the first number
-- and how many
local letters, name, first, every = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local from, count = tonumber(ARGV[5]), tonumber(ARGV[6])
local CROCKFORD, text, keep = '0123456789ABCDEFGHJKMNPQRSTVWXYZ', string.rep('x', 200), 7 * 86400000
local function coded(n, width)
  local out = {}
  for i = width, 1, -1 do
    local digit = n % 32
    out[i] = string.sub(CROCKFORD, digit + 1, digit + 1)
    n = (n - digit) / 32
  end
  return table.concat(out)
end
local failure = '{"name":"PaymentDeclined","message":"card 4242 was declined","stack":"…"}'
local statuses = { [17] = 'failed', [18] = 'cancelled', [19] = 'skipped' }
local index = {}
for n = from, from + count - 1 do
  local queued, status = first + n * every, statuses[n % 20] or 'completed'
  local at = string.format('%d', queued)
  local run = coded(queued, 10) .. letters .. coded(n, 10)
  local data = '{"n":' .. n .. ',"text":"' .. text .. '"}'
  local event = '{"id":"' .. run .. '","name":"' .. name .. '","data":' .. data .. ',"ts":' .. at .. '}'
  local key = KEYS[1] .. 'run:' .. run
  local field, value = 'error', failure
  if status == 'completed' then
    field, value = 'output', 'null'
  end
  redis.call('HSET', key, 'format', '3', 'status', status, 'source', 'event', 'event', event, 'turn', '1', 'queued', at,
    'started', string.format('%d', queued + 3), 'ended', string.format('%d', queued + 40), 'code', 'v1',
    'holds', 'c0:customer-' .. n % 1000, field, value)
  redis.call('PEXPIRE', key, keep)
  redis.call('ZADD', KEYS[1] .. 'runs:' .. status, at, run)
end
return count
"""


def client_of(url: str) -> Any:
    """Return a client that is not of ours; untyped, as the library is."""
    return cast("Any", redis.Redis).from_url(url)


def slug(n: int) -> str:
    """Return the slug of a function of the store."""
    return f"bench-function-{n:02}"


def make_store(url: str, runs: int = RUNS, functions: int = FUNCTIONS) -> None:
    """Fill an empty server with ended runs, one a millisecond up to now, over functions that are at work."""
    client = client_of(url)
    now = time.time_ns() // 1_000_000
    fill, each = client.register_script(_FILL), runs // functions
    for n in range(functions):
        _declare(client, n, now)
        _add_facts(client, slug(n), now)
        for start in range(0, each, _AT_ONCE):
            own = [owner_letters(slug(n)), f"bench/{n}", now - runs + n, functions, start, min(_AT_ONCE, each - start)]
            fill(keys=[keys.function(slug(n))], args=own)
    for n in range(functions):
        _add_lines(client, slug(n), now)


def keep_alive(url: str, functions: int = FUNCTIONS) -> None:
    """Let workers have shown themselves just now: half of them live, half of them are dead."""
    client = client_of(url)
    now = time.time_ns() // 1_000_000
    pipeline = client.pipeline(transaction=False)
    slugs = {slug(n): "v1" for n in range(functions)}
    held = [{"function": slug(n), "run": f"01KB{n:022}", "step": "charge", "since": now - 5_000} for n in range(20)]
    for n in range(WORKERS):
        name, seen = f"box-{n}-71", now if n % 2 else now - 3_600_000
        pipeline.zadd(keys.workers(), {name: seen + 5 * _LEASE_MS})
        pipeline.hset(keys.worker(name), mapping={
            "host": f"box-{n}", "pid": 71, "version": "1", "slots": 100, "since": now - 7_200_000, "seen": seen,
            "functions": codec.encode(slugs), "in_hand": len(held), "held": codec.encode(held),
        })  # fmt: skip
        if n % 2:
            for one in slugs:
                pipeline.zadd(keys.function_workers(one), {name: now + 600_000})
    pipeline.execute()


def _declare(client: Any, n: int, now: int) -> None:
    """Register a function: each fifth has a schedule, each fifth other one limits."""
    name, event = slug(n), f"bench/{n}"
    on = [event, *(["cron */5 * * * *"] if n % 5 == 1 else [])]
    flow = ["2 at a time per event.data.customer", "10 starts in 1 s"] if n % 5 == 2 else []
    declared = {"bus": "bench", "id": name[6:], "name": name, "slug": name, "on": on, "events": [event],
                "retries": 4, "code": "v1", "flow": flow}  # fmt: skip
    client.hset(keys.functions(), name, codec.encode(declared))
    client.hset(keys.triggers(), f"{name} {event}", now - 86_400_000)
    client.zadd(keys.event_names(), {event: now - 86_400_000})
    client.xgroup_create(keys.events(event), name, "0", mkstream=True)
    client.xgroup_create(keys.queue(name), name, "0", mkstream=True)
    for entry in range(50):
        client.xadd(keys.events(event), {"id": f"{n}-{entry}", "name": event, "data": "{}", "ts": now})


def _add_facts(client: Any, name: str, now: int) -> None:
    """Count an hour and a half, and name the errors of it."""
    pipeline = client.pipeline(transaction=False)
    marks = [mark_of("PaymentDeclined", frame) for frame in _FRAMES]
    for minute in range(now // _MINUTE_MS - _HOUR - 30, now // _MINUTE_MS + 1):
        counted = {"started:1": 300, "completed:4": 200, "completed:5": 85, "failed:5": 15, "errors": len(marks)}
        pipeline.hset(keys.minute(name, minute), mapping=counted | {f"e:{mark}": 4 for mark in marks})
    for mark, frame in zip(marks, _FRAMES, strict=True):
        about = codec.encode(About("PaymentDeclined", frame, "card 4242 was declined"))
        told = {"": about, " count": 4_000, " first": now - 86_400_000, " last": now, " run": f"01KB{'0' * 22}"}
        pipeline.hset(keys.errors(name), mapping={f"{mark}{word}": value for word, value in told.items()})
        pipeline.zadd(keys.erred(name), {mark: now})
    pipeline.execute()


def _add_lines(client: Any, name: str, now: int) -> None:
    """Let some runs be at work, and others stand in the lines of limits."""
    pipeline = client.pipeline(transaction=False)
    for n in range(40):
        run = f"{'01KB' + '0' * 6}{owner_letters(name)}{n:010}"
        status, key = ("running" if n < 10 else "queued"), f"c0:customer-{n % 5}"
        fields = {"format": "3", "status": status, "queued": now - 1_000 * n, "holds": key, "event": "{}"}
        pipeline.hset(keys.run(name, run), mapping=fields)
        pipeline.zadd(keys.runs(name, status), {run: now - 1_000 * n})
        if name.endswith(("2", "7")):
            pipeline.zadd(keys.places(name, key) if n < 10 else keys.backlog(name, key), {run: now - 1_000 * n})
            pipeline.zadd(keys.full(name), {key: 6})
    pipeline.execute()
