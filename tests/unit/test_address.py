"""BUS_REDIS_URL: what it may hold, that the rest is refused with the way out, and that no secret is ever shown."""

import traceback

import pytest

from stepstream.bus import settings
from stepstream.bus.errors import ConfigError
from stepstream.bus.settings import Settings
from stepstream.bus.values.address import address


@pytest.mark.parametrize(
    ("url", "shown", "options"),
    [
        ("redis://", "redis://localhost:6379/0", {"host": "localhost", "port": 6379}),
        ("redis://h", "redis://h:6379/0", {"host": "h", "port": 6379}),
        ("redis://[::1]:7/2", "redis://[::1]:7/2", {"host": "::1", "port": 7, "db": 2}),
        ("redis://h?db=3&protocol=2", "redis://h:6379/3", {"host": "h", "port": 6379, "db": 3}),
        (
            "redis://u:p%2Fw@h:7/1",
            "redis://u:***@h:7/1",
            {"host": "h", "port": 7, "db": 1, "username": "u", "password": "p/w"},
        ),
        ("redis://:a@b@h", "redis://:***@h:6379/0", {"host": "h", "port": 6379, "password": "a@b"}),
        ("rediss://h?ssl_cert_reqs=none", "rediss://h:6379/0", {"host": "h", "port": 6379, "ssl_cert_reqs": "none"}),
        ("unix:///run/r.sock?db=3", "unix:///run/r.sock?db=3", {"path": "/run/r.sock", "db": 3}),
        (
            "unix:///r.sock?username=u&password=pw",
            "unix://u:***@/r.sock?db=0",
            {"path": "/r.sock", "username": "u", "password": "pw"},
        ),
    ],
)
def test_a_url_is_read_and_shown_without_its_password(url: str, shown: str, options: dict[str, object]) -> None:
    found = address(url)
    assert (found.shown, found.options) == (shown, options)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://h?socket_timeout=5", "'socket_timeout' cannot be set here: set BUS_TIMEOUT instead"),
        ("redis://h?socket_connect_timeout=5", "BUS_TIMEOUT"),
        ("redis://h?protocol=3", "'protocol': Stepstream speaks RESP 2 with every server: leave it out"),
        ("redis://h?client_name=x", "'client_name' cannot be set here: connections are named after their process"),
        ("redis://h?decode_responses=1", "'decode_responses' cannot be set here"),
        ("redis://h?databse=1", "'databse' is unknown: the known ones are db, password"),
        ("rediss://h?ssl_ca_cert=/x", "'ssl_ca_cert' is unknown: did you mean ssl_ca_certs?"),
        ("rediss://h?ssl_ca_certs=/no/such", "'ssl_ca_certs': there is no '/no/such' here"),
        ("rediss://h?ssl_cert_reqs=maybe", "required, optional or none"),
        ("rediss://h?ssl_check_hostname=perhaps", "true or false"),
        ("redis://h?ssl_ca_certs=/etc", "'ssl_ca_certs' is for TLS: write rediss://"),
        ("redis://h?db=x", "'db': must be a whole number"),
        ("redis://h?db=", "'db': must be a whole number"),
        ("redis://h?db=1&db=2", "'db' is given twice"),
        ("redis://h/1?db=1", "twice"),
        ("redis://h/shop", "the database, after the host, must be a number"),
        ("redis://h:port/0", "host and port cannot be parsed"),
        ("redis://[::1", "host and port cannot be parsed"),
        ("redis://h:99999/0", "host and port cannot be parsed"),
        ("unix://run/r.sock", "begins with a slash"),
        ("http://h", "must begin with redis://"),
        ("h:6379", "must begin with redis://"),
        ("redis+sentinel://h", "Sentinel is not supported yet"),
        ("redis+cluster://h", "a cluster is not supported yet"),
    ],
)
def test_what_a_url_may_not_hold_is_refused_with_its_name_and_the_way_out(url: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings.read({"BUS_REDIS_URL": url})
    assert told in str(caught.value)
    assert "BUS_REDIS_URL" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:zanzi/bar@h:6379/0",
        "redis://:zanzi?bar@h:6379/0",
        "redis://:zanzi#bar@h:6379/0",
        "redis://:zanzi?db=bar@h:6379/0",
        "redis://:12/zanzi@h:6379/0",
        "redis://:[zanzi@h:6379/0",
        "redis//:zanzibar@h:6379/0",
        "redi://:zanzibar@h:6379/0",
        ":zanzibar@h",
        "redis://h?password=zanzi&password=bar",
        "redis://h?ssl_password=zanzibar",
        "redis://u:zanzibar@h?no=1",
    ],
)
def test_no_error_about_a_url_holds_any_part_of_a_password(url: str) -> None:
    """`redis://:pa/ss@host` made urllib say: Port could not be cast to integer value as 'pa'."""
    with pytest.raises(ConfigError) as caught:
        Settings(redis_url=url)
    told = "".join(traceback.format_exception(caught.value, chain=True))
    told = told.replace(url, "")  # the line of this test
    assert not [part for part in ("zanzi", "bar") if part in str(caught.value)], told


def test_settings_and_addresses_are_shown_without_their_secrets() -> None:
    made = Settings(redis_url="redis://u:zanzibar@h", event_keys=("zanzibar",))
    for shown in (repr(made), str(made), f"{made}", repr(address(made.redis_url))):
        assert "zanzibar" not in shown
    assert "redis://u:***@h:6379/0" in repr(made)
    assert "lease_ms=10000" in repr(made)


def test_what_others_say_is_told_without_our_password() -> None:
    """A server whose AUTH was renamed repeats its arguments: ERR unknown command 'AUTH', with args: 'zanzibar'."""
    assert address("redis://:zanzi%2Fbar@h").hide("args 'zanzi/bar' and zanzi%2Fbar") == "args '***' and ***"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://localhost", "-h localhost -p 6379"),
        ("redis://:pw@cache:6380/2", "-h cache -p 6380 -n 2 --askpass"),
        ("rediss://ann:pw@cache", "-h cache -p 6379 --user ann --askpass --tls"),
        ("rediss://cache?ssl_cert_reqs=none&ssl_ca_path=/etc", "-h cache -p 6379 --tls --cacertdir /etc --insecure"),
        ("redis://[::1]:7000", "-h ::1 -p 7000"),
        ("unix:///run/redis.sock?db=3", "-s /run/redis.sock -n 3"),
    ],
)
def test_redis_cli_is_told_to_go_where_a_url_goes_without_its_password(url: str, told: str) -> None:
    assert " ".join(address(url).cli) == told
