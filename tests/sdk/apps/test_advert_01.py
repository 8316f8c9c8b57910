"""advert-01, node and SDK v4: a queue for small work, with and without keys."""

import subprocess

import httpx2
import pytest

from tests.sdk.apps.conftest import Started
from tests.sdk.apps.project import AFTER_A_BROKEN_CALL_S, Project
from tests.support import until

pytestmark = pytest.mark.sdk
SIGNING, EVENT = "signkey-test-0123456789abcdef0123456789abcdef", "an-event-key"


@pytest.fixture
def advert(started: Started) -> Project:
    return started("advert-01")


@pytest.mark.criterion("id", "no-keys", "typed")
def test_it_registers_without_keys(advert: Project) -> None:
    events = {slug: one["events"] for slug, one in advert.functions().items()}
    assert events == {
        "hello-world": ["test/hello.world"], "send-email": ["email/send"],
        "generate-strategy": ["strategy/generate"], "export-pdf": ["export/pdf"],
        "deliver-webhook": ["webhook/deliver"],
    }  # fmt: skip


@pytest.mark.criterion("hello")
def test_hello_world_logs_waits_and_greets(advert: Project) -> None:
    answer = advert.web.post("/api/events/test/hello.world", json={"message": "Zürich"})
    assert answer.status_code == 202, answer.text
    run = advert.ended("hello-world", {"message": "Zürich"})[0]
    assert run["output"] == {"greeting": "Hello, Zürich!"}
    steps = advert.steps(run)
    assert list(steps) == ["log-message", "wait-a-moment"]
    assert steps["wait-a-moment"]["ended"] - steps["wait-a-moment"]["started"] >= 995
    assert advert.app.log.read_text().count('{"said":"Zürich"}') == 1


@pytest.mark.criterion("refused")
def test_a_payload_that_does_not_fit_is_refused_and_nothing_is_stored(advert: Project) -> None:
    answer = advert.web.post("/api/events/export/pdf", json={"documentId": "d9", "paper": "a3"})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("paper: Invalid enum value")
    assert advert.web.post("/api/events/export/pdf", json={"documentId": "d1", "paper": "a4"}).status_code == 202
    assert advert.output("export-pdf", {"documentId": "d1"}) == "exports/d1-a4.pdf"
    assert advert.of("export-pdf", {"documentId": "d9"}) == []


@pytest.mark.criterion("static")
def test_a_payload_that_does_not_fit_is_an_error_of_the_compiler(advert: Project) -> None:
    """`src/typed.ts` says of each line that the compiler must refuse it; all five applications are checked with it."""
    assert advert.app.cwd is not None
    done = subprocess.run(
        ["node_modules/.bin/tsc", "--noEmit"],
        cwd=advert.app.cwd.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.criterion("fails")
def test_a_model_that_fails_is_asked_again_for_that_paragraph_only(advert: Project) -> None:
    advert.tell({"model/write/By when": {"fail": 2}})
    data = {"clientId": "c1", "goal": "grow", "budgetCents": 995}
    advert.send("strategy/generate", data)
    paragraphs = ["Why grow: it depends.", "How, for 9.95: it depends.", "By when: it depends."]
    assert advert.output("generate-strategy", data) == {"clientId": "c1", "paragraphs": paragraphs}
    made = [advert.called(f"model/{call}") for call in ("outline", "write/Why grow", "write/By when")]
    assert made == [1, 1, 3]


@pytest.mark.criterion("crashes")
def test_the_process_dies_in_the_middle_of_a_step(advert: Project) -> None:
    """What steps before it have returned is kept: the SDK has saved them while its call was open."""
    advert.tell({"model/write/How, for 1.00": {"crash": 1}})
    data = {"clientId": "c2", "goal": "last", "budgetCents": 100}
    advert.send("strategy/generate", data)
    advert.restart_app()
    run = advert.ended("generate-strategy", data, within=AFTER_A_BROKEN_CALL_S)[0]
    assert (run["status"], len(run["output"]["paragraphs"])) == ("completed", 3)
    assert [advert.called(f"model/write/{one}") for one in ("How, for 1.00", "Why last")] == [2, 1]


@pytest.mark.criterion("slow")
def test_a_worker_is_killed_while_a_mail_server_is_slow(advert: Project) -> None:
    """Another worker goes on: the step is done again, and the late answer to the first is nobody's."""
    advert.tell({"mail": {"hold": True}})
    mail = {"to": "ada@example.org", "subject": "s", "body": "b"}
    advert.send("email/send", mail)
    advert.wait_called("mail")
    advert.kill_worker()
    advert.wait_called("mail", 2)
    advert.tell({})
    assert len(advert.output("send-email", mail)) == 12
    assert len(advert.of("send-email", mail)) == 1


@pytest.mark.criterion("keys", "event-key")
def test_with_keys_both_sides_need_them(started: Started) -> None:
    """INNGEST_BASE_URL and two keys: calls are signed both ways, and who has another event key may not publish."""
    environ = {"BUS_SIGNING_KEY": SIGNING, "BUS_EVENT_KEYS": EVENT, "BUS_APP_HOSTS": "localhost"}
    keyed = started("advert-01", kind="-keys", environ=environ, app={
        "INNGEST_DEV": "0", "INNGEST_SIGNING_KEY": SIGNING, "INNGEST_EVENT_KEY": EVENT, "NODE_ENV": "production",
    })  # fmt: skip
    answer = keyed.web.post("/api/events/test/hello.world", json={"message": "keys"})
    assert answer.status_code == 202, answer.text
    assert keyed.output("hello-world", {"message": "keys"}) == {"greeting": "Hello, keys!"}
    unsigned = keyed.web.post("/api/inngest", params={"fnId": "advert-01-hello-world", "stepId": "step"}, json={})
    assert unsigned.status_code == 401
    event = [{"name": ["test/hello.world"], "data": {"message": "stranger"}}]
    assert httpx2.post(f"{keyed.url}/e/another", json=event).status_code == 401
    until(lambda: keyed.of("hello-world", {"message": "keys"}), "it is there")
    assert keyed.of("hello-world", {"message": "stranger"}) == []
