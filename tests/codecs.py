"""Codecs for tests, as an application has one: `BUS_CODEC=tests.codecs:own`."""

from cryptography.fernet import Fernet, MultiFernet

OLD, NEW = b"b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xkLW9sZDE=", b"bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LW5ldzE="


class Keyring:
    """Seals with the first of its keys, and opens with any of them."""

    def __init__(self, *keys: bytes) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def encode(self, data: bytes) -> bytes:
        return self._fernet.encrypt(data)

    def decode(self, data: bytes) -> bytes:
        return self._fernet.decrypt(data)


own = Keyring(OLD)
new = Keyring(NEW)
both = Keyring(NEW, OLD)


class WithoutTheKey:
    """Seals with the old key, as the others do, and does not have it."""

    def encode(self, data: bytes) -> bytes:
        return own.encode(data)

    def decode(self, data: bytes) -> bytes:
        return new.decode(data)


without_the_key = WithoutTheKey()


class Failing:
    """Fails at what has the word in it, as one whose key is fetched from elsewhere might."""

    def encode(self, data: bytes) -> bytes:
        if b"unlucky" in data:
            raise RuntimeError("no answer from the store of keys")
        return own.encode(data)

    def decode(self, data: bytes) -> bytes:
        return own.decode(data)


failing = Failing()


class Lossy:
    """Does not give back what it was given."""

    def encode(self, data: bytes) -> bytes:
        return data

    def decode(self, data: bytes) -> bytes:
        return data[1:]


lossy = Lossy()
text = "no codec"


class Unable:
    """Has no key."""

    def encode(self, data: bytes) -> bytes:
        raise RuntimeError("no key")

    def decode(self, data: bytes) -> bytes:
        raise RuntimeError("no key")


unable = Unable()


class Spoiling:
    """Opens to what is no JSON."""

    def encode(self, data: bytes) -> bytes:
        return data

    def decode(self, data: bytes) -> bytes:
        return b'{"a":'


spoiling = Spoiling()
