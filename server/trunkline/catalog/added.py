"""
Servers that an administrator adds, keeps off, or takes away, over MCP, REST or the command line.

They are rows and nothing else, in the words of mcp.json: whoever follows the database serves them.
References such as ${TOKEN} are stored as they were written, and replaced where the server runs.
"""

import os
from pathlib import Path

from trunkline.downstream.config import read_entry
from trunkline.errors import ServerInvalid, ServerNotAdded, ServerNotFound
from trunkline.models import Json
from trunkline.storage.pool import Database
from trunkline.storage.repositories.servers import ServerRepository
from trunkline.storage.rows import Org, ServerRow

REFUSED = "org"
"""A server belongs to the organisation it is added for; its entry cannot say otherwise."""


def check_entry(name: str, entry: Json, folder: Path, *, runs_here: bool = True) -> list[str]:
    """
    Raise `ServerInvalid` with everything that is wrong with a server, as it is described.

    A variable that is not set need not be, where the server does not run: what is said of it is
    returned.
    """
    problems = read_entry(name, entry, os.environ, folder).problems
    lacking = [one.message for one in problems if one.code == "config_variable"]
    wrong = [one.message for one in problems if runs_here or one.code != "config_variable"]
    if REFUSED in entry:
        wrong.append('Leave "org" out: it is added for the organisation that adds it.')
    if "risk" in (entry.get("tools") or {}):
        wrong.append('Leave "tools.risk" out: how risky a tool is, is said in policy.toml.')
    if wrong:
        raise ServerInvalid(" ".join(wrong))
    return lacking


class AddedServers:
    """The rows."""

    def __init__(self, database: Database, folder: Path) -> None:
        """Relative paths in what is added begin at *folder*."""
        self._rows, self._folder = ServerRepository(database), folder

    async def add(self, org: Org, name: str, entry: Json, *, runs_here: bool = True) -> ServerRow:
        """
        Keep a server under a name, or change the one that was added under it.

        Raises `StorageError`, and `ServerInvalid` like `check_entry`.
        """
        check_entry(name, entry, self._folder, runs_here=runs_here)
        return await self._rows.put(org, name, origin="api", config=entry)

    async def remove(self, org: Org, name: str) -> ServerRow:
        """
        Take a server away with all it lists; return what it was.

        Raises `ServerNotFound`, `ServerNotAdded` for one that comes from elsewhere, `StorageError`.
        """
        row = await self._own(org, name)
        await self._rows.hide(org, row.id)
        return row

    async def switch(self, org: Org, name: str, *, on: bool) -> ServerRow:
        """Have a server connected, or not, from now on. Raises like `remove`."""
        row = await self._own(org, name)
        entry = {key: value for key, value in row.config.items() if key != "disabled"}
        if not on:
            entry["disabled"] = True
        return await self._rows.put(org, name, origin="api", config=entry)

    async def list_all(self, org: Org) -> list[ServerRow]:
        """What was added for this organisation."""
        return [row for row in await self._rows.list_scope(org) if row.origin == "api"]

    async def _own(self, org: Org, name: str) -> ServerRow:
        row = await self._rows.find(org, name)
        if row is None or row.org != org:
            similar = [one.name for one in await self.list_all(org)][:3]
            raise ServerNotFound(name, similar=similar)
        if row.origin != "api":
            raise ServerNotAdded(name, row.origin)
        return row
