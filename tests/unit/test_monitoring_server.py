"""The port at which a worker answers: who may ask by which name, and how long asking may take."""

import http.client
import socket
from collections.abc import Generator

import pytest

from stepstream.consumers.monitoring import server
from stepstream.consumers.monitoring.server import Answer, MonitoringServer
from tests.patience import PATIENT_S
from tests.support import free_port, until


def _said(_accept: str) -> Answer:
    return Answer(200, "text/plain", b"the metrics")


@pytest.fixture
def port(request: pytest.FixtureRequest) -> Generator[int]:
    host = getattr(request, "param", "127.0.0.1")
    listening = MonitoringServer(host, free_port(), {"/metrics": _said})
    yield listening.port
    listening.close()


def asked(port: int, *hosts: str) -> tuple[int, bytes]:
    one = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENT_S)
    one.putrequest("GET", "/metrics", skip_host=True)
    for host in hosts:
        one.putheader("Host", host)
    one.endheaders()
    answer = one.getresponse()
    try:
        return answer.status, answer.read()
    finally:
        one.close()


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (["localhost"], 200), (["localhost:9100"], 200), (["127.0.0.1:9100"], 200), (["[::1]:9100"], 200), ([], 200),
        (["LOCALHOST"], 200), (["evil.example"], 421), (["evil.example:9100"], 421), (["localhost.evil.example"], 421),
        (["127.0.0.1.evil.example"], 421), (["10.1.2.3"], 421), ([""], 421), (["localhost", "evil.example"], 421),
    ],
)  # fmt: skip
def test_a_page_under_a_foreign_name_reads_no_metrics_of_this_machine(port: int, hosts: list[str], status: int) -> None:
    found, told = asked(port, *hosts)
    assert (found, b"the metrics" in told) == (status, status == 200)


@pytest.mark.parametrize("port", ["0.0.0.0"], indirect=True)
def test_where_others_may_ask_they_may_by_any_name(port: int) -> None:
    assert asked(port, "worker-7.shop.svc")[0] == 200


def test_who_asks_a_byte_at_a_time_is_hung_up_on_and_keeps_no_place(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "WHOLE_S", 0.3)
    slow = [socket.create_connection(("127.0.0.1", port), PATIENT_S) for _ in range(16)]

    def is_cut(one: socket.socket) -> bool:
        try:
            one.sendall(b"x")
            one.settimeout(0.01)
            return one.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    for one in slow:
        until(lambda one=one: is_cut(one), "it is hung up on")
        one.close()
    until(lambda: _is_answered(port), "the next one is answered")


def _is_answered(port: int) -> bool:
    try:
        return asked(port, "localhost")[0] == 200
    except (OSError, http.client.HTTPException):  # the places are just being let go
        return False
