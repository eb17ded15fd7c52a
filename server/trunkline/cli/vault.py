"""
`trunkline vault`: the credentials of people for servers behind us, and the key they are under.

A secret is read from stdin or asked for on the terminal. It is never an argument, which other
programs can see, and never shown. Whoever serves from the same database follows by itself.
"""

import getpass
import sys
from dataclasses import asdict, dataclass
from typing import Annotated, Final

from cyclopts import App, Parameter

from trunkline.cli.database import opened
from trunkline.cli.deeds import enter
from trunkline.cli.options import JsonOption, LogLevelOption, read_settings
from trunkline.cli.running import log_briefly, run_async
from trunkline.cli.screen import count, put, put_json, put_table
from trunkline.errors import UsageError
from trunkline.security.vault.keys import KeyRing
from trunkline.security.vault.rotation import Rotation, Rotator
from trunkline.security.vault.vault import Secret, Vault
from trunkline.settings import Settings
from trunkline.storage.repositories.vault import VaultKeys

UserArgument = Annotated[
    str, Parameter(name="USER", help="Whose it is. The user of this machine is `local`.")
]
NameArgument = Annotated[
    str, Parameter(name="NAME", help="What mcp.json calls it: NAME of ${user.token:NAME}.")
]
OrgOption = Annotated[
    str | None, Parameter(name="--org", help="The organisation in which it is used.")
]

DONE: Final = 0
UNREADABLE: Final = 1
"""Exit code when there are secrets that no key opens which this process has."""

vault = App(
    name="vault",
    help="""Keep credentials of people for servers behind Trunkline.

    They are encrypted in the database, the one of DATABASE_URL or else the embedded one in
    TRUNKLINE_HOME.
    """,
)


@dataclass(frozen=True, slots=True)
class Holding:
    """The secrets under one key."""

    key: str
    secrets: int
    role: str
    """`seals`, `opens`, or `missing`."""


@vault.command(sort_key=0)
def status(*, json: JsonOption = False, log_level: LogLevelOption = None) -> int:
    """
    Count the secrets, by the key they are under.

    Exits 1 if this process lacks a key that some of them need.
    """
    holdings = run_async(_status(_read(log_level)))
    if json:
        put_json({"keys": [asdict(one) for one in holdings]})
    elif not holdings:
        put("The vault is empty.")
    else:
        put_table(
            ("Key", "Secrets", "It"), [(one.key, f"{one.secrets:,}", one.role) for one in holdings]
        )
    return UNREADABLE if any(one.role == "missing" for one in holdings) else DONE


@vault.command(name="set", sort_key=1)
def set_(
    user: UserArgument,
    name: NameArgument,
    /,
    *,
    org: OrgOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """
    Keep a token of somebody's, in the place of the one before.

    The token is read from stdin; on a terminal it is asked for.
    """
    settings = _read(log_level)
    run_async(_set(settings, org, user, name, _read_token()))
    put(f"Kept {name} of {user}. It counts from the next call on.")


@vault.command(sort_key=2)
def forget(
    user: UserArgument,
    name: NameArgument,
    /,
    *,
    org: OrgOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Delete a token of somebody's."""
    was_there = run_async(_forget(_read(log_level), org, user, name))
    put(f"Forgot {name} of {user}." if was_there else f"{user} has no {name}.")


@vault.command(sort_key=3)
def rotate(*, json: JsonOption = False, log_level: LogLevelOption = None) -> int:
    """
    Bring every secret under a new key.

    Where the key is Trunkline's own file, a new one is made; otherwise it is the one that
    TRUNKLINE_VAULT__KEY or its file holds now, and the older ones are given in
    TRUNKLINE_VAULT__OLD_KEYS. May be interrupted, and run again. Exits 1 if some are left.
    """
    rotation = run_async(_rotate(_read(log_level)))
    if json:
        put_json(asdict(rotation))
    elif rotation.key_id is None and not rotation.left:
        put("The vault is empty.")
    else:
        put(f"{count(rotation.rewrapped, 'secret')} brought under the key {rotation.key_id}.")
        for key, secrets in rotation.left.items():
            put(
                f"{count(secrets, 'secret')} left under {key}: it is not here, or they are damaged."
            )
    return UNREADABLE if rotation.left else DONE


async def _status(settings: Settings) -> list[Holding]:
    keys = _keys(settings)
    async with opened(settings) as database:
        counts = await VaultKeys(database).count_by_key()
    sealing = keys.sealing
    if sealing is not None:
        counts = {sealing.id: 0, **counts}
    return [Holding(key, secrets, _role(keys, key)) for key, secrets in counts.items()]


def _role(keys: KeyRing, key: str) -> str:
    if keys.find(key) is None:
        return "missing"
    return "seals" if keys.sealing is not None and keys.sealing.id == key else "opens"


async def _set(settings: Settings, org: str | None, user: str, name: str, token: str) -> None:
    async with opened(settings) as database:
        secret = Secret(access_token=token)
        await Vault(database, _keys(settings)).put(org, user, name, secret)
        await enter(database, "vault.set", org, own_name=f"{user}/{name}", name=name)


async def _forget(settings: Settings, org: str | None, user: str, name: str) -> bool:
    async with opened(settings) as database:
        was_there = await Vault(database, _keys(settings)).forget(org, user, name)
        if was_there:
            await enter(database, "vault.forget", org, own_name=f"{user}/{name}", name=name)
        return was_there


async def _rotate(settings: Settings) -> Rotation:
    async with opened(settings) as database:
        rotation = await Rotator(database, _keys(settings)).rotate()
        await enter(database, "vault.rotate", None, own_name=rotation.key_id)
        return rotation


def _keys(settings: Settings) -> KeyRing:
    return KeyRing(settings.vault, settings.home)


def _read_token() -> str:
    """Raises `UsageError` for what no header or variable can carry."""
    given = getpass.getpass("Token: ") if sys.stdin.isatty() else sys.stdin.read()
    token = given.strip()
    if not token:
        raise UsageError("There is no token on stdin. Write it there, or run this on a terminal.")
    if not token.isprintable():
        raise UsageError("The token has a line break or another character that nobody could send.")
    return token


def _read(log_level: LogLevelOption) -> Settings:
    settings = read_settings(log_level=log_level)
    log_briefly(settings)
    return settings
