"""
The vault: credentials of people for servers behind us, encrypted where they are stored.

A secret belongs to a person of an organisation and has a name. It is sealed with a key of its own,
which the master key wraps (`vault_keys`); both are bound to the owner, so that a row that somebody
moves to another one does not open. The secrets of whoever is active are in memory: the path of a
call looks there and nowhere else.

    get ── in memory? ── yes ──────────────────────────> secret
                 └─ no ─> row ─> unwrap ─> open ─> memory ─┘
    put, forget ─> row ─> NOTIFY ─> dropped from every memory

While the database is away, what is in memory stays good, and what is not cannot be had.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Final, NoReturn
from weakref import WeakValueDictionary

import structlog

from trunkline.errors import OrgNotFound, StorageTimeout
from trunkline.security.masking.masking import Secrets
from trunkline.security.vault.keys import Key, KeyRing, VaultLocked
from trunkline.security.vault.secret import Secret, seal, unseal
from trunkline.storage.pool import Database
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.repositories.vault import VaultKeys, VaultRepository
from trunkline.storage.rows import Connection, Org

log = structlog.get_logger(__name__)

CHANNEL: Final = "mcp_vault"

PATIENCE: Final = 5.0
"""Seconds the database may take to give or take one secret."""

IDLE: Final = 600.0
"""Seconds after which a secret that nobody uses leaves the memory."""

SWEEP: Final = 30.0
"""Seconds between two looks for those."""

CAPACITY: Final = 10_000
"""Secrets in memory at a time. The one that was not used longest goes first."""

Listener = Callable[[str | None, str, str], None]
"""Hears whose secret has changed: organisation, user, name."""

_Place = tuple[str | None, str, str]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of one owner and name without asking: a secret, or that there is none."""

    secret: Secret | None


class Vault:
    """Secrets by organisation, user and name. `run` keeps what is in memory right."""

    def __init__(self, database: Database, keys: KeyRing, *, masked: Secrets | None = None) -> None:
        """*masked* learns every secret that comes out, so that it is shown nowhere."""
        self.keys = keys
        self._database, self._rows, self._masked = database, VaultRepository(database), masked
        self._orgs: dict[str | None, Org] = {None: None}
        self._memory: OrderedDict[_Place, tuple[Kept, float]] = OrderedDict()
        self._opening: WeakValueDictionary[_Place, asyncio.Lock] = WeakValueDictionary()
        self._listeners: list[Listener] = []
        self._follows = False
        """Whether changes by other processes are heard, so that memory can be trusted."""

        self._changes = 0

    # -- for the path of a call ---------------------------------------------------------------

    def kept(self, org: str | None, user: str, name: str) -> Kept | None:
        """What is in memory; None if only `get` can tell."""
        place = (org, user, name)
        found = self._memory.get(place)
        if found is None:
            return None
        self._memory[place] = (found[0], monotonic())
        self._memory.move_to_end(place)
        return found[0]

    async def get(self, org: str | None, user: str, name: str) -> Secret | None:
        """
        The secret of that name; None if there is none.

        Raises `StorageError` while the database cannot be asked, `VaultLocked` and `VaultDamaged`.
        """
        place = (org, user, name)
        if (kept := self.kept(*place)) is not None:
            return kept.secret
        lock = self._opening.setdefault(place, asyncio.Lock())
        async with lock:
            if (kept := self.kept(*place)) is not None:
                return kept.secret
            before = self._changes
            async with _deadline():
                secret = await self._read(org, user, name)
            if self._follows and self._changes == before:
                self._keep(place, secret)
            return secret

    # -- for whoever changes it ---------------------------------------------------------------

    async def put(self, org: str | None, user: str, name: str, secret: Secret) -> None:
        """
        Keep a secret in the place of the one before. Every process uses it from the next call on.

        Raises `StorageError`, `OrgNotFound`, `VaultLocked`, and `NotStorable` for a bad name.
        """
        if self._masked is not None:
            self._masked.meet(secret.hidden)
        async with _deadline():
            org_id = await self._org(org)
            async with self._database.transaction() as connection:
                await VaultKeys(connection).hold_keys(connection, to_change_them=False)
                key = self.keys.sealing or await self._first_key(connection)
                sealed = seal(key, org_id, user, name, secret)
                await self._rows.put(org_id, connection, user, name, sealed)
        self._changed((org, user, name))

    async def forget(self, org: str | None, user: str, name: str) -> bool:
        """Delete a secret; return whether there was one. Raises `StorageError`, `OrgNotFound`."""
        async with _deadline():
            was_there = await self._rows.forget(await self._org(org), user, name)
        self._changed((org, user, name))
        return was_there

    def listen(self, callback: Listener) -> None:
        """Tell *callback* the owner and name of every secret that changes, here or elsewhere."""
        self._listeners.append(callback)

    async def _first_key(self, connection: Connection) -> Key:
        """A new key, if there is nothing yet that another one was made for."""
        counts = await VaultKeys(connection).count_by_key()
        if counts:
            raise VaultLocked(
                f"The vault has {sum(counts.values())} secrets under the key {min(counts)}, and "
                f"this process has no key. Set TRUNKLINE_VAULT__KEY, or copy the vault.key of the "
                f"Trunkline that made it to {self.keys.path}."
            )
        key = self.keys.make()
        log.info("vault.key_made", path=str(self.keys.path), key=key.id)
        return key

    # -- life ---------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Follow what other processes change, and forget what is not used, until cancelled."""
        listening = self._database.listening(CHANNEL, on_message=self._hear, on_start=self._restart)
        try:
            with listening:
                while True:
                    await asyncio.sleep(SWEEP)
                    self._sweep()
        finally:
            self._follows = False
            self._memory.clear()

    def _hear(self, payload: str) -> None:
        said = json.loads(payload)
        if said["by"] != self._database.name:
            self._changed((said["org"], said["user"], said["name"]))

    def _restart(self) -> None:
        """What was changed until now was not heard: whatever is in memory is to be read anew."""
        self._follows = True
        self._orgs = {None: None}
        for place in list(self._memory):
            self._changed(place)

    def _sweep(self) -> None:
        horizon = monotonic() - IDLE
        while self._memory and next(iter(self._memory.values()))[1] < horizon:
            self._memory.popitem(last=False)

    def _keep(self, place: _Place, secret: Secret | None) -> None:
        self._memory[place] = (Kept(secret), monotonic())
        if len(self._memory) > CAPACITY:
            self._memory.popitem(last=False)

    def _changed(self, place: _Place) -> None:
        self._changes += 1
        self._memory.pop(place, None)
        for callback in self._listeners:
            callback(*place)

    # -- rows ---------------------------------------------------------------------------------

    async def _org(self, name: str | None) -> Org:
        if name is not None and name not in self._orgs:
            self._orgs[name] = await OrgRepository(self._database).find(name)
        return self._orgs[name]

    async def _read(self, org: str | None, user: str, name: str) -> Secret | None:
        try:
            org_id = await self._org(org)
        except OrgNotFound:
            return None
        for last_chance in (False, True):
            sealed = await self._rows.find(org_id, user, name)
            if sealed is None:
                return None
            if (key := self.keys.find(sealed.key_id)) is None:
                if last_chance:
                    raise _locked(user, name, sealed.key_id)
                continue  # it may just have been brought under a new key
            secret = unseal(key, org_id, user, name, sealed)
            if self._masked is not None:
                self._masked.meet(secret.hidden)
            return secret
        raise AssertionError("the second round returns or raises")


def _locked(user: str, name: str, key_id: str) -> VaultLocked:
    return VaultLocked(
        f"The secret {name!r} of {user!r} is under the key {key_id}, which this process does not "
        "have. Give it in TRUNKLINE_VAULT__KEY or TRUNKLINE_VAULT__OLD_KEYS, or put the vault's "
        "key file back."
    )


@asynccontextmanager
async def _deadline() -> AsyncGenerator[None]:
    """The time one request to the vault may take. Raises `StorageTimeout`."""
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    except TimeoutError as error:
        raise StorageTimeout(
            f"The vault's database did not answer within {PATIENCE:g} seconds. Try again."
        ) from error
