"""
What exists at one moment: immutable, complete, and served from memory.

    Listing of each provider ── check ──> offers ──┐
                                                   ├── names ──> Snapshot ── view(org) ──> View
    Listing of each provider ── check ──> offers ──┘

Providers are taken by rank, so the same providers give the same names whoever connected first.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Final, Literal

from trunkline.catalog.quarantine import check
from trunkline.catalog.uri_template import pattern_of, weight
from trunkline.downstream.config import ToolRules
from trunkline.errors import PromptNotFound, ResourceNotFound, ToolNotFound
from trunkline.models import KINDS, Json, Kind, Listing
from trunkline.naming import SEPARATOR, exposed, marked, namespaced_uri

KEY_OF: Final[Mapping[Kind, str]] = {
    "tools": "name",
    "prompts": "name",
    "resources": "uri",
    "templates": "uriTemplate",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of the catalog."""

    provider: str
    kind: Kind
    own: str
    """The provider's own name, URI or URI template."""

    name: str
    """The one it is served under."""

    definition: Json
    """As it is listed: the provider's own, with the name replaced."""

    org: str | None

    @property
    def is_safe_to_repeat(self) -> bool:
        """Whether the provider says that a second call changes nothing more than the first."""
        hints = self.definition.get("annotations") or {}
        return hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True


@dataclass(frozen=True, slots=True)
class Offer:
    """What one provider brings into a snapshot: its listing, checked and cut down by its rules."""

    provider: str
    prefix: str
    rank: int
    org: str | None
    items: Mapping[Kind, tuple[Json, ...]]
    rename: Mapping[str, str]
    listing: Listing
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls, name: str, prefix: str, rank: int, org: str | None, rules: ToolRules, listing: Listing
    ) -> "Offer":
        """Check a listing."""
        notes: list[str] = []
        items: dict[Kind, tuple[Json, ...]] = {}
        for kind in KINDS:
            checked = (check(kind, item, notes.append) for item in listing.of(kind))
            unique = _without_twins(kind, (one for one in checked if one is not None), notes)
            items[kind] = tuple(unique)
        tools = [tool["name"] for tool in items["tools"]]
        items["tools"] = tuple(tool for tool in items["tools"] if _allowed(tool["name"], rules))
        notes.extend(_useless_rules(rules, tools))
        return cls(name, prefix, rank, org, items, rules.rename, listing, tuple(notes))


def _without_twins(kind: Kind, items: Iterable[Json], notes: list[str]) -> Iterable[Json]:
    """Items whose key stands for one thing only: of two with one name, the first is served."""
    key, seen = KEY_OF[kind], set[str]()
    for item in items:
        if item[key] in seen:
            what = kind.removesuffix("s")
            notes.append(f"The {what} {item[key]!r} is listed twice; the first one is served.")
            continue
        seen.add(item[key])
        yield item


def _allowed(name: str, rules: ToolRules) -> bool:
    if any(fnmatchcase(name, pattern) for pattern in rules.deny):
        return False
    return rules.allow is None or any(fnmatchcase(name, pattern) for pattern in rules.allow)


def _useless_rules(rules: ToolRules, names: Sequence[str]) -> Iterable[str]:
    patterns = [("allow", one) for one in rules.allow or ()]
    patterns += [("deny", one) for one in rules.deny]
    patterns += [("rename", one) for one in rules.rename]
    for rule, pattern in patterns if names else []:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = get_close_matches(pattern, names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            yield f'"tools.{rule}" names {pattern!r}, but it has no such tool.{hint}'


@dataclass(frozen=True)
class View:
    """The catalog as one organisation sees it: what is global, and what is its own."""

    entries: Mapping[Kind, Mapping[str, Entry]]
    offers: tuple[Offer, ...]
    shared_uris: Mapping[str, tuple[str, ...]]
    """A URI that several providers list -> the namespaced forms it is served under."""

    @cached_property
    def tools(self) -> tuple[Json, ...]:
        return self._definitions("tools")

    @cached_property
    def prompts(self) -> tuple[Json, ...]:
        return self._definitions("prompts")

    @cached_property
    def resources(self) -> tuple[Json, ...]:
        return self._definitions("resources")

    @cached_property
    def templates(self) -> tuple[Json, ...]:
        return self._definitions("templates")

    def tool(self, name: str) -> Entry:
        """Raises `ToolNotFound` with similar names."""
        if (entry := self.entries["tools"].get(name)) is None:
            raise ToolNotFound(name, similar=similar(name, self.entries["tools"]))
        return entry

    def prompt(self, name: str) -> Entry:
        """Raises `PromptNotFound` with similar names."""
        if (entry := self.entries["prompts"].get(name)) is None:
            raise PromptNotFound(name, similar=similar(name, self.entries["prompts"]))
        return entry

    def resource(self, uri: str) -> tuple[Entry, str]:
        """
        Who has a resource, and what it is called there.

        Listed URIs first, then the namespaced forms, then templates, then the only provider that
        has resources at all: servers let clients read what they do not list. Raises
        `ResourceNotFound`.
        """
        if (entry := self.entries["resources"].get(uri)) is not None:
            return entry, entry.own
        self._refuse_shared(uri)
        if (namespaced := self._namespaced(uri)) is not None:
            return namespaced
        if (matching := self._match_template(uri, self.offers)) is not None:
            return matching, uri
        having = [one for one in self.offers if one.items["resources"] or one.items["templates"]]
        if len(having) == 1:
            return _unlisted(having[0], uri, uri), uri
        raise ResourceNotFound(uri, similar=similar(uri, self.entries["resources"]))

    def template(self, uri_template: str) -> Entry:
        """Who has a resource template (or a resource). Raises `ResourceNotFound`."""
        for kind in ("templates", "resources"):
            if (entry := self.entries[kind].get(uri_template)) is not None:
                return entry
        self._refuse_shared(uri_template)
        raise ResourceNotFound(
            uri_template, similar=similar(uri_template, self.entries["templates"])
        )

    @cached_property
    def instructions(self) -> str:
        """How to use what is here: a provider's own words, under its name if there are several."""
        told = [(one, one.listing.instructions) for one in self.offers if one.listing.instructions]
        if len(self.offers) == 1 or (len(told) == 1 and not told[0][0].prefix):
            return told[0][1] or "" if told else ""
        return "\n\n".join(f"# {one.prefix or one.provider}\n\n{text}" for one, text in told)

    @cached_property
    def ttl_ms(self) -> int:
        """How long clients may keep the lists: the smallest of what was merged."""
        return min((one.listing.ttl_ms for one in self.offers), default=0)

    @cached_property
    def cache_scope(self) -> Literal["public", "private"]:
        """Who may share the lists: the most private of what was merged."""
        public = self.offers and all(one.listing.cache_scope == "public" for one in self.offers)
        return "public" if public and all(one.org is None for one in self.offers) else "private"

    def _definitions(self, kind: Kind) -> tuple[Json, ...]:
        return tuple(entry.definition for entry in self.entries[kind].values())

    def _refuse_shared(self, uri: str) -> None:
        if (forms := self.shared_uris.get(uri)) is not None:
            hint = f" Several servers offer it; say which one: {' or '.join(forms)}."
            raise ResourceNotFound(uri, hint=hint)

    def _namespaced(self, uri: str) -> tuple[Entry, str] | None:
        for offer in self.offers:
            head = namespaced_uri(offer.prefix, offer.provider, "")
            if uri.startswith(head):
                own = uri.removeprefix(head)
                listed = self._own_entry(offer, own) or self._match_template(own, [offer])
                return listed or _unlisted(offer, own, uri), own
        return None

    def _own_entry(self, offer: Offer, own: str) -> Entry | None:
        if not any(item["uri"] == own for item in offer.items["resources"]):
            return None
        return Entry(offer.provider, "resources", own, own, {"uri": own}, offer.org)

    def _match_template(self, uri: str, offers: Iterable[Offer]) -> Entry | None:
        matches: list[tuple[int, Offer, str]] = [
            (weight(template), offer, template)
            for offer in offers
            for template in (item["uriTemplate"] for item in offer.items["templates"])
            if pattern_of(template).fullmatch(uri)
        ]
        if not matches:
            return None
        best = max(fixed for fixed, _, _ in matches)
        owners = {offer.provider: offer for fixed, offer, _ in matches if fixed == best}
        if len(owners) > 1:
            forms = [namespaced_uri(one.prefix, name, uri) for name, one in owners.items()]
            raise ResourceNotFound(
                uri, hint=f" Several servers may offer it; say which one: {' or '.join(forms)}."
            )
        (offer,) = owners.values()
        return _unlisted(offer, uri, uri)


def _unlisted(offer: Offer, own: str, name: str) -> Entry:
    return Entry(offer.provider, "resources", own, name, {"uri": name}, offer.org)


@dataclass(frozen=True)
class Snapshot:
    """Everything, for every organisation."""

    version: int = 0
    offers: tuple[Offer, ...] = ()
    """By rank."""

    entries: Mapping[Kind, Mapping[str, Entry]] = field(
        default_factory=lambda: {kind: {} for kind in KINDS}
    )
    collisions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Provider -> sentences about names it could not have."""

    _views: dict[str | None, View] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def build(cls, version: int, offers: Iterable[Offer]) -> "Snapshot":
        """Name everything that the offers bring."""
        ranked = tuple(sorted(offers, key=lambda offer: (offer.rank, offer.provider)))
        collisions: dict[str, list[str]] = {}
        entries: dict[Kind, Mapping[str, Entry]] = {}
        for kind in KINDS:
            named = _by_name if kind in ("tools", "prompts") else _by_uri
            entries[kind] = named(kind, ranked, collisions)
        frozen = {provider: tuple(sentences) for provider, sentences in collisions.items()}
        return cls(version, ranked, entries, frozen)

    def view(self, org: str | None) -> View:
        """What one organisation sees. Made once, then kept."""
        view = self._views.get(org)
        if view is None:
            view = self._views[org] = self._make_view(org)
        return view

    def count(self, provider: str, kind: Kind) -> int:
        """How many items of a kind a provider has here."""
        return self._counts[kind][provider]

    def problems(self, provider: str) -> tuple[str, ...]:
        """What had to be left out, mended or renamed of one provider."""
        notes = next((one.notes for one in self.offers if one.provider == provider), ())
        return (*notes, *self.collisions.get(provider, ()))

    @cached_property
    def _counts(self) -> Mapping[Kind, Counter[str]]:
        return {
            kind: Counter(entry.provider for entry in self.entries[kind].values()) for kind in KINDS
        }

    def _make_view(self, org: str | None) -> View:
        offers = tuple(offer for offer in self.offers if offer.org in (None, org))
        entries: dict[Kind, Mapping[str, Entry]] = {
            kind: {name: one for name, one in named.items() if one.org in (None, org)}
            for kind, named in self.entries.items()
        }
        shared: dict[str, tuple[str, ...]] = {}
        for kind in ("resources", "templates"):
            for entry in entries[kind].values():
                if entry.name != entry.own:
                    shared[entry.own] = (*shared.get(entry.own, ()), entry.name)
        return View(entries, offers, shared)


def _by_name(
    kind: Kind, offers: Sequence[Offer], collisions: dict[str, list[str]]
) -> Mapping[str, Entry]:
    """Tools and prompts: of two that want one name, the one of lower rank keeps it."""
    named: dict[str, Entry] = {}
    for offer in offers:
        for item in offer.items[kind]:
            own = item["name"]
            shown = offer.rename.get(own, own) if kind == "tools" else own
            name = wanted = exposed(offer.prefix, offer.provider, shown, own)
            if wanted in named:
                name = marked(wanted, offer.provider, own)
                keeper = named[wanted].provider
                collisions.setdefault(offer.provider, []).append(
                    f"{wanted!r} is taken by {keeper!r}, which ranks first; "
                    f"its {kind.removesuffix('s')} {own!r} is served as {name!r}."
                )
            named[name] = Entry(offer.provider, kind, own, name, {**item, "name": name}, offer.org)
    return named


def _by_uri(
    kind: Kind, offers: Sequence[Offer], collisions: dict[str, list[str]]
) -> Mapping[str, Entry]:
    """Resources and templates: a URI that two providers list is served with their namespaces."""
    key = KEY_OF[kind]
    owners = Counter(item[key] for offer in offers for item in offer.items[kind])
    named: dict[str, Entry] = {}
    for offer in offers:
        for item in offer.items[kind]:
            own = name = item[key]
            if owners[own] > 1:
                name = namespaced_uri(offer.prefix, offer.provider, own)
                collisions.setdefault(offer.provider, []).append(
                    f"{own!r} is listed by several servers; this one's is served as {name!r}."
                )
            named[name] = Entry(offer.provider, kind, own, name, {**item, key: name}, offer.org)
    return named


def similar(name: str, names: Iterable[str]) -> list[str]:
    """Up to three names that somebody who wrote *name* may have meant."""
    known = list(names)
    bare = [one for one in known if one.rpartition(SEPARATOR)[2] == name]
    close = get_close_matches(name, known, n=3, cutoff=0.6)
    if not bare and not close:
        tails = {one.rpartition(SEPARATOR)[2]: one for one in known}
        close = [tails[tail] for tail in get_close_matches(name, tails, n=3, cutoff=0.6)]
    return list(dict.fromkeys([*bare, *close]))[:3]
