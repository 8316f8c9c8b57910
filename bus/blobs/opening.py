"""Opening: the store that a URL means."""

from pathlib import Path

from stepstream.bus.blobs.folder import Folder
from stepstream.bus.blobs.location import location
from stepstream.bus.blobs.store import TIMEOUT_S, BlobStore
from stepstream.bus.errors import ConfigError


def open_store(url: str, timeout_s: float = TIMEOUT_S) -> BlobStore:
    """Return the store of a URL; it asks nothing of it yet. ConfigError for a URL that means none.

    For a bucket the extra `blobs` is installed, and AWS's variables make sense; else ConfigError too. It is opened in
    the process that uses it, after any fork: its threads are of that process.

    `timeout_s` is how long each call of the store may take, with all its retries.
    """
    where = location(url)
    if where.scheme == "file":
        return Folder(Path(where.path), where.url, timeout_s)
    try:
        from stepstream.bus.blobs.bucket import Bucket
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "obstore":
            raise
        raise ConfigError(f"BUS_BLOBS_URL {where.url} needs a library: pip install 'stepstream[blobs]'") from None
    return Bucket(where, timeout_s)
