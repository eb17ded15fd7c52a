"""
What one provider brings into the catalog: its listing, cut down by its rules, checked and named.

Made once per listing. The names here are those the items are to have; a view decides who keeps a
name that two want.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Final, Literal

from trunkline.catalog.quarantine import KEY_OF, Quarantine, Verdict
from trunkline.downstream.config import ToolRules
from trunkline.models import KINDS, Json, Kind, Listing, ProviderId
from trunkline.naming import exposed
from trunkline.providers.provider import Provider
from trunkline.security.pins.judgement import Judgement
from trunkline.security.pins.pins import Pins
from trunkline.security.pins.scan import scan, scan_text
from trunkline.security.pins.scan_rules import Severity

MAX_NOTES: Final = 100
"""Sentences kept per provider: one that lists nothing but rubbish must not fill the memory."""

NOTHING: Final = Listing()


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
    result_ttl: float | None = None
    """Seconds that mcp.json has its results kept; 0 is never, None leaves it to the definition."""

    @property
    def origin(self) -> ProviderId:
        """Whose it is."""
        return ProviderId(self.org, self.provider)

    @property
    def is_safe_to_repeat(self) -> bool:
        """Whether the provider says that a second call changes nothing more than the first."""
        hints = self.definition.get("annotations") or {}
        return hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True

    def renamed(self, name: str) -> "Entry":
        """The same item, served under another name."""
        definition = {**self.definition, KEY_OF[self.kind]: name}
        return replace(self, name=name, definition=definition)


@dataclass(frozen=True)
class Offer:
    """One provider's part of the catalog."""

    provider: str
    prefix: str
    position: int
    org: str | None
    entries: Mapping[Kind, tuple[Entry, ...]]
    """In the provider's own order; no two of a kind have the same `own`."""

    title: str
    """What it calls itself, for people."""

    instructions: str | None
    ttl_ms: int
    cache_scope: Literal["public", "private"]
    declares_resources: bool
    """Whether it says that it has resources, listed or not."""

    notes: tuple[str, ...]
    """What had to be left out or mended, and rules that match nothing."""

    judgements: Mapping[str, Judgement]
    """What came of comparing each tool with its pin, by its own name; those withheld as well."""

    verdicts: Mapping[bytes, Verdict] = field(compare=False, repr=False)

    @classmethod
    def of(
        cls, provider: Provider, before: "Offer | None" = None, pins: Pins | None = None
    ) -> "Offer":
        """Take what a provider lists now. What it already listed *before* is not checked again."""
        listing = provider.listing or NOTHING
        quarantine = Quarantine(before.verdicts) if before is not None else Quarantine()
        notes: list[str] = []
        judgements: dict[str, Judgement] = {}
        entries: dict[Kind, tuple[Entry, ...]] = {}
        for kind in KINDS:
            served = listing.of(kind)
            if kind == "tools":
                notes.extend(_useless_rules(provider.rules, [_name_of(one) for one in served]))
                served = [one for one in served if _is_allowed(_name_of(one), provider.rules)]
            items = _without_twins(kind, _check(quarantine, kind, served, notes), notes)
            if kind == "tools" and pins is not None:
                items = _trusted(pins, provider, items, judgements)
            entries[kind] = tuple(_entry(provider, kind, item) for item in items)
        if len(notes) > MAX_NOTES:
            notes[MAX_NOTES:] = [f"{len(notes) - MAX_NOTES} more remarks are not shown."]
        return cls(
            provider.name,
            provider.prefix,
            provider.position,
            provider.org,
            entries,
            _title_of(listing),
            listing.instructions,
            listing.ttl_ms,
            listing.cache_scope,
            "resources" in listing.capabilities,
            tuple(notes),
            judgements,
            quarantine.verdicts,
        )

    @property
    def origin(self) -> ProviderId:
        """Whose it is."""
        return ProviderId(self.org, self.provider)

    @cached_property
    def told(self) -> tuple[str, ...]:
        """A sentence for everything that somebody should look at before they trust it."""
        told = [s for own, one in self.judgements.items() for s in one.sentences(own)]
        for prompt in self.entries["prompts"]:
            told += (
                f"The prompt {prompt.own!r}: {one}"
                for one in scan(prompt.definition)
                if one.severity > Severity.LOW
            )
        found = scan_text("its instructions", self.instructions or "")
        told += (str(one) for one in found if one.severity > Severity.LOW)
        if len(told) > MAX_NOTES:
            told[MAX_NOTES:] = [f"{len(told) - MAX_NOTES} more findings are not shown."]
        return tuple(told)

    @property
    def lists_resources(self) -> bool:
        return bool(self.entries["resources"] or self.entries["templates"])

    def find(self, kind: Kind, own: str) -> Entry | None:
        """Its item of that name, URI or URI template; None if it lists none."""
        return self._by_own[kind].get(own)

    @cached_property
    def _by_own(self) -> Mapping[Kind, Mapping[str, Entry]]:
        return {kind: {one.own: one for one in self.entries[kind]} for kind in KINDS}


def _trusted(
    pins: Pins, provider: Provider, items: Iterable[Json], judgements: dict[str, Judgement]
) -> list[Json]:
    """The tools that may be served, each compared with what it was when it was accepted."""
    for item in (items := list(items)):
        judgements[item["name"]] = pins.judge(
            provider.org, provider.name, item, is_plugin=provider.is_plugin
        )
    pins.seen(provider.org, provider.name)
    return [item for item in items if not judgements[item["name"]].is_withheld]


def _entry(provider: Provider, kind: Kind, item: Json) -> Entry:
    own = name = item[KEY_OF[kind]]
    ttl = _result_ttl(own, provider.rules) if kind == "tools" else None
    if kind in ("tools", "prompts"):
        shown = (provider.rules.rename.get(own) if kind == "tools" else None) or own
        name = exposed(provider.prefix, provider.name, shown, own)
        item = {**item, "name": name}
    return Entry(provider.name, kind, own, name, item, provider.org, ttl)


def _result_ttl(own: str, rules: ToolRules) -> float | None:
    """What the first pattern says that fits."""
    fitting = (seconds for pattern, seconds in rules.cache.items() if fnmatchcase(own, pattern))
    return next(fitting, None)


def _check(
    quarantine: Quarantine, kind: Kind, items: Iterable[Any], notes: list[str]
) -> Iterator[Json]:
    for item in items:
        verdict = quarantine.check(kind, item)
        notes.extend(verdict.notes)
        if verdict.item is not None:
            yield verdict.item


def _without_twins(kind: Kind, items: Iterable[Json], notes: list[str]) -> Iterator[Json]:
    """
    Of two items with one name, the first.

    The provider goes by the name alone: whichever was asked for, it would be the same one.
    """
    key, seen = KEY_OF[kind], set[str]()
    for item in items:
        if item[key] in seen:
            what = kind.removesuffix("s")
            notes.append(f"The {what} {item[key]!r} is listed twice; the first one is served.")
            continue
        seen.add(item[key])
        yield item


def _name_of(item: Any) -> str:
    """The name of a tool as it came; "" if it has none, which no rule is about."""
    name = item.get("name") if isinstance(item, dict) else None
    return name if isinstance(name, str) else ""


def _title_of(listing: Listing) -> str:
    title = listing.server_info.get("title")
    return title if isinstance(title, str) else ""


def _is_allowed(name: str, rules: ToolRules) -> bool:
    if not name:
        return True
    if any(fnmatchcase(name, pattern) for pattern in rules.deny):
        return False
    return rules.allow is None or any(fnmatchcase(name, pattern) for pattern in rules.allow)


def _useless_rules(rules: ToolRules, names: Sequence[str]) -> Iterator[str]:
    """A sentence for every rule about tools that the provider does not have, once it lists any."""
    if not names:
        return
    known = set(names)
    useless = [("allow", one) for one in rules.allow or () if not _matches(one, names)]
    useless += [("deny", one) for one in rules.deny if not _matches(one, names)]
    useless += [("rename", one) for one in rules.rename if one not in known]
    useless += [("cache", one) for one in rules.cache if not _matches(one, names)]
    for rule, pattern in useless:
        near = get_close_matches(pattern, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        yield f'"tools.{rule}" names {pattern!r}, but it has no such tool.{hint}'


def _matches(pattern: str, names: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)
