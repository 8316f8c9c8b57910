"""`make mutations`: break one rule at a time in a copy of the code; the tests named beside it must fail.

A suite that passes with a rule removed does not test the rule. Prints a table; exit code 1 when a mutant lives.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from tests.scripts import FLOORS

ROOT = Path(__file__).parent.parent
LEFT_OUT = (".venv", ".git", ".bus", "build", "__pycache__", "*.egg-info")
SCRIPTS = ["tests/redis/test_scripts.py"]
FACTS = ["tests/redis/test_facts.py"]
ALERTS = ["tests/system/test_alert_sending.py"]
ARRIVE = ["tests/redis/test_arrive.py"]
RUNS = ["tests/system/test_runs.py"]
EXITS = ["tests/system/test_exits.py"]
CONSTRUCTS = ["tests/system/test_constructs.py"]
TOGETHER = ["tests/system/test_seen_together.py"]
SDK_READS = ["tests/system/test_sdk_reads.py"]
GIVEN_UP = ["tests/system/test_given_up.py"]
FOLLOWING = ["tests/system/test_following.py"]
ORDER = ["tests/system/test_order.py"]
REMOTE = ["tests/system/test_remote_driver.py"]
ANSWERS = ["tests/system/test_remote_answers.py"]
SERVED = ["tests/system/test_served.py"]
SERVED_EDGES = ["tests/system/test_served_edges.py"]
SIGNAL_TYPES = ["tests/system/test_signal_types.py"]
KEYS = ["tests/system/test_keys.py"]
SIGNING = ["tests/unit/test_signing.py"]
SIGNED_CALLS = ["tests/system/test_signed_calls.py"]
APP_HOSTS = ["tests/unit/test_app_hosts.py", "tests/unit/test_reach.py"]
FAILPOINTS = ["tests/chaos/test_kills.py", "-m", "chaos", "-k", "ends_right_when"]


class Mutant(NamedTuple):
    """What is broken, where, and which tests must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: list[str]


MUTANTS = [
    Mutant("no fence", "checkpoint/run/lua/fragments/fence.lua", "and fence == my_fence and turn == my_turn", "", SCRIPTS),
    Mutant("acknowledged before it is saved", "consumers/executor.py",
           "        self.turns.add(turn)\n", "        self.turns.add(turn)\n        self._exits.leave(delivery, \"turn over\")\n", FAILPOINTS),
    Mutant("alerts of a round that is over are written", "checkpoint/alerts/lua/alerts_put.lua",
           "if h.by ~= args.by or h.round ~= args.round then", "if false then", ALERTS),
    Mutant("two look for alerts at a time", "checkpoint/alerts/lua/alerts_take.lua", "if h.by and h.by ~= args.by and", "if false and", ALERTS),
    Mutant("no dedupe", "bus/wire/lua/event_publish.lua", "if there then", "if false then", SCRIPTS),
    Mutant("an SDK's repeated request is stored twice", "bus/wire/lua/event_receive.lua", "if there then", "if false then", SDK_READS),
    Mutant("start without memos", "checkpoint/run/lua/run_start.lua", "return redis.call('HGETALL', steps)", "return {}", SCRIPTS),
    Mutant("what is counted is not written", "checkpoint/run/lua/run_end.lua", "tell_facts(fn, now)\n", "", FACTS),
    Mutant("a resolved error that comes again stays resolved", "checkpoint/lua/fragments/facts.lua", "if known.state == 'resolved' then", "if false then", FACTS),
    Mutant("a bucket of time has another edge for scripts", "checkpoint/lua/fragments/facts.lua", "ms < 464159", "ms < 464158", FACTS),
    Mutant("errors never make room", "checkpoint/lua/fragments/facts.lua", "more > 0 and", "false and", FACTS),
    Mutant("the repeat of a note is an attempt", "checkpoint/lua/fragments/attempts.lua",
           "if last and string.sub(last, -#attempt) == attempt then", "if false then", ["tests/redis/test_attempts.py"]),
    Mutant("a worker whose key is lost tells no more", "bus/wire/leases.py", "was_lost = bool(reply) and bool(self._known)", "was_lost = False",
           ["tests/redis/test_workers_told.py"]),
    Mutant("the entry's turn is ignored", "checkpoint/run/lua/run_start.lua", "if given < turn then", "if false then", SCRIPTS),
    Mutant("park ignores wake", "checkpoint/run/lua/run_suspend.lua", "if wake > known and", "if false and", SCRIPTS),
    Mutant("lost on its own retry", "checkpoint/run/lua/fragments/fence.lua", "or tonumber(turn) > tonumber(my_turn)", "", SCRIPTS),
    Mutant("run id without the event's name", "consumers/delivery/start_requests.py",
           'run_id(function.slug, "event", delivery.feed.cause(delivery.id), queued)', 'run_id(function.slug, "event", delivery.id, queued)', RUNS),
    Mutant("claim without a look at the lease", "bus/wire/lua/entries_claim.lua",
           "consumer ~= me and is_over(workers, consumer, now, lease)", "consumer ~= me", SCRIPTS),
    Mutant("who is not sure of the clock judges", "bus/wire/lua/fragments/lease.lua", "return now <= tonumber(sure)", "return true", SCRIPTS),
    Mutant("renewal creates", "bus/wire/lua/lease_renew.lua", "if args.begins == '0' and", "if false and", SCRIPTS),
    Mutant("what a deadline cuts off while it is stored came in time", "checkpoint/run/lua/run_open.lua",
           "if args.state == 'given_up' then -- its code", "if false then -- its code", TOGETHER),
    Mutant("memo order is ignored", "consumers/turn/handing_out.py",
           "(n, self._requested, future)", "(0, self._requested, future)", CONSTRUCTS),
    Mutant("steps that end in one pass are seen at once", "consumers/turn/turn.py", "return len(self.tasks.alive) > 1", "return False", TOGETHER),
    Mutant("who was saved goes on before what its save has brought", "consumers/turn/state.py",
           "            self.is_settled = False\n            if step in", "            if step in", [*TOGETHER, "-k", "came_while"]),
    Mutant("what ended before a step is not waited for while it arms", "consumers/turn/handing_out.py",
           "if all(came > n for came in self._state.came.values()):", "if True:", ["tests/unit/test_handing_out.py"]),
    Mutant("a call sees steps end at once that ended together", "consumers/served/call.py",
           "        if len(self.tasks.alive) > 1:", "        if False:", ["tests/system/test_served_parallel.py", "-k", "raced_alike"]),
    Mutant("memos are handed out all at once", "consumers/turn/handing_out.py",
           "                future.set_result(None)\n                self._idle.restart()\n",
           "                future.set_result(None)\n                self._decide()\n",
           CONSTRUCTS),
    Mutant("no look for undelivered entries", "consumers/delivery/reclaimer.py",
           "        if not undelivered:\n            return", "        if True:\n            return", RUNS),
    Mutant("crashes counted by deliveries", "checkpoint/lua/fragments/crash.lua",
           "owner == '' or owner ~= worker or status ~= 'running'", "owner == ''", SCRIPTS),
    Mutant("a run that exists arrives again", "checkpoint/run/lua/run_start_eagerly.lua", "if redis.call('EXISTS', key) == 1 then", "if false then", ARRIVE),
    Mutant("arrival without a look at the lease", "checkpoint/run/lua/run_start_eagerly.lua", "or 0) < now then", "or 0) < 0 then", ARRIVE),
    Mutant("HSET for HSETNX", "checkpoint/run/lua/run_save.lua",
           "redis.call('HSETNX', steps, step, memo) == 0", "redis.call('HSET', steps, step, memo) == 9", SCRIPTS),
    Mutant("look-back from the last taken", "consumers/turn/steps/wait.py",
           "        since = await _begun(turn) if looks_back else noted.since\n",
           "        since = max([int(one.entry.partition('|')[2].split('-')[0]) + 1 for one in turn.state.memos.values() if one.entry], default=await _begun(turn))\n",
           ["tests/guide/test_waiting.py"]),
    Mutant("the courier acknowledges before all have answered", "consumers/relay/courier.py",
           "        try:\n            if delivery.feed.kind == \"ends\":", "        self._exits.leave(delivery, \"passed\")\n        await self._exits.settled()\n        try:\n            if delivery.feed.kind == \"ends\":",
           ["tests/guide/test_waiting.py", "-k", "told_again"]),
    Mutant("a tick without compare", "producers/lua/cron_tick.lua", "if noted and", "if false and", ["tests/guide/test_schedules.py"]),
    Mutant("a parked handler may act", "consumers/turn/recorder.py",
           '        """Refuse every further step and cancel what the run has left running."""\n        self._state.over = True\n',
           '        """Refuse every further step and cancel what the run has left running."""\n', RUNS + CONSTRUCTS),
    Mutant("a wait begins anew on replay", "checkpoint/run/lua/run_open.lua", "if args.mode == 'replace' then", "if true then", SCRIPTS),
    Mutant("the loser of a race waits on", "consumers/turn/steps/waiting.py", "if not turn.over:", "if False:",
           GIVEN_UP),
    Mutant("a name outlives its run", "checkpoint/lua/fragments/finish.lua", "give_up_names(fn, run, open)\n      end", "end", GIVEN_UP),
    Mutant("what was wiped is forgotten", "consumers/following.py", "            if member.bus.id not in known:", "            if False:",
           [*FOLLOWING, "-k", "wiped"]),
    Mutant("a Python application takes over a function behind HTTP", "checkpoint/registry.py", '        if owner not in ("", own.owner):', "        if False:",
           [*FOLLOWING, "-k", "python_application"]),
    Mutant("a function that is gone starts runs", "consumers/remote/functions.py", "_declare(bus, slug, config, has_triggers=False)",
           "_declare(bus, slug, config, has_triggers=True)", [*FOLLOWING, "-k", "gone"]),
    Mutant("a holder that waits no more keeps its name", "checkpoint/waits/signals.py", "if waits and not replaces:",
           "if True:", GIVEN_UP),
    Mutant("whoever has the name loses it", "checkpoint/waits/lua/signal_take.lua", "if holder and holder ~= args.holder", "if false and holder ~= args.holder",
           GIVEN_UP),
    Mutant("a wait that another took the signal of is told as a fault", "checkpoint/waits/lua/signal_take.lua",
           "if KEYS[2] and holder == args.gone then", "if false then", ["tests/system/test_remote_driver.py", "-k", "took_over"]),
    Mutant("what an app saved in the call that ends its run never expires", "consumers/remote/driver.py",
           "            turn.state.has_steps = True", "            pass", ["tests/system/test_remote_driver.py", "-k", "kept_for_ever"]),
    Mutant("a name is given up that another has", "checkpoint/waits/lua/signal_give.lua", "if redis.call('GET', KEYS[1]) ~= args.holder then", "if false then", GIVEN_UP),
    Mutant("an end is told of by what its event's text holds", "checkpoint/ends/ends.py",
           "codec.decode_as(self.event, _Named).name in LISTENED", "b'bus/function.' in bytes(self.event)", ["tests/guide/test_ends.py"]),
    Mutant("an event may take the queue's name", "consumers/delivery/delivery.py", 'else f"event|{self.cause(entry)}"', "else self.cause(entry)",
           ["tests/system/test_repair.py"]),
    Mutant("a courier that is behind answers", "consumers/relay/courier.py", "entry_place(wait.behind) < place and ", "", ORDER),
    Mutant("an event from before the run answers it", "checkpoint/waits/order.py", " if time <= ms or time > now}", "}", ORDER),
    Mutant("a run's own event answers it", "checkpoint/waits/order.py", "return begun - made", "return begun", ORDER),
    Mutant("a verdict is not recorded", "checkpoint/limits/lua/runs_admit.lua", "    return { 'there' }\n", "", ["tests/redis/test_admit.py"]),
    Mutant("a limit stays set otherwise behind its time", "checkpoint/limits/lua/fragments/overrides.lua", "if now < tonumber(over) then", "if true then",
           ["tests/system/test_limit_overrides.py", "-k", "until_its_time"]),
    Mutant("who sets a limit undoes what he has not seen", "checkpoint/controls/overrides.py", "and stands.since > seen:", "and False:",
           ["tests/system/test_limit_overrides.py", "-k", "undo_each_other"]),
    Mutant("a second press flushes the next buffer", "checkpoint/limits/lua/buffer_flush.lua", "'run') ~= args.run then", "'run') == false then",
           ["tests/system/test_flush.py", "-k", "another_run_by_now"]),
    Mutant("each worker lets one through", "checkpoint/controls/run_one.py", "if stands is None or stands.worker:", "if stands is None:",
           ["tests/system/test_run_one.py", "-k", "that_died"]),
    Mutant("a place is not given back at park", "checkpoint/run/lua/run_suspend.lua", "if h.holds then", "if false then",
           ["tests/guide/test_limits.py", "-k", "sleeps_holds_no_place"]),
    Mutant("a counter in place of holders", "checkpoint/lua/fragments/places.lua",
           "redis.call('ZREM', fn .. 'places:' .. limit_key, run) == 1", "#redis.call('ZPOPMIN', fn .. 'places:' .. limit_key) > 0",
           ["tests/guide/test_limits.py", "-k", "cancelled_and_leaves"]),
    Mutant("no look at what the handler calls", "consumers/turn/turn.py", "if step in state.open or (state.uncalled and step not in state.memos):", "if False:",
           ["tests/system/test_code_changes.py"]),
    Mutant("a run that was taken over keeps its shared place", "checkpoint/limits/lua/run_back_to_backlog.lua",
           "if (h.status ~= 'queued' and h.status ~= 'running')", "if h.status ~= 'queued'", [*EXITS, "-k", "taken_over"]),
    Mutant("a limit that was dropped is asked for", "bus/limits/flow.py",
           "if number < len(self.concurrency) else None", "", [*EXITS, "-k", "drops_a_limit"]),
    Mutant("a renewal under way puts back a place", "consumers/limits/shared_places.py",
           "            await self._leases.renewals_over()\n", "            pass\n", ["tests/redis/test_shared_places.py"]),
    Mutant("a place that comes free wakes nobody", "consumers/delivery/exits.py",
           "if how in _FREES and delivery", "if how == 'passed' and delivery", [*EXITS, "-k", "empties_at_once"]),
    Mutant("a worker that lives after all is blamed", "checkpoint/run/lua/runs_uncharge.lua", "    if found then\n", "    if false then\n",
           ["tests/redis/test_crashes.py"]),
    Mutant("reads stay with a former primary", "bus/wire/connection/pipeline.py", "        if self._proof:\n", "        if False:\n",
           ["tests/redis/test_failover.py"]),
    Mutant("an app that is down uses up an attempt", "consumers/drivers/drive.py", "if not outcome.has_run:", "if False:", [*REMOTE, "-k", "uses_up"]),
    Mutant("an author's error says that it has attempts left", "consumers/turn/steps/run.py",
           "isinstance(error, RemoteError) and error.has_more", 'getattr(error, "has_more", False)',
           ["tests/system/test_runs.py", "-k", "whatever_attributes"]),
    Mutant("a late checkpoint is answered as recorded", "consumers/remote/checkpointing.py",
           'if done.word not in {"mine", "there"} or done.cancel is not None:', "if False:", [*REMOTE, "-k", "saved_while"]),
    Mutant("a step begins before the wait that was found with it", "consumers/remote/driver.py",
           "                work = self._behind(waits, work)", "                pass",
           ["tests/system/test_remote_driver.py", "-k", "sibling_waits_for_does"]),
    Mutant("a turn waits for what was noted before it asks the app", "consumers/remote/driver.py",
           "            await self._resume()\n", "            await self._resume()\n            await self._steps_ended()\n", [*REMOTE, "-k", "waits_for_days"]),
    Mutant("white space of an answer has no end", "consumers/remote/calls/post.py", "taken += len(part)", "taken += len(part.strip())", ANSWERS),
    Mutant("a proxy's 503 is an attempt", "consumers/remote/calls/client.py", "if answer.status == _UNAVAILABLE and", "if False and", ANSWERS),
    Mutant("an error of an app is kept that nobody can read again", "consumers/remote/protocol.py",
           "original=raw.decode() if _can_be_told_again(raw) else", "original=raw.decode() if raw else", ANSWERS),
    Mutant("a step is kept under any id an app sends", "consumers/remote/protocol.py", "if self.op not in _NO_STEP and", "if False and", ANSWERS),
    Mutant("a restart of an app is a long outage", "consumers/remote/calls/client.py",
           "            self._since = time.monotonic()", "            self._since = time.monotonic() - 600", ANSWERS),
    Mutant("steps that are told of with the result are dropped", "consumers/remote/driver.py",
           "            await self._record(found, answer, began)\n", "", [*REMOTE, "-k", "with_its_result"]),
    Mutant("a signature never grows old", "bus/trust/signing.py", "if apart > FRESH_S:", "if False:", SIGNING),
    Mutant("a signature leaves its time out", "bus/trust/signing.py", "form + at.encode()", "form", SIGNING),
    Mutant("only the newest key is one of ours", "bus/trust/signing.py", "(_mac(form, key, at) for key in keys)", "(_mac(form, key, at) for key in keys[:1])", SIGNING),
    Mutant("a key is no key as its hash", "bus/trust/signing.py", "(_secret(key), hashed(key))", "(_secret(key),)", SIGNING),
    Mutant("a body with a large number is signed rounded and sent so", "bus/trust/signing.py", "return form if is_exact else body,", "return form,", SIGNED_CALLS),
    Mutant("an app that has the old key is not called with it", "consumers/remote/calls/reach.py", "    for key in older:", "    for key in older[:0]:", SIGNED_CALLS),
    Mutant("a call that is not let in is an attempt", "consumers/remote/calls/client.py",
           "if answer.status == _UNAUTHORIZED:\n            self.down", "if False:\n            self.down", SIGNED_CALLS),
    Mutant("an API token registers applications", "web/trust/keys.py", '(needs == "app" or not is_any(given, self._tokens))', "(not is_any(given, self._tokens))", KEYS),
    Mutant("keys mode without event keys lets anybody publish", "web/trust/keys.py", "if self._is_keyed and not self._event_keys:", "if False:", KEYS),
    Mutant("keys mode shows runs to anybody", "web/trust/keys.py", 'elif self._is_keyed and needs != "nothing":', 'elif self._is_keyed and needs not in {"nothing", "read"}:', KEYS),
    Mutant("an event key opens what is not for events", "web/trust/keys.py", "not is_any(given, self._tokens)", "not is_any(given, (*self._tokens, *self._event_keys))", KEYS),
    Mutant("this machine is called in keys mode", "bus/trust/app_hosts.py", "if found.is_loopback:", "if False:", APP_HOSTS),
    Mutant("metadata addresses are called where they are listed", "bus/trust/app_hosts.py", "or found in _METADATA:", "or False:", APP_HOSTS),
    Mutant("an address inside another one is not seen", "bus/trust/app_hosts.py", "return inner or address", "return address", APP_HOSTS),
    Mutant("only the first address of a name is looked at", "consumers/remote/calls/reach.py", "for address in addresses if (told", "for address in addresses[:1] if (told", APP_HOSTS),
    Mutant("a served call is believed without its fence", "consumers/served/asked.py", "if run[:3] != [", "if False and run[:3] != [", SERVED),
    Mutant("a served function goes on when its turn is over", "consumers/served/call.py",
           'if saved.word not in {"mine", "there"} or saved.cancel is not None:', "if False:", SERVED),
    Mutant("a served step that is only to be told of runs", "consumers/served/finding.py", " and self._asked.may_run:", ":", SERVED),
    Mutant("a served handler that has left a step out has returned", "consumers/served/call.py", "            if self.state.uncalled:", "            if False:", SERVED),
    Mutant("a signal is not looked at where it is sent", "checkpoint/waits/signals.py",
           "        await _refuse_misfit(wire, name, waiter, encoded)\n", "", SIGNAL_TYPES),
    Mutant("a signal that does not fit is what a wait returns", "consumers/turn/steps/wait.py",
           "turn.state.uncalled.discard(step)", "raise StepFailed(step, 'x', 'x')", SIGNAL_TYPES),
    Mutant("a type that a deploy has changed is noted never", "consumers/turn/steps/wait.py",
           "elif known is not None and bytes(known.what) != what:", "elif False:", SIGNAL_TYPES),
    Mutant("the URL says which step a served call is for", "consumers/served/asked.py",
           "if about.step_id and", "if False and", SERVED_EDGES),
    Mutant("an app that speaks wakes nobody", "consumers/remote/registration/take_in.py",
           "            await hurry_failed(wire, slug, errors, _WITHIN_MS, where)\n", "            pass\n", FOLLOWING),
    Mutant("an app that speaks is called again with what it may have died of", "consumers/remote/registration/take_in.py",
           "_NOT_THERE | _PERHAPS_OF_IT if is_back else _NOT_THERE", "_NOT_THERE | _PERHAPS_OF_IT", FOLLOWING),
    Mutant("an app that is taken in behind the stop has a worker", "consumers/following.py",
           "(member.is_retired or self._stop.is_set())", "member.is_retired", FOLLOWING),
    Mutant("a call of the bus needs no signature", "web/served/signed.py", 'if self._keys and (given or request.method == "POST"):', "if self._keys and given:", SERVED),
    Mutant("the app is asked again while steps are at work", "consumers/remote/driver.py",
           "                await self._steps_ended()\n", "", [*REMOTE, "-k", "asked_once"]),
    Mutant("a run that is called anew has lost something", "checkpoint/upkeep/stored_run.py", "return self.again == self.turn or ", "return ", [*REMOTE, "-k", "uses_up"]),
    Mutant("a rolled-back run is over", "checkpoint/run/lua/fragments/fence.lua", "return 'lost'", "return 'over'", SCRIPTS),
]  # fmt: skip


def killed(mutant: Mutant) -> tuple[bool, str]:
    """Return whether the tests failed with the mutation in place, and their last line."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for folder_of_ours in FLOORS:  # so that the copy imports itself, not what is installed
            (copy / "stepstream" / folder_of_ours).symlink_to(copy / folder_of_ours)
        target = copy / mutant.file
        text = target.read_text()
        if text.count(mutant.old) != 1:
            raise SystemExit(
                f"mutation '{mutant.name}': its place in {mutant.file} has changed; mend tests/mutations.py"
            )
        target.write_text(text.replace(mutant.old, mutant.new))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *mutant.tests]
        done = subprocess.run(
            command,
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        told = [
            line
            for line in done.stdout.splitlines()
            if line.startswith("FAILED") or " passed" in line or " failed" in line
        ]
        return done.returncode == 1, told[0] if told else done.stdout[-200:]


def main() -> int:
    """Try every mutation, or those whose name holds a word given on the command line."""
    wanted = [mutant for mutant in MUTANTS if all(word in mutant.name for word in sys.argv[1:])]
    table = Table("mutation", "killed", "by", "s", box=None, pad_edge=False)
    alive = 0
    console = Console(width=160)
    for mutant in wanted:
        began = time.monotonic()
        is_killed, told = killed(mutant)
        alive += not is_killed
        by = told.partition("::")[2].partition(" - ")[0] or told
        table.add_row(mutant.name, "yes" if is_killed else "[red]NO[/]", by[:90], f"{time.monotonic() - began:.0f}")
        console.print(f"{mutant.name}: {'killed' if is_killed else 'ALIVE'}", highlight=False)
    console.print(table)
    console.print(f"{len(wanted) - alive} of {len(wanted)} mutations killed")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
