"""
What a server's list changes: the list, compared with what is known of the server.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from trunkline.errors import NotStorable
from trunkline.models import Kind
from trunkline.storage.rows import MAX_NAME, Item, Synced, digest, to_json, to_text


@dataclass(frozen=True, slots=True)
class Known:
    """What is compared of an item that is stored."""

    id: int
    own_hash: bytes
    name: str
    content_hash: bytes
    position: int
    hidden: bool


@dataclass(slots=True)
class Plan:
    """What has to be written, each as its statement takes it."""

    insert: list[tuple[str, str, str, bytes, int]] = field(default_factory=list)
    """Own name, name, definition, content hash, position."""

    update: list[tuple[int, str, str, bytes, int]] = field(default_factory=list)
    """Id, name, definition, content hash, position."""

    move: list[tuple[int, int]] = field(default_factory=list)
    """Id, position."""

    hide: list[int] = field(default_factory=list)
    rename: list[int] = field(default_factory=list)
    """Those of `update` that give up a name they have now."""

    back: int = 0
    """How many of `update` were hidden."""

    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def synced(self) -> Synced:
        """What it comes to."""
        return Synced(
            inserted=len(self.insert) + self.back,
            updated=len(self.update) - self.back,
            hidden=len(self.hide),
            moved=len(self.move),
            left_out=self.left_out,
        )


@dataclass(frozen=True, slots=True)
class _Listed:
    """One item of the list, in the words of the database."""

    item: Item
    own_name: str
    own_hash: bytes
    name: str
    definition: str
    content_hash: bytes

    @classmethod
    def of(cls, item: Item) -> "_Listed":
        own, definition = to_text(item.own_name), to_json(item.definition)
        return cls(item, own, digest(own), to_text(item.name), definition, digest(definition))


class Changes:
    """A list, ready to be compared as often as need be."""

    def __init__(self, kind: Kind, items: Sequence[Item]) -> None:
        self._limit = MAX_NAME if kind in ("tools", "prompts") else None
        self._listed: list[_Listed] = []
        self._unfit: dict[str, str] = {}
        """The own names of items that JSON cannot say, each with a sentence why."""

        for item in items:
            try:
                self._listed.append(_Listed.of(item))
            except NotStorable as error:
                self._unfit[item.own_name] = str(error)

    def names_new_to(self, known: Mapping[bytes, Known]) -> list[str]:
        """The names that would be taken, and may be another server's by now."""
        return [
            one.name
            for one in self._listed
            if (old := known.get(one.own_hash)) is None or old.hidden or old.name != one.name
        ]

    def against(self, known: Mapping[bytes, Known], taken: Collection[str]) -> Plan:
        """What makes the list the one that is stored, with the names *taken* left alone."""
        plan, names, kept = Plan(left_out=dict(self._unfit)), set[str](), set[bytes]()
        for position, one in enumerate(self._listed):
            reason = self._reason(one, names, kept, taken)
            if reason:
                plan.left_out.setdefault(one.item.own_name, reason)
                continue
            names.add(one.name)
            kept.add(one.own_hash)
            _add(plan, known.get(one.own_hash), one, position)
        plan.hide = [old.id for key, old in known.items() if key not in kept and not old.hidden]
        return plan

    def _reason(
        self, one: _Listed, names: set[str], kept: set[bytes], taken: Collection[str]
    ) -> str:
        """Why an item cannot be stored, in a sentence; "" if it can."""
        if not one.name:
            return "It has no name to be served under."
        if self._limit is not None and len(one.name) > self._limit:
            return f"Its name is longer than {self._limit} characters."
        if one.own_hash in kept:
            return "It is listed twice; the first one is kept."
        if one.name in names:
            return f"Another item of the list is served as {one.item.name!r}."
        if one.name in taken:
            return f"Another server has the name {one.item.name!r}."
        return ""


def _add(plan: Plan, old: Known | None, one: _Listed, position: int) -> None:
    """Add to the plan what this item needs; nothing if it is as it was."""
    if old is None:
        plan.insert.append((one.own_name, one.name, one.definition, one.content_hash, position))
    elif old.hidden or (old.name, old.content_hash) != (one.name, one.content_hash):
        plan.update.append((old.id, one.name, one.definition, one.content_hash, position))
        plan.back += old.hidden
        if old.name != one.name and not old.hidden:
            plan.rename.append(old.id)
    elif old.position != position:
        plan.move.append((old.id, position))
