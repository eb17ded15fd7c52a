"""
The gateway's tools about tools: find one, see how it is called, call it.

They stand in for a list that is too long to be read. What they say is written for a model that sees
it for the first time: a hit shows how the tool is called, so that mostly nothing more is needed.
`call_tool` is not run here. The adapter takes it for the call that it means, which so costs what a
direct call costs and does all that one does.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from trunkline.catalog.catalog import Catalog
from trunkline.catalog.view import View
from trunkline.errors import ToolNotFound, TrunklineError
from trunkline.gateway.arguments import checked
from trunkline.gateway.exposure import META, Exposure
from trunkline.gateway.shape import tool_failure, tool_result
from trunkline.models import Caller, Client, Json
from trunkline.wire import encode

if TYPE_CHECKING:
    from trunkline.search.search import Found, Hit, Search

LONGEST: Final = 300
"""Characters of a description that a hit shows. `describe_tool` shows all of it."""

SEARCH: Final = "search_tools"
DESCRIBE: Final = "describe_tool"
CALL: Final = "call_tool"

Strategy = Literal["hybrid", "hierarchical", "lexical", "semantic"]
Type = Literal["tools", "prompts", "resources", "templates", "all"]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SearchArguments(_Arguments):
    """What to look for."""

    query: Annotated[
        str, Field(description="What you want to do, in a few words: `create a GitHub issue`.")
    ]
    limit: Annotated[int, Field(description="How many hits, up to 100.")] = 5
    type: Annotated[Type, Field(description="What to look for.")] = "tools"
    servers: Annotated[list[str], Field(description="Only of these servers.")] = []
    skills: Annotated[list[str], Field(description="Only with these skills.")] = []
    min_score: Annotated[float | None, Field(description="Only hits that score as much.")] = None
    strategy: Annotated[Strategy | None, Field(description="How to search.")] = None
    schemas: Annotated[bool, Field(description="Show the whole input schema of each hit.")] = False
    explain: Annotated[bool, Field(description="Show what each score is made of.")] = False


class DescribeArguments(_Arguments):
    """Which tool to describe."""

    name: Annotated[str, Field(description="The tool's name, as search_tools shows it.")]


class CallArguments(_Arguments):
    """What to call."""

    name: Annotated[str, Field(description="The tool's name, as search_tools shows it.")]
    arguments: Annotated[dict[str, Any], Field(description="The tool's own arguments.")] = {}


class MetaTools:
    """The three tools."""

    names = META
    asks = False

    def __init__(
        self,
        catalog: Catalog,
        exposure: Exposure,
        search: "Callable[[], Awaitable[Search]]",
        strategy: Strategy,
    ) -> None:
        """*search* is waited for: it is made ready beside everything else."""
        self._catalog, self._exposure = catalog, exposure
        self._search = search
        self._strategy: Strategy = strategy
        self.others: Callable[[Client], Sequence[Json]] = lambda _: ()
        """Definitions of the gateway's other own tools that a client may use: they can be described
        as well."""

    def listed(self, client: Client, view: View) -> Sequence[Json]:
        """Those whose names the catalog leaves to us, where tools are searched for."""
        if not self._exposure.is_search(view):
            return ()
        return [one for one in DEFINITIONS if not view.has(one["name"])]

    async def call(self, name: str, arguments: Any, caller: Caller) -> Json:
        """Run one of the first two. What goes wrong is a result that says so."""
        try:
            if name == SEARCH:
                return await self._find(checked(SearchArguments, name, arguments), caller.client)
            return self._describe(checked(DescribeArguments, name, arguments), caller.client)
        except TrunklineError as error:
            return tool_failure(error)

    async def _find(self, wanted: SearchArguments, client: Client) -> Json:
        from trunkline.search.search import Request

        search = await self._search()
        found = await search.find(
            Request(
                words=wanted.query,
                limit=wanted.limit,
                kinds=() if wanted.type == "all" else (wanted.type,),
                servers=wanted.servers,
                skills=wanted.skills,
                min_score=wanted.min_score,
                strategy=wanted.strategy or self._strategy,
            ),
            client.principal,
        )
        hits = [shown(hit, schema=wanted.schemas, explain=wanted.explain) for hit in found.hits]
        return tool_result(_told(found), structured(found, hits))

    def _describe(self, wanted: DescribeArguments, client: Client) -> Json:
        try:
            definition = (
                self._catalog.snapshot.seen_by(client.principal).tool(wanted.name).definition
            )
        except ToolNotFound:
            ours = (*DEFINITIONS, *self.others(client))
            own = next((one for one in ours if one["name"] == wanted.name), None)
            if own is None:
                raise
            definition = own
        return tool_result(encode(definition).decode(), {"tool": definition})


def meant_by(params: Json) -> Json:
    """The params of the call that a call of `call_tool` means. Raises `InvalidArguments`."""
    wanted = checked(CallArguments, CALL, params.get("arguments") or {})
    return {**params, "name": wanted.name, "arguments": wanted.arguments}


def structured(found: "Found", hits: Sequence[Json]) -> Json:
    """An answer for programs."""
    return {
        "hits": list(hits),
        "strategy": found.strategy,
        "degraded": found.degraded,
        "skills": [
            {"name": name, "confidence": round(confidence, 3)} for name, confidence in found.skills
        ],
    }


def shown(hit: "Hit", *, schema: bool = False, explain: bool = False) -> Json:
    """One hit for programs."""
    entry = hit.entry
    result: Json = {
        "name": entry.name,
        "server": entry.provider,
        "title": _title(entry.definition),
        "description": _short(entry.definition.get("description")),
        "score": round(hit.score, 4),
        "also_on": [{"server": one.provider, "name": one.name} for one in hit.also_on],
    }
    if entry.kind == "tools":
        result["call"] = signature(entry.definition)
        if schema:
            result["inputSchema"] = entry.definition.get("inputSchema")
    else:
        result["type"] = entry.kind
    if explain:
        match = hit.match
        result["explanation"] = {
            "dense": match.dense,
            "lexical": match.lexical,
            "terms": {term: round(score, 3) for term, score in match.terms.items()},
        }
    return result


def signature(definition: Json) -> str:
    """How a tool is called, in one line: `create_issue(owner: string, body?: string)`."""
    schema = definition.get("inputSchema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    required = schema.get("required") if isinstance(schema, dict) else None
    named = properties if isinstance(properties, dict) else {}
    needed = set(required) if isinstance(required, list) else set[Any]()
    # What is needed first: the rest may be too much to show.
    order = sorted(named, key=lambda name: name not in needed)
    parts = [
        f"{name}{'' if name in needed else '?'}: {_type(named[name])}"
        for name in order[:MOST_SHOWN]
    ]
    if len(order) > MOST_SHOWN:
        parts.append("…")
    return f"{definition.get('name')}({', '.join(parts)})"


MOST_SHOWN: Final = 12
"""Parameters that a signature shows."""

MOST_CHOICES: Final = 6
LONGEST_CHOICE: Final = 80
"""Values that a parameter may have, and their characters, that a signature shows."""


def _type(schema: Any) -> str:
    """The type of a parameter, as far as one word or two can say it."""
    if not isinstance(schema, dict):
        return "any"
    if isinstance(values := schema.get("enum"), list):
        choice = "|".join(encode(value).decode() for value in values[:MOST_CHOICES])
        if len(values) <= MOST_CHOICES and 0 < len(choice) <= LONGEST_CHOICE:
            return choice
    kind = schema.get("type")
    if kind == "array":
        return f"{_type(schema.get('items'))}[]"
    if isinstance(kind, list):
        return "|".join(str(one) for one in kind)
    if isinstance(kind, str):
        return kind
    choices = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(choices, list):
        return "|".join(dict.fromkeys(_type(one) for one in choices))
    return "any"


def _told(found: "Found") -> str:
    """An answer for a model."""
    if not found.hits:
        return "Nothing was found. Try other words: what you want to do, and with what."
    lines = [_line(hit) for hit in found.hits]
    if found.degraded:
        lines.append("(Part of the search did not answer; there may be better hits.)")
    return "\n".join(lines)


def _line(hit: "Hit") -> str:
    definition = hit.entry.definition
    called = signature(definition) if hit.entry.kind == "tools" else hit.entry.name
    also = f" Also: {', '.join(one.name for one in hit.also_on)}." if hit.also_on else ""
    return f"{called} - {_short(definition.get('description'))}{also}"


def _title(definition: Json) -> str | None:
    hints = definition.get("annotations")
    title = definition.get("title") or (hints.get("title") if isinstance(hints, dict) else None)
    return title if isinstance(title, str) else None


def _short(text: Any) -> str:
    words = " ".join(text.split()) if isinstance(text, str) else ""
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1].rstrip()}…"


def _schema(model: type[BaseModel]) -> Json:
    """A schema without what costs a model tokens and tells it nothing."""

    def lean(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: lean(inner)
                for key, inner in value.items()
                if not (key == "title" and isinstance(inner, str))
            }
        return [lean(one) for one in value] if isinstance(value, list) else value

    schema: Json = lean(model.model_json_schema())
    schema.pop("description", None)
    return schema


def _search_schema() -> Json:
    """What a model needs of the search; programs may use everything that `SearchArguments` has."""
    schema = _schema(SearchArguments)
    kept = ("query", "limit", "type", "servers")
    schema["properties"] = {name: schema["properties"][name] for name in kept}
    del schema["additionalProperties"]
    return schema


_SAFE: Final[Mapping[str, bool]] = {"readOnlyHint": True, "openWorldHint": False}

DEFINITIONS: Final[Sequence[Json]] = (
    {
        "name": SEARCH,
        "description": (
            "Find tools by what you want to do. This gateway has many more tools than are listed: "
            "search before you say that something cannot be done. Each hit shows how it is called; "
            "call it with call_tool. (Servers are managed with add_server and list_servers.)"
        ),
        "inputSchema": _search_schema(),
        "annotations": _SAFE,
    },
    {
        "name": DESCRIBE,
        "description": "The whole description and input schema of one tool that was found.",
        "inputSchema": _schema(DescribeArguments),
        "annotations": _SAFE,
    },
    {
        "name": CALL,
        "description": "Call a tool that was found, with its own arguments.",
        "inputSchema": _schema(CallArguments),
        "annotations": {"openWorldHint": True},
    },
)
