"""
JSON as people write it, with the place of everything in the text.

Configuration files are written by hand: they have comments and trailing commas, and when something
is wrong their author needs the line. So comments and trailing commas are read, duplicate keys are
kept apart, and every value knows its offsets, which is also what editing without loss needs.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

DEPTH_LIMIT: Final = 200
"""Levels a document may be nested. A configuration has five."""

_SPACE = re.compile(r"(?:[ \t\r\n]+|//[^\r\n]*|/\*.*?\*/)*", re.DOTALL)
_SCALAR = re.compile(r'"|-?[0-9]|(?:true|false|null)(?![\w$])')
_NAME = re.compile(r'("\w{1,40}")\s*:')
_BARE_NAME = re.compile(r"(\w{1,40})\s*:")
_WORD = re.compile(r"[\w$.-]+")
_WRONG_QUOTES: Final = "'`\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"
_FOREIGN_WORDS: Final = {"True": "true", "False": "false", "None": "null", "undefined": "null"}


class JsonSyntaxError(ValueError):
    """A text that is not JSON. `str()` says what was found and what to do, without the place."""

    def __init__(self, message: str, text: str, offset: int) -> None:
        super().__init__(message)
        self.line, self.column = position(text, offset)


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands: `text[start:end]`."""

    value: Any
    """What it means, as plain Python. The last of several members with one name counts."""

    start: int
    end: int
    members: "tuple[Member, ...]" = ()
    """An object's members in their order, duplicates included."""

    items: "tuple[Node, ...]" = ()

    def member(self, name: str) -> "Member | None":
        """The member with this name; the last one, as every JSON reader has it."""
        found = [member for member in self.members if member.name == name]
        return found[-1] if found else None


@dataclass(frozen=True, slots=True)
class Member:
    """A name and its value in an object."""

    name: str
    start: int
    """Where the name's quotation mark stands."""

    value: Node
    comma: int | None
    """Where the comma behind it stands, if there is one."""


def parse(text: str) -> Node:
    """Read one JSON document. Raises `JsonSyntaxError`."""
    return _Reader(text).document()


def duplicates(members: Iterable[Member]) -> list[Member]:
    """The members whose name an earlier one has already."""
    names: set[str] = set()
    again: list[Member] = []
    for member in members:
        if member.name in names:
            again.append(member)
        names.add(member.name)
    return again


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column of an offset, both counted from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 1 if text.startswith("\ufeff") else 0
        self._scalars = json.JSONDecoder()

    def document(self) -> Node:
        root = self._value(depth=0)
        if self._next():
            raise self._error(
                "The document has ended, but there is more. Delete it, or check the braces."
            )
        return root

    def _value(self, depth: int) -> Node:
        found = self._next()
        if depth > DEPTH_LIMIT:
            raise self._error(f"This is nested deeper than {DEPTH_LIMIT} levels.")
        if found == "{":
            return self._object(depth)
        if found == "[":
            return self._array(depth)
        if _SCALAR.match(self._text, self._at):
            return self._scalar()
        raise self._no_value(found)

    def _object(self, depth: int) -> Node:
        start = self._at
        members: list[Member] = []
        for name_at in self._elements(start, "}"):
            name = self._name()
            if self._next() != ":":
                raise self._error(
                    f"A colon is missing after {json.dumps(name, ensure_ascii=False)}."
                )
            self._at += 1
            value = self._value(depth + 1)
            comma = self._at if self._next() == "," else None
            members.append(Member(name, name_at, value, comma))
        plain = {member.name: member.value.value for member in members}
        return Node(plain, start, self._at, members=tuple(members))

    def _array(self, depth: int) -> Node:
        start = self._at
        items = tuple(self._value(depth + 1) for _ in self._elements(start, "]"))
        return Node([item.value for item in items], start, self._at, items=items)

    def _elements(self, start: int, close: str) -> Iterator[int]:
        """Stand before each element of what opens at *start*, in turn, and end behind *close*."""
        self._at += 1
        while (found := self._next()) != close:
            if found in ("", "}", "]"):
                raise self._unclosed(start, close)
            if found == ",":
                raise self._error("There is a comma too many. Delete it.")
            yield self._at
            found = self._next()
            if found == ",":
                self._at += 1
            elif found in ("", "}", "]") and found != close:
                raise self._unclosed(start, close)
            elif found != close:
                raise self._error(f"A comma is missing before {self._glimpse()}.")
        self._at += 1

    def _name(self) -> str:
        found = self._text[self._at]
        if found == '"':
            return self._scalar().value
        if found in _WRONG_QUOTES:
            raise self._wrong_quotes()
        if word := _BARE_NAME.match(self._text, self._at):
            raise self._error(f'Names need double quotes: write "{word[1]}".')
        raise self._error(f"A name in double quotes was expected, not {found!r}.")

    def _scalar(self) -> Node:
        start = self._at
        try:
            value, self._at = self._scalars.raw_decode(self._text, start)
        except json.JSONDecodeError as error:
            self._at = error.pos
            raise self._error(_explain_string(error.msg)) from None
        except ValueError:  # an integer of more digits than Python converts
            raise self._error("This number is too long.") from None
        return Node(value, start, self._at)

    def _no_value(self, found: str) -> JsonSyntaxError:
        if not found:
            return self._error("The document ends where a value was expected.")
        if found in _WRONG_QUOTES:
            return self._wrong_quotes()
        word = _WORD.match(self._text, self._at)
        if word is not None and (meant := _FOREIGN_WORDS.get(word[0])):
            return self._error(f"{word[0]} is not JSON: write {meant}.")
        if word is not None:
            return self._error("This is not JSON. If it is text, put it in double quotes.")
        return self._error(f"A value was expected, not {found!r}.")

    def _next(self) -> str:
        """Skip space and comments; the character that follows, or "" at the end."""
        match = _SPACE.match(self._text, self._at)
        assert match is not None, "the pattern matches nothing at least"
        self._at = match.end()
        if self._text.startswith("/*", self._at):
            raise self._error("This comment is never closed. Add */ at its end.")
        return self._text[self._at : self._at + 1]

    def _glimpse(self) -> str:
        """What stands here, in a word. Only a name is shown: a value may be a secret."""
        name = _NAME.match(self._text, self._at)
        return name[1] if name else "this"

    def _unclosed(self, start: int, close: str) -> JsonSyntaxError:
        line, column = position(self._text, start)
        return self._error(
            f'The "{self._text[start]}" of line {line}, column {column} is not closed. '
            f'Add "{close}" before this.'
        )

    def _wrong_quotes(self) -> JsonSyntaxError:
        return self._error(
            f'Text needs straight double quotes ("), not {self._text[self._at]}. Replace them.'
        )

    def _error(self, message: str) -> JsonSyntaxError:
        return JsonSyntaxError(message, self._text, self._at)


def _explain_string(message: str) -> str:
    if message.startswith("Unterminated"):
        return "The text that begins here is not closed: a double quote is missing at its end."
    if message.startswith("Invalid control"):
        return (
            "A text ends with its line: a double quote is missing, "
            r"or write \n for a line break and \t for a tab."
        )
    return r'A backslash in a text is written twice: "C:\\Users".'
