"""
API keys: how they are made and read, and which ones are good now.

A key is `tk_<id>_<secret>`. Its id is no secret: it names the key in lists, logs and the audit. Its
secret is 32 random bytes in base32, which has neither `_` nor `-`: a key falls into its parts in
one way, and a double click takes all of it.

What is good is kept in memory and follows the database: a notification brings a change at once, and
a look every half minute brings what was not heard. While the database is away, what was read last
holds.
"""

import asyncio
import base64
import hashlib
import hmac
import math
import re
import secrets
import string
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn

import structlog

from trunkline.errors import StorageError
from trunkline.models import Principal, Scope
from trunkline.security.identity.credentials import Credential, CredentialExpired, CredentialInvalid
from trunkline.storage.pool import Database
from trunkline.storage.repositories.keys import CHANNEL, AllKeys, KeyRow

log = structlog.get_logger(__name__)

PREFIX: Final = "tk_"
FORM: Final = re.compile(r"tk_([a-z0-9]{12})_[a-z2-7]{52}")

LOOK: Final = 30.0
"""Seconds between two looks at the database when nothing is heard from it."""

AGAIN: Final = 2.0
"""Seconds after which they are read again if they could not be."""

USE: Final = 60.0
"""Seconds within which further uses of a key are not noted."""

FLUSH: Final = 5.0
"""Seconds after which uses that were noted are written."""

LAST_FLUSH: Final = 2.0
"""Seconds that writing them may take at the end."""

_ALPHABET: Final = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class Secret:
    """A key that was just made: the only time that all of it is there."""

    id: str
    key: str
    """What its holder is given."""

    def __repr__(self) -> str:
        return f"Secret({self.id!r})"

    @property
    def hash(self) -> bytes:
        """What is kept of it."""
        return digest_of(self.key)


def make_secret(key_id: str | None = None) -> Secret:
    """A new key, or a new secret for the key of that id."""
    key_id = key_id or "".join(secrets.choice(_ALPHABET) for _ in range(12))
    secret = base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()
    return Secret(key_id, f"tk_{key_id}_{secret}")


def digest_of(key: str) -> bytes:
    """
    What is kept of a key, and compared.

    One round of SHA-256 is right here. Slow hashes protect passwords, which are few enough to be
    guessed; nobody tries 2^256 secrets, however fast the hash, and every call pays for a slow one.
    """
    return hashlib.sha256(key.encode()).digest()


class Keys:
    """The keys that are good. `run` is to be running for them to follow the database."""

    def __init__(
        self, database: Database, wait_migrated: Callable[[float], Awaitable[None]]
    ) -> None:
        """*wait_migrated* returns once the schema is as it has to be, or raises `StorageError`."""
        self.known = asyncio.Event()
        """Set once it is known which keys there are."""

        self.exist = False
        """Whether there has ever been a key, as far as is known."""

        self.on_change: Callable[[], None] = lambda: None
        """Called when it was read which keys there are."""

        self._database, self._wait_migrated = database, wait_migrated
        self._repository = AllKeys(database)
        self._keys: dict[str, _Key] = {}
        self._wake = asyncio.Event()
        self._used: dict[str, float] = {}
        """When keys were used, by id, that is not written yet."""

        self._trouble: str | None = None

    def credential(self, key: str) -> Credential:
        """
        The credential that a key is. From memory, in microseconds.

        Raises `CredentialInvalid` or `CredentialExpired`.
        """
        match = FORM.fullmatch(key)
        kept = self._keys.get(match[1]) if match is not None else None
        if kept is None:
            raise CredentialInvalid("key")
        digest = digest_of(key)
        for known, credential in kept.secrets:
            if hmac.compare_digest(known, digest):
                self._note(kept, credential)
                return credential
        raise CredentialInvalid("key")

    def _note(self, kept: "_Key", credential: Credential) -> None:
        """Note that a key is used. Raises `CredentialExpired` if it may not be any more."""
        now = time.time()
        if credential.expires_at <= now:
            raise CredentialExpired("key")
        if now - kept.noted_at >= USE:
            kept.noted_at = self._used[kept.row.id] = now

    async def run(self) -> NoReturn:
        """Follow the database until cancelled, and write what was used."""
        hear = self._database.listening(
            CHANNEL, on_message=lambda _: self._wake.set(), on_start=self._wake.set
        )
        with hear:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_writing())
                while True:
                    self._wake.clear()
                    is_read = await self._follow()
                    try:
                        async with asyncio.timeout(LOOK if is_read else AGAIN):
                            await self._wake.wait()
                    except TimeoutError:
                        pass

    async def _follow(self) -> bool:
        """Read which keys are good; False if that could not be done."""
        try:
            if not self.known.is_set():
                await self._wait_migrated(LOOK)
            rows = await self._repository.list_live()
            # Asked afterwards: a key that is made meanwhile closes the door before it opens it.
            self.exist = self.exist or await self._repository.exist()
        except StorageError as error:
            if self._trouble != error.code:
                log.warning("keys.not_read", code=error.code, reason=str(error))
            self._trouble = error.code
            return False
        except Exception:  # what was read holds, whatever has become of the table
            log.exception("keys.crashed")
            return False
        self._trouble = None
        self.take(rows)
        return True

    def take(self, rows: Iterable[KeyRow]) -> None:
        """These keys are good, and no others. A key that is as it was keeps its credential."""
        before = self._keys
        self._keys = {row.id: _Key(row, before.get(row.id)) for row in rows}
        kept = {one for key in self._keys.values() for _, one in key.secrets}
        for gone in {one for key in before.values() for _, one in key.secrets} - kept:
            gone.end()
        self.exist = self.exist or bool(self._keys)
        self.known.set()
        self.on_change()

    async def _keep_writing(self) -> NoReturn:
        try:
            while True:
                await asyncio.sleep(FLUSH)
                await self._write_used()
        finally:
            try:
                async with asyncio.timeout(LAST_FLUSH):
                    await self._write_used()
            except TimeoutError:
                pass

    async def _write_used(self) -> None:
        """Write when keys were used; what cannot be written is kept for the next time."""
        if not self._used or not self._database.is_available:
            return
        used, self._used = self._used, {}
        moments = {key_id: datetime.fromtimestamp(at, UTC) for key_id, at in used.items()}
        try:
            await self._repository.note_used(moments)
        except StorageError as error:
            log.debug("keys.use_not_written", code=error.code)
            self._used = used | self._used
        except Exception:  # nobody is kept out because it is not known when they were here
            log.exception("keys.crashed")


class _Key:
    """A key that is good, with a credential for each of its secrets."""

    def __init__(self, row: KeyRow, old: "_Key | None") -> None:
        self.row = row
        self.noted_at = old.noted_at if old is not None else -math.inf
        """When its use was last noted, in seconds since the epoch."""

        principal = Principal(
            subject=f"key:{row.id}",
            org=row.org,
            user=row.user,
            role=row.role,
            scope=Scope(row.allow, row.deny),
            orgs=frozenset(row.orgs),
        )
        self.principal = old.principal if old and old.principal == principal else principal
        good = [(row.secret_hash, _seconds(row.expires_at))]
        if row.old_hash is not None:
            good.append((row.old_hash, min(_seconds(row.expires_at), _seconds(row.old_until))))
        self.secrets = [(one, self._credential(one, until, old)) for one, until in good]

    def _credential(self, secret: bytes, expires_at: float, old: "_Key | None") -> Credential:
        """The credential that this secret had before, if it is still the same somebody's."""
        for known, credential in old.secrets if old is not None else ():
            if known == secret and credential.principal is self.principal:
                credential.expire_at(expires_at)
                return credential
        return Credential(self.principal, expires_at=expires_at)


def _seconds(moment: datetime | None) -> float:
    return math.inf if moment is None else moment.timestamp()
