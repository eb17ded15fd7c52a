"""
The policies in force: policy.toml, read at the start and again whenever it changes.

    no file ──────────── the defaults: nothing is asked that nobody asked for
    a good file ──────── in force at once
    a file gone bad ──── the last good one stays in force, and `problem` says what is wrong
    bad at the start ─── an operator has to approve every call, and `problem` says so

A file that vanishes while it is in force has gone bad, too: nobody is let in because a disk is.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final, NoReturn

import structlog

from trunkline.downstream.watch import PATIENCE, SETTLE, watch_config
from trunkline.security.policy.failures import PolicyInvalid
from trunkline.security.policy.file import PolicyFile, parse_policy
from trunkline.security.policy.policy import UNREADABLE, Policy

log = structlog.get_logger(__name__)

NAME: Final = "policy.toml"

DEFAULTS: Final = PolicyFile(orgs={})
STRICTEST: Final = PolicyFile(default=UNREADABLE, orgs={})


class Policies:
    """Everybody's policies. Reads the file when it is made; `run` follows it."""

    def __init__(self, named: Path | None, folders: Sequence[Path]) -> None:
        """
        *named* is the file somebody chose, which has to be there.

        Otherwise it is the first policy.toml of *folders*, if there is one.
        """
        self.problem: PolicyInvalid | None = None
        """What is wrong with the file, and what is in force meanwhile; None while all is well."""

        self.on_change: Callable[[], None] | None = None
        """Called when other policies have come into force."""

        self._is_named = named is not None
        self._paths = [named] if named is not None else [folder / NAME for folder in folders]
        self._was_there = False
        self._good: PolicyFile | None = None
        """What was in force when nothing was wrong; None until then."""

        self._file = DEFAULTS
        self._take(self._look())

    def of(self, org: str | None) -> Policy:
        """The policy of an organisation, by name; None is for those who have none."""
        if org is None:
            return self._file.default
        return self._file.orgs.get(org, self._file.default)

    async def run(self) -> NoReturn:
        """Follow the file until cancelled."""
        changes = [watch_config(path) for path in self._paths]
        looking = asyncio.Lock()
        await self._take_settled()  # it may have changed before it was watched
        async with asyncio.TaskGroup() as group:
            for each in changes:
                group.create_task(self._follow(each, looking))
        raise AssertionError("a file is followed for ever")

    async def _follow(self, changes: AsyncGenerator[None], looking: asyncio.Lock) -> None:
        async with aclosing(changes):
            async for _ in changes:
                async with looking:
                    await self._take_settled()

    async def _take_settled(self) -> None:
        """Take what the file says once it says the same twice: half of a policy is another one."""
        before, now = None, await asyncio.to_thread(self._look)
        for _ in range(PATIENCE):
            await asyncio.sleep(SETTLE)
            before, now = now, await asyncio.to_thread(self._look)
            if str(now) == str(before):
                break
        self._take(now)

    def _look(self) -> PolicyFile | PolicyInvalid | None:
        """What the file says now, or what is wrong with it; None if there is none to be missed."""
        try:
            for path in self._paths:
                if (text := _text_of(path)) is not None:
                    return parse_policy(text, str(path))
        except PolicyInvalid as error:
            return error
        if self._is_named or self._was_there:
            where = " or ".join(str(path) for path in self._paths)
            return PolicyInvalid(f"There is no file {where}. Put it back, or write another.")
        return None

    def _take(self, found: PolicyFile | PolicyInvalid | None) -> None:
        """Put what the file says into force, or keep what is."""
        before, was = self._file, self.problem
        self._was_there |= found is not None
        if isinstance(found, PolicyInvalid):
            self._file = self._good or STRICTEST
            self.problem = PolicyInvalid(f"{found} {_meanwhile(self._good)}")
        else:
            self._file = self._good = found or DEFAULTS
            self.problem = None
        if self._file != before or str(was) != str(self.problem):
            self._tell()

    def _tell(self) -> None:
        if self.problem is not None:
            log.warning("policy.refused", reason=str(self.problem))
        else:
            log.info("policy.changed", organisations=len(self._file.orgs))
        if self.on_change is not None:
            self.on_change()


def _text_of(path: Path) -> str | None:
    """What a file holds; None if there is none. Raises `PolicyInvalid`."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise PolicyInvalid(f"{path} is not UTF-8 text. Save it again as UTF-8.") from error
    except OSError as error:
        raise PolicyInvalid(f"{path} cannot be read: {error.strerror or error}.") from error


def _meanwhile(good: PolicyFile | None) -> str:
    if good is None:
        return "Until it can be read, an operator has to approve every call."
    return "Until it can be read, what it last said stays in force."
