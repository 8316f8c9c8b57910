"""Reference: what stands in Redis in place of a result that is kept in the store: `{"$blob":"<key>","bytes":<size>}`.

It is JSON, on its own or inside of other JSON, so scripts hand it on as any other value. The size is that of the blob.
"""

import re
from collections.abc import Mapping

BLOB_MARK = b'{"$blob":"'
_REFERENCE = re.compile(rb'\{"\$blob":"([A-Za-z0-9._=/-]{1,512})","bytes":(\d{1,12})\}')


def reference(key: str, size: int) -> bytes:
    """Return what stands in place of a blob."""
    return b'%b%b","bytes":%d}' % (BLOB_MARK, key.encode(), size)


def keys_in(data: bytes) -> list[str]:
    """Return the keys of all blobs that JSON refers to, each once."""
    if BLOB_MARK not in data:
        return []
    return list(dict.fromkeys(key.decode() for key, _ in _REFERENCE.findall(data)))


def replaced(data: bytes, by: Mapping[str, bytes]) -> bytes:
    """Return JSON with what is given by key in place of references; others stay."""
    return _REFERENCE.sub(lambda found: by.get(found[1].decode(), found[0]), data)


def in_words(data: bytes) -> bytes:
    """Return JSON as people are shown it: in place of a reference a text that says where the result is."""
    if BLOB_MARK not in data:
        return data
    return _REFERENCE.sub(
        lambda found: b'"(%b bytes, in the store of large results: %b)"' % (b"%d" % int(found[2]), found[1]), data
    )
