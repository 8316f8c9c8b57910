"""What docs/make_reference.py cannot read from the code: the way out of each error, and what each limit is of."""

from typing import Literal

WAYS_OUT = {
    "StepstreamError": "The base of all errors here: catch it to catch any of them.",
    "ConfigError": "Change what the message names: an option, a `BUS_…` variable, a command's argument.",
    "NoSuchApp": "Name the module and the attribute as Python finds them from this folder: `bus dev shop.functions:app`.",
    "BrokenApp": "Mend the line of yours that the message ends with; the module was found.",
    "EventInvalid": "Mend the field that `field` names. Nothing was stored; sending the same again fails again.",
    "BadRequest": "Change the parameter that the message names.",
    "StepNotFound": "`bus run ID` lists the run's steps; rerun from one that is completed.",
    "NotBegun": "Wait until the run has begun, or send its event again.",
    "NotFound": "Look at the name or the id.",
    "RunNotFound": "`bus runs` lists what is there; ended runs are kept for `BUS_KEEP` (7 d), and `BUS_KEEP_RUNS` of a function.",
    "FunctionNotFound": "`bus functions` lists them. A function is there once a worker, or a process that publishes, has loaded its app.",
    "AppNotFound": "`bus apps` lists them. An application behind HTTP is there once it has registered: [Inngest SDKs](../inngest-sdk.md).",
    "RegistrationRefused": "Change the option of the function that the message names, and let the application register again.",
    "KeyRefused": "Show the key that the message names: [which key opens what](../http.md#keys).",
    "SignatureInvalid": "Give both sides the same signing key, and set their clocks.",
    "NobodyWaits": "The run waits no longer, or has not come to its wait yet. A signal is not kept: use an event where it may come early.",
    "DelayedNotFound": "`bus delayed` lists them; one that was published cannot be taken back: cancel its run.",
    "EventNotFound": "Events are kept for `BUS_KEEP_EVENTS` (3 d), and as long as a function has not read them: `GET /v1/events` lists them.",
    "Conflict": "Look at the state of what is named; the message has it.",
    "HasEnded": "Nothing to do; to run it again: `bus rerun ID`.",
    "InUse": "Stop the function's workers; for runs that have not ended: `bus functions forget SLUG --with-runs`.",
    "StoreError": "Redis refuses a command for good: `bus doctor` says what is unfit, `bus check` what was changed by hand.",
    "GroupMissing": "None: the group is made again, and the log says so.",
    "ScriptMissing": "None: the script is sent whole.",
    "Unavailable": "`bus doctor`. Workers wait and go on by themselves; a publisher sends again, with an id of its own (`id=`), so that it is stored once.",
    "RightMissing": "Give the user the right that the message names: [the rule](../operations.md).",
    "PublishFailed": "`stored` and `unknown` say what became of the events: [publish from anywhere](../publishing.md). Send again what is in neither.",
    "Malformed": "Send JSON; the message says where it ends to be any.",
    "StaleCall": "Told to an app that saves a step too late: another worker has the run, or it has ended. Its SDK stops that call.",
    "RequestRefused": "The message says what of the body is refused: size, form, encoding or time.",
    "RunError": "The base of what ends a step or a run.",
    "StepFailed": "Catch it around the step to go on without it; uncaught, it fails the run. `step`, `name`, `message` say what happened.",
    "ProcessFailed": "As StepFailed; `exit_code`, `signal` and `output` say how the command ended. Exit codes that are no failure: `ok=(0, 1)`.",
    "ProcessError": "One attempt of a command; handlers see ProcessFailed.",
    "NonRetriable": "You raise it: no further attempt.",
    "RetryAfter": "You raise it: the next attempt at that time.",
    "RunFailed": "`bus run ID` shows the steps and the log; `bus rerun ID --from STEP` runs it again from there.",
    "RunUnfinished": "Wait longer, or ask again later: the run goes on.",
}
"""By class. A class that is missing here stops `make docs`."""

STORED = {
    "cancelled": "Somebody or something cancelled it; the message says who: a person, an event of `cancel_on`, a newer run of its singleton.",
    "timeout": "It took longer than its bound: `timeouts=`, or the `timeout=` of the step. The message says which.",
    "worker_crash": "Its worker died five times in a row while it ran this: look for what kills the process (memory, a native library, `os._exit`), then `bus rerun ID`.",
    "code_changed": "Deploy a version that calls the steps it names: [living with code changes](../living-with-code-changes.md). Or cancel the run.",
    "event_invalid": "The event (or the data of a call) does not fit the handler's (or the wait's) type any more: make a new field optional, or `bus rerun ID` after the next deploy.",
    "signal_conflict": "Another run waits for this signal's name: put the run's own id into the name.",
    "signal_invalid": "What came does not fit `type=`: mend the sender, or take `type=` off.",
    "waits_full": "Too many runs wait for one event name by `if_`: use `match=`, which has no such bound.",
    "unreachable": "Nobody listens at the app's address; the run is called again when it does, and no attempt is used up. Start the app, or sync it from where it is now: `bus apps sync URL`.",
    "call_broken": "The app's answer broke off, or took longer than two hours: look for what ended the app. What it had not saved is done again.",
    "bad_answer": "What came back is no answer of an SDK: the message says what came. Is the app served at the address that `bus apps` shows?",
    "not_called": "`step.invoke` names a function that is not there: the message lists those that are.",
    "gone": "The called run's end is no longer kept: raise `BUS_KEEP`.",
    "exit_code": "The command ended with a code that is not in `ok=`; its last output is in the error.",
    "killed": "A signal from outside ended the command (often the kernel, out of memory: SIGKILL).",
    "not_started": "The command was not found, or may not run, or its `cwd` is not there: the message says which.",
    "NonRetriable": "What the function returned is not JSON: return plain values, a dataclass, a TypedDict or a Pydantic model.",
}
"""By the name that a run's or a step's error has, where it is not the name of an exception your code raised."""

EXITS = {
    0: "done; a worker: told to stop, and everything in hand was finished or suspended",
    1: "an error, told in one line; a run that was looked at or waited for has failed; `bus doctor` and `bus check` found something",
    2: "`--wait`: a run has not ended in time. Also: the command line makes no sense",
    3: "`bus worker`: told to stop, and something was still in hand after `BUS_DRAIN`; it goes on elsewhere",
    130: "`bus worker`: a second signal, it ended at once",
}

ROUTES = {
    "/e/{key}": 'Publish an event, `{"name": "order/paid", "data": {…}}`, or a list of them; `id`, `ts` and what else an event has. Answers the `ids`, how many `functions` start, and which names nobody listens to.',
    "/invoke/{function:path}": 'Run a function by its slug: `{"data": {…}}`. Answers the run\'s `id`.',
    "/v1/signals": '`{"signal": "name", "data": …}` to the run that waits for it; answers its `run_id`.',
    "/v1/runs": "Runs, newest first: `function`, `status`, `limit`, `cursor`, `since` and `until` (Unix ms).",
    "/v1/runs/{id}": "One run with its event, output and error; `?wait=30s` answers when it has ended, or then.",
    "DELETE /v1/runs/{id}": "Cancel it. Of one that has ended it says how.",
    "/v1/runs/{id}/steps": "Its steps: states, attempts, results, errors.",
    "/v1/runs/{id}/log": "What it has written; `?last=n`.",
    "/v1/runs/{id}/rerun": 'Run it again: `{"from": "step"}` keeps the results of the steps before; the same `request` twice makes one run. Answers the new `id`.',
    "/v1/functions": "The functions with their runs by status, and buses that disagree about a type.",
    "/v1/functions/{id:path}": "One function, with who waits for its limits.",
    "/v1/events": "Events as they came, newest first: `name`, `limit`, `cursor`, `received_after` and `received_before` (RFC 3339 or Unix ms).",
    "/v1/events/{id}": "One event, by its id or the one an SDK gave it.",
    "/v1/events/{id}/runs": "The runs that functions made of it, in the hosted service's words.",
    "/v1/event-names": "The names of events, with how many functions listen; those that nobody listens to first.",
    "/events": "The page of event names.",
    "/v1/delayed": "Events that wait for their time, the next first.",
    "DELETE /v1/delayed": "Take one back: `?name=…&id=…`.",
    "/fn/register": "For SDKs: an application behind HTTP says which functions it has; [all are taken, or none](../inngest-sdk.md).",
    "/v0/runs/{id}/actions": "For SDKs: the finished steps of a run, when a call would be larger than 4 MiB.",
    "/v0/runs/{id}/batch": "For SDKs: its events.",
    "/v1/checkpoint/{id}/async": "For SDKs: saves the steps that an app has run while its call is open; 409 when the call is not the run's any more.",
    "/dev": "For SDKs: tells that a server is here which signs nothing, and what is registered. 404 in keys mode.",
    "/health": "200 while this process is up.",
    "/ready": "200 when it can work: Redis answers and evicts nothing; else 503 with why.",
    "/": "The front page.",
    "/runs/{id}": "A run's page.",
    "/functions/{slug:path}": "A function's page.",
    "/runs/{id}/cancel": "The page's button.",
    "/delayed/cancel": "The page's button.",
    "/static": "The page's own files.",
    "/runs/{id}/rerun": "The page's button.",
}
"""By path, and by method where a path has several."""

Unit = Literal["count", "bytes", "ms", "s", "characters"]

SIZES: list[tuple[str, list[tuple[str, str, Unit, str]]]] = [
    ("Events", [
        ("an event's data, as JSON", "bus.event:MAX_EVENT_BYTES", "bytes", "EventInvalid, 413"),
        ("events in one `send`, or one POST", "bus.event:MAX_EVENTS", "count", "EventInvalid"),
        ("the body of a request", "producers.body:MAX_BODY_BYTES", "bytes", "413"),
        ("how long a body may take to come", "producers.body:BODY_WITHIN_S", "s", "408"),
        ("an event's name, UTF-8", "bus.event:MAX_NAME_BYTES", "bytes", "EventInvalid"),
        ("an event's id", "bus.event:MAX_ID_CHARS", "characters", "EventInvalid"),
        ("levels of JSON", "producers.strict:MAX_DEPTH", "count", "EventInvalid"),
        ("digits of a whole number", "producers.strict:MAX_DIGITS", "count", "EventInvalid"),
    ]),
    ("Runs and steps", [
        ("steps of a run", "checkpoint.run.memo:MAX_STEPS", "count", "the run fails"),
        ("a step's id", "consumers.turn.step_ids:MAX_STEP_ID", "characters", "the run fails"),
        ("what a step returns, as JSON", "checkpoint.run.memo:MAX_RESULT_BYTES", "bytes", "the step fails, and is not tried again"),
        ("what all steps of a run have returned", "checkpoint.run.memo:MAX_STATE_BYTES", "bytes", "the run fails"),
        ("retries of a step or a function", "bus.retry:MAX_RETRIES", "count", "ConfigError"),
        ("crashes of a worker in a row under one run", "checkpoint.run.start:MAX_CRASHES", "count", "the run fails, `worker_crash`"),
        ("the answer to `step.fetch`", "consumers.turn.steps.fetch:MAX_BODY", "bytes", "the attempt fails"),
        ("each output of `step.subprocess` in its result", "consumers.turn.steps.process:KEPT", "bytes", "its end is kept; `cut` says how much came before"),
        ("lines of a run's log", "checkpoint.run.log:MOST_LINES", "count", "the oldest go; it says how many"),
        ("a run's log", "checkpoint.run.log:MOST_BYTES", "bytes", "the oldest lines go"),
        ("a line of the log", "checkpoint.run.log:LONGEST_LINE", "characters", "it is cut"),
        ("a run exported with `bus run ID --export`", "checkpoint.read.recording:MOST_BYTES", "bytes", "refused"),
    ]),
    ("Functions behind HTTP", [
        ("what an app answers to one call", "consumers.remote.client:MAX_ANSWER_BYTES", "bytes", "the attempt fails, `output_too_large`"),
        ("how long one call may take", "consumers.remote.client:CALL_S", "s", "the attempt fails"),
        ("a call with its events and steps in it", "consumers.remote.memos:MAX_BODY_BYTES", "bytes", "the app fetches them"),
        ("operations in one answer", "consumers.remote.protocol:MAX_OPS", "count", "the attempt fails"),
    ]),
    ("Waiting", [
        ("a sleep, a wait, a delay", "bus.values.durations:LONGEST_MS", "ms", "ConfigError"),
        ("runs that wait for one name by `if_`", "checkpoint.waits.event_waits:MOST_BY_EXPRESSION", "count", "the step fails, `waits_full`; `match=` has no such bound"),
        ("paths that the waits for one name look at", "checkpoint.waits.event_waits:MOST_PATHS", "count", "waits at further paths are not looked at"),
        ("events of a name that a new wait looks back at", "checkpoint.waits.event_waits:LOOK_BACK", "count", "older ones are not found"),
        ("a signal's name", "checkpoint.waits.signals:MAX_NAME", "characters", "EventInvalid"),
        ("how late a schedule's tick may run", "bus.cron:MAX_LATE_MS", "ms", "it is left out, unless `catch_up=True`"),
        ("how much later its jitter may let a tick run", "bus.cron:MAX_JITTER_MS", "ms", "ConfigError"),
    ]),
    ("Limits of functions", [
        ("rules of `cancel_on`", "bus.limits:MAX_CANCEL_ON", "count", "ConfigError"),
        ("`priority`, before or after", "bus.limits:MOST_PRIORITY_S", "s", "it is cut"),
        ("how long a skipped event is listed", "checkpoint.limits.admit:VERDICT_KEPT_MS", "ms", "-"),
    ]),
    ("The API", [
        ("names under Events and in `/v1/event-names`", "checkpoint.read.events:MOST_NAMES", "count", "those that appeared last are shown; it says how many are not"),
        ("runs on a page of `/v1/runs`", "web.api.v1:MOST", "count", "400"),
        ("events on a page of `/v1/events`", "checkpoint.read.arrivals:MOST", "count", "so many"),
        ("how long a request may wait for a run's end", "web.api.v1:LONGEST_WAIT_MS", "ms", "it answers then"),
    ]),
    ("Keeping", [
        ("the least of `BUS_KEEP`", "bus.settings:LEAST_KEEP_MS", "ms", "ConfigError"),
        ("events that a group without workers holds", "checkpoint.upkeep.retention:FORGET_MS", "ms", "the group is dropped, with a line in the log"),
        ("`BUS_TIMEOUT` of a process that only publishes", "bus.settings:PUBLISH_TIMEOUT_MS", "ms", "Unavailable"),
        ("how much longer than `BUS_DRAIN` a worker may take to end", "consumers.worker:LAST_S", "s", "its threads are left"),
    ]),
]  # fmt: skip
"""By part: what, the constant (`module:NAME`), its unit, and what happens above it."""

NOT_FOR_USERS = frozenset(
    {
        "web.api.delayed:MOST",
        "bus.wire.batching:MOST",
        "bus.wire.bounds:MOST_ARGUMENTS",
        "bus.wire.bounds:MOST_BYTES",
        "bus.wire.bounds:MOST_ENTRIES",
        "checkpoint.limits.backlogs:MOST",
        "consumers.delivery.reclaimer:MOST",
        "consumers.delivery.slot_queue:LONGEST_S",
        "consumers.turn.run_log:MOST_AT_ONCE",
        "consumers.turn.run_log:MOST_BYTES_AT_ONCE",
        "consumers.turn.steps.wait:LONGEST_MS",
    }
)
"""Constants named like a bound (MAX_…, MOST_…, LONGEST…) that bound how we work, not what a user may do."""
