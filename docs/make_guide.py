"""What docs/guide.md says: each feature with its shortest example, quoted from tests/guide, which run on real servers."""

import ast
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent

PARTS: list[tuple[str, str, str, str, tuple[str, ...]]] = [
    ("Wait for an event", "Suspends until an event has the same value at that path as the run's own; None on timeout.",
     "test_waiting.py", "test_wait_for_event_with_the_same_value", ("order",)),
    ("… by expression", "`event` is the run's own event, `async` the incoming one.",
     "test_waiting.py", "test_wait_for_event_by_expression", ("order",)),
    ("Wait for a signal, and send one", "A signal is a value for the one run that waits for its name.",
     "test_waiting.py", "test_signals", ("order", "speak")),
    ("Call another function", "The called function has a run and retries of its own; its error becomes the step's.",
     "test_waiting.py", "test_invoke_another_function", ("score", "order")),
    ("Pydantic models", "`@event(\"shop/quoted\")` above a model gives it its event's name, as above a dataclass or a TypedDict. `Quoted` and `Label` are models.",
     "test_payloads.py", "test_pydantic_models", ("order",)),
    ("Publish from a run", "Published once, however often the step is retried.",
     "test_waiting.py", "test_send_events_from_a_run_without_duplicates", ("order",)),
    ("An HTTP request that is tried again", "No answer, 5xx and 429 are tried again; any other status is returned.",
     "test_ends.py", "test_fetch_is_a_step", ("order",)),
    ("A command", "Nothing of it outlives the step. More: [steps that are processes](processes.md).",
     "test_processes.py", "test_a_command_as_a_step", ("sync",)),
    ("Side by side", "Steps of every kind wait at once.",
     "test_waiting.py", "test_steps_of_every_kind_side_by_side", ("order",)),
    ("Show progress", "A bar on the run's page.", "test_ends.py", "test_progress_is_on_the_run", ("order",)),
    ("On a schedule", "Once, however many workers there are; [where clocks change](concepts.md), as Vixie cron does.",
     "test_schedules.py", "test_cron", ("nightly",)),
    ("Several triggers", "Names, conditions, schedules.", "test_schedules.py", "test_several_triggers", ("f",)),
    ("Wildcards", "Also for names that are published later for the first time.",
     "test_schedules.py", "test_wildcards_also_of_streams_that_appear_later", ("every",)),
    ("Start with old events", "Without `from_start` a new function sees only events from its first registration on.",
     "test_schedules.py", "test_from_start_takes_what_is_there_already", ("late",)),
    ("When a run has failed", "`ctx.event.data` has the error, and the event with plain data.",
     "test_payloads.py", "test_on_failure_with_its_type", ("refund", "order")),
    ("Subscribe to the ends of runs", "Of all functions of every bus on this Redis.",
     "test_ends.py", "test_functions_may_listen_to_ends_and_are_not_told_of_their_own", ("finished", "failed")),
    ("Cancel by an event", "Cancels the runs that the event matches; their async bodies stop.",
     "test_cancel_on.py", "test_an_event_cancels_the_run_it_belongs_to", ("order",)),
    ("Bound how long a run takes", "`start`: from its event to its first line of code; `finish`: from there to its end.",
     "test_cancel_on.py", "test_a_run_that_takes_longer_than_its_timeout_is_cancelled", ("nap", "quick")),
    ("So many at once", "For each user, so many runs at once; the others wait. All limits: [limits](limits.md).",
     "test_limits.py", "test_so_many_at_once_for_each_key", ("f",)),
    ("One limit for several functions", "They share it by its name.",
     "test_limits.py", "test_a_limit_that_two_functions_share", ("f", "g")),
    ("Start evenly", "Runs above the limit wait.", "test_limits.py", "test_throttle", ("f",)),
    ("Drop what is above a rate", "Dropped events are listed as skipped for a day.", "test_limits.py", "test_rate_limit", ("f",)),
    ("Once for each key in 24 hours", "Only the first event of a key runs.", "test_limits.py", "test_idempotency", ("f",)),
    ("The last of many events", "Runs once, when no event has come for a while.", "test_limits.py", "test_debounce", ("f",)),
    ("One run for many events", "`ctx.events` are all of them.", "test_limits.py", "test_batch", ("f",)),
    ("One run at a time, others skipped", "With `Singleton(\"cancel\")` a newer event cancels the older run instead.",
     "test_limits.py", "test_singleton_skip", ("f",)),
    ("Some before others", "By how many seconds a run goes before its turn.",
     "test_limits.py", "test_priority", ("f",)),
    ("Test your functions", "A clock that stands still until it is moved. Whole files to begin with, several runs, replay in CI: [testing](testing.md).",
     "test_harness.py", "test_time_stands_still_until_it_is_moved", ()),
    ("Replace a step's body in a test", "By its id; what it returns, raises or calls instead.",
     "test_harness.py", "test_steps_are_stubbed_by_their_id", ()),
]  # fmt: skip


def quoted(file: str, test: str, inner: tuple[str, ...]) -> str:
    """Return the source of functions declared in a test; with none named, the test itself."""
    text = (ROOT / "tests/guide" / file).read_text()
    lines = text.splitlines()
    found = next(
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.AsyncFunctionDef) and node.name == test
    )
    nodes = [node for node in found.body if isinstance(node, ast.AsyncFunctionDef) and node.name in inner]
    assert len(nodes) == len(inner), f"{test} has not {inner}"
    parts: list[str] = []
    for node in nodes or [found]:
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        parts.append(textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno])).replace("@lab.app.", "@app."))
    return "\n\n".join(parts)


def declared(file: str, name: str) -> str:
    """Return the source of a class at the top of a file of tests, with an empty line before it."""
    text = (ROOT / "tests/guide" / file).read_text()
    [found] = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == name]
    return f"\n{ast.get_source_segment(text, found)}"


def page() -> str:
    """Return the page."""
    head = [
        "# Guide",
        "",
        "For who looks for a feature: each with its shortest example. Made by `make docs` from `tests/guide`, which run on real servers: what stands",
        "here works. First read [concepts](concepts.md). All examples begin like this; `Context[dict]` is short for `Context[dict[str, Any]]`, as a",
        "strict type checker wants it.",
        "",
        "```python",
        "from stepstream import Bus, Context, EventData, Step",
        "",
        'app = Bus("test")',
        "",
        *(declared("test_waiting.py", name) for name in ("Ordered", "Approved")),
        "```",
        'On the wire their field is `orderId`, for `rename="camel"`: paths (`match="data.orderId"`) and expressions have that name.',
        "",
    ]
    for title, text, file, test, inner in PARTS:
        head += [f"## {title}", text, "", "```python", quoted(file, test, inner), "```", ""]
    return "\n".join(head)
