"""A Redis that is none, for tests: fakeredis on a port of this process. The only room that knows fakeredis.

It knows no `#!lua` line and does not block on reads; settings that say `is_fake` make the wire spare it both.
"""

import contextlib
import threading
from collections.abc import Generator

from bus.errors import ConfigError


@contextlib.contextmanager
def fake_server() -> Generator[str]:
    """Run a fake server; yield its URL."""
    try:
        from fakeredis import TcpFakeServer
    except ImportError:
        raise ConfigError(
            "the harness needs fakeredis: pip install 'stepstream[dev]', or give it the url of a real server"
        ) from None
    server = TcpFakeServer(("127.0.0.1", 0))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="bus-fake", daemon=True, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
