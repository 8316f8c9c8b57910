"""Signing: what the SDKs' own code says of bodies signed here, and what is refused."""

import base64
import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from stepstream.bus.errors import ConfigError
from stepstream.bus.settings import Settings, read
from stepstream.bus.trust.signing import (
    HEADER,
    SignatureInvalid,
    canonical,
    check_key,
    hashed,
    is_one_of,
    signed,
    verify,
)
from stepstream.bus.values import codec

KEY = "signkey-test-" + "0123456789abcdef" * 4
OTHER = "signkey-prod-" + "fedcba9876543210" * 4
HASHED = "4884fdaafea47c29fea7159d0daddd9c085d6200e1359e85bb81736af6b7c837"
T = 1795308803000

# The signature of each is what inngest 3.46.0, 3.54.2 and 4.24.0 (npm) and 0.5.19 (PyPI) make of the body sent.
VECTORS = [
    ('{}', "8c062b3d6c852a9236508dc937410721bf83cca0be5dd4d3be5d2137b160e6a2"),
    ('{"b":1,"a":[true,false,null,""]}', "3862dc5c94fb4bf3e502f867ddc6a1a136fec60ddda7daa5e8f0bc05021cbd90"),
    ('{"ctx":{"stack":{"stack":["x"],"current":0}},"event":{"name":"o/x","data":{"\xfc":"\xe9\u20ac\U0001f600\\u2028\\u0007\\n\\"\\\\/","\xe9":1,"Z":2,"a":3,"":4}}}', "bcf949976188fd6d553ffa0d20955aebcf3694f0cc35830601b87fdb9e004e3d"),
    ('{"\\ue000":1,"\U0001f600":2,"\\uffff":3,"a":4}', "dc8f0d2a99cdbf6b1b55ca47da25adb97d96af0dc7c83892f63353a27a1fd1bc"),
    ('{"f":[1.0,-0.0,0.1,1e-7,0.000001,1e16,1e20,1e21,1.5e300,5e-324,0.30000000000000004,123456.789,-1.25e-9,100,9007199254740991]}', "7b8a9ceade62e1480e1e7b298bb19f9297bbac6fb92979749fde04818f39b0c8"),
    ('{"big":[9007199254740993,12345678901234567890,123456789012345678901234567890,-9007199254740993,1000000000000000000000]}', "e1ca3ac0bdf328ec169e97fe0bb73add474a1a133123edc52a429f4893a282b2"),
    ('{"deep":{"10":1,"9":2,"1":{"z":[{"y":{"x":[[],{}]}}]}}}', "fa181be56cb6bef12f94aa9f1ca6ffcfdb4157750af61c7a0b22b5d37b51a9ee"),
    (' { "url" : "http://localhost:4110/api/inngest" } ', "55a45ab32332cf95514a9e146f50c7e63c25f717e8bc4c289b6cee692cb61b2a"),
    ('{"k":"\x7f\xa0\u2029"}', "4af1d2bd8c262c400f94e681ac61098117872870635aaf1b1cc6864bfb5a2ca2"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "mac"), VECTORS)
def test_a_body_is_signed_as_the_sdks_sign_it(body: str, mac: str) -> None:
    sent, headers = signed(body.encode(), KEY, T)
    assert headers == {HEADER: f"t={T // 1000}&s={mac}"}
    assert json.loads(sent) == json.loads(body)
    verify(sent, headers[HEADER], [KEY], T)
    verify(sent, headers[HEADER], [OTHER, KEY], T)


def test_what_is_sent_is_what_was_signed_unless_that_would_round_a_number() -> None:
    assert signed(b'{"b": 1.0, "a": "\\u00e9"}', KEY, T)[0] == '{"a":"é","b":1}'.encode()
    for number in (b"9007199254740993", b"-12345678901234567890", b"1" + 40 * b"0"):
        body = b'{"b": 1, "a": %s}' % number
        sent, headers = signed(body, KEY, T)
        assert sent == body
        verify(sent, headers[HEADER], [KEY], T)
    for number in (b"9007199254740991", b"9007199254740992", b"100000000000000000000"):
        assert signed(b'{"b": 1, "a": %s}' % number, KEY, T)[0] == b'{"a":%s,"b":1}' % number


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_the_canonical_form_is_that_of_the_rfc(value: Any) -> None:
    body = json.dumps(value).encode()
    assert canonical(body) == (rfc8785.dumps(value), True)
    assert canonical(canonical(body)[0])[0] == canonical(body)[0]


def test_what_is_no_json_cannot_be_signed() -> None:
    for body in (b"", b"{", b"\xff", b'"\\ud800"', b"1" + 400 * b"0", b"[" * 100_000):
        with pytest.raises(codec.NotJson, match="cannot be signed"):
            signed(body, KEY, T)


@pytest.mark.parametrize(
    ("signature", "told"),
    [
        (None, "not signed"), ("", "not signed"), ("t=1", "must be t="), ("nonsense", "must be t="),
        ("t=²&s=00", "must be t="), ("t=-5&s=00", "must be t="), ("t=" + "9" * 400 + "&s=00", "must be t="),
        (f"t={T // 1000}", "must be t="), (f"t={T // 1000}&s=é", "another key"), (f"t={T // 1000}&s=00", "another key"),
        ("t=NaN&s=00", "must be t="), ("t=1e3&s=00", "must be t="), (f"t=+{T // 1000}&s=00", "must be t="),
        ("t=0x10&s=00", "must be t="), ("t=\u0661\u0662&s=00", "must be t="), (f"t= {T // 1000}&s=00", "must be t="),
        (f"t={T // 1000}.0&s=00", "must be t="), (f"t={T // 1000}&s=", "must be t="), ("v0,00", "must be t="),
        ("t=1&" * 100_000, "must be t="), (f"t={T // 1000}&s=00&alg=none", "another key"),
        (f"t={T // 1000 - 301}&s=00", "301 s from now"), (f"t={T // 1000 + 301}&s=00", "301 s from now"),
    ],
)  # fmt: skip
def test_a_signature_that_is_none_is_refused_and_told_why(signature: str | None, told: str) -> None:
    with pytest.raises(SignatureInvalid, match=told) as caught:
        verify(b"{}", signature, [KEY], T)
    assert caught.value.status == 401
    assert KEY[13:] not in str(caught.value)


def test_a_signature_is_of_one_body_one_key_and_five_minutes() -> None:
    body, headers = signed(b'{"a":1}', KEY, T)
    signature = headers[HEADER]
    for late in (0, 300_000, -300_000):
        verify(body, signature, [KEY], T + late)
    refused: Sequence[tuple[bytes, Sequence[str], int]] = (
        (b'{"a":2}', [KEY], T), (body, [OTHER], T), (body, [], T), (body, [KEY], T + 301_000), (body, [KEY], T - 301_000),
        (b'{"a":9007199254740993}', [KEY], T), (b"9007199254740993{", [KEY], T),
    )  # fmt: skip
    for other, keys, now in refused:
        with pytest.raises(SignatureInvalid):
            verify(other, signature, keys, now)


def test_a_signature_is_taken_whole_once_and_as_it_was_written() -> None:
    body, headers = signed(b'{"a":1}', KEY, T)
    good = headers[HEADER]
    at, _, mac = good.partition("&s=")
    other = signed(b'{"a":1}', OTHER, T)[1][HEADER].partition("&s=")[2]
    verify(body, good, [OTHER, KEY], T)  # while a key is changed, either is good
    for spoilt in (
        good[:-1],
        good[: len(at) + 3 + 32],
        f"{good}00",
        f"{at}&s={mac.upper()}",
        f"{at}&s=0x{mac}",
        f"{at}&s={base64.b64encode(bytes.fromhex(mac)).decode()}",
        f"{good}&s={mac}",
        f"{good}&s={other}",
        f"{at}&s={other}&s={mac}",
        f"{good}&{at}",
        f"t=1&{good}",
        f"{at}&v1={mac}",
        f"{at}&S={mac}",
        f"{at};s={mac}",
    ):
        with pytest.raises(SignatureInvalid):
            verify(body, spoilt, [KEY], T)
    for altered in (
        b'{"a": 1}',
        b'{"a":1}\n',
        b'{"a":1.0}',
        b'{"a":1,"a":1}',
        b"",
    ):  # the bytes count, not what they mean
        with pytest.raises(SignatureInvalid, match="another key"):
            verify(altered, good, [KEY], T)


def test_a_caller_shows_a_key_or_its_hash_with_what_stands_before_it_or_without() -> None:
    assert hashed(KEY) == HASHED
    for shown in (KEY, KEY[13:], HASHED, f"signkey-test-{HASHED}", f"signkey-prod-{KEY[13:]}"):
        assert is_one_of(shown, [KEY])
        assert is_one_of(shown, [OTHER, KEY])
        assert not is_one_of(shown, [OTHER])
        assert not is_one_of(shown, [])
    for shown in ("", "undefined", "signkey-test-", KEY[13:].upper(), KEY + " ", HASHED[:-1], "é" * 64):
        assert not is_one_of(shown, [KEY])


@pytest.mark.parametrize(
    "text", ["abc", "signkey-test-", "signkey-test-12", "0" * 33, "x" * 64, "signkey-a-b-" + "0" * 32]
)
def test_a_key_that_is_none_is_told_without_being_shown(text: str) -> None:
    with pytest.raises(ConfigError, match=r"BUS_SIGNING_KEY is no signing key.*openssl rand -hex 32") as caught:
        check_key(text, "BUS_SIGNING_KEY")
    assert text not in str(caught.value)


def test_settings_read_keys_and_show_none() -> None:
    found, _ = read(
        {
            "BUS_SIGNING_KEY": KEY, "BUS_SIGNING_KEY_FALLBACK": OTHER, "BUS_API_TOKENS": "token-zanzibar-1, token-zanzibar-2",
            "BUS_EVENT_KEYS": "zanzibar", "BUS_APP_HOSTS": "apps.example,10.0.0.0/8",
        }
    )  # fmt: skip
    assert (found.signing_keys, found.is_keyed) == ((KEY, OTHER), True)
    assert (found.api_tokens, found.app_hosts) == (
        ("token-zanzibar-1", "token-zanzibar-2"),
        ("apps.example", "10.0.0.0/8"),
    )
    for secret in (KEY[13:], OTHER[13:], "zanzibar"):
        assert secret not in repr(found)
        assert secret not in str(found)
    assert not Settings(event_keys=("k",)).is_keyed
    assert not read({"BUS_SIGNING_KEY": "", "BUS_API_TOKENS": ""})[0].is_keyed


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"BUS_SIGNING_KEY": "zanzibar"}, "BUS_SIGNING_KEY is no signing key"),
        (
            {"BUS_SIGNING_KEY": KEY, "BUS_SIGNING_KEY_FALLBACK": "zanzibar"},
            "BUS_SIGNING_KEY_FALLBACK is no signing key",
        ),
        ({"BUS_SIGNING_KEY_FALLBACK": KEY}, "without BUS_SIGNING_KEY"),
        ({"BUS_API_TOKENS": "zanzibar"}, "the 1. token must have at least 16"),
        ({"BUS_API_TOKENS": "long-enough-for-it,zanzibar zanzibar"}, "the 2. token"),
        ({"BUS_APP_HOSTS": "http://apps.example"}, "'http://apps.example' is no host"),
        ({"BUS_APP_HOSTS": "apps.example:3000"}, "without a port"),
        ({"BUS_APP_HOSTS": "10.0.0.0/33"}, "is no host"),
        ({"BUS_EVENT_KEYS": ","}, "BUS_EVENT_KEYS has nothing but commas and blanks"),
        ({"BUS_EVENT_KEYS": " "}, "BUS_EVENT_KEYS has nothing but"),
        ({"BUS_EVENT_KEYS": "good,zanzibar/2"}, "BUS_EVENT_KEYS has a key that is empty or has a /"),
        ({"BUS_API_TOKENS": " , ,"}, "BUS_API_TOKENS has nothing but"),
        ({"BUS_API_TOKENS": "read:"}, "the 1. token must have at least 16"),
        ({"BUS_SIGNING_KEY": " "}, "BUS_SIGNING_KEY is no signing key"),
        ({"BUS_SESSION_KEY": " "}, "BUS_SESSION_KEY must have at least 32"),
    ],
)
def test_keys_that_cannot_work_are_told_at_the_start(environ: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        read(environ)
    assert "zanzibar" not in str(caught.value)


def test_numbers_are_written_as_javascript_writes_them() -> None:
    for number, text in (
        (1e21, b"1e+21"), (1e20, b"100000000000000000000"), (1e-6, b"0.000001"), (1e-7, b"1e-7"), (-0.0, b"0"),
        (5e-324, b"5e-324"), (math.pi, b"3.141592653589793"),
    ):  # fmt: skip
        assert canonical(json.dumps(number).encode())[0] == text
