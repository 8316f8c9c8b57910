"""Doctor: is this Redis fit? `bus doctor` checks everything, a starting worker what INFO tells.

A server is unfit if it would lose or stop work for certain: a version without features the scripts need, a policy that
evicts keys, a replica, a missing right. Whatever may lose a second of work, or wastes memory, is advice.
"""

import re
import statistics
import time
from typing import Literal

import msgspec

from stepstream.bus.errors import ConfigError, GroupMissing, RightMissing, StoreError, StoreUnavailable
from stepstream.bus.values.address import Address
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.bus.values.ids import FIRST
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.connection.rights import CLIENT_ID, CLIENT_UNBLOCK, CONFIG_GET, HELLO, INFO, SCAN, SCRIPT_LOAD
from stepstream.bus.wire.scripts import registered
from stepstream.bus.wire.streams import TAKE
from stepstream.bus.wire.wire import Wire

REDIS_FLOOR, VALKEY_FLOOR = (7, 0), (7, 2)
LISTPACK_VALUE = 1_024
_FULL = 0.85
_SKEW_MS = 1_000
_SLOW_MS = 5.0
_UNSEEN = "not shown to this user"

Verdict = Literal["fit", "advice", "unfit"]


class Finding(msgspec.Struct, frozen=True):
    """The result of one check: what was found, the verdict, and what to do if it is not `fit`."""

    check: str
    found: str
    verdict: Verdict = "fit"
    do: str = ""


async def at_boot(wire: Wire) -> list[Finding]:
    """Check what INFO tells, in one round trip; without the right to ask it, the part that HELLO tells."""
    info = await _info(wire)
    looked = [_version(info), _role(info), _cluster(info), _eviction(info), _persistence(info, None)]
    return [finding for finding in looked if finding.found != _UNSEEN]


def refuse(findings: list[Finding]) -> list[Finding]:
    """Raise ConfigError for what waiting cannot mend; return the other findings that are not fit, to be reported.

    A replica may be promoted, and a disk freed, while a worker waits.
    """
    unfit = [finding for finding in findings if finding.verdict != "fit"]
    fatal = [it for it in unfit if it.verdict == "unfit" and it.check in {"version", "cluster", "eviction"}]
    if fatal:
        reasons = "; ".join(f"{finding.check}: {finding.found}: {finding.do}" for finding in fatal)
        raise ConfigError(f"this Redis is not fit for Stepstream: {reasons} (more: bus doctor)")
    return unfit


async def examine(wire: Wire) -> list[Finding]:
    """Check everything; StoreUnavailable when the server does not answer."""
    info = await _info(wire)
    return [
        _version(info),
        _role(info),
        _cluster(info),
        _eviction(info),
        _memory(info),
        _persistence(info, await _config(wire, "appendfsync")),
        await _listpack(wire),
        await _clock(wire),
        await _round_trip(wire),
        await _rights(wire),
        *(Finding(right.text, f"refused: {error}", "advice", f"without it {right.without}; {right.acl} gives it")
          for right, error in wire.rights.missing.items()),
        _access(wire.where),
        Finding("keys", keys.pattern()),
    ]  # fmt: skip


async def watch(wire: Wire) -> tuple[str, Finding]:
    """Return the server's identity, and whether it evicts keys (somebody may switch that on).

    The identity changes with a restart or a failover. Without the right to ask for it, each trouble of the connections
    counts as a change: every restart causes one.
    """
    info = await _info(wire)
    if "run_id" not in info and "master_replid" not in info:
        return f"after trouble {wire.trouble.times}", _eviction(info)
    return f"{info.get('run_id', '')} {info.get('master_replid', '')}", _eviction(info)


async def evicts(wire: Wire) -> Finding | None:
    """Return the finding when this server evicts keys; None when it does not, or we may not see it."""
    _, finding = await watch(wire)
    return finding if finding.verdict == "unfit" else None


class Clients(msgspec.Struct, frozen=True):
    """How many client connections a server accepts at most, and how many it has."""

    most: int
    connected: int


async def clients(wire: Wire) -> Clients | None:
    """Return what INFO tells about the server's connections; None where it does not."""
    info = await patiently(lambda: _info(wire))
    if "maxclients" not in info or "connected_clients" not in info:
        return None
    return Clients(int(info["maxclients"]), int(info["connected_clients"]))


class Server(msgspec.Struct, frozen=True):
    """What a server tells of itself: memory in bytes (`most` 0: no bound), seconds it is up, commands a second."""

    product: str
    version: str
    used: int
    peak: int
    most: int
    clients: int
    commands: int
    evicted: int
    up_s: int


async def server(wire: Wire) -> Server | None:
    """Return what the server tells of itself; None where this user may not ask."""
    info = await _info(wire)
    if "used_memory" not in info:
        return None
    product = "Valkey" if "valkey_version" in info else "Redis"

    def number(name: str) -> int:
        text = info.get(name, "")
        return int(text) if text.isdecimal() else 0

    return Server(
        product, info.get("valkey_version") or info.get("redis_version", ""), number("used_memory"),
        number("used_memory_peak"), number("maxmemory"), number("connected_clients"),
        number("instantaneous_ops_per_sec"), number("evicted_keys"), number("uptime_in_seconds"),
    )  # fmt: skip


class Durability(msgspec.Struct, frozen=True):
    """Whether a server keeps what it is told: its append-only file, its writes, and how far its replicas are behind."""

    is_primary: bool
    has_aof: bool
    is_written: bool
    """Whether its last writes to the append-only file, of a new one, and of a snapshot went well."""
    replicas: int
    behind: int
    """How many bytes of its replication stream the last replica has not confirmed yet; 0: there is none."""


async def durability(wire: Wire) -> Durability | None:
    """Return what the server tells of that; None where this user may not ask."""
    info = await _info(wire)
    if "aof_enabled" not in info:
        return None
    there = [text for name, text in info.items() if re.fullmatch(r"slave\d+", name)]
    confirmed = [int(found[1]) for one in there if (found := re.search(r"offset=(\d+)", one))]
    offset = int(info.get("master_repl_offset", "0"))
    return Durability(
        info.get("role") == "master",
        info["aof_enabled"] == "1",
        not _unwritten(info),
        len(there),
        max(0, offset - min(confirmed, default=offset)),
    )


async def _info(wire: Wire) -> dict[str, str]:
    """Return the fields of INFO; without the right to ask it, those that HELLO has too."""
    raw = await wire.ask(INFO)
    if raw is not None:
        return dict(line.split(":", 1) for line in raw.decode().splitlines() if ":" in line)
    hello = await wire.ask(HELLO)
    if hello is None:
        return {}
    fields = {name.decode(): value.decode() for name, value in zip(hello[::2], hello[1::2], strict=True)
              if isinstance(value, bytes)}  # fmt: skip
    return {
        f"{fields.get('server', 'redis')}_version": fields.get("version", ""),
        "role": fields.get("role", ""),
        "cluster_enabled": "1" if fields.get("mode") == "cluster" else "0",
    }


async def _config(wire: Wire, name: str) -> str | None:
    """Return a setting; None where this user may not ask, or a hosted server has no CONFIG."""
    reply = await wire.ask(CONFIG_GET, name)
    return reply[1].decode() if reply else None


def _unseen(check: str, do: str) -> Finding:
    return Finding(check, _UNSEEN, "advice", do)


def _version(info: dict[str, str]) -> Finding:
    valkey = info.get("valkey_version")
    text = valkey or info.get("redis_version")
    if not text:
        return _unseen("version", "make sure that it is Redis 7.0 or newer, or Valkey 7.2 or newer")
    name, floor = ("Valkey", VALKEY_FLOOR) if valkey else ("Redis", REDIS_FLOOR)
    numbers = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    if numbers < floor:
        return Finding("version", f"{name} {text}", "unfit", "use Redis 7.0 or newer, or Valkey 7.2 or newer")
    return Finding("version", f"{name} {text}")


def _role(info: dict[str, str]) -> Finding:
    role = info.get("role")
    if not role:
        return _unseen("role", "make sure that it is a primary")
    if role != "master":
        return Finding("role", role, "unfit", "point BUS_REDIS_URL at the primary: a replica takes no writes")
    if "connected_slaves" not in info:
        return Finding("role", "primary")
    replicas = int(info["connected_slaves"])
    return Finding("role", f"primary, {replicas} replica{'' if replicas == 1 else 's'}")


def _cluster(info: dict[str, str]) -> Finding:
    enabled = info.get("cluster_enabled")
    if enabled is None:
        return _unseen("cluster", "make sure that it is a single primary")
    if enabled == "1":
        return Finding("cluster", "on", "unfit", "a cluster is not supported yet: use a single primary")
    return Finding("cluster", "off")


def _eviction(info: dict[str, str]) -> Finding:
    policy = info.get("maxmemory_policy")
    if not policy:
        return _unseen("eviction", "make sure that its maxmemory-policy is noeviction: evicted keys are lost runs")
    if policy == "noeviction":
        return Finding("eviction", policy)
    do = "CONFIG SET maxmemory-policy noeviction: evicted keys are lost runs"
    if info.get("maxmemory", "0") == "0":
        return Finding("eviction", f"{policy}, no maxmemory", "advice", do)
    return Finding("eviction", policy, "unfit", do)


def _memory(info: dict[str, str]) -> Finding:
    if "used_memory" not in info:
        return _unseen("memory", "watch it where the server is operated")
    used, most = int(info["used_memory"]), int(info.get("maxmemory", "0"))
    if most and used > _FULL * most:
        return Finding(
            "memory", f"{used / most:.0%} of maxmemory", "advice", "raise maxmemory, or keep runs shorter (BUS_KEEP)"
        )
    size = f"{used / 2**20:,.0f} MiB" + (f", {used / most:.0%} of maxmemory" if most else ", no maxmemory")
    return Finding("memory", size)


def _unwritten(info: dict[str, str]) -> list[str]:
    """Return the fields that say that something could not be written."""
    fields = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
    return [field for field in fields if info.get(field, "ok") != "ok"]


def _persistence(info: dict[str, str], fsync: str | None) -> Finding:
    failed = _unwritten(info)
    if failed:
        return Finding("persistence", f"{failed[0]} is not ok", "unfit", "look at the server's log and its disk")
    if "aof_enabled" not in info:
        return _unseen("persistence", "make sure that it keeps an append-only file")
    if info["aof_enabled"] != "1":
        return Finding(
            "persistence", "no append-only file", "advice",
            "CONFIG SET appendonly yes: without it a restart loses what came after the last snapshot",
        )  # fmt: skip
    if fsync == "no":
        return Finding(
            "persistence", "append-only, fsync left to the system", "advice", "CONFIG SET appendfsync everysec"
        )
    loses = {"everysec": ", a power loss costs up to 2 s", "always": ", nothing is lost"}.get(fsync or "", "")
    return Finding("persistence", f"append-only{f', fsync {fsync}' if fsync else ''}{loses}")


async def _listpack(wire: Wire) -> Finding:
    name = "hash-max-listpack-value"
    value = await _config(wire, name)
    if value is None:
        return Finding(
            name, _UNSEEN, "advice", f"set it to {LISTPACK_VALUE}: a finished run then takes a third less memory"
        )
    if int(value) < LISTPACK_VALUE:
        return Finding(
            name, value, "advice", f"CONFIG SET {name} {LISTPACK_VALUE}: a finished run then takes a third less memory"
        )
    return Finding(name, value)


async def _clock(wire: Wire) -> Finding:
    before = now_ms()
    seconds, micros = await wire.call("TIME")
    here = (before + now_ms()) / 2
    skew = round(int(seconds) * 1_000 + int(micros) / 1_000 - here)
    if abs(skew) > _SKEW_MS:
        apart = f"{in_words(abs(skew))} {'ahead of' if skew > 0 else 'behind'} this machine"
        do = "set both by NTP: due times are the server's, event times the sender's"
        return Finding("clock", apart, "advice", do)
    return Finding("clock", f"{skew:+d} ms")


async def _round_trip(wire: Wire) -> Finding:
    took: list[float] = []
    for _ in range(20):
        began = time.perf_counter()
        await wire.call("PING")
        took.append((time.perf_counter() - began) * 1_000)
    median = statistics.median(took)
    if median > _SLOW_MS:
        return Finding(
            "round trip", f"{median:.1f} ms", "advice", "each step waits for one: put workers near the server"
        )
    return Finding("round trip", f"{median:.2f} ms")


def _needed() -> list[tuple[str | int, ...]]:
    """Return every command a worker needs, directly or in scripts, on throwaway keys."""
    slug = name = "@doctor"
    stream, run, index = keys.events(name), keys.run(slug, "doctor"), keys.runs(slug, "completed", FIRST)
    text, names, lines = keys.seen(name, "doctor"), keys.signal("doctor"), keys.log(slug, "doctor")
    return [
        ("TIME",), ("PING",),
        ("XGROUP", "CREATE", stream, slug, "$", "MKSTREAM"),
        ("XADD", stream, "1-1", "data", "{}"),
        ("XREADGROUP", "GROUP", slug, "doctor", "COUNT", 1, "STREAMS", stream, ">"),
        ("XREAD", "COUNT", 1, "STREAMS", stream, "0"),
        ("XPENDING", stream, slug, "-", "+", 1), ("XCLAIM", stream, slug, "doctor", 0, "1-1", "JUSTID"),
        ("XACK", stream, slug, "1-1"), ("XINFO", "GROUPS", stream), ("XINFO", "STREAM", stream), ("XLEN", stream),
        ("XDEL", stream, "1-1"), ("XRANGE", stream, "-", "+", "COUNT", 1), ("XREVRANGE", stream, "+", "-", "COUNT", 1),
        ("XTRIM", stream, "MAXLEN", 0), ("XGROUP", "DELCONSUMER", stream, slug, "doctor"),
        ("XGROUP", "DESTROY", stream, slug),
        ("HSET", run, "format", 1), ("HSETNX", run, "size", 1), ("HINCRBY", run, "size", 1), ("HGET", run, "size"),
        ("HMGET", run, "size"), ("HGETALL", run), ("HKEYS", run), ("HLEN", run), ("HVALS", run), ("HDEL", run, "size"),
        ("HSCAN", run, 0), ("HSTRLEN", run, "size"), ("PEXPIRE", run, 60_000), ("PTTL", run), ("EXISTS", run),
        ("ZADD", index, 1, "doctor"), ("ZCARD", index), ("ZCOUNT", index, 0, 1), ("ZSCORE", index, "doctor"),
        ("ZRANGE", index, 0, -1), ("ZREVRANGE", index, 0, -1), ("ZRANGEBYSCORE", index, 0, 1),
        ("ZRANGEBYLEX", index, "-", "+"), ("ZREMRANGEBYSCORE", index, 0, 0), ("ZREMRANGEBYLEX", index, "[a", "[a"),
        ("ZREM", index, "doctor"), ("TYPE", run), ("HEXISTS", run, "size"),
        ("SET", text, "1", "PX", 60_000), ("INCRBY", text, 1), ("GET", text), ("SADD", names, "doctor"),
        ("SMEMBERS", names),
        ("RPUSH", lines, "x"), ("LLEN", lines), ("LRANGE", lines, 0, -1), ("LPOP", lines), ("GETDEL", text),
        ("EVAL", TAKE.text, 1, stream, "", slug, "doctor"),
        ("EVALSHA", TAKE.sha, 1, stream, "", slug, "doctor"),
        ("UNLINK", text), ("DEL", stream, run, index, text, names, lines),
    ]  # fmt: skip


async def _rights(wire: Wire) -> Finding:
    """Run every command a worker needs, once."""
    try:
        refused = await _refused(wire, _needed())
        await wire.ask(CLIENT_ID)
        await wire.ask(CLIENT_UNBLOCK, 0)
        await wire.ask(SCAN, 0)
        for script in registered():
            await wire.ask(SCRIPT_LOAD, script.text)
    except StoreUnavailable as error:
        if error.state not in {"READONLY", "OOM", "MISCONF", "NOREPLICAS"}:
            raise
        return Finding("rights", f"not tried: the server answers {error.state}", "advice", "solve that first")
    if refused:
        names = " ".join(f"+{name.lower()}" for name in refused)
        do = f"give this user {names}: its whole rule tells bus doctor --acl"
        return Finding("rights", f"refused: {'; '.join(map(' '.join, refused.items()))}", "unfit", do)
    return Finding("rights", "all that workers need")


async def _refused(wire: Wire, commands: list[tuple[str | int, ...]]) -> dict[str, str]:
    """Return the commands that are refused, with what Redis says."""
    refused: dict[str, str] = {}
    for command in commands:
        try:
            await wire.call(*command)
        except GroupMissing:  # XGROUP CREATE was refused
            continue
        except (RightMissing, StoreError) as error:
            refused.setdefault(str(command[0]), str(error))
    return refused


def _access(where: Address) -> Finding:
    host = where.options.get("host")
    if where.kind != "redis" or host in {"127.0.0.1", "localhost", "::1"}:
        return Finding("access", "TLS" if where.kind == "rediss" else "this machine")
    if "password" not in where.options:
        return Finding("access", f"{host}, no password", "advice", "set a password or an ACL user, and use rediss://")
    return Finding("access", f"{host}, a password, no TLS", "advice", "use rediss:// beyond a private network")
