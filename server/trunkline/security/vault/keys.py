"""
The master keys of the vault: where they come from, and what is done with them.

    TRUNKLINE_VAULT__KEY ─┐
    KEY_FILE, home/vault.key ─┴─> the key that seals ──┐
    the file's further lines, OLD_KEYS ──> older keys ──┴─> open what they have sealed

Every secret has a key of its own, and a master key only wraps those: so a new master key costs a
few bytes for each secret, and no secret is ever written anew. AES-256-GCM throughout (NIST SP
800-38D): random nonces, and the owner as associated data. A master key may wrap 2^32 keys.
"""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from trunkline.errors import ConfigError, SystemRefusal, TrunklineError
from trunkline.settings import VaultSettings

KEY_SIZE: Final = 32
NONCE_SIZE: Final = 12

HOW_TO_MAKE: Final = "`openssl rand -base64 32` makes one."


class VaultLocked(TrunklineError):
    """Secrets are under a master key that this process does not have."""

    code = "vault_locked"


class VaultKeyInvalid(ConfigError):
    """A master key that was given is none."""

    code = "vault_key_invalid"


class SealBroken(Exception):
    """What was sealed is not what is there, or was sealed for another owner."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key and the name it goes by."""

    id: str
    """A digest that tells keys apart and says nothing of them."""

    _bytes: bytes = field(repr=False)

    @classmethod
    def of(cls, raw: bytes) -> Self:
        digest = hmac.digest(raw, b"trunkline vault key id", hashlib.sha256)
        return cls(digest[:8].hex(), raw)

    @classmethod
    def new(cls) -> Self:
        return cls.of(secrets.token_bytes(KEY_SIZE))

    @classmethod
    def read(cls, text: str, where: str) -> Self:
        """The key that *text* is, in base64 or hex. Raises `VaultKeyInvalid`."""
        raw = _from_hex(text.strip()) or _from_base64(text.strip())
        if raw is None or len(raw) != KEY_SIZE:
            raise VaultKeyInvalid(
                f"{where} is no key: that is {KEY_SIZE} random bytes in base64 or hex. "
                f"{HOW_TO_MAKE}"
            )
        return cls.of(raw)

    @property
    def raw(self) -> bytes:
        """The key itself, to be wrapped by another one."""
        return self._bytes

    @property
    def text(self) -> str:
        """As `read` takes it."""
        return base64.b64encode(self._bytes).decode()

    def seal(self, data: bytes, owner: bytes) -> bytes:
        """Encrypt *data*, bound to *owner*."""
        # Imported here: most processes never come to use it, and it takes 30 ms.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(NONCE_SIZE)
        return nonce + AESGCM(self._bytes).encrypt(nonce, data, owner)

    def open(self, sealed: bytes, owner: bytes) -> bytes:
        """The data that were sealed for *owner*. Raises `SealBroken`."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            return AESGCM(self._bytes).decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], owner)
        except (InvalidTag, ValueError):
            raise SealBroken from None


class KeyRing:
    """The master keys of this process. The file is read again when it may have changed."""

    def __init__(self, settings: VaultSettings, home: Path) -> None:
        self._settings = settings
        self.path = settings.key_file or home / "vault.key"
        """Where the key is, unless `TRUNKLINE_VAULT__KEY` says it."""

        self._keys: list[Key] = []
        self._read_at: tuple[int, int, int] | None = None

    @property
    def is_ours(self) -> bool:
        """Whether the key is a file that Trunkline itself may make and change."""
        return self._settings.key is None and self._settings.key_file is None

    @property
    def sealing(self) -> Key | None:
        """The key that seals; None while there is none. Raises `VaultKeyInvalid`."""
        return next(iter(self._current()), None)

    def find(self, key_id: str) -> Key | None:
        """The key of that name, whether it seals or is an older one."""
        known = (*self._current(), *self._old())
        return next((key for key in known if key.id == key_id), None)

    @property
    def older(self) -> list[Key]:
        """The keys in our file that were sealed with before."""
        return self._current()[1:]

    def make(self) -> Key:
        """Make the first key, unless another process was faster; return the one there is."""
        key = Key.new()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside = self._written_beside([key])
            try:
                os.link(beside, self.path)  # unlike a rename, it never takes another's place
                self._settle()
            except FileExistsError:
                pass
            finally:
                beside.unlink()
        except OSError as error:
            raise SystemRefusal(error) from error
        made = self.sealing
        if made is None:
            raise VaultKeyInvalid(f"{self.path} is empty. Put the vault's key back into it.")
        return made

    def write(self, keys: Sequence[Key]) -> None:
        """Make *keys* the ones in our file; the first one seals. All or nothing."""
        try:
            self._written_beside(keys).replace(self.path)
            self._settle()
        except OSError as error:
            raise SystemRefusal(error) from error

    def _written_beside(self, keys: Sequence[Key]) -> Path:
        beside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write("".join(f"{key.text}\n" for key in keys))
            file.flush()
            os.fsync(file.fileno())
        return beside

    def _settle(self) -> None:
        """See to it that a new key outlives a power cut, before anything is sealed with it."""
        if os.name == "posix":
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _current(self) -> list[Key]:
        """The key that seals, and after it the older ones of the file."""
        given = self._settings.key
        if given is not None:
            return [Key.read(given.get_secret_value(), "TRUNKLINE_VAULT__KEY")]
        try:
            found = self.path.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if stamp != self._read_at:
                text = self.path.read_text(encoding="utf-8")
                lines = [line for line in text.splitlines() if line.strip()]
                self._keys = [Key.read(line, f"A line of {self.path}") for line in lines]
                self._read_at = stamp
        except FileNotFoundError:
            if self._settings.key_file is not None:
                raise VaultKeyInvalid(
                    f"TRUNKLINE_VAULT__KEY_FILE names {self.path}, and there is no such file. "
                    f"Put the vault's key into it. {HOW_TO_MAKE}"
                ) from None
            self._keys, self._read_at = [], None
        except UnicodeDecodeError:
            raise VaultKeyInvalid(f"{self.path} holds no key. {HOW_TO_MAKE}") from None
        except OSError as error:
            raise SystemRefusal(error) from error
        return self._keys

    def _old(self) -> list[Key]:
        given = self._settings.old_keys
        return [
            Key.read(key.get_secret_value(), "One of TRUNKLINE_VAULT__OLD_KEYS") for key in given
        ]


def _from_hex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text) if len(text) == 2 * KEY_SIZE else None
    except ValueError:
        return None


def _from_base64(text: str) -> bytes | None:
    text = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
