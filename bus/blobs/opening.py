"""Opening: the store that a URL means."""

from pathlib import Path

from stepstream.bus.blobs.folder import Folder
from stepstream.bus.blobs.location import location
from stepstream.bus.blobs.store import TIMEOUT_S, BlobStore
from stepstream.bus.errors import ConfigError


def open_store(url: str, timeout_s: float = TIMEOUT_S) -> BlobStore:
    """Return the store of a URL; it asks nothing of it yet. ConfigError for a URL that means none.

    `timeout_s` is how long each call of the store may take, with all its retries.
    """
    where = location(url)
    if where.scheme != "file":
        raise ConfigError(f"BUS_BLOBS_URL {url!r}: only folders are stores yet, as file:///var/lib/stepstream")
    return Folder(Path(where.path), where.url, timeout_s)
