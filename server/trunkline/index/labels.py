"""
Whose each slot is, and of what kind, server and skills: the filters, as masks over all slots.
"""

from collections.abc import Hashable, Iterable, Mapping
from typing import Final

import numpy as np

from trunkline.index.fusion import Mask, Scores
from trunkline.index.index import Query, Ref

NOBODY: Final = -1
"""The number of no value: the slot is free."""


class Column:
    """One value for each slot, kept as a small number."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._rows = np.full(64, NOBODY, np.int32)

    def put(self, slot: int, value: Hashable) -> None:
        if slot >= len(self._rows):
            grown = np.full(2 * slot, NOBODY, np.int32)
            grown[: len(self._rows)] = self._rows
            self._rows = grown
        self._rows[slot] = self._numbers.setdefault(value, len(self._numbers))

    def drop(self, slot: int) -> None:
        self._rows[slot] = NOBODY

    def among(self, values: Iterable[Hashable], size: int) -> Mask:
        """Which of the first *size* slots have one of these values."""
        mask = np.zeros(size, np.bool_)
        for value in values:
            if value in self._numbers:
                mask |= self._rows[:size] == self._numbers[value]
        return mask


class Labels:
    """What can be asked of a point besides what it says."""

    def __init__(self) -> None:
        self._orgs, self._kinds, self._servers = Column(), Column(), Column()
        self._skills: dict[int, frozenset[str]] = {}
        self._having: dict[str, set[int]] = {}

    def put(self, slot: int, ref: Ref, skills: Iterable[str]) -> None:
        self._drop_skills(slot)
        self._orgs.put(slot, ref.org)
        self._kinds.put(slot, ref.kind)
        self._servers.put(slot, ref.server)
        self._skills[slot] = frozenset(skills)
        for skill in self._skills[slot]:
            self._having.setdefault(skill, set()).add(slot)

    def drop(self, slot: int) -> None:
        self._drop_skills(slot)
        for column in (self._orgs, self._kinds, self._servers):
            column.drop(slot)

    def seen_by(self, query: Query, size: int) -> Mask:
        """What the organisation that asks may see: its own, and what belongs to everyone."""
        return self._orgs.among({None, query.org}, size)

    def wanted_by(self, query: Query, size: int) -> Mask:
        """What passes the other filters."""
        wanted = np.ones(size, np.bool_)
        if query.kinds is not None:
            wanted &= self._kinds.among(query.kinds, size)
        if query.servers is not None:
            wanted &= self._servers.among(query.servers, size)
        if query.skills is not None:
            having = np.zeros(size, np.bool_)
            for skill in query.skills:
                having[self._with_skill(skill)] = True
            wanted &= having
        return wanted

    def boosts(self, boosts: Mapping[str, float], size: int) -> Scores:
        """For each slot the greatest boost of its skills; zero if it has none of them."""
        scores = np.zeros(size, np.float32)
        for skill, boost in sorted(boosts.items(), key=lambda item: item[1]):
            scores[self._with_skill(skill)] = boost
        return scores

    def _with_skill(self, skill: str) -> list[int]:
        return list(self._having.get(skill, ()))

    def _drop_skills(self, slot: int) -> None:
        for skill in self._skills.pop(slot, frozenset()):
            self._having[skill].discard(slot)
            if not self._having[skill]:
                del self._having[skill]
