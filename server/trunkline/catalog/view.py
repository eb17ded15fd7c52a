"""
The catalog as one organisation sees it: what is global and what is its own, under their names.

Names are settled here, among what is seen: so nobody can tell from a name what others have.
Providers are taken by position, so the same providers give the same names whoever came first.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Final, Literal

from trunkline.catalog.offer import Entry, Offer
from trunkline.catalog.similar import Spelling
from trunkline.catalog.uri_template import matches, weight
from trunkline.errors import PromptNotFound, ResourceNotFound, ToolNotFound
from trunkline.models import Json, Kind, Scope
from trunkline.naming import free_name, free_scheme, scheme_of
from trunkline.security.pins.scan import Finding
from trunkline.security.pins.shadowing import Served, Shown, shadowing

EVERYTHING: Final = Scope()

FORMS_SHOWN: Final = 3
"""How many namespaced forms of a URI a sentence offers."""


class View:
    """Everything somebody may list and call."""

    def __init__(self, offers: Iterable[Offer], scope: Scope = EVERYTHING) -> None:
        """
        Name everything that the *offers*, by position, bring, and keep what is within *scope*.

        Names do not depend on the scope: people of one organisation mean the same by them.
        """
        self._offers: Sequence[Offer] = tuple(offers)
        self._scope = scope
        self._collisions: defaultdict[str, list[str]] = defaultdict(list)
        self._schemes = _schemes(self._offers)
        self._shared: defaultdict[str, list[str]] = defaultdict(list)
        self._entries: Mapping[Kind, Mapping[str, Entry]] = {
            "tools": self._by_name("tools"),
            "prompts": self._by_name("prompts"),
            "resources": self._by_uri("resources"),
            "templates": self._by_uri("templates"),
        }
        if not scope.permits_all:
            self._narrow()

    def within(self, scope: Scope) -> "View":
        """What of this is within a scope."""
        return View(self._offers, scope)

    @cached_property
    def tools(self) -> tuple[Json, ...]:
        """The definitions of its tools, as they go on the wire."""
        return self._definitions("tools")

    @cached_property
    def handshake_tools(self) -> tuple[Json, ...]:
        """
        The definitions for clients of the handshake era.

        Until 2025-11-25 an `outputSchema` describes an object; a strict client of that time drops
        the whole list for one that does not.
        """
        return tuple(_for_handshake(tool) for tool in self.tools)

    @cached_property
    def prompts(self) -> tuple[Json, ...]:
        return self._definitions("prompts")

    @cached_property
    def resources(self) -> tuple[Json, ...]:
        return self._definitions("resources")

    @cached_property
    def templates(self) -> tuple[Json, ...]:
        return self._definitions("templates")

    @cached_property
    def instructions(self) -> str:
        """How to use what is here: a provider's own words, under its name if there are several."""
        told = [(one, one.instructions) for one in self._offers if one.instructions]
        if len(self._offers) == 1:
            return told[0][1] if told else ""
        return "\n\n".join(f"# {one.prefix or one.provider}\n\n{text}" for one, text in told)

    @cached_property
    def ttl_ms(self) -> int:
        """How long clients may keep the lists: the smallest of what was merged."""
        return min((one.ttl_ms for one in self._offers), default=0)

    @cached_property
    def cache_scope(self) -> Literal["public", "private"]:
        """Who may share the lists: the most private of what was merged."""
        everybody = all(one.cache_scope == "public" and one.org is None for one in self._offers)
        return "public" if self._offers and everybody else "private"

    def collisions(self, provider: str) -> tuple[str, ...]:
        """A sentence for everything of a provider that could not have its name."""
        return tuple(self._collisions.get(provider, ()))

    @cached_property
    def shadows(self) -> Mapping[str, tuple[Finding, ...]]:
        """What providers do to each other by their names and words, by provider."""
        return shadowing(
            Shown(
                offer.provider,
                offer.org,
                [
                    Served(one.own, one.name, one.definition)
                    for one in self.of_provider("tools", offer.provider)
                ],
            )
            for offer in self._offers
        )

    def has(self, tool: str) -> bool:
        """Whether there is a tool of that name."""
        return tool in self._entries["tools"]

    def of_provider(self, kind: Kind, provider: str) -> Sequence[Entry]:
        """What one provider has here, under the names that were settled, in its order."""
        return self._by_provider[kind].get(provider, ())

    @cached_property
    def providers(self) -> frozenset[str]:
        """Whoever has anything here, by name."""
        return frozenset(offer.provider for offer in self._offers)

    def of_origin(self, kind: Kind, provider: str, own: str) -> Entry | None:
        """What a provider has under a name, URI or template of its own; None if it is not here."""
        return self._by_origin.get((kind, provider, own))

    def tool(self, name: str) -> Entry:
        """Raises `ToolNotFound` with similar names."""
        if (entry := self._entries["tools"].get(name)) is None:
            raise ToolNotFound(name, similar=self._tool_spelling.similar(name))
        return entry

    def prompt(self, name: str) -> Entry:
        """Raises `PromptNotFound` with similar names."""
        if (entry := self._entries["prompts"].get(name)) is None:
            raise PromptNotFound(name, similar=self._prompt_spelling.similar(name))
        return entry

    def resource(self, uri: str) -> tuple[Entry, str]:
        """
        Who has a resource, and the URI it has there.

        Listed URIs first, then the namespaced forms, then templates, then the only provider that
        has resources at all: servers let clients read what they do not list. Raises
        `ResourceNotFound`.
        """
        if (entry := self._entries["resources"].get(uri)) is not None:
            return entry, entry.own
        self._refuse_shared(uri)
        if (named := self._named(uri)) is not None:
            offer, own = named
        else:
            offer, own = self._matching(uri) or self._only_one(), uri
        if offer is None or not self._scope.permits(offer.provider, own):
            raise self._unknown(uri)
        return _readable(offer, own, uri), own

    def template(self, uri_template: str) -> Entry:
        """Who has a resource template, or a resource. Raises `ResourceNotFound`."""
        for kind in ("templates", "resources"):
            if (entry := self._entries[kind].get(uri_template)) is not None:
                return entry
        self._refuse_shared(uri_template)
        if (named := self._named(uri_template)) is not None:
            offer, own = named
            entry = offer.find("templates", own) or offer.find("resources", own)
            if entry is not None and self._scope.permits(offer.provider, own):
                return entry.renamed(uri_template)
        similar = Spelling(self._entries["templates"].values()).similar(uri_template)
        raise ResourceNotFound(uri_template, similar=similar)

    # -- making it ----------------------------------------------------------------------------

    def _narrow(self) -> None:
        """Leave out what is not within the scope."""
        self._entries = {
            kind: {
                name: entry
                for name, entry in entries.items()
                if self._scope.permits(entry.provider, entry.own)
            }
            for kind, entries in self._entries.items()
        }
        self._offers = [offer for offer in self._offers if self._scope.touches(offer.provider)]
        seen = {self._schemes[offer.provider] for offer in self._offers}
        self._shared = defaultdict(
            list,
            {
                uri: [form for form in forms if form.partition("+")[0] in seen]
                for uri, forms in self._shared.items()
                if self._is_seen(uri)
            },
        )
        for remembered in ("_resourceful", "_by_scheme"):  # while everything got its names
            self.__dict__.pop(remembered, None)

    def _is_seen(self, uri: str) -> bool:
        return any(
            entry.own == uri
            for kind in ("resources", "templates")
            for entry in self._entries[kind].values()
        )

    def _by_name(self, kind: Kind) -> Mapping[str, Entry]:
        """Tools and prompts: of two that want one name, the one of smaller position keeps it."""
        named: dict[str, Entry] = {}
        for offer in self._offers:
            for entry in offer.entries[kind]:
                name = entry.name
                if name in named:
                    name = free_name(name, entry.provider, entry.own, named)
                    self._tell_taken(named[entry.name], entry, name)
                    entry = entry.renamed(name)  # noqa: PLW2901 - it goes by that name from here on
                named[name] = entry
        return named

    def _by_uri(self, kind: Kind) -> Mapping[str, Entry]:
        """Resources and templates: a URI that two providers list is served with namespaces."""
        owners = Counter(entry.own for offer in self._offers for entry in offer.entries[kind])
        named: dict[str, Entry] = {}
        for offer in self._offers:
            for entry in offer.entries[kind]:
                reason = ""
                if owners[entry.own] > 1:
                    reason = "is listed by several servers"
                    self._shared[entry.own].append(self._form(offer, entry.own))
                elif (owner := self._named(entry.own)) is not None and owner[0] is not offer:
                    reason = f"is how {owner[0].provider!r} is asked for one of its own"
                if reason:
                    entry = entry.renamed(self._form(offer, entry.own))  # noqa: PLW2901 - as above
                    self._collisions[offer.provider].append(
                        f"{entry.own!r} {reason}; this server's is served as {entry.name!r}."
                    )
                named[entry.name] = entry
        return named

    def _tell_taken(self, keeper: Entry, entry: Entry, name: str) -> None:
        what = entry.kind.removesuffix("s")
        taker = (
            f"its own {what} {keeper.own!r}, which it lists first"
            if keeper.provider == entry.provider
            else f"{keeper.provider!r}, which comes first"
        )
        self._collisions[entry.provider].append(
            f"{entry.name!r} is taken by {taker}; its {what} {entry.own!r} is served as {name!r}."
        )

    def _definitions(self, kind: Kind) -> tuple[Json, ...]:
        return tuple(entry.definition for entry in self._entries[kind].values())

    # -- looking up ---------------------------------------------------------------------------

    @cached_property
    def _by_provider(self) -> Mapping[Kind, Mapping[str, Sequence[Entry]]]:
        found: dict[Kind, defaultdict[str, list[Entry]]] = {}
        for kind, entries in self._entries.items():
            found[kind] = defaultdict(list)
            for entry in entries.values():
                found[kind][entry.provider].append(entry)
        return found

    @cached_property
    def _by_origin(self) -> Mapping[tuple[Kind, str, str], Entry]:
        return {
            (kind, entry.provider, entry.own): entry
            for kind, entries in self._entries.items()
            for entry in entries.values()
        }

    @cached_property
    def _tool_spelling(self) -> Spelling:
        return Spelling(self._entries["tools"].values())

    @cached_property
    def _prompt_spelling(self) -> Spelling:
        return Spelling(self._entries["prompts"].values())

    @cached_property
    def _resource_spelling(self) -> Spelling:
        return Spelling(self._entries["resources"].values())

    def _form(self, offer: Offer, uri: str) -> str:
        return f"{self._schemes[offer.provider]}+{uri}"

    @cached_property
    def _by_scheme(self) -> Mapping[str, Offer]:
        return {self._schemes[offer.provider]: offer for offer in self._resourceful}

    @cached_property
    def _resourceful(self) -> Sequence[Offer]:
        """Whoever may have resources, listed or not."""
        return [one for one in self._offers if one.lists_resources or one.declares_resources]

    def _named(self, uri: str) -> tuple[Offer, str] | None:
        """Whose URI a namespaced form is, and the URI it has there."""
        scheme, _, own = uri.partition("+")
        offer = self._by_scheme.get(scheme.lower())
        return (offer, own) if offer is not None and own else None

    def _refuse_shared(self, uri: str) -> None:
        if (forms := self._shared.get(uri)) is not None:
            hint = f" Several servers offer it; say which one: {' or '.join(forms)}."
            raise ResourceNotFound(uri, hint=hint)

    def _matching(self, uri: str) -> Offer | None:
        """Whose template describes a URI; the most specific one counts."""
        found = [
            (weight(template.own), offer)
            for offer in self._offers
            for template in offer.entries["templates"]
            if matches(template.own, uri)
        ]
        best = max((fixed for fixed, _ in found), default=0)
        owners = {offer.provider: offer for fixed, offer in found if fixed == best}
        if len(owners) > 1:
            forms = " or ".join(self._form(offer, uri) for offer in owners.values())
            raise ResourceNotFound(
                uri, hint=f" Several servers may have it; say which one: {forms}."
            )
        return next(iter(owners.values()), None)

    def _only_one(self) -> Offer | None:
        """The only provider that has resources; None if there are several, or none."""
        # Many servers declare resources and have none: they count only where nobody lists any.
        listing = [one for one in self._offers if one.lists_resources] or self._resourceful
        return listing[0] if len(listing) == 1 else None

    def _unknown(self, uri: str) -> ResourceNotFound:
        similar = self._resource_spelling.similar(uri)
        forms = [self._form(offer, uri) for offer in self._resourceful[:FORMS_SHOWN]]
        if similar or not forms:
            return ResourceNotFound(uri, similar=similar)
        hint = f" No server lists it. To ask one all the same, say which: {' or '.join(forms)}."
        return ResourceNotFound(uri, hint=hint)


def _readable(offer: Offer, own: str, name: str) -> Entry:
    """A provider's resource, listed or not, under the URI it was asked for."""
    listed = offer.find("resources", own)
    if listed is not None:
        return listed.renamed(name)
    return Entry(offer.provider, "resources", own, name, {"uri": name}, offer.org)


def _schemes(offers: Iterable[Offer]) -> Mapping[str, str]:
    """What stands in front of each provider's URIs; no two have the same."""
    taken: dict[str, str] = {}
    for offer in offers:
        wanted = scheme_of(offer.prefix, offer.provider)
        taken[free_scheme(wanted, offer.provider, taken)] = offer.provider
    return {provider: scheme for scheme, provider in taken.items()}


def _for_handshake(tool: Json) -> Json:
    schema = tool.get("outputSchema")
    if schema is None or (isinstance(schema, dict) and schema.get("type") == "object"):
        return tool
    return {key: value for key, value in tool.items() if key != "outputSchema"}
