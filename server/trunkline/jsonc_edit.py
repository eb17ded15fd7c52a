"""
Changing one thing in a JSON text, and nothing else.

The file belongs to somebody: its comments, its order, its indentation and its line ends stay as
they are. So the text is cut and joined, not printed anew, and every edit is read back and compared
with what was meant before anybody gets it.
"""

import copy
import json
import re
from collections.abc import Sequence
from typing import Any

from trunkline.jsonc import Member, Node, parse

_INDENT = re.compile(r"^([ \t]+)\S", re.MULTILINE)
_COMMENTS_ON_LINE = re.compile(r"(?:[ \t]*/\*[^\r\n]*?\*/)*(?:[ \t]*//[^\r\n]*)?")
_LINE_END = re.compile(r"[ \t]*(?=\r?\n|\Z)")
_SPACES = re.compile(r"[ \t]*")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class NotAnObject(ValueError):
    """Something else stands where an object is needed. `str()` is its path, joined by dots."""


def set_member(text: str, path: Sequence[str], value: Any) -> str:
    """
    *text* with the member at *path* set to *value*; objects on the way are made where missing.

    Raises `JsonSyntaxError` for a text that is not JSON, and `NotAnObject`.
    """
    root = parse(text)
    way = _way(root, path)
    depth = len(way) - 1
    for name in reversed(path[depth + 1 :]):
        value = {name: value}
    meant = copy.deepcopy(root.value)
    _at(meant, path[:depth])[path[depth]] = value
    layout = _Layout(text, root)
    member = way[-1].member(path[depth])
    if member is None:
        return _checked(layout.insert(way[-1], path[depth], value), meant)
    return _checked(layout.replace(member, value), meant)


def remove_member(text: str, path: Sequence[str]) -> str:
    """
    *text* without the member at *path*; *text* itself if there is none.

    Raises `JsonSyntaxError` for a text that is not JSON, and `NotAnObject`.
    """
    root = parse(text)
    way = _way(root, path)
    if len(way) < len(path) or way[-1].member(path[-1]) is None:
        return text
    meant = copy.deepcopy(root.value)
    del _at(meant, path[:-1])[path[-1]]
    # A name may be there several times; all of them go.
    while (member := way[-1].member(path[-1])) is not None:
        text = _cut(text, way[-1], member)
        way = _way(parse(text), path)
    return _checked(text, meant)


def _way(root: Node, path: Sequence[str]) -> list[Node]:
    """The objects on the way to the last name of *path*, as far as they exist."""
    way = [root]
    for depth, name in enumerate(path):
        if not isinstance(way[-1].value, dict):
            raise NotAnObject(".".join(path[:depth]))
        member = way[-1].member(name)
        if member is None or depth == len(path) - 1:
            break
        way.append(member.value)
    return way


def _at(document: Any, path: Sequence[str]) -> Any:
    for name in path:
        document = document[name]
    return document


def _checked(text: str, meant: Any) -> str:
    if parse(text).value != meant:
        raise RuntimeError("The edit would have changed more than it should; nothing was written.")
    return text


class _Layout:
    """How a text is laid out, and new values in the same manner."""

    def __init__(self, text: str, root: Node) -> None:
        self._text = text
        self._line_end = "\r\n" if "\r\n" in text else "\n"
        indent = _INDENT.search(text)
        self._unit = indent[1] if indent else "  "
        self._is_one_line = "\n" not in text and bool(root.members)

    def replace(self, member: Member, value: Any) -> str:
        node, flat = member.value, self._is_flat(member.value)
        printed = _print(value) if flat else self._print(value, self._indent_at(member.start))
        return self._text[: node.start] + printed + self._text[node.end :]

    def insert(self, node: Node, name: str, value: Any) -> str:
        if self._is_flat(node):
            return self._insert_flat(node, f"{_print(name)}: {_print(value)}")
        base = self._indent_at(node.start)
        indent = self._indent_of_members(node) or base + self._unit
        item = f"{self._line_end}{indent}{_print(name)}: {self._print(value, indent)}"
        text, closing = self._text, self._line_end + base
        if not node.members:
            inside = text[node.start + 1 : node.end - 1].rstrip()
            return text[: node.start + 1] + inside + item + closing + text[node.end - 1 :]
        last = node.members[-1]
        behind, comma = (last.value.end, ",") if last.comma is None else (last.comma + 1, "")
        comments = _COMMENTS_ON_LINE.match(text, behind)
        assert comments is not None, "the pattern matches nothing at least"
        if last.comma is not None:
            item += ","
        if not _LINE_END.match(text, comments.end()):
            item += closing
        return text[:behind] + comma + comments[0] + item + text[comments.end() :]

    def _insert_flat(self, node: Node, item: str) -> str:
        text = self._text
        if not node.members:
            return text[: node.start + 1] + item + text[node.start + 1 :]
        last = node.members[-1]
        if last.comma is None:
            return f"{text[: last.value.end]}, {item}{text[last.value.end :]}"
        return f"{text[: last.comma + 1]} {item},{text[last.comma + 1 :]}"

    def _is_flat(self, node: Node) -> bool:
        """Whether an object's members stand, or belong, on one line."""
        return self._is_one_line or (
            bool(node.members) and "\n" not in self._text[node.start : node.end]
        )

    def _indent_at(self, offset: int) -> str:
        """The indentation of the line an offset is in."""
        spaces = _SPACES.match(self._text, self._text.rfind("\n", 0, offset) + 1)
        return "" if spaces is None else spaces[0]

    def _indent_of_members(self, node: Node) -> str | None:
        """The indentation of the last member, if it begins its line."""
        if not node.members:
            return None
        start = node.members[-1].start
        indent = self._text[self._text.rfind("\n", 0, start) + 1 : start]
        return indent if indent.isspace() else None

    def _print(self, value: Any, indent: str) -> str:
        return _print(value, self._unit).replace("\n", self._line_end + indent)


def _print(value: Any, unit: str | None = None) -> str:
    printed = json.dumps(value, ensure_ascii=False, indent=unit)
    return _LONE_SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", printed)


def _cut(text: str, node: Node, member: Member) -> str:
    """*text* without one member, its comma, and the line it leaves empty."""
    place = node.members.index(member)
    if len(node.members) == 1 and _is_alone(text, node, member):
        return text[: node.start + 1] + text[node.end - 1 :]
    start, end = member.start, member.value.end
    if member.comma is not None:
        end = member.comma + 1
    if line_end := _LINE_END.match(text, end):
        start, end = len(text[:start].rstrip()), line_end.end()
    elif member.comma is not None:
        spaces = _SPACES.match(text, end)
        end = end if spaces is None else spaces.end()
    else:
        start = len(text[:start].rstrip(" \t"))
    head, tail = text[:start], text[end:]
    comma = node.members[place - 1].comma if place else None
    if member.comma is None and comma is not None:
        head = head[:comma] + head[comma + 1 :]
    return head + tail


def _is_alone(text: str, node: Node, member: Member) -> bool:
    """Whether nothing but a member is in its object, no comment either."""
    end = member.value.end if member.comma is None else member.comma + 1
    return not (text[node.start + 1 : member.start] + text[end : node.end - 1]).strip()
