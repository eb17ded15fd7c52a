"""
`trunkline key`: who may come in over HTTP.

Keys are rows of the database. Every Trunkline that serves from it follows by itself, and none need
be running. A key's secret is shown when it is made, and is nowhere to be had afterwards.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from cyclopts import App, Parameter

from trunkline.cli.database import opened
from trunkline.cli.deeds import enter
from trunkline.cli.options import JsonOption, LogLevelOption, read_settings
from trunkline.cli.running import log_briefly, run_async
from trunkline.cli.screen import put, put_json, put_table, say
from trunkline.errors import UsageError
from trunkline.models import Json, Role
from trunkline.security.identity.keys import Secret, make_secret
from trunkline.settings import Settings
from trunkline.storage.repositories.keys import AllKeys, KeyNotFound, KeyRepository, KeyRow, NewKey
from trunkline.storage.repositories.orgs import OrgRepository

DURATION: Final = re.compile(r"([0-9]{1,9})([smhdw])")
UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

LONGEST: Final = timedelta(days=36_500)

KeyArgument = Annotated[
    str, Parameter(name="KEY", help="The key's id, or its name if no other key has that.")
]

key = App(
    name="key",
    help="""Make, list, revoke and rotate the keys that let clients in over HTTP.

    These are kept in the database, the one of DATABASE_URL or else the embedded one in
    TRUNKLINE_HOME. As soon as there has been one, nobody comes in without.
    """,
)


@key.command(sort_key=0)
def create(
    name: Annotated[str, Parameter(name="NAME", help="What to call it.")],
    /,
    *,
    org: Annotated[
        str | None,
        Parameter(name="--org", help="The organisation it acts in; otherwise what is global."),
    ] = None,
    user: Annotated[
        str | None,
        Parameter(name="--user", help="The person who holds it, for what is that person's alone."),
    ] = None,
    role: Annotated[
        Role, Parameter(name="--role", help="What it may do beside using tools.")
    ] = Role.USER,
    allow: Annotated[
        tuple[str, ...],
        Parameter(
            name="--allow",
            negative="",
            help="A pattern SERVER or SERVER/TOOL of what it may use; may be given several times. "
            "Otherwise everything.",
        ),
    ] = (),
    deny: Annotated[
        tuple[str, ...],
        Parameter(name="--deny", negative="", help="A pattern of what it may not use."),
    ] = (),
    authorized_org: Annotated[
        tuple[str, ...],
        Parameter(
            name="--authorized-org",
            negative="",
            help="An organisation that X-Organization-Id may name; may be given several times.",
        ),
    ] = (),
    expires: Annotated[
        str | None, Parameter(name="--expires", help="How long it is good, such as 90d.")
    ] = None,
    json: JsonOption = False,
    log_level: LogLevelOption = None,
) -> None:
    """Make a key, and show it this once."""
    settings = _read(log_level)
    new = NewKey(
        name=name,
        user=user,
        role=role,
        allow=allow or ("*",),
        deny=deny,
        orgs=authorized_org,
        expires_at=_expiry(expires),
    )
    secret = make_secret()
    row = run_async(_create(settings, org, secret, new))
    _show_secret(row, secret, json=json)


@key.command(name="list", sort_key=1)
def list_(*, json: JsonOption = False, log_level: LogLevelOption = None) -> None:
    """List all keys, those included that are good no more."""
    rows = run_async(_list(_read(log_level)))
    if json:
        put_json({"keys": [described(row) for row in rows]})
    elif rows:
        put_table(
            ("Id", "Name", "Org", "User", "Role", "May use", "State", "Last used"),
            [_line(row) for row in rows],
        )
    else:
        put("There are no keys. On loopback, nobody needs one until the first is made.")


@key.command(sort_key=2)
def revoke(
    which: KeyArgument, /, *, json: JsonOption = False, log_level: LogLevelOption = None
) -> None:
    """Let nobody in with a key any more. Its open streams are closed as well."""
    row = run_async(_revoke(_read(log_level), which))
    if json:
        put_json({"key": described(row)})
    else:
        put(f"Revoked {row.name} ({row.id}).")


@key.command(sort_key=3)
def rotate(
    which: KeyArgument,
    /,
    *,
    grace: Annotated[
        str, Parameter(name="--grace", help="How long the secret before is good; 0s ends it now.")
    ] = "24h",
    json: JsonOption = False,
    log_level: LogLevelOption = None,
) -> None:
    """Give a key a new secret, and show it this once. Everything else about it stays."""
    settings, until = _read(log_level), _duration("--grace", grace)
    row, secret = run_async(_rotate(settings, which, until))
    _show_secret(row, secret, json=json)


async def _create(settings: Settings, org: str | None, secret: Secret, new: NewKey) -> KeyRow:
    async with opened(settings) as database:
        orgs = OrgRepository(database)
        org_id = None if org is None else await orgs.put(org)
        for name in new.orgs:
            await orgs.put(name)
        row = await KeyRepository(database).add(org_id, secret.id, secret.hash, new)
        await enter(database, "key.create", org, own_name=row.id, name=row.name)
        return row


async def _list(settings: Settings) -> list[KeyRow]:
    async with opened(settings) as database:
        return await AllKeys(database).list_all()


async def _revoke(settings: Settings, which: str) -> KeyRow:
    async with opened(settings) as database:
        row = await _find(AllKeys(database), which)
        revoked = await KeyRepository(database).revoke(row.org_id, row.id)
        await enter(database, "key.revoke", row.org, own_name=row.id, name=row.name)
        return revoked


async def _rotate(settings: Settings, which: str, grace: timedelta) -> tuple[KeyRow, Secret]:
    async with opened(settings) as database:
        row, keys = await _find(AllKeys(database), which), KeyRepository(database)
        secret = make_secret(row.id)
        rotated = await keys.rotate(row.org_id, row.id, secret.hash, grace=grace)
        await enter(database, "key.rotate", row.org, own_name=row.id, name=row.name)
        return rotated, secret


async def _find(keys: AllKeys, which: str) -> KeyRow:
    """The key of that id, or the one of that name. Raises `KeyNotFound` or `UsageError`."""
    rows = [row for row in await keys.list_all() if row.revoked_at is None]
    found = [row for row in rows if row.id == which] or [row for row in rows if row.name == which]
    if not found:
        raise KeyNotFound(which)
    if len(found) > 1:
        ids = ", ".join(f"{row.id} of {row.org or 'no organisation'}" for row in found)
        raise UsageError(f"Several keys are named {which!r}: {ids}. Say which by its id.")
    return found[0]


def _read(log_level: LogLevelOption) -> Settings:
    settings = read_settings(log_level=log_level)
    log_briefly(settings)
    return settings


def _show_secret(row: KeyRow, secret: Secret, *, json: bool) -> None:
    """The one time that it is shown: alone on stdout, so that a shell can take it up."""
    if json:
        put_json({"key": described(row), "secret": secret.key})
        return
    put(secret.key)
    say(f"This is the key {row.name} ({row.id}). It is not shown again: keep it now.")
    say("Send it in the header: Authorization: Bearer KEY")
    if row.old_until is not None:
        say(f"The secret before is good until {_moment(row.old_until)}.")


def described(row: KeyRow) -> Json:
    """A key for other programs, without anything that is compared."""
    return {
        "id": row.id,
        "name": row.name,
        "org": row.org,
        "user": row.user,
        "role": row.role,
        "allow": row.allow,
        "deny": row.deny,
        "orgs": row.orgs,
        "state": _state(row),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
        "last_used_at": row.last_used_at,
        "old_secret_until": row.old_until,
    }


def _line(row: KeyRow) -> tuple[str, ...]:
    may_use = ", ".join((*row.allow, *(f"not {pattern}" for pattern in row.deny)))
    state = _state(row)
    if state == "good" and row.expires_at is not None:
        state = f"good until {_moment(row.expires_at)}"
    return (
        row.id,
        row.name,
        ", ".join((row.org or "-", *(f"also {org}" for org in row.orgs))),
        row.user or "-",
        row.role,
        may_use,
        state,
        _moment(row.last_used_at) if row.last_used_at is not None else "-",
    )


def _state(row: KeyRow) -> str:
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at and row.expires_at <= datetime.now(UTC) else "good"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _expiry(text: str | None) -> datetime | None:
    if text is None:
        return None
    lasting = _duration("--expires", text)
    if not lasting:
        raise UsageError("--expires 0 would make a key that is never good. Leave it out for none.")
    return datetime.now(UTC) + lasting


def _duration(option: str, text: str) -> timedelta:
    match = DURATION.fullmatch(text.strip().lower())
    try:
        lasting = timedelta(**{UNITS[match[2]]: int(match[1])}) if match is not None else None
    except OverflowError:
        lasting = None
    if lasting is None or lasting > LONGEST:
        raise UsageError(f"{option} {text!r} is no length of time. Write 90d, 12h, 30m or 0s.")
    return lasting
