"""
One object of mcp.json, read key by key.

Every complaint names the server and the key, and knows the line and column. Reading goes on after
one, so that everything that is wrong with a server is said at once.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from trunkline.downstream.credentials import Template
from trunkline.downstream.expansion import Expansion, ExpansionError, VariableMissing
from trunkline.jsonc import Member, Node, duplicates, position

ProblemCode = Literal[
    "config_missing",
    "config_unreadable",
    "config_syntax",
    "config_invalid",
    "config_unknown_key",
    "config_duplicate",
    "config_variable",
]

_KINDS: Final = {str: "text", bool: "true or false", dict: "an object", list: "a list"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigProblem:
    """Something that is wrong with mcp.json."""

    code: ProblemCode
    message: str
    """A sentence: what is wrong, and what to do."""

    server: str | None = None
    """The server that cannot be used because of it; None if it is none's alone."""

    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return self.message


class Source:
    """A text being read, and what has been found wrong with it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.problems: list[ConfigProblem] = []

    def complain(
        self, code: ProblemCode, message: str, at: int, *, server: str | None = None
    ) -> None:
        """Note a problem at an offset of the text."""
        line, column = position(self._text, at)
        self.problems.append(
            ConfigProblem(code=code, message=message, server=server, line=line, column=column)
        )


class Entry:
    """An object of the file whose keys are read one after the other."""

    def __init__(
        self, node: Node, source: Source, *, server: str, expansion: Expansion | None = None
    ) -> None:
        """*expansion* replaces references in texts; None leaves them as they are."""
        self.node, self.server = node, server
        self._source, self._expansion = source, expansion
        self._complaints = len(source.problems)
        self.refuse_duplicates(node)

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found wrong since this entry was begun."""
        return len(self._source.problems) == self._complaints

    def complain(self, code: ProblemCode, message: str, at: Node | Member | None = None) -> None:
        """Note what is wrong with this server; *message* continues "The server 'x' "."""
        sentence = f"The server {self.server!r} {message}"
        self._source.complain(code, sentence, (at or self.node).start, server=self.server)

    def has(self, key: str) -> bool:
        """Whether the key is there, whatever its value."""
        return self.node.member(key) is not None

    def refuse_unknown(
        self,
        known: Collection[str],
        tolerated: Collection[str] = (),
        *,
        within: str = "",
        instead: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """
        Complain of keys that are neither *known* nor *tolerated*.

        The nearest known key is named, unless *instead* has better advice.
        """
        for member in self.node.members:
            if member.name not in known and member.name not in tolerated:
                advice = instead.get(member.name) or did_you_mean(member.name, known)
                self.complain(
                    "config_unknown_key",
                    f'has an unknown key "{within}{member.name}". {advice}',
                    member,
                )

    def refuse_duplicates(self, node: Node, within: str = "") -> None:
        """Complain of keys that are there twice."""
        for member in duplicates(node.members):
            self.complain(
                "config_duplicate",
                f'has "{within}{member.name}" twice. Delete one of them.',
                member,
            )

    def text(self, key: str, *, empty: bool = False) -> str | None:
        """A text with its references replaced; None where there is none or it is wrong."""
        member = self._member(key, str)
        if member is None:
            return None
        if not member.value.value and not empty:
            self.complain("config_invalid", f'has an empty "{key}". Fill it in.', member)
            return None
        return self._text_of(member.value, f'"{key}"')

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        member = self._member(key, list)
        items = () if member is None else member.value.items
        found = [
            self._text_of(item, f'item {rank} of "{key}"') for rank, item in enumerate(items, 1)
        ]
        return tuple(text for text in found if text is not None)

    def mapping(self, key: str) -> dict[str, str]:
        """An object whose values are texts."""
        member = self._member(key, dict)
        if member is None:
            return {}
        self.refuse_duplicates(member.value, within=f"{key}.")
        found: dict[str, str] = {}
        for inner in member.value.members:
            value = self._text_of(inner.value, f'"{inner.name}" in "{key}"')
            if value is not None:
                found[inner.name] = value
        return found

    def templates(self, key: str) -> dict[str, Template]:
        """An object whose values are texts that may depend on whoever calls."""
        member = self._member(key, dict)
        if member is None:
            return {}
        self.refuse_duplicates(member.value, within=f"{key}.")
        found = {
            inner.name: self._template_of(inner.value, f'"{inner.name}" in "{key}"')
            for inner in member.value.members
        }
        return {name: template for name, template in found.items() if template is not None}

    def template_list(self, key: str) -> tuple[Template, ...]:
        """A list of texts that may depend on whoever calls."""
        member = self._member(key, list)
        items = () if member is None else member.value.items
        found = [
            self._template_of(item, f'item {rank} of "{key}"') for rank, item in enumerate(items, 1)
        ]
        return tuple(template for template in found if template is not None)

    def flag(self, key: str) -> bool:
        """True or false; false where there is none."""
        member = self._member(key, bool)
        return member is not None and member.value.value

    def seconds(self, key: str, *, limit: float) -> float | None:
        """A time that is more than zero and at most *limit*."""
        member = self.node.member(key)
        if member is None:
            return None
        value = member.value.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.complain("config_invalid", f'needs a number as "{key}": seconds.', member.value)
            return None
        seconds = float(min(value, 1e12))  # JSON has integers that no float can hold
        if seconds <= 0:
            self.complain(
                "config_invalid",
                f'needs a "{key}" of more than 0 seconds. Leave it out for the default.',
                member.value,
            )
        elif seconds > limit:
            self.complain(
                "config_invalid",
                f'has a "{key}" of {seconds:,.0f} seconds; it may be {limit:,.0f} at most. '
                f"If milliseconds were meant, write {seconds / 1000:g}.",
                member.value,
            )
        return seconds

    def durations(self, key: str, *, limit: float) -> dict[str, float]:
        """An object whose values are times from zero to *limit*."""
        member = self._member(key, dict)
        if member is None:
            return {}
        self.refuse_duplicates(member.value, within=f"{key}.")
        found: dict[str, float] = {}
        for inner in member.value.members:
            value = inner.value.value
            if isinstance(value, bool) or not isinstance(value, int | float):
                wrong = f"not {said(value)}."
            elif not 0 <= value <= limit:
                wrong = f"from 0 to {limit:,.0f}."
            else:
                found[inner.name] = float(value)
                continue
            place = f'"{inner.name}" in "{key}"'
            self.complain("config_invalid", f"needs seconds as {place}, {wrong}", inner.value)
        return found

    def choices(self, key: str, choices: Sequence[str]) -> dict[str, str]:
        """An object whose values are each one of *choices*."""
        member = self._member(key, dict)
        if member is None:
            return {}
        self.refuse_duplicates(member.value, within=f"{key}.")
        found: dict[str, str] = {}
        for inner in member.value.members:
            if inner.value.value in choices:
                found[inner.name] = inner.value.value
            else:
                place = f'"{inner.name}" in "{key}"'
                self.complain("config_invalid", f"needs {one_of(choices)} as {place}.", inner.value)
        return found

    def choice(self, key: str, choices: Sequence[str]) -> str | None:
        """One of *choices*."""
        member = self._member(key, str)
        if member is None or member.value.value in choices:
            return member and member.value.value
        self.complain(
            "config_invalid",
            f'has {member.value.value!r} as "{key}"; it can be {one_of(choices)}.',
            member.value,
        )
        return None

    def inner(self, key: str, *, expand: bool = False) -> "Entry | None":
        """The object under a key, to be read like this one. *expand* replaces references in it."""
        member = self._member(key, dict)
        if member is None:
            return None
        expansion = self._expansion if expand else None
        return Entry(member.value, self._source, server=self.server, expansion=expansion)

    def _text_of(self, node: Node, place: str) -> str | None:
        """What a text means that is the same for everybody; None if it cannot be used."""
        template = self._template_of(node, place)
        if template is None:
            return None
        if not template.references:
            return template.fill({})
        self.complain(
            "config_invalid",
            f"has {template.references[0]} in {place}. What is about whoever calls can only be "
            'told in "headers", "env" or "args".',
            node,
        )
        return None

    def _template_of(self, node: Node, place: str) -> Template | None:
        """What a text means; None if it cannot be used. It may be a secret: never shown."""
        text = node.value
        if not isinstance(text, str):
            self.complain(
                "config_invalid", f"needs text in quotes as {place}, not {said(text)}.", node
            )
            return None
        try:
            template = self._expansion.template(text) if self._expansion else Template((text,))
        except ExpansionError as error:
            missing = isinstance(error, VariableMissing)
            code = "config_variable" if missing else "config_invalid"
            self.complain(code, f"cannot use {place}: {error}", node)
            return None
        if any(isinstance(part, str) and unusable(part) for part in template.parts):
            self.complain(
                "config_invalid",
                f"has a character in {place} that no text can hold. Delete it.",
                node,
            )
            return None
        return template

    def _member(self, key: str, kind: type) -> Member | None:
        """The member of that name, if it has the right type."""
        member = self.node.member(key)
        if member is None or type(member.value.value) is kind:
            return member
        self.complain(
            "config_invalid",
            f'needs {_KINDS[kind]} as "{key}", not {said(member.value.value)}.',
            member.value,
        )
        return None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Advice on a key that does not exist."""
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f'Did you mean "{near[0]}"?' if near else "Delete it, or check its spelling."


def one_of(choices: Sequence[str]) -> str:
    """The choices as a sentence lists them."""
    *first, last = (f'"{choice}"' for choice in choices)
    return f"{', '.join(first)} or {last}" if first else last


def said(value: Any) -> str:
    """What kind of value this is, without showing it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    return {str: "text", dict: "an object", list: "a list"}.get(type(value), "a number")


def unusable(text: str) -> bool:
    """Whether *text* has a character that neither a command line nor UTF-8 can carry."""
    return "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
