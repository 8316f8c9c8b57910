"""The words: names, durations, retries, expressions, declarations, settings. No Redis."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from stepstream.bus import settings
from stepstream.bus.bus import Bus
from stepstream.bus.errors import ConfigError, EventInvalid, RetryAfter
from stepstream.bus.event import EventData, RawEvent
from stepstream.bus.retry import Exponential, Retry, asked_delay_ms
from stepstream.bus.trigger import On
from stepstream.bus.values import codec
from stepstream.bus.values.durations import in_words, milliseconds
from stepstream.bus.values.expression import Expression
from stepstream.bus.values.ids import entry_ms, is_run_of, owner_letters, run_id, token, ulid, ulid_ms
from stepstream.bus.wire import keys, kinds
from stepstream.checkpoint.run.memo import Failure


class Paid(EventData, name="order/paid", rename="camel"):
    user_id: str
    cents: int = 0


async def handler(ctx, step):
    return None


def test_two_streams_with_one_entry_id_make_two_runs() -> None:
    """Streams do give equal entry ids in one millisecond."""
    assert run_id("shop-f", "event", "shop/a|1700000000000-0", 1) != run_id(
        "shop-f", "event", "shop/b|1700000000000-0", 1
    )


def test_the_same_cause_always_gives_the_same_run_at_the_time_of_its_entry() -> None:
    first = run_id("shop-f", "event", "shop/a|1700000000000-3", entry_ms("1700000000000-3"))
    assert first == run_id("shop-f", "event", "shop/a|1700000000000-3", 1700000000000)
    assert ulid_ms(first) == 1700000000000


def test_a_run_id_names_its_function_and_leaves_room_for_a_partition() -> None:
    runs = {slug: [run_id(slug, "event", f"a|{n}-0", n) for n in range(100)] for slug in ("shop-f", "shop-g")}
    for slug, made in runs.items():
        assert {run[10:16] for run in made} == {owner_letters(slug)}
        assert {run[14:16] for run in made} == {"00"}
        assert all(is_run_of(run, slug) for run in made)
        assert not any(is_run_of(run, "shop-h") for run in made)
    assert run_id("shop-f", "event", "shop/a|1700000000000-3", 1700000000000) == "01HF7YAT00JPN900396ST8C8PM"


def test_two_functions_of_one_hash_have_different_runs_of_one_cause() -> None:
    assert owner_letters("test-f436") == owner_letters("test-f980")
    assert run_id("test-f436", "event", "a|1-0", 1) != run_id("test-f980", "event", "a|1-0", 1)


def test_ulids_sort_by_time_and_tell_it() -> None:
    assert ulid(1) < ulid(2)
    assert ulid_ms(ulid(1234)) == 1234
    assert ulid_ms("not a ulid") is None
    assert len({token() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("given", "ms"),
    [
        (0.5, 500),
        ("1h30m", 5_400_000),
        ("250ms", 250),
        ("1.5s", 1_500),
        (timedelta(seconds=2), 2_000),
        ("366d", 366 * 86_400_000),
    ],
)
def test_durations_are_seconds_words_or_timedeltas(given, ms: int) -> None:
    assert milliseconds(given) == ms


@pytest.mark.parametrize("given", ["5 parsecs", "", "-1s", -1, float("nan"), float("inf"), "1e9d", "367d", True])
def test_what_is_no_duration_is_refused_with_the_value(given) -> None:
    with pytest.raises(ConfigError, match="nap"):
        milliseconds(given, "nap")


def test_durations_are_told_in_words() -> None:
    assert [in_words(ms) for ms in (12, 2_400, 65_000, 7_440_000, 90_000_000)] == [
        "12 ms",
        "2.4 s",
        "1 min 5 s",
        "2 h 4 min",
        "1 d 1 h",
    ]


def test_backoff_follows_the_table_a_list_or_an_exponential() -> None:
    assert 15_000 <= Retry().delay_ms(0) < 45_000
    assert 7_200_000 <= Retry().delay_ms(19) < 7_230_000
    assert [Retry(3, backoff=[1, "2s"]).delay_ms(n) for n in range(4)] == [1_000, 2_000, 2_000, 2_000]
    assert [Retry(3, backoff=Exponential("1s", 2, "3s")).delay_ms(n) for n in range(3)] == [1_000, 2_000, 3_000]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(21),
        lambda: Retry(-1),
        lambda: Retry(1, backoff=[]),
        lambda: Retry(1, backoff=-1),
        lambda: Exponential(factor=0.5),
    ],
)
def test_a_retry_that_makes_no_sense_is_refused_when_declared(make) -> None:
    with pytest.raises(ConfigError):
        make()


def test_retry_after_is_kept_between_a_second_and_a_day() -> None:
    assert asked_delay_ms(RetryAfter(0.001)) == 1_000
    assert asked_delay_ms(RetryAfter("3d")) == 86_400_000
    assert 58_000 < asked_delay_ms(RetryAfter(datetime.now(UTC) + timedelta(minutes=1))) <= 60_001
    with pytest.raises(ConfigError, match="time zone"):
        asked_delay_ms(RetryAfter(datetime(2030, 1, 1)))


def test_an_expression_that_errors_is_false() -> None:
    expression = Expression("event.data.n > 3", "here")
    assert expression.matches({"data": {"n": 4}})
    assert not expression.matches({"data": {"n": 2}})
    assert not expression.matches({"data": {}})
    assert not expression.matches({"data": {"n": "text"}})
    assert not Expression("event.data.n", "here").matches({"data": {"n": 1}}), "CEL has no truthiness"


def test_a_path_the_type_does_not_have_is_refused_with_its_name_on_the_wire() -> None:
    app = Bus("shop")
    with pytest.raises(ConfigError, match="unknown field user_id; did you mean userId"):
        app.function("f", on=On(Paid, if_="event.data.user_id == 'a'"))
    app.function("g", on=On(Paid, if_="event.data.userId == 'user_id' && event.name != ''"))


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda app: app.function("f", on=On("a", if_="event. >")), "not an expression"),
        (lambda app: app.function("f", on=On("a", if_="async.data.x == 1")), "knows only"),
        (lambda app: app.function("f", on=[]), "0 triggers"),
        (lambda app: app.function("f", on=["a", "a"]), "two triggers for 'a'"),
        (lambda app: app.function("f", on=""), "no event name"),
        (lambda app: app.function("f", on="bus/mine"), "reserved"),
        (lambda app: app.function("f", on="shop*"), "wildcard stands at the end"),
        (lambda app: app.function("f", on=EventData), "no event name"),
        (lambda app: app.function("a b", on="a")(handler), "function id 'a b'"),
        (lambda app: app.function(handler), r"id first, got 'handler'; write @app\.function\("),
        (lambda app: app.function("f", on="a", retries=21), "between 0 and 20"),
        (lambda app: app.function("f", on="a")(lambda ctx, step: None), "not async"),
        (lambda app: (app.function("f", on="a")(handler), app.function("f", on="b")), "two functions 'f'"),
    ],
)
def test_a_declaration_that_makes_no_sense_fails_when_declared(declare, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        declare(Bus("shop"))


def test_a_sync_handler_is_refused_with_the_way_out() -> None:
    def sync(ctx, step):
        return None

    with pytest.raises(ConfigError, match=r"async def.*step\.run"):
        Bus("shop").function("f", on="a")(sync)


def test_names_cannot_move_a_key_to_another_slot() -> None:
    for name in ("a}b{c", "{x}", "{}", "a:b", "*?["):
        key = keys.events(name)
        assert key.count("{") == 1
        assert key.count("}") == 1
        assert key.count(":") == 2
        assert "*" not in key


def test_data_that_does_not_fit_its_type_names_the_path() -> None:
    event = RawEvent("1", "order/paid", msgspec.Raw(b'{"userId":"a","cents":"x"}'), 0)
    with pytest.raises(EventInvalid) as caught:
        event.typed(Paid)
    assert caught.value.field == "data.cents"


def test_typed_data_keeps_its_names_on_the_wire() -> None:
    assert codec.encode(Paid("ada", 5)) == b'{"userId":"ada","cents":5}'
    assert RawEvent("1", "order/paid", msgspec.Raw(b'{"userId":"a"}'), 0).typed(Paid).data == Paid("a", 0)


def test_settings_are_read_once_and_names_kubernetes_injects_are_ignored() -> None:
    environ = {"BUS_LEASE": "2", "BUS_DRAIN": "1m", "BUS_PORT": "tcp://1:2", "BUS_SERVICE_HOST": "x", "BUS_PORT_8288_TCP": "y",
               "BUS_REDIS_URI": "z", "BUS_EVENT_KEYS": "a, b"}  # fmt: skip
    read, warnings = settings.read(environ)
    assert (read.lease_ms, read.drain_ms, read.event_keys) == (2_000, 60_000, ("a", "b"))
    assert warnings == ["BUS_REDIS_URI is not a setting; did you mean BUS_REDIS_URL?"]
    with pytest.raises(ConfigError, match="BUS_REDIS_URL"):
        settings.read(environ, strict=True)


@pytest.mark.parametrize(
    "environ",
    [
        {"BUS_LEASE": "0.1"},
        {"BUS_KEEP": "9m"},
        {"BUS_REDIS_URL": "http://x"},
        {"BUS_LOG_LEVEL": "loud"},
        {"BUS_FAILPOINT": "nowhere:1"},
        {"BUS_DRAIN": "soon"},
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_its_name(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(environ))):
        settings.read(environ)


def test_a_callables_annotation_is_what_its_result_becomes() -> None:
    class Point(msgspec.Struct):
        x: int

    def typed() -> Point: ...
    def untyped(): ...
    def nothing() -> None: ...

    assert codec.return_type(typed) is not None
    assert codec.decode_as(b"[1,2]", codec.return_type(untyped)) == [1, 2]
    assert codec.return_type(nothing) is type(None)
    assert codec.decode_as(b"3", codec.return_type(len)) == 3


def test_every_kind_of_key_is_told_from_its_name() -> None:
    """`bus check` reads every key: a new kind must not be one it calls none of ours."""
    for make, stand_ins in keys.ALL:
        kind = kinds.kind_of(make(*stand_ins))
        assert kind is not None
        assert kind[0] == make.__name__
    assert kinds.kind_of("other:thing") is None


def test_of_an_error_as_long_as_one_likes_eight_thousand_characters_are_kept() -> None:
    def deep(n: int) -> None:
        if n:
            deep(n - 1)
        raise ValueError("m" * 1_000_000)

    try:
        deep(200)
    except ValueError as error:
        failure = Failure.of(error)
    assert len(failure.message) == 8_000
    assert 0 < len(failure.stack) <= 8_000
