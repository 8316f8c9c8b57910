"""What docs/keys.md says: every key, from bus/wire/keys."""

import inspect
from urllib.parse import unquote

from stepstream.bus.wire import keys


def page() -> str:
    """Return the page."""
    lines = [
        "# Every Redis key",
        "",
        "For who looks into Redis. Made from the docstrings of `bus/wire/keys` by `make docs`. `bus` is the default of `BUS_PREFIX`. `E` stands for an event's name, `F` for a function's",
        "slug (`<bus id>-<function id>`); both percent-encoded. Values are JSON or plain words: read them with `redis-cli`.",
        "",
        "| key | type | what |",
        "|---|---|---|",
    ]
    for make, stand_ins in keys.ALL:
        kind, _, what = inspect.cleandoc(make.__doc__ or "").partition(" · ")
        escaped = what.replace("|", "\\|")
        lines.append(f"| `{unquote(make(*stand_ins))}` | {kind} | {escaped} |")
    return "\n".join(lines) + EXAMPLE


EXAMPLE = """

## Looking with redis-cli

What a run of `examples/plushify` leaves (its function's slug is `plushify-generate-plushie`):

```
redis-cli XRANGE 'bus:events:{plushie/generate.requested}' - + COUNT 1     # id, name, data of the oldest event kept
redis-cli XPENDING 'bus:events:{plushie/generate.requested}' plushify-generate-plushie   # what is in hand, and whose
redis-cli ZRANGE 'bus:events:{plushie/generate.requested}:workers' 0 -1 WITHSCORES       # until when each lease holds
redis-cli ZREVRANGE 'bus:fn:{plushify-generate-plushie}:runs:completed' 0 9              # the latest runs
redis-cli HGETALL 'bus:fn:{plushify-generate-plushie}:run:<run>'           # status, event, turn, output or error, times
redis-cli HGETALL 'bus:fn:{plushify-generate-plushie}:steps:<run>'         # one memo a step: n, kind, attempts, data
redis-cli HGETALL 'bus:fn:{plushify-generate-plushie}:open:<run>'          # what is not finished: due, attempt, error
redis-cli ZRANGE 'bus:fn:{plushify-generate-plushie}:timers' 0 -1 WITHSCORES             # <run>:<turn> and when it is due
```

An event may be added by hand; what is missing is filled in:

```
redis-cli XADD 'bus:events:{plushie/generate.requested}' '*' data '{"generationId":"g1","userId":"ada", …}'
```
"""
