"""`bus doctor` and `bus check`: whether Redis is fit, and whether what is in it is right."""

import asyncio
from typing import Annotated

import msgspec
import typer

from stepstream.bus import settings
from stepstream.bus.blobs.opening import open_store
from stepstream.bus.blobs.probe import probe
from stepstream.bus.errors import BusError
from stepstream.bus.process import open_files
from stepstream.bus.process.terminal import say
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.connection.rights import rule
from stepstream.bus.wire.doctor import Finding, Server, examine, server
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.cli.printing import print_json, print_table, word, words
from stepstream.checkpoint.registry import functions as registered
from stepstream.checkpoint.types import disagreements
from stepstream.checkpoint.upkeep.audit import Fault, audit, mend, still
from stepstream.checkpoint.upkeep.repair import Unheld, active, repair, unheld
from stepstream.checkpoint.upkeep.served import unserved

_AGREE = "let both declare one type, or give one's event another name: until then what fits either is sent"


def doctor(
    with_settings: Annotated[
        bool, typer.Option("--settings", help="Tell the server's memory and this process's settings instead.")
    ] = False,
    acl: Annotated[bool, typer.Option("--acl", help="Print the ACL rule of the Redis user instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether this Redis is fit: version, eviction, persistence, memory, clock, rights. Exit code 1 if not.

    With BUS_BLOBS_URL the store of large results is tried too, with a small blob.

    Redis' memory and the settings in force, without secrets: bus doctor --settings. The user that all of it runs as, a
    line of redis.conf, which is not asked for it: bus doctor --acl.

    In a deploy, before workers start: bus doctor && bus worker shop:app. Of what is not fit alone:
    bus doctor --json | jq '.[] | select(.verdict == "unfit")'
    """

    async def look(wire: Wire) -> list[Finding]:
        return [
            *await examine(wire),
            *await unserved(wire),
            _files(wire.settings.max_connections),
            *await _blobs(wire.settings.blobs_url),
            *(Finding("types", one.words, "advice", _AGREE) for one in await disagreements(wire)),
        ]

    if acl:
        line = rule(settings.read()[0].prefix)
        print_json({"rule": line}) if as_json else say(line)
        return
    if with_settings:
        _settings(as_json=as_json)
        return
    findings = once(look)
    if as_json:
        print_json(findings)
    else:
        print_table(
            ("", "check", words("found"), words("what to do")),
            ((word(one.verdict), one.check, one.found, one.do) for one in findings),
        )
    if any(finding.verdict == "unfit" for finding in findings):
        raise typer.Exit(1)


def _files(connections: int) -> Finding:
    """Check whether a site that is started as this command was may have its BUS_MAX_CONNECTIONS."""
    limit, needed = open_files.limit(), open_files.needed_by_site(connections)
    if limit >= needed:
        return Finding("open files", f"{limit:,}")
    do = f"ulimit -Hn {needed} before bus serve (LimitNOFILE={needed} of systemd), or set BUS_MAX_CONNECTIONS lower"
    return Finding("open files", f"{limit:,}, of this command", "advice", do)


async def _blobs(url: str) -> list[Finding]:
    """Check the store of large results, where there is one: as this command's user, with its environment."""
    if not url:
        return []
    try:
        await probe(open_store(url))
    except BusError as error:
        do = "mend what it says; workers and sites reach it with a user and an environment of their own"
        return [Finding("blobs", str(error), "unfit", do)]
    return [Finding("blobs", f"a probe was written, read and deleted at {url}")]


class SettingsShown(msgspec.Struct, frozen=True):
    """What the server tells of itself (null where this user may not ask), and the settings, without secrets."""

    server: Server | None
    settings: dict[str, str]


def _settings(*, as_json: bool) -> None:
    async def look(wire: Wire) -> SettingsShown:
        return SettingsShown(await server(wire), dict(wire.settings.shown()))

    found = once(look)
    if as_json:
        print_json(found)
        return
    one = found.server
    if one is None:
        say("the server does not tell this user of itself")
    else:
        most = f" of {one.most / 2**20:,.0f} MiB" if one.most else ", no maxmemory"
        say(
            f"{one.product} {one.version}, up {in_words(1_000 * one.up_s)}: memory {one.used / 2**20:,.1f} MiB{most} "
            f"(peak {one.peak / 2**20:,.1f} MiB), {one.clients:,} connections, {one.commands:,} commands a second, "
            f"{one.evicted:,} keys evicted"
        )
    print_table(("setting", words("value")), found.settings.items())


def check(
    repairs: Annotated[bool, typer.Option("--repair", help="Put right what can be.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look whether every run has a holder, and every key an owner: twice, one lease apart. Exit code 1 if one has none.

    After keys were deleted, or a failover: bus check --repair.

    What is lost is told of with and without --repair: a run whose record is gone cannot be put back. Leftovers of
    workers that died are shown too: they go by themselves at their deadline, and do not change the exit code.
    """

    async def look(wire: Wire) -> tuple[int, list[Unheld], list[Fault], int]:
        count = 0
        first: list[tuple[str, Unheld]] = []
        for function in await registered(wire):
            async for page in active(wire, function.slug):
                count += len(page)
                first += [(function.slug, one) for one in await unheld(wire, function.slug, page)]
        faults = await audit(wire)
        if first or faults:
            await asyncio.sleep(wire.settings.lease_ms / 1_000)
        found = [one for slug, one in first if one in await unheld(wire, slug, [one.run])]
        standing = await still(wire, faults)
        mended = 0
        if repairs:
            mended += sum([await repair(wire, one) for one in found])
            mended += sum([await mend(wire, fault) for fault in standing])
        return count, found, standing, mended

    count, found, faults, mended = once(look)
    leftovers = sum(fault.leftover for fault in faults)
    wrong = len(faults) - leftovers
    if as_json:
        answer = {
            "active": count,
            "unheld": [{"run": one.run, "function": one.slug, "found": one.words} for one in found],
            "faults": [{"key": fault.key, "found": fault.words} for fault in faults if not fault.leftover],
            "leftovers": [{"key": fault.key, "found": fault.words} for fault in faults if fault.leftover],
            "repaired": mended,
        }
        print_json(answer)
    else:
        for one in found:
            say(f"{one.run}  {one.slug}  {one.words}")
        for fault in faults:
            say(f"{fault.key}  {fault.words}")
        repaired = f"; {mended} repaired" if repairs else "; bus check --repair mends that" if found or faults else ""
        left = f"; {leftovers} leftovers go by themselves at their deadline" if leftovers else ""
        seen = f"{count} runs have not ended, {len(found)} of them have no holder; {wrong} keys are not right{left}"
        say(f"{seen}{repaired}")
    if len(found) + wrong and len(found) + len(faults) > mended:
        raise typer.Exit(1)
