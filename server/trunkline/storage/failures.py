"""
What PostgreSQL and the way to it can say, as errors of our own.

Translated here once. What is left as it is, a broken constraint for example, means something only
to the statement that broke it.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final
from urllib.parse import parse_qs, urlsplit

import asyncpg

from trunkline.errors import (
    StorageError,
    StorageFull,
    StorageReadOnly,
    StorageRefused,
    StorageTimeout,
    StorageTooOld,
    StorageUnavailable,
)

OLDEST: Final = 14
"""The oldest major version of PostgreSQL that Trunkline works with."""

UNREADABLE: Final = (
    "DATABASE_URL cannot be understood. Write it as "
    "postgresql://USER:PASSWORD@HOST:5432/DATABASE, special characters percent-encoded."
)

FAILURES: Final = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # also of a statement that meets the server's last words
)
"""All that asyncpg lets out, `TimeoutError` included."""


@contextmanager
def translated() -> Generator[None]:
    """Let errors of the storage out as `StorageError`, with what was raised as their cause."""
    try:
        yield
    except FAILURES as error:
        if (own := translate(error)) is None:
            raise
        raise own from error


def translate(error: Exception) -> StorageError | None:
    """The error in our words; None if it says something about the statement alone."""
    match error:
        case asyncpg.ClientConfigurationError():
            return StorageRefused(UNREADABLE)
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return StorageRefused(
                "The database refuses our user or password. Correct them in DATABASE_URL."
            )
        case asyncpg.InvalidCatalogNameError():
            return StorageRefused(
                "There is no such database on the server. Create it, or name another in "
                "DATABASE_URL."
            )
        case asyncpg.InsufficientPrivilegeError():
            return StorageRefused(
                "The database does not let our user do that. Grant it the right, or name another "
                "user in DATABASE_URL."
            )
        case asyncpg.ReadOnlySQLTransactionError():
            return StorageReadOnly(
                "The database takes no changes: it is a standby, or set to read only. Point "
                "DATABASE_URL at the primary."
            )
        case asyncpg.DiskFullError():
            return StorageFull("There is no room left on the database's disk. Make some.")
        case asyncpg.TooManyConnectionsError():
            return StorageUnavailable(
                "The database takes no further connections. Raise its max_connections, or lower "
                "TRUNKLINE_DATABASE__MAX_CONNECTIONS."
            )
        case TimeoutError() | asyncpg.QueryCanceledError():
            return StorageTimeout(
                "The database took too long over a statement, and it was given up. Is it very "
                "busy, or waiting for a lock?"
            )
        case asyncpg.InterfaceError() if "clos" not in str(error):
            return None  # we have misused asyncpg; "the connection is closed" is about the server
        case (
            OSError()
            | asyncpg.InterfaceError()
            | asyncpg.InternalClientError()
            | asyncpg.PostgresConnectionError()
            | asyncpg.CannotConnectNowError()
            | asyncpg.AdminShutdownError()
            | asyncpg.CrashShutdownError()
        ):
            return StorageUnavailable(
                "The database does not answer. Check that it runs, and that DATABASE_URL names it."
            )
        case _:
            return None


def check_address(dsn: str) -> None:
    """
    Raise `StorageRefused` if a special character in the password makes *dsn* fall apart.

    asyncpg takes the rest of the password for a port or a parameter then, and repeats it in what it
    raises; so the reason is left out here.
    """
    try:
        parts = urlsplit(dsn)
        for host in parts.netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{host}").port
        parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        raise StorageRefused(UNREADABLE) from None


def check_version(major: int) -> None:
    """Raise `StorageTooOld` for a server we cannot work with."""
    if major < OLDEST:
        raise StorageTooOld(
            f"The database is PostgreSQL {major}, and Trunkline needs {OLDEST} or newer. Upgrade "
            "it, or name another in DATABASE_URL."
        )
