"""Where applications behind HTTP may be called: what a registered URL may not lead to."""

import pytest

from stepstream.bus.trust.app_hosts import AppHosts

NEVER = [
    "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1", "ff02::1",
    "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254",
    "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "2002:a9fe:a9fe::1", "64:ff9b::a9fe:a9fe",
]  # fmt: skip
HERE = ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
PRIVATE = ["10.1.2.3", "192.168.1.1", "172.17.0.2", "fd12::1"]
PUBLIC = ["93.184.216.34", "2606:2800:220:1::1"]
LISTS: list[tuple[str, ...]] = [
    (),
    ("*.example", "h"),
    ("0.0.0.0/0", "::/0"),
    ("169.254.0.0/16", "169.254.169.254", "localhost"),
]


@pytest.mark.parametrize("named", LISTS)
@pytest.mark.parametrize("address", NEVER)
def test_link_local_and_metadata_addresses_are_never_called_whatever_is_listed(
    named: tuple[str, ...], address: str
) -> None:
    assert "never called" in AppHosts(named).refusal("h", address)


@pytest.mark.parametrize("address", HERE)
def test_this_machine_is_called_where_it_is_named(address: str) -> None:
    for named in ((), ("*.example", "h"), ("10.0.0.0/8",)):
        assert "add localhost to BUS_APP_HOSTS" in AppHosts(named).refusal("h", address)
    for named in (("localhost",), ("127.0.0.0/8", "::1")):
        assert AppHosts(named).refusal("localhost", address) == ""


def test_this_machine_is_not_called_for_an_app_and_the_way_is_told() -> None:
    told = AppHosts(None).refusal("localhost", "127.0.0.1")
    assert "let the app call it, in step.run" in told
    assert "BUS_APP_HOSTS" not in told
    assert AppHosts(None).refusal("api.example", "93.184.216.34") == ""


@pytest.mark.parametrize("address", PRIVATE + PUBLIC)
def test_others_are_called_where_nothing_is_listed_or_they_are(address: str) -> None:
    for named in ((), ("apps.example",), ("*.example",), ("0.0.0.0/0", "::/0"), (address,)):
        assert AppHosts(named).refusal("apps.example", address) == ""
        assert AppHosts(named).refusal("Apps.Example.", address) == ""
    for named in (("other.example",), ("*.apps.example",), ("203.0.113.0/24", "2001:db8::/32")):
        assert "is not among BUS_APP_HOSTS; add apps.example" in AppHosts(named).refusal("apps.example", address)


@pytest.mark.parametrize(
    ("named", "host", "is_refused"),
    [
        ((), "any.example", False), (("apps.example",), "apps.example", False), (("apps.example",), "x.example", True),
        (("*.example",), "a.b.example", False), (("*.example",), "example", True), (("*.example",), "evilexample", True),
        (("apps.example", "10.0.0.0/8"), "x.example", False), (("localhost",), "127.0.0.1", False),
    ],
)  # fmt: skip
def test_a_name_that_no_address_could_save_is_refused_before_it_is_looked_up(
    named: tuple[str, ...], host: str, is_refused: bool
) -> None:
    assert bool(AppHosts(named).refusal_of_name(host)) is is_refused
