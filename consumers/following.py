"""Following: a worker for each application behind HTTP, which follows what the application registers.

An application that registers other functions gets a new worker at once. The one it had reads no more from then on, and
ends when its calls have ended, however long they take. An application that only moves keeps its worker.
"""

import asyncio
import contextlib
from functools import partial

import anyio
import msgspec
from anyio.abc import TaskGroup

from stepstream.bus.errors import BusError, ConfigError, StoreUnavailable
from stepstream.bus.observe.signals import Signals
from stepstream.bus.process.tasks import cancelled, raised
from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.leases import Lease
from stepstream.bus.wire.streams import fields_of, news
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.forget import unfinished
from stepstream.checkpoint.apps import App, apps, put
from stepstream.consumers.delivery.failing import Failing
from stepstream.consumers.remote.functions import bus_of, declared
from stepstream.consumers.standing import Standing, together
from stepstream.consumers.upkeep.chores import Chore
from stepstream.consumers.worker import Worker

_CLEAR_S = 60.0
_AGAIN_S = 5.0
"""How soon a worker that could not begin is tried again."""


class _Member:
    """One application's functions as they were at one time, and the worker that runs them."""

    def __init__(self, app: App) -> None:
        self.bus = bus_of(app)
        self.worker: Worker | None = None
        self.is_retired = False
        self.settled = asyncio.Event()
        """It works, or it has been told of why not."""

    def retire(self) -> None:
        """Let it read no more, and end when its calls have."""
        self.is_retired = True
        if self.worker is not None:
            self.worker.retire()


class RemoteWorkers:
    """Runs the functions of all registered applications: `await RemoteWorkers(settings).run()`, until stop()."""

    def __init__(self, settings: Settings, concurrency: int = 100, signals: Signals | None = None) -> None:
        self.settings = settings
        self.signals = signals or Signals()
        self.ready = asyncio.Event()
        """All applications that were registered at the beginning have their workers."""
        self.left = 0
        """How many entries were still in hand when the time of the drain was over."""
        self.drains = asyncio.Event()
        """Somebody has told the worker of an application to drain: all of them stop."""
        self.stuck: set[Lease] = set()
        self._concurrency = concurrency
        self._members: dict[str, _Member] = {}
        self._retired: set[_Member] = set()
        self._unfit: dict[str, str] = {}
        """What was told of applications whose functions cannot be run."""
        self._stop = asyncio.Event()
        self._wire: Wire | None = None

    @property
    def names(self) -> list[str]:
        """The applications whose functions are run."""
        return sorted(self._members)

    def stands(self) -> Standing:
        """Return how they stand at the moment, together; any thread may ask. Those that retire do not speak for all."""
        why = ""
        if self._stop.is_set():
            why = "it drains: nothing more is read"
        elif not self.ready.is_set():
            why = "it has not begun: the applications are not looked up yet"
        elif self._wire is not None and self._wire.is_in_trouble:  # also where no application has a worker
            why = f"Redis does not serve it now ({self._wire.trouble.state})"
        working = [one.worker.stands() for one in (*self._members.values(),) if one.worker is not None]
        retiring = [one.worker.stands() for one in (*self._retired,) if one.worker is not None]
        return together([*working, *(msgspec.structs.replace(one, not_ready="") for one in retiring)], why)

    def stop(self) -> None:
        """Read no more, finish or suspend what is in hand within BUS_DRAIN, and end run()."""
        self._stop.set()
        for member in self._all:
            member.is_retired = True
            if member.worker is not None:
                member.worker.stop()

    async def run(self) -> None:
        """Work until stop()."""
        wire = self._wire = Wire(self.settings, "bus-apps", self.signals.notice)
        failing = Failing(self.signals, "looking for functions that are gone failed")
        clearing = Chore(partial(self._clear, wire), failing, every_s=_CLEAR_S)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(clearing.run)
                following = asyncio.ensure_future(self._follow(wire, tasks))
                stopping = asyncio.ensure_future(self._stop.wait())
                await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
                clearing.stop()
                await cancelled(stopping, following)
        finally:
            with anyio.CancelScope(shield=True):
                await wire.close()

    async def _clear(self, wire: Wire) -> None:
        """Forget functions that applications have no more, once no run of them goes on; put back what was wiped."""
        known = {app.name for app in await apps(wire)} | await _changed_last(wire)
        for member in tuple(self._members.values()):
            if member.bus.id not in known:
                await self._put_back(wire, member.bus.app)
            over = {slug for slug in member.bus.app.archived if not await unfinished(wire, slug)}

            def without(stands: App | None, over: set[str] = over) -> App | None:
                if stands is None:
                    return None
                left = {slug: config for slug, config in stands.archived.items() if slug not in over}
                return msgspec.structs.replace(stands, archived=left)

            if over:
                await put(wire, member.bus.id, without)

    @property
    def _all(self) -> list[_Member]:
        return [*self._members.values(), *self._retired]

    # -- following --------------------------------------------------------------------------------------------------

    async def _follow(self, wire: Wire, tasks: TaskGroup) -> None:
        failing = Failing(self.signals, "following the applications behind HTTP failed")
        unread = "changes of applications behind HTTP cannot be read"
        async with contextlib.aclosing(news(wire, keys.app_changes(), unread=unread)) as changes:
            async for _ in changes:
                is_done = False
                while not is_done:
                    with failing:
                        await patiently(lambda: self._take_in(wire, tasks))
                        is_done = True
                    if not is_done:
                        await asyncio.sleep(_AGAIN_S)
                if not self.ready.is_set():
                    for member in tuple(self._members.values()):
                        await member.settled.wait()
                    self.ready.set()

    async def _take_in(self, wire: Wire, tasks: TaskGroup) -> None:
        """Give each application the worker that its functions need."""
        known = [app for app in await apps(wire) if app.version]  # others have never registered
        for app in known:
            for member in self._all:
                if member.bus.id == app.name:
                    member.bus.app = app
            member = self._members.get(app.name)
            if member is None or member.bus.declared != declared(app):
                self._begin(app, member, tasks)
        missing = self._members.keys() - {app.name for app in known}
        forgotten = await _changed_last(wire) if missing else ()
        for name in missing:
            if name in forgotten:
                self._retire(self._members.pop(name))
            else:
                await self._put_back(wire, self._members[name].bus.app)

    async def _put_back(self, wire: Wire, app: App) -> None:
        """Write an application again that nobody has forgotten: Redis was wiped. Its workers declare its functions."""
        self.signals.notice("an application was not there any more, and is put back; was Redis wiped?", app=app.name)
        await put(wire, app.name, lambda stands: stands or app)

    def _begin(self, app: App, before: _Member | None, tasks: TaskGroup) -> None:
        try:
            member = _Member(app)
        except ConfigError as error:  # registered by another version of ours
            if self._unfit.get(app.name) != str(error):
                self._unfit[app.name] = str(error)
                self.signals.notice("functions behind HTTP cannot be run", app=app.name, error=str(error))
            return
        self._unfit.pop(app.name, None)
        self._members[app.name] = member
        if not member.bus.functions:
            member.settled.set()
        tasks.start_soon(partial(self._work, member, before))

    def _retire(self, member: _Member) -> None:
        self._retired.add(member)
        member.retire()

    # -- working ----------------------------------------------------------------------------------------------------

    async def _work(self, member: _Member, before: _Member | None) -> None:
        """Run the functions of an application until others take their place; those before read on until these do."""
        if before is not None:
            self._retired.add(before)
        if not member.bus.functions:
            if before is not None:
                before.retire()
            return
        while not (member.is_retired or self._stop.is_set()):  # it may have been begun behind the stop
            worker = Worker(member.bus, settings=self.settings, concurrency=self._concurrency, signals=self.signals)
            member.worker = worker
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._when_ready, member, worker, before)
                    tasks.start_soon(self._drain_with, worker)
                    await worker.run()
                    tasks.cancel_scope.cancel()
            except* BusError as group:
                member.settled.set()
                errors = raised(group)
                words = "; ".join(dict.fromkeys(str(one) for one in errors))
                told, self._unfit[member.bus.id] = self._unfit.get(member.bus.id), words
                if told != words and not (
                    member.is_retired and all(isinstance(one, StoreUnavailable) for one in errors)
                ):
                    self.signals.notice("the functions of an application cannot be run", app=member.bus.id, error=words)
            self.left += worker.left
            self.stuck |= worker.stuck
            if not member.is_retired:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_AGAIN_S):
                        await self._stop.wait()
        if before is not None:  # whoever came after this one works, and this one may never have
            before.retire()
        self._retired.discard(member)

    async def _drain_with(self, worker: Worker) -> None:
        """What one of them is told is about the process: another worker of the application would begin at once."""
        await worker.drains.wait()
        self.drains.set()
        self.stop()

    async def _when_ready(self, member: _Member, worker: Worker, before: _Member | None) -> None:
        await worker.ready.wait()
        member.settled.set()
        if before is not None:
            before.retire()


async def _changed_last(wire: Wire) -> set[str]:
    """Return the applications of the last changes that are known."""
    rows = await wire.load("XRANGE", keys.app_changes(), "-", "+", patience=2.0)
    return {codec.text(fields_of(fields)[b"app"]) for _, fields in rows}
