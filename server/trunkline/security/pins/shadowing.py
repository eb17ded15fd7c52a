"""
Tools and servers that pass for others, among what one organisation sees.

A model chooses by names and descriptions, so a server can take another's place without touching it:
under a name that looks the same, or by saying of another's tool what it may not say of its own.
A name that is taken twice is told of the server that comes later, and one that is an organisation's
own comes after the global ones. What is found is for that organisation alone.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trunkline.models import Json
from trunkline.naming import SEPARATOR
from trunkline.security.pins.scan import Finding
from trunkline.security.pins.scan_rules import Severity
from trunkline.security.pins.scan_text import escaped, excerpt, lookalike, plain_name, unmasked

SHOWN: Final = 5
"""Names that a sentence lists."""

MOST: Final = 50
"""Findings kept of one server."""

NEAR: Final = 120
"""Characters before and after a tool's name that are about it."""

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[_\-./][A-Za-z0-9]+)*")

_DIRECTING = re.compile(
    r"\b(?:instead of|rather than|in place of|in favou?r of|replaces?|replacement for|supersedes?"
    r"|overrides?|deprecated|obsolete|broken|unsafe|insecure|do not (?:use|call|trust)"
    r"|don'?t (?:use|call|trust)|never (?:use|call)|avoid (?:using|calling)|side effects?"
    r"|(?:before|when|whenever|after|each time|every time)[^.]{0,20}(?:using|calling|invoking|call"
    r"|use|invoke)|must|has to|have to|should (?:also|always|never)|always)\b",
    re.IGNORECASE,
)
"""What is said of a tool by whoever wants it used otherwise."""


@dataclass(frozen=True, slots=True)
class Served:
    """A tool, as it is served."""

    own: str
    """Its server's own name of it."""

    name: str
    """The one it is served under."""

    definition: Json


@dataclass(frozen=True, slots=True)
class Shown:
    """A server, as one organisation sees it."""

    name: str
    org: str | None
    tools: Sequence[Served]


@dataclass(frozen=True, slots=True)
class _Owned:
    """Whose a name is."""

    server: str
    own: str


def shadowing(servers: Iterable[Shown]) -> dict[str, tuple[Finding, ...]]:
    """What servers, in the order in which they have a right to their names, do to earlier ones."""
    found: defaultdict[str, list[Finding]] = defaultdict(list)
    ranked = sorted(servers, key=lambda one: one.org is not None)  # stable
    before: list[Shown] = []
    names = _Names()
    for server in ranked:
        found[server.name] += _server_names(server, before)
        found[server.name] += _tool_names(server, names)
        names.add(server)
        before.append(server)
    for server in ranked:
        found[server.name] += _words(server, names.distinctive)
    return {name: _worst(findings) for name, findings in found.items() if findings}


class _Names:
    """The names of the tools of servers."""

    def __init__(self) -> None:
        self.plain: dict[str, _Owned] = {}
        self.looks: dict[str, _Owned] = {}
        self.served: dict[str, _Owned] = {}
        self.distinctive: defaultdict[str, list[_Owned]] = defaultdict(list)
        """Names that nobody writes by chance."""

    def add(self, server: Shown) -> None:
        for tool in server.tools:
            owned = _Owned(server.name, tool.own)
            self.plain.setdefault(plain_name(tool.own), owned)
            self.looks.setdefault(lookalike(tool.own), owned)
            self.served.setdefault(tool.name, owned)
            for name in {tool.own, tool.name}:
                if _is_distinctive(name):
                    self.distinctive[name.lower()].append(owned)


def _server_names(server: Shown, before: Sequence[Shown]) -> Iterator[Finding]:
    for other in before:
        if lookalike(other.name) != lookalike(server.name) or other.name == server.name:
            continue
        why = f"Its name looks like that of the server {other.name!r}."
        yield _finding(Severity.HIGH, "the server's name", server.name, why)


def _tool_names(server: Shown, names: _Names) -> Iterator[Finding]:
    """Tools that pass for others' by name, and those that merely have one name."""
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for tool in server.tools:
        where = f"the tool {escaped(tool.own[:80])!r}"
        served = names.served.get(tool.own) if SEPARATOR in tool.own else None
        if served is not None and served.own != tool.own:
            why = (
                f"It has the name that {served.own!r} of the server {served.server!r} is served as."
            )
            yield _finding(Severity.HIGH, where, tool.own, why)
        elif (owned := names.plain.get(plain_name(tool.own))) is not None:
            alike[owned.server].append(tool.own)
        elif (owned := names.looks.get(lookalike(tool.own))) is not None:
            why = f"Its name looks like {owned.own!r} of the server {owned.server!r}."
            yield _finding(Severity.HIGH, where, tool.own, why)
    for other, own in alike.items():
        more = f" and {len(own) - SHOWN} more" if len(own) > SHOWN else ""
        why = f"It has tools of names that the server {other!r} has, too."
        yield _finding(Severity.LOW, "its tools", ", ".join(own[:SHOWN]) + more, why)


def _words(server: Shown, distinctive: Mapping[str, Sequence[_Owned]]) -> Iterator[Finding]:
    """What it says of the tools of others."""
    mine = {plain_name(name) for tool in server.tools for name in (tool.own, tool.name)}
    for tool in server.tools:
        for text in _descriptions(tool.definition):
            plain = " ".join(unmasked(text).split())
            for match in _WORD.finditer(plain):
                owners = distinctive.get(match[0].lower(), ())
                other = next((one.server for one in owners if one.server != server.name), None)
                if other is None or plain_name(match[0]) in mine or not _directs(plain, match):
                    continue
                why = f"It says what is to be done with a tool of the server {other!r}."
                words, where = excerpt(plain, *match.span()), f"the tool {escaped(tool.own[:80])!r}"
                yield Finding("shadowing", Severity.HIGH, where, words, why)
                break


def _directs(text: str, name: re.Match[str]) -> bool:
    """Whether what stands around a name tells the model to use it otherwise."""
    begin, end = max(0, name.start() - NEAR), name.end() + NEAR
    # `name=true` is a parameter.
    return text[name.end() : name.end() + 1] != "=" and bool(_DIRECTING.search(text, begin, end))


def _descriptions(definition: Json) -> Iterator[str]:
    """What a tool says of itself and of its parameters."""
    if isinstance(description := definition.get("description"), str):
        yield description
    schema = definition.get("inputSchema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    for one in properties.values() if isinstance(properties, dict) else ():
        if isinstance(one, dict) and isinstance(text := one.get("description"), str):
            yield text


def _is_distinctive(name: str) -> bool:
    """Whether a name is more than a word: `send_email`, `createIssue`, `mail__send`."""
    return len(name) >= 6 and (
        re.search(r"[_\-./0-9]", name) is not None or re.search(r"[a-z][A-Z]", name) is not None
    )


def _finding(severity: Severity, where: str, words: str, why: str) -> Finding:
    return Finding("shadowing", severity, where, escaped(words, all_beyond_ascii=True), why)


def _worst(findings: list[Finding]) -> tuple[Finding, ...]:
    findings.sort(key=lambda one: -one.severity)
    return tuple(findings[:MOST])
