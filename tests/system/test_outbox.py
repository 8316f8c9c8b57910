"""The outbox on real SQLAlchemy and real Django: an event for each committed row, once, whoever dies in between."""

import asyncio
import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import django
import pytest
import redis
import structlog
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import connections, transaction
from sqlalchemy import Engine, create_engine, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from stepstream import Bus, EventInvalid, NewEvent, Unavailable
from stepstream.bus.wire import keys
from stepstream.producers.outbox import django as outbox_of_django
from stepstream.producers.outbox.sqlalchemy import Outbox
from tests.patience import PATIENT_S
from tests.support import ROOT, free_port, until

app = Bus("shop")
pytestmark = pytest.mark.usefixtures("in_environment")


def sent(store: redis.Redis, name: str = "order/paid") -> list[str]:
    return [fields["id"] for _, fields in store.xrange(keys.events(name))]


# -- SQLAlchemy ---------------------------------------------------------------------------------------------------


@pytest.fixture
def outbox(store: redis.Redis) -> Outbox:
    return Outbox(Bus("shop"))  # of its own: an application keeps the server that it was sent to first


@pytest.fixture
def engine(outbox: Outbox, tmp_path: Path) -> Generator[Engine]:
    made = create_engine(f"sqlite:///{tmp_path}/shop.db", poolclass=NullPool)
    outbox.table.metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
async def async_engine(engine: Engine) -> AsyncGenerator[AsyncEngine]:
    made = create_async_engine(str(engine.url).replace("sqlite:", "sqlite+aiosqlite:"), poolclass=NullPool)
    yield made
    await made.dispose()


def left(engine: Engine, outbox: Outbox) -> list[Any]:
    with engine.begin() as connection:
        return list(connection.execute(select(outbox.table.c.id, outbox.table.c.error)))


def test_what_is_committed_is_published_and_nothing_else(outbox: Outbox, engine: Engine, store: redis.Redis) -> None:
    with Session(engine) as session:
        outbox.send(session, "order/paid", {"n": 1}, id="rolled-back")
        session.flush()
        session.rollback()
        kept = outbox.send(session, "order/paid", {"n": 2})
        with session.begin_nested() as savepoint:
            outbox.send(session, "order/paid", {"n": 3}, id="in-a-savepoint")
            savepoint.rollback()
        outbox.send(session, NewEvent("order/paid", {"n": 4}, "later", delay="1h"))
        assert outbox.flush(engine) == 0, "it is not committed yet"
        session.commit()
    assert outbox.flush(engine) == 2
    assert sent(store) == [kept]
    assert store.zrange(keys.delayed("order/paid"), 0, -1) == ["later"]
    assert outbox.flush(engine) == 0
    assert left(engine, outbox) == []


def test_an_event_that_makes_no_sense_fails_the_transaction_that_sends_it(outbox: Outbox, engine: Engine) -> None:
    with Session(engine) as session, pytest.raises(EventInvalid, match="reserved"):
        outbox.send(session, "bus/x", {})


def test_one_id_sent_twice_is_stored_once(outbox: Outbox, engine: Engine, store: redis.Redis) -> None:
    for _ in range(2):
        with Session(engine) as session, session.begin():
            outbox.send(session, "order/paid", {}, id="o1")
    assert outbox.flush(engine) == 2
    assert sent(store) == ["o1"]


async def test_sessions_and_engines_of_asyncio(outbox: Outbox, async_engine: AsyncEngine, store: redis.Redis) -> None:
    async with AsyncSession(async_engine) as session:
        first = outbox.send(session, "order/paid", {"n": 1})
        await session.commit()
    assert await outbox.flush_async(async_engine) == 1
    assert sent(store) == [first]
    relaying = asyncio.create_task(outbox.relay(async_engine))
    async with AsyncSession(async_engine) as session, session.begin():
        second = outbox.send(session, "order/paid", {"n": 2})
    while len(sent(store)) < 2:
        await asyncio.sleep(0.02)
    assert sent(store) == [first, second]
    relaying.cancel()
    await asyncio.gather(relaying, return_exceptions=True)
    await outbox._app.close()


def test_a_commit_wakes_the_relay_of_its_process(
    outbox: Outbox, engine: Engine, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepstream.producers.outbox.rows.LOOK_EVERY_S", 30.0)
    outbox.start(engine)
    try:
        for n in range(3):
            with Session(engine) as session, session.begin():
                with session.begin_nested():
                    outbox.send(session, "order/paid", {"n": n})
                session.flush()
            until(lambda n=n: len(sent(store)) == n + 1, "the commit wakes the relay")
    finally:
        outbox.stop()
    assert left(engine, outbox) == []


def test_a_row_that_is_not_valid_any_more_stops_no_other_and_says_why(
    outbox: Outbox, engine: Engine, store: redis.Redis
) -> None:
    with engine.begin() as connection:
        for id, name in (("x", "order/paid"), ("y", "bus/reserved-since"), ("z", "order/paid")):
            connection.execute(insert(outbox.table).values(id=id, name=name, data="{}", ts=1_700_000_000_000, due=0))
    assert outbox.flush(engine) == 3
    assert sent(store) == ["x", "z"]
    [(id, error)] = left(engine, outbox)
    assert id == "y"
    assert "reserved" in error
    assert outbox.flush(engine) == 0, "it is not tried again"


def test_while_redis_is_away_rows_wait_and_that_is_told_once(
    engine: Engine, store: redis.Redis, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUS_TIMEOUT", "0.1")
    monkeypatch.setenv("BUS_REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    monkeypatch.setattr("stepstream.producers.outbox.rows.LOOK_EVERY_S", 0.02)
    away = Outbox(Bus("shop"))
    with Session(engine) as session, session.begin():
        away.send(session, "order/paid", {}, id="o1")
    with pytest.raises(Unavailable, match="nothing was stored"):
        away.flush(engine)
    assert [id for id, _ in left(engine, away)] == ["o1"]
    with structlog.testing.capture_logs() as logs:
        away.start(engine)
        until(lambda: logs, "it is told")
        away.stop()
    assert len([one for one in logs if "not published now" in one["event"]]) == 1


def test_two_relays_at_once_store_each_event_once(outbox: Outbox, engine: Engine, store: redis.Redis) -> None:
    with Session(engine) as session, session.begin():
        ids = [outbox.send(session, "order/paid", {"n": n}) for n in range(150)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: [outbox.flush(engine) for _ in range(3)], range(2)))
    assert sorted(sent(store)) == sorted(ids)
    assert left(engine, outbox) == []


def test_rows_of_another_relay_are_passed_over_where_the_database_can(outbox: Outbox) -> None:
    wanted = select(outbox.table.c.n).with_for_update(skip_locked=True)
    assert "FOR UPDATE SKIP LOCKED" in str(wanted.compile(dialect=postgresql.dialect()))
    assert "FOR UPDATE" not in str(wanted.compile(dialect=sqlite.dialect()))


PROCESS = """
    import os, signal, sys
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session
    from stepstream import Bus
    from stepstream.bus.process import failpoints
    from stepstream.producers.outbox.sqlalchemy import Outbox

    outbox = Outbox(Bus("shop"))
    engine = create_engine(sys.argv[1])
    outbox.table.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        outbox.send(session, "order/paid", {"n": 1}, id=sys.argv[2])
    if sys.argv[2] == "committed":
        os.kill(os.getpid(), signal.SIGKILL)
    failpoints.arm("outbox.published")
    outbox.flush(engine)
"""


@pytest.mark.process
def test_a_process_that_dies_before_the_sending_or_behind_it_loses_and_doubles_nothing(
    outbox: Outbox, engine: Engine, store: redis.Redis, url: str
) -> None:
    for dies, code in (("committed", -9), ("published", 9)):
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROCESS), str(engine.url), dies],
            env={**os.environ, "BUS_REDIS_URL": url}, cwd=ROOT, timeout=PATIENT_S,
        )  # fmt: skip
        assert ended.returncode == code
    assert sent(store) == ["committed", "published"]
    assert [id for id, _ in left(engine, outbox)] == ["committed", "published"], "it died before it deleted them"
    assert outbox.flush(engine) == 2
    assert sent(store) == ["committed", "published"]
    assert left(engine, outbox) == []


# -- Django -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def _django(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    file = tmp_path_factory.mktemp("django") / "shop.db"
    django_settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(file)}},
        INSTALLED_APPS=["stepstream.producers.outbox.django"],
        STEPSTREAM_APP="tests.system.test_outbox:app",
        USE_TZ=True,
    )
    django.setup()
    call_command("migrate", verbosity=0)
    yield
    connections.close_all()


@pytest.fixture
def django_app(_django: None, store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    made = Bus("shop")  # of its own: an application keeps the server that it was sent to first
    monkeypatch.setattr(outbox_of_django, "_app", lambda: made)
    yield
    connections.close_all()


def rows() -> list[str]:
    from stepstream.producers.outbox.django.models import OutboxRow

    return [row.event_id for row in OutboxRow.objects.order_by("n")]


def test_django_publishes_what_is_committed(django_app: None, store: redis.Redis) -> None:
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        outbox_of_django.send("order/paid", {"n": 1}, id="rolled-back")
        raise ZeroDivisionError
    with transaction.atomic():
        kept = outbox_of_django.send("order/paid", {"n": 2})
        outbox_of_django.send("order/paid", {"n": 3}, id="later", delay="1h")
    assert rows() == [kept, "later"]
    call_command("stepstream_relay", "--once")
    assert sent(store) == [kept]
    assert store.zrange(keys.delayed("order/paid"), 0, -1) == ["later"]
    assert rows() == []


def test_a_commit_of_django_wakes_the_relay_of_its_process(
    django_app: None, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepstream.producers.outbox.rows.LOOK_EVERY_S", 30.0)
    outbox_of_django.start()
    try:
        for n in range(2):
            with transaction.atomic():
                outbox_of_django.send("order/paid", {"n": n})
            until(lambda n=n: len(sent(store)) == n + 1, "the commit wakes the relay")
    finally:
        outbox_of_django.stop()


def test_django_publishes_once_what_was_published_and_not_deleted(django_app: None, store: redis.Redis) -> None:
    with transaction.atomic():
        id = outbox_of_django.send("order/paid", {})
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        assert outbox_of_django.flush() == 1
        raise ZeroDivisionError  # the deletion is lost, as by a process that dies
    assert rows() == [id]
    assert outbox_of_django.flush() == 1
    assert sent(store) == [id]


def test_the_migration_of_django_makes_what_the_model_says(django_app: None) -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
