"""What docs/reference/roles.md says: who may call which route. tests/system/test_roles.py asks a site for each cell."""

from starlette.routing import WebSocketRoute

from stepstream.bus.settings import Settings
from stepstream.bus.trust.roles import is_enough
from stepstream.web.app import create_app
from stepstream.web.routing import NeedsRoute, NeedsSocket
from stepstream.web.trust.keys import Permission

CALLERS = ("none", "event key", "read", "operate", "admin", "signing key")
"""With what somebody calls: with nothing, an event key, a token of a role, the signing key."""

_KEYED = Settings(api_tokens=("no-token-of-anybody",))


def opens(caller: str, needs: Permission) -> bool:
    """Whether a route that needs this is open to a caller. A ticket to listen is asked of its own (`listen`)."""
    if needs == "nothing":
        return True
    if needs in {"publish", "listen"}:
        return needs == "publish" and caller == "event key"
    if caller == "signing key":
        return True
    return is_enough(caller, needs) if caller == "read" or caller == "operate" or caller == "admin" else False


def rows() -> dict[tuple[str, str], tuple[bool, ...]]:
    """Return, by method and path of each route, which callers it is open to."""
    found: dict[tuple[str, str], tuple[bool, ...]] = {}
    for route in create_app(configured=_KEYED).routes:
        if not isinstance(route, NeedsRoute | NeedsSocket):
            continue  # the files of the pages
        methods = {"WebSocket"} if isinstance(route, WebSocketRoute) else (route.methods or set[str]()) - {"HEAD"}
        for method in sorted(methods):
            found[method, route.path] = tuple(opens(caller, route.needs) for caller in CALLERS)
    return found


def page() -> str:
    """Return the page."""
    head = ("method", "path", *CALLERS)
    lines = [head, ("---",) * len(head)]
    lines += [
        (method, f"`{path.replace(':path}', '}')}`", *("yes" if one else "no" for one in row))
        for (method, path), row in rows().items()
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"""# Who may call what

For who gives out keys. Made by `make docs` from the site's routes; `tests/system/test_roles.py` asks a site for each cell. It is so in [keys mode](../http.md#keys); without keys everybody may do everything, and the site listens on this machine only.

- **none**: no key at all. **event key**: one of `BUS_EVENT_KEYS`, in the path. **read**, **operate**, **admin**: a token of `BUS_API_TOKENS` with this role. **signing key**: `BUS_SIGNING_KEY`, which applications behind HTTP have.
- A caller without a key gets 401; one whose role does not allow it gets 403, and is told the role that it needs.
- Where no caller has a yes, a ticket in the address opens it, which `POST /v1/realtime/token` gives to who may read.

{table}
"""
