"""
Settings: read once at start, frozen, in sections.

Every value can be set by an environment variable: `TRUNKLINE_` and the path to the field, joined
by two underscores (`TRUNKLINE_DOWNSTREAM__CALL_TIMEOUT=120`). The addresses of stores have the
names that hosters give them (`DATABASE_URL`). Command-line options win over the environment. A
component takes its section, never the whole.
"""

from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from platformdirs import user_data_path
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

SigningAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Signatures that only the issuer can make: `none` and shared secrets are not among them."""


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

    max_head: PositiveInt = 64 * 1024
    """Bytes the request line and the headers of one request may have."""

    request_timeout: PositiveFloat = 60.0
    """Seconds a client may take to send one request, from the first byte to the last."""

    max_connections: PositiveInt = 20_000
    """Connections that may be open at a time."""

    hsts: NonNegativeInt = 0
    """Seconds for which browsers are told to use HTTPS only; 0 tells them nothing."""

    stop_grace: PositiveFloat = 5.0
    """Seconds that calls in flight are given when the server stops."""


class OutboundSettings(Section):
    """Where URLs may lead that people enter while Trunkline runs."""

    allow: tuple[str, ...] = ()
    """Hosts (patterns), addresses and networks that need not be public."""

    ports: tuple[int, ...] = ()
    """The only ports that may be connected to; none named is any."""

    @field_validator("allow")
    @classmethod
    def _check_networks(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        """What has a slash must be a network: as the pattern of a host it would never fit."""
        for entry in allow:
            if "/" in entry:
                ip_network(entry, strict=False)
        return allow


class ClaimSettings(Section):
    """Which claims of a token say who somebody is. A claim that is named here has to be there."""

    user: str | None = None
    """The person. When unset: the issuer and its `sub`, which is nobody else's."""

    org: str | None = None
    """The organisation, by name. When unset, tokens see what is global."""

    role: str | None = None
    """`user`, `operator` or `admin`, or a list that has one of them. When unset: `user`."""

    allow: str | None = None
    """Patterns of what may be used, as a list or between spaces. When unset: everything."""

    deny: str | None = None
    """Patterns of what may not be used."""

    orgs: str | None = None
    """The organisations that X-Organization-Id may name."""


class TokenSettings(Section):
    """One issuer of tokens. Its keys come from one of the three: where they are listed, as they
    are, or not at all, when the issuer itself is asked about each token (RFC 7662)."""

    issuer: str
    """What the claim `iss` says."""

    audience: tuple[str, ...] = Field(min_length=1)
    """What the claim `aud` says, or has among others: a token for somebody else is refused."""

    jwks_url: str | None = None
    public_key: str | None = None
    """PEM."""

    introspection_url: str | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    """As whom the issuer is asked."""

    algorithms: tuple[SigningAlgorithm, ...] = Field(default=("RS256",), min_length=1)
    required_scopes: tuple[str, ...] = ()
    """OAuth scopes that a token has to have."""

    skew: float = Field(default=30.0, ge=0, le=300)
    """Seconds that the issuer's clock and ours may differ."""

    timeout: PositiveFloat = 5.0
    """Seconds the issuer may take to answer."""

    claims: ClaimSettings = Field(default_factory=ClaimSettings)

    @model_validator(mode="after")
    def _has_one_source(self) -> "TokenSettings":
        sources = (self.jwks_url, self.public_key, self.introspection_url)
        if sum(source is not None for source in sources) != 1:
            raise ValueError("give one of jwks_url, public_key and introspection_url")
        asks = self.introspection_url is not None
        if asks and (self.client_id is None or self.client_secret is None):
            raise ValueError("introspection_url needs client_id and client_secret")
        return self


class AuthSettings(Section):
    """Who is let in over HTTP."""

    required: bool | None = None
    """Whether every request needs a key or a token. When unset: as soon as a key was made or an
    issuer of tokens is named. False is for loopback alone."""

    tokens: tuple[TokenSettings, ...] = ()
    """The issuers whose tokens are taken."""

    authorization_servers: tuple[str, ...] = ()
    """Where clients get tokens (RFC 9728). When set, they are told so."""

    resource: str | None = None
    """The URL of `/mcp` as clients know it. When unset: as their request names it."""


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


class VaultSettings(Section):
    """What the credentials of people are encrypted with."""

    key: SecretStr | None = None
    """The master key: 32 random bytes in base64 or hex. When unset: the one in `key_file`."""

    key_file: Path | None = None
    """A file that holds the master key. When unset: `vault.key` in `home`, made when needed."""

    old_keys: tuple[SecretStr, ...] = ()
    """Further keys that secrets may be under, until `trunkline vault rotate` has been run."""


class LimitSettings(Section):
    """What others than the local user may use, where their organisation's policy does not say."""

    calls_per_minute: PositiveInt | None = None
    """Calls a minute of one credential in one organisation."""

    burst: PositiveInt | None = None
    """Of these, how many may come at once. When unset: those of ten seconds, ten at least."""

    concurrent: PositiveInt | None = 200
    """Calls of one credential that may be under way at a time, in one process."""

    request_bytes: PositiveInt | None = None
    """Bytes the arguments of one call may have."""

    result_bytes: PositiveInt | None = 8 * 1024 * 1024
    """Bytes of a result that are sent; the rest is linked to."""

    org_calls_per_minute: PositiveInt | None = None
    """Calls a minute of a whole organisation."""

    org_burst: PositiveInt | None = None
    org_concurrent: PositiveInt | None = None
    share_interval: PositiveFloat = 0.5
    """Seconds between two times that replicas tell each other, through Redis, what they let in."""

    kept_results: PositiveInt = 64 * 1024 * 1024
    """Bytes of the rests of large results that are kept at a time."""


class AuditSettings(Section):
    """Where it is written who did what, and what happens when that is not possible."""

    file: Path | None = None
    """A file to add JSON lines to, beside the table in the database."""

    keep_days: PositiveInt = 365
    """Days after which an entry goes from the table."""

    queue: PositiveInt = 10_000
    """Entries that may wait to be written."""

    overflow: Literal["slow", "drop"] = "slow"
    """Whether calls wait when the queue is full, or are not entered. The local user never waits."""

    patience: PositiveFloat = 5.0
    """Seconds a call waits for room before it is refused."""


class PinSettings(Section):
    """What becomes of tools that are not what they were (docs/pins.md)."""

    changed: Literal["flag", "withhold"] = "flag"
    """Whether a tool whose definition has changed is served, with a note, or waits until somebody
    accepts it."""

    new: Literal["accept", "flag", "withhold"] = "accept"
    """The same of a tool that a server has added since it was first seen."""

    findings: Literal["flag", "withhold"] = "flag"
    """The same of a definition with a finding of high severity that nobody has accepted."""


class OAuthSettings(Section):
    """How people log in at servers that want that."""

    public_url: str | None = Field(default=None, pattern=r"^https?://[^/\s?#@]+(/[^\s?#]*)?$")
    """Under which URL browsers reach us. When unset: the loopback address listened on."""

    login_patience: PositiveFloat = 300.0
    """Seconds a call waits for its person to log in."""

    link_lifetime: PositiveFloat = 600.0
    """Seconds a login may take, from the link to the way back."""

    timeout: PositiveFloat = 10.0
    """Seconds one request to an authorization server may take."""


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

    policy: Path | None = None
    """The policy.toml in force. When unset: the one beside mcp.json, or in `home`, or none."""

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
    auth: AuthSettings = Field(default_factory=AuthSettings)
    outbound: OutboundSettings = Field(default_factory=OutboundSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    search: SearchSettings = Field(default_factory=SearchSettings)
    cache: CacheSettings = Field(default_factory=CacheSettings)
    pins: PinSettings = Field(default_factory=PinSettings)
    vault: VaultSettings = Field(default_factory=VaultSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    audit: AuditSettings = Field(default_factory=AuditSettings)
    oauth: OAuthSettings = Field(default_factory=OAuthSettings)
