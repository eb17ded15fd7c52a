"""
Every error Trunkline raises on purpose.

    TrunklineError
    ├── ConfigError                the operator must change something
    │   ├── ConfigSyntaxError      mcp.json is not JSON
    │   ├── SettingsInvalid        a TRUNKLINE_ variable has a value that cannot be used
    │   ├── PublicAddress          asked to listen where strangers could connect
    │   └── PortInUse
    ├── UsageError                 the command line cannot be understood
    ├── SystemRefusal              the operating system did not let us do something
    ├── CommandTimeout             a command took longer than its --timeout
    ├── NotFound                   the caller named something we do not have
    │   ├── ToolNotFound · PromptNotFound · ResourceNotFound · ServerNotFound · OrgNotFound
    ├── ServerNotAdded             it comes from mcp.json or is a plugin, and is changed there
    ├── ServerInvalid              a server that was to be added is described wrongly
    ├── InvalidArguments           the caller's request has the wrong shape
    ├── DownstreamError            a server behind us misbehaved
    │   ├── DownstreamUnavailable
    │   ├── DownstreamTimeout
    │   └── InteractionRefused     it asked a question that could not be brought to its client
    ├── PluginError                a plugin could not be loaded or registered
    │   ├── PluginFolderMissing · PluginNameTaken · PluginEmpty
    │   ├── PluginImportFailed     its file raised, or needs something that is not installed
    │   ├── PluginRegistrationFailed
    │   └── PluginTimeout
    ├── StorageError               the database cannot do what is asked of it
    │   ├── StorageUnavailable     it does not answer now
    │   ├── StorageRefused         it does not let us in, or not do that
    │   ├── StorageReadOnly · StorageFull · StorageTimeout · StorageTooOld
    │   ├── EmbeddedFailed         our own PostgreSQL cannot be run here
    │   ├── DataVersion            its data are of another version
    │   ├── MigrationError         its schema cannot be brought to where it has to be
    │   │   └── SchemaTooNew · SchemaTooOld · MigrationEdited
    │   ├── NotStorable            it cannot be kept as it is: no JSON, or no name
    │   ├── CatalogFull            there are no ids left for items of a kind
    │   └── SyncConflict           others kept changing the same rows
    ├── IndexFailure               the search index cannot do what is asked of it
    │   ├── IndexUnavailable       it does not answer now
    │   ├── IndexRefused           it does not let us in, or not do that
    │   ├── IndexMismatch          it was made for other vectors
    │   ├── IndexNotFilled         nothing can be found in it yet
    │   └── PointIdOverflow · PointIdMissing
    ├── EmbeddingError             texts could not be made into vectors
    │   ├── EmbeddingMissing       what it needs is not installed
    │   ├── EmbeddingUnavailable   the endpoint does not answer now
    │   ├── EmbeddingRefused       the endpoint does not take the request, and never will
    │   └── EmbeddingInvalid       the endpoint's answer cannot be used
    ├── CacheUnavailable           Redis cannot be looked into; calls never see this
    └── RpcError                   a JSON-RPC error object, passed on as it is

`str(error)` is a sentence for the person or model on the other side. It never holds a secret, a
traceback or a table name; those stay on `__cause__`, for the log. `code` is for machines and
never changes.
"""

from collections.abc import Sequence
from typing import Any, ClassVar


class TrunklineError(Exception):
    """The root. Catch this to catch everything that was raised on purpose."""

    code: ClassVar[str] = "error"


class ConfigError(TrunklineError):
    """The configuration cannot be used as it is."""

    code = "config_invalid"


class ConfigSyntaxError(ConfigError):
    """A configuration file is not valid JSON."""

    code = "config_syntax"


class PortInUse(ConfigError):
    """Another program listens where we were told to listen."""

    code = "port_in_use"

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"Port {port} on {host} is taken by another program. "
            f"Stop it, or choose another port: `trunkline serve --http {host}:{port + 1}`."
        )


class SettingsInvalid(ConfigError):
    """A setting has a value that cannot be used."""

    code = "settings_invalid"


class PublicAddress(ConfigError):
    """Listening there would let anybody on the network call every tool."""

    code = "public_address"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host!r} can be reached from other machines, and Trunkline does not ask who calls. "
            "Listen on 127.0.0.1 or [::1], and put a proxy that authenticates in front."
        )


class UsageError(TrunklineError):
    """The command line cannot be understood."""

    code = "usage"


class SystemRefusal(TrunklineError):
    """The operating system did not let us do something."""

    code = "system_refusal"

    def __init__(self, error: OSError) -> None:
        what = f" ({error.filename})" if error.filename else ""
        super().__init__(f"The system refused: {error.strerror or error}{what}.")


class CommandTimeout(TrunklineError):
    """A command took longer than its `--timeout`."""

    code = "command_timeout"

    def __init__(self, doing: str, seconds: float) -> None:
        super().__init__(
            f"{doing} took longer than {seconds:g} seconds. Give it more time with --timeout."
        )


def _shown(name: str) -> str:
    """A name somebody sent, short enough to be repeated to them."""
    return repr(name if len(name) <= 200 else f"{name[:197]}...")


def _did_you_mean(similar: Sequence[str], otherwise: str = "") -> str:
    return f" Did you mean {' or '.join(repr(name) for name in similar)}?" if similar else otherwise


class NotFound(TrunklineError):
    """The caller named something that is not in the catalog it may see."""

    code = "not_found"


class ToolNotFound(NotFound):
    code = "tool_not_found"

    def __init__(self, name: str, *, similar: Sequence[str] = ()) -> None:
        super().__init__(f"There is no tool named {_shown(name)}.{_did_you_mean(similar)}")
        self.name, self.similar = name, list(similar)


class PromptNotFound(NotFound):
    code = "prompt_not_found"

    def __init__(self, name: str, *, similar: Sequence[str] = ()) -> None:
        super().__init__(f"There is no prompt named {_shown(name)}.{_did_you_mean(similar)}")
        self.name, self.similar = name, list(similar)


class ResourceNotFound(NotFound):
    code = "resource_not_found"

    def __init__(self, uri: str, *, similar: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(f"There is no resource {_shown(uri)}.{hint or _did_you_mean(similar)}")
        self.uri, self.similar = uri, list(similar)


class ServerNotFound(NotFound):
    code = "server_not_found"

    def __init__(self, name: str, *, similar: Sequence[str] = ()) -> None:
        super().__init__(f"There is no server named {_shown(name)}.{_did_you_mean(similar)}")
        self.name, self.similar = name, list(similar)


class Forbidden(TrunklineError):
    """Something that whoever asks may not do."""

    code = "forbidden"


class ServerNotAdded(TrunklineError):
    """A server that cannot be changed here, for it comes from a file or is a plugin."""

    code = "server_not_added"

    def __init__(self, name: str, origin: str) -> None:
        where = "the folder of plugins" if origin == "plugin" else "mcp.json"
        super().__init__(f"The server {_shown(name)} comes from {where}. Change it there.")


class ServerInvalid(TrunklineError):
    """A server that was to be added cannot be used as it is described."""

    code = "server_invalid"


class InvalidArguments(TrunklineError):
    """A request whose parameters have the wrong shape."""

    code = "invalid_arguments"


class DownstreamError(TrunklineError):
    """A server behind us misbehaved. `server` names it."""

    code = "downstream_error"

    def __init__(self, server: str, message: str) -> None:
        super().__init__(message)
        self.server = server


class DownstreamUnavailable(DownstreamError):
    """The server cannot be reached now; `reason` says why, in one sentence."""

    code = "downstream_unavailable"

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(server, f"The server {server!r} is not available: {reason}")
        self.reason = reason


class DownstreamTimeout(DownstreamError):
    """The server took longer than it may."""

    code = "downstream_timeout"

    def __init__(self, server: str, seconds: float, *, doing: str = "answer") -> None:
        super().__init__(
            server,
            f"The server {server!r} did not {doing} within {seconds:g} seconds. "
            f'Try again, or raise its "timeout" in mcp.json.',
        )
        self.seconds = seconds


class InteractionRefused(DownstreamError):
    """A server asked its client something, and it cannot be known or reached which client."""

    code = "interaction_refused"


class PluginError(TrunklineError):
    """A plugin could not be loaded or registered."""

    code = "plugin_failed"


class PluginFolderMissing(PluginError):
    code = "plugin_folder_missing"

    def __init__(self, folder: object) -> None:
        super().__init__(
            f"There is no plugins folder {folder}. Create it (it is then picked up), or take it "
            f"off the list of plugin folders."
        )


class PluginNameTaken(PluginError):
    """Two plugins want one name."""

    code = "plugin_name_taken"

    def __init__(self, name: str, *, keeper: str, other: str) -> None:
        super().__init__(
            f"Two plugins are named {name!r}: {keeper} keeps the name, {other} is left out. "
            f"Give one of them another name."
        )


class PluginEmpty(PluginError):
    """A module that offers nothing."""

    code = "plugin_empty"


class PluginImportFailed(PluginError):
    """A module that cannot be imported."""

    code = "plugin_import_failed"


class PluginRegistrationFailed(PluginError):
    """A `register` function, or the start of a plugin, that failed."""

    code = "plugin_registration_failed"


class PluginTimeout(PluginError):
    """A plugin that took longer to load than it may."""

    code = "plugin_timeout"


class RpcError(TrunklineError):
    """A JSON-RPC error object from one side, on its way to the other."""

    code = "rpc_error"

    def __init__(self, rpc_code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.rpc_code, self.message, self.data = rpc_code, message, data


class StorageError(TrunklineError):
    """The database cannot do what is asked of it."""

    code = "storage_error"


class StorageUnavailable(StorageError):
    """The database does not answer now; it may again soon."""

    code = "storage_unavailable"


class StorageRefused(StorageError):
    """The database does not let us in, or not do that."""

    code = "storage_refused"


class StorageReadOnly(StorageError):
    """The database takes no changes."""

    code = "storage_read_only"


class StorageFull(StorageError):
    """There is no room left on the database's disk."""

    code = "storage_full"


class StorageTimeout(StorageError):
    """A statement took longer than it may, and was given up."""

    code = "storage_timeout"


class StorageTooOld(StorageError):
    """The server is older than what Trunkline needs."""

    code = "storage_too_old"


class EmbeddedFailed(StorageError):
    """Our own PostgreSQL cannot be run here."""

    code = "storage_embedded_failed"


class DataVersion(StorageError):
    """The embedded data were written by another major version of PostgreSQL."""

    code = "storage_data_version"


class MigrationError(StorageError):
    """The schema cannot be brought to where it has to be. Nothing is left half done."""

    code = "migration_failed"


class SchemaTooNew(MigrationError):
    """The database was migrated by a newer Trunkline."""

    code = "schema_too_new"

    def __init__(self, found: str, program: str, known: str) -> None:
        super().__init__(
            f"The database is at migration {found}, and this Trunkline knows none after {known}. "
            f"Start Trunkline {program} or newer, or take the database back with "
            f"`trunkline migrate down` of that version."
        )


class SchemaTooOld(MigrationError):
    """The database lacks migrations that this program needs."""

    code = "schema_too_old"

    def __init__(self, missing: Sequence[str]) -> None:
        many = f"{len(missing)} migrations, the first is" if missing[1:] else "the migration"
        super().__init__(f"The database lacks {many} {missing[0]}. Run `trunkline migrate up`.")


class MigrationEdited(MigrationError):
    """A migration's file is not what was applied."""

    code = "migration_edited"

    def __init__(self, file: str) -> None:
        super().__init__(
            f"The migration {file} was changed after it was applied to this database. "
            f"Put the file back as it was, and write a new migration for the change."
        )


class NotStorable(StorageError, ValueError):
    """Something that was to be stored cannot be, as it is. What is stored stays as it was."""

    code = "not_storable"


class CatalogFull(StorageError):
    """There are no ids left for items of a kind."""

    code = "catalog_full"

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"There are no ids left for {kind}: 999,999 have been given out, and more would "
            f"collide in the index. What is already there is served on."
        )


class SyncConflict(StorageError):
    """Others kept changing the rows that were to be changed."""

    code = "sync_conflict"


class OrgNotFound(NotFound):
    code = "org_not_found"

    def __init__(self, org: object) -> None:
        super().__init__(f"There is no organisation {_shown(str(org))}.")


class EmbeddingError(TrunklineError):
    """Texts could not be made into vectors."""

    code = "embedding_failed"


class EmbeddingMissing(EmbeddingError):
    """The embedding needs something that is not installed."""

    code = "embedding_missing"


class EmbeddingUnavailable(EmbeddingError):
    """The endpoint does not answer now; it may again soon."""

    code = "embedding_unavailable"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which it wants to be asked again, if it said so."""


class EmbeddingRefused(EmbeddingError):
    """The endpoint does not take the request as it is."""

    code = "embedding_refused"


class EmbeddingInvalid(EmbeddingError):
    """The endpoint answered with something that is not the vectors it was asked for."""

    code = "embedding_invalid"


class IndexFailure(TrunklineError):
    """The search index cannot do what is asked of it."""

    code = "index_failed"


class IndexUnavailable(IndexFailure):
    """
    The index does not answer now; it may again soon.

    `reason` says why in a word or two, for the log; `detail` is what the network said to it.
    `retry_after` is how many seconds the index itself asks for, where it does.
    """

    code = "index_unavailable"

    def __init__(self, reason: str, *, detail: str = "", retry_after: float | None = None) -> None:
        super().__init__(
            f"Qdrant does not answer ({reason}{f': {detail}' if detail else ''}). Check that it "
            f"runs and that QDRANT_URL names it; it is tried again by itself."
        )
        self.reason, self.retry_after = reason, retry_after


class IndexRefused(IndexFailure):
    """The index does not let us in, or not do that; asking again would not help."""

    code = "index_refused"


class IndexMismatch(IndexFailure):
    """The index was made for vectors of another kind."""

    code = "index_mismatch"


class IndexNotFilled(IndexFailure):
    """The index is being filled: for the first time, or with another model's vectors."""

    code = "index_not_filled"

    def __init__(self) -> None:
        super().__init__(
            "Qdrant's index is not filled with this embedding's vectors yet. That happens by "
            "itself, or at once with `trunkline reindex`."
        )


class PointIdOverflow(IndexFailure):
    """An id is too high for its type: the point would take the place of another type's."""

    code = "point_id_overflow"

    def __init__(self, type_: str, db_id: int, *, limit: int, item: str = "") -> None:
        named = f" {item} is not indexed; everything else is." if item else ""
        super().__init__(
            f"Point ID overflow: {type_} db_id={db_id} exceeds max {limit - 1}. "
            f"IDs would collide.{named} See docs/operating.md, "
            f'"Qdrant at scale: sharding and custom collections".'
        )
        self.type, self.db_id, self.item = type_, db_id, item


class PointIdMissing(IndexFailure):
    """An item has no row in the database yet, and its point is numbered by that row."""

    code = "point_id_missing"

    def __init__(self, item: str) -> None:
        super().__init__(
            f"{item} has no row in the database yet, and its point in Qdrant is numbered by it. "
            f"It is indexed once the catalog has been stored."
        )


class CacheUnavailable(TrunklineError):
    """The cache cannot be looked into or cleaned. Calls and searches go on without it."""

    code = "cache_unavailable"
