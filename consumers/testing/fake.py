"""Fake: a server made of Python (fakeredis, its Lua by lupa), for where no real one can run: Windows, or no subprocess.

It resembles a Redis: it is slow, hangs up on a reader that does not keep up, keeps nothing, and knows no rights, memory
bounds or failover. What a test finds there is to be believed only as far as that.
"""

import contextlib
import threading
from collections.abc import Generator
from functools import cache
from typing import Any

from stepstream.bus.errors import ConfigError


@contextlib.contextmanager
def fake() -> Generator[str]:
    """Yield the URL of an empty server in a thread of this process; ConfigError when fakeredis is not installed."""
    server = _served()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _served() -> Any:
    try:
        from fakeredis import TcpFakeServer
    except ImportError:
        raise ConfigError("server='fake' needs fakeredis with Lua: pip install 'stepstream[fake]'") from None
    _let_scripts_have_a_head()
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis", server_version=(7, 4))
    server.daemon_threads, server.block_on_close = True, False
    return server


@cache
def _let_scripts_have_a_head() -> None:
    """Let fakeredis run scripts that begin with `#!lua flags=…`, as Redis does since 7.0: to Lua it is a comment."""
    from fakeredis.commands_mixins.scripting_mixin import ScriptingCommandsMixin as Scripting

    run: Any = Scripting.eval

    def headed(self: Any, script: bytes, count: int, *rest: bytes) -> Any:
        return run(self, b"--" + script[2:] if script.startswith(b"#!") else script, count, *rest)

    Scripting.eval = headed  # pyright: ignore[reportAttributeAccessIssue]
