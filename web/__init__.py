"""Web: the HTTP API and the status page. `from web import create_app, serve`."""

from web.app import create_app
from web.serving import serve

__all__ = ["create_app", "serve"]
