"""
A secret, and how it is sealed for its owner.

It is encrypted with a key of its own, and that key with a master key. Both carry the owner
(organisation, user, name) as associated data, so that neither opens in another one's row.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from trunkline.errors import TrunklineError
from trunkline.security.vault.keys import Key, SealBroken
from trunkline.storage.repositories.vault import Sealed, Wrapped
from trunkline.storage.rows import Org
from trunkline.wire import decode, encode


class VaultDamaged(TrunklineError):
    """A row is not what was stored for its owner: it was changed or moved."""

    code = "vault_damaged"

    def __init__(self, user: str, name: str) -> None:
        super().__init__(
            f"The secret {name!r} of {user!r} cannot be opened: its row was changed or moved. "
            f"Forget it, and give it anew: `trunkline vault forget {user} {name}`."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A credential: a token that was given to us, or what an authorisation server has issued."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    """When the access token ends, with its time zone; None if that is not known."""

    token_type: str = "Bearer"  # noqa: S105 - the kind, not the token
    scopes: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What else its keeper needs to know, as JSON."""

    def lasts(self, seconds: float = 0.0) -> bool:
        """Whether it is good for so many *seconds* from now."""
        if self.expires_at is None:
            return True
        return datetime.now(UTC) + timedelta(seconds=seconds) < self.expires_at

    @property
    def hidden(self) -> list[str]:
        """What of it must be shown nowhere."""
        found = [self.access_token, self.refresh_token]
        found += [value for value in self.extra.values() if isinstance(value, str)]
        return [value for value in found if value]


def seal(key: Key, org: Org, user: str, name: str, secret: Secret) -> Sealed:
    """A secret as it is stored."""
    own, owner = Key.new(), _owner(org, user, name)
    until = None if secret.expires_at is None else secret.expires_at.isoformat()
    content = encode({**asdict(secret), "expires_at": until})
    return Sealed(key.id, key.seal(own.raw, b"key " + owner), own.seal(content, b"secret " + owner))


def unseal(key: Key, org: Org, user: str, name: str, sealed: Sealed) -> Secret:
    """What was sealed for this owner. Raises `VaultDamaged`."""
    owner = _owner(org, user, name)
    try:
        own = Key.of(key.open(sealed.wrapped_key, b"key " + owner))
        content = decode(own.open(sealed.secret, b"secret " + owner))
    except SealBroken:
        raise VaultDamaged(user, name) from None
    until, scopes = content.pop("expires_at"), tuple(content.pop("scopes"))
    expires_at = None if until is None else datetime.fromisoformat(until)
    return Secret(**content, expires_at=expires_at, scopes=scopes)


def rewrapped(one: Wrapped, old: Key, new: Key) -> Wrapped:
    """The same key of a secret under another master key. Raises `SealBroken`."""
    owner = b"key " + _owner(one.org, one.user, one.name)
    wrapped = new.seal(old.open(one.wrapped_key, owner), owner)
    return replace(one, key_id=new.id, wrapped_key=wrapped)


def _owner(org: Org, user: str, name: str) -> bytes:
    """What a secret is bound to."""
    return json.dumps([None if org is None else str(org), user, name]).encode()
