"""
The sessions of one server, by who may share them.

A session is shared by the clients of one scope (organisation, user or client, as `sharing` says)
that declared the same capabilities and speak the same era. Everyone in one scope borrows the same
one; nobody outside ever does.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from trunkline.downstream.config import ServerConfig
from trunkline.downstream.session import Session
from trunkline.downstream.supervisor import Supervisor
from trunkline.errors import DownstreamUnavailable
from trunkline.models import Era
from trunkline.settings import DownstreamSettings


@dataclass(frozen=True, slots=True)
class SessionKey:
    """Who may share a session."""

    scope: str
    """
    `global`, `org:<org>`, `user:<org>:<user>` or `client:<id>`, with names quoted as in a URL;
    `subject:<org>:<subject>` for whoever is no person.
    """

    era: Era
    capabilities: str
    """What the server was told its clients can do, as canonical JSON."""

    credentials: str = field(default="", repr=False)
    """The digest of what it was told of its callers; "" if that is the same for everybody."""


class SessionPool:
    """All sessions of one server. An async context manager that owns their tasks."""

    def __init__(
        self, config: ServerConfig, settings: DownstreamSettings, gate: asyncio.Semaphore
    ) -> None:
        self._config, self._settings, self._gate = config, settings, gate
        self._supervisors: dict[SessionKey, Supervisor] = {}
        self._tasks: asyncio.TaskGroup

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Self]:
        """Run the pool; leaving closes every session."""
        async with asyncio.TaskGroup() as self._tasks:
            try:
                yield self
            finally:
                async with asyncio.TaskGroup() as stopping:
                    for supervisor in set(self._supervisors.values()):
                        stopping.create_task(supervisor.stop())

    def find(self, key: SessionKey) -> Supervisor | None:
        """The supervisor for *key*, if there is a live one."""
        supervisor = self._supervisors.get(key)
        return None if supervisor is None or supervisor.is_over else supervisor

    def add(
        self,
        key: SessionKey,
        new_session: Callable[[], Session],
        *,
        eager: bool,
        transient: bool,
        idle_timeout: float | None,
        on_ready: Callable[[Session], None],
        on_state: Callable[[], None] | None = None,
    ) -> Supervisor:
        """
        Start supervising a session for *key*.

        Raises `DownstreamUnavailable` when the server has as many sessions as it may, all in use.
        """
        self._make_room()
        supervisor = Supervisor(
            self._config.name,
            new_session,
            self._gate,
            eager=eager,
            transient=transient,
            idle_timeout=idle_timeout,
            probe_interval=self._settings.probe_interval,
            on_ready=on_ready,
            on_state=on_state,
        )
        self._supervisors[key] = supervisor
        self._tasks.create_task(self._supervise(supervisor))
        return supervisor

    def share(self, key: SessionKey, supervisor: Supervisor) -> None:
        """Let *key* lead to an existing supervisor, unless it leads to one already."""
        if self.find(key) is None:
            self._supervisors[key] = supervisor

    def sessions(self) -> list[Session]:
        """Every session that can be used right now."""
        ready = (supervisor.ready_session for supervisor in set(self._supervisors.values()))
        return [session for session in ready if session is not None]

    async def end(self, scope: str) -> None:
        """Close the sessions of one scope."""
        ending = {one for key, one in self._supervisors.items() if key.scope == scope}
        async with asyncio.TaskGroup() as stopping:
            for supervisor in ending:
                stopping.create_task(supervisor.stop())

    async def _supervise(self, supervisor: Supervisor) -> None:
        try:
            await supervisor.run()
        finally:
            for key in [key for key, one in self._supervisors.items() if one is supervisor]:
                del self._supervisors[key]

    def _make_room(self) -> None:
        live = {one for one in self._supervisors.values() if not one.is_over}
        if len(live) < self._settings.max_sessions_per_server:
            return
        idle = [one for one in live if one.transient and one.idle_since is not None]
        if not idle:
            raise DownstreamUnavailable(
                self._config.name,
                f"all its {len(live)} sessions are in use. Try again, or raise "
                "TRUNKLINE_DOWNSTREAM__MAX_SESSIONS_PER_SERVER.",
            )
        oldest = min(idle, key=lambda one: one.idle_since or 0.0)
        self._tasks.create_task(oldest.stop())
