"""The user's codec: what BUS_CODEC may name, and what a process that cannot use it says."""

import os
import re
from pathlib import Path

import pytest
from cryptography.fernet import Fernet, InvalidToken

from stepstream.bus.encryption import sealing, users_codec
from stepstream.bus.encryption.sealing import CannotOpen, CannotSeal
from stepstream.bus.errors import ConfigError, StoreError
from tests import codecs

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "encryption.md"


@pytest.fixture(autouse=True)
def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a process that has used no codec yet."""
    monkeypatch.setattr(users_codec, "_codec", None)
    monkeypatch.setattr(users_codec, "_named", None)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("tests.codecs", "BUS_CODEC: 'tests.codecs' is not module:attribute; write for example tests.codecs:codec"),
        ("tests.no_such:own", "BUS_CODEC: there is no module 'tests.no_such'"),
        ("tests.codecs:none", "BUS_CODEC: 'tests.codecs:none' names what the module does not have"),
        ("tests.codecs:Keyring", "is the class Keyring, not a codec: an object with encode(data) and decode(data)"),
        ("tests.codecs:text", "is of type str, not a codec"),
        ("tests.codecs:lossy", "does not give back what it was given: its decode must undo its encode"),
        ("tests.codecs:unable", "fails: RuntimeError: no key"),
    ],
)
def test_a_codec_that_cannot_work_is_refused_with_the_way_out(named: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        users_codec.use_codec(named)


def test_a_process_has_one_codec() -> None:
    users_codec.use_codec("tests.codecs:own")
    users_codec.use_codec("tests.codecs:own")
    with pytest.raises(ConfigError, match="BUS_CODEC is one for a whole process"):
        users_codec.use_codec("tests.codecs:new")


def test_without_a_codec_data_stays_as_it_is() -> None:
    assert sealing.sealed(b'{"a":1}') == b'{"a":1}'


def test_what_is_sealed_is_json_that_is_opened_wherever_it_stands() -> None:
    users_codec.use_codec("tests.codecs:own")
    one, two = sealing.sealed(b'{"a":"\\"$sealed\\""}'), sealing.sealed(b"[1,2]")
    assert sealing.sealed(one) == one
    whole = b'{"event":{"data":%b},"result":%b,"text":"{\\"$sealed\\":\\"aGk=\\"}"}' % (one, two)
    assert sealing.opened(whole) == (
        b'{"event":{"data":{"a":"\\"$sealed\\""}},"result":[1,2],"text":"{\\"$sealed\\":\\"aGk=\\"}"}'
    )


def test_what_is_opened_must_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    users_codec.use_codec("tests.codecs:own")
    made = sealing.sealed(b'{"a":1}')
    monkeypatch.setattr(users_codec, "_codec", codecs.spoiling)
    with pytest.raises(CannotOpen, match="cannot open what is encrypted"):
        sealing.opened(made)


def test_data_at_which_the_codec_fails_is_not_stored() -> None:
    users_codec.use_codec("tests.codecs:failing")
    with pytest.raises(CannotSeal, match="RuntimeError: no answer from the store of keys"):
        sealing.sealed(b'{"a":"unlucky"}')
    assert issubclass(CannotSeal, StoreError)  # a worker then tries the step again, as when Redis fails under it


def test_the_codec_of_the_how_to_works_and_changes_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    [code] = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(), re.DOTALL)

    def with_keys(*keys: bytes) -> users_codec.Codec:
        monkeypatch.setitem(os.environ, "SHOP_KEYS", b",".join(keys).decode())
        space: dict[str, users_codec.Codec] = {}
        exec(code, space)
        return space["codec"]

    old, new = Fernet.generate_key(), Fernet.generate_key()
    sealed_before = with_keys(old).encode(b'{"a":1}')
    assert with_keys(old, new).decode(sealed_before) == b'{"a":1}'
    changed = with_keys(new, old)
    assert changed.decode(sealed_before) == b'{"a":1}'
    assert with_keys(new).decode(changed.encode(b"{}")) == b"{}"
    assert len(sealed_before) < 100
    with pytest.raises(InvalidToken):
        with_keys(new).decode(sealed_before)
