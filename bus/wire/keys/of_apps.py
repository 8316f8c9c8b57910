"""Keys of applications behind HTTP, and of their workers that are connected."""

from stepstream.bus.wire.keys.prefixed import Key, coded, prefix


def apps() -> str:
    """hash · application behind HTTP → what it registered: URL, SDK, functions, error. By who serves. Permanent."""
    return f"{prefix()}:apps"


def app_changes() -> str:
    """stream · the last changes of applications behind HTTP: workers block on it, to follow. By who changes one."""
    return f"{prefix()}:apps:changes"


def connect(app: str) -> str:
    """Return the prefix of the keys of an application that is connected: scripts build the others from it."""
    return f"{prefix()}:connect:{{{coded(app)}}}:"


def connect_workers(app: str) -> str:
    """zset · connection of an application's worker that takes calls → end of its lease, server ms. By its gateway."""
    return f"{connect(app)}workers"


def connect_worker(app: str, connection: str) -> str:
    """hash · a connected worker: gateway, capacity, …; `call <id>` → what it has in hand. Expires with its lease."""
    return f"{connect(app)}worker:{connection}"


def connect_requests(app: str) -> str:
    """stream · calls that wait for a connected worker: gateways block on it, and delete. A day after the last."""
    return f"{connect(app)}requests"


def connect_call(app: str, call: str) -> str:
    """hash · a call of a connected application: state, body, who has it; then its answer. Expires soon after."""
    return f"{connect(app)}call:{call}"


def connect_answers(process: str) -> str:
    """stream · calls of one process that are answered: it blocks on this. The newest 10,000; 1 h after the last."""
    return f"{prefix()}:connect-answers:{{{coded(process)}}}"


def connect_token(connection: str) -> str:
    """string · what a worker says when it opens the connection that it was promised. Once, within a minute."""
    return f"{prefix()}:connect-token:{{{coded(connection)}}}"


KEYS: tuple[Key, ...] = (
    (apps, ()), (app_changes, ()), (connect_workers, ("<id>",)), (connect_worker, ("<id>", "<id>")),
    (connect_requests, ("<id>",)), (connect_call, ("<id>", "<id>")), (connect_answers, ("<id>",)),
    (connect_token, ("<id>",)),
)  # fmt: skip
