"""
What is done at the command line, as the audit has it.

An entry is written before the command says that it is done; one that cannot be written fails it.
"""

from dataclasses import replace
from typing import Any

from trunkline.models import LOCAL
from trunkline.security.audit.entries import Entries, Event
from trunkline.storage.pool import Database
from trunkline.storage.repositories.audit import AuditRepository


async def enter(database: Database, action: str, org: str | None, **values: Any) -> None:
    """
    Enter what was done in an organisation. *values* are those of an `Event`.

    Raises `StorageError`.
    """
    event = Event.ended(action, replace(LOCAL, org=org), **values)
    await AuditRepository(database).add([Entries("cli", _without_arguments).of(event)])


def _without_arguments(_org: str | None) -> bool:
    return False
