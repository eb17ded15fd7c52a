"""
How much of the catalog a client is shown: every tool, or only those that find and call the others.

A model pays for every description it is given, in money and in attention. Beyond a few dozen tools
it is better served by a search.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal

from trunkline.catalog.view import View
from trunkline.models import Era, Json

Mode = Literal["auto", "full", "search"]

MANY: Final = 40
"""Tools up to which `auto` lists them all."""


class Exposure:
    """Decides what is listed. What can be called is another matter: that is everything."""

    def __init__(self, mode: Mode, pinned: Sequence[str]) -> None:
        """*pinned* are patterns (`fnmatch`) of tools that are listed in any case."""
        self._mode, self._pinned = mode, pinned

    def is_search(self, view: View) -> bool:
        """Whether tools are to be searched for, and not listed."""
        if self._mode == "auto":
            return len(view.tools) > MANY and not view.stands_in
        return self._mode == "search"

    def tools(self, view: View, era: Era) -> list[Json]:
        """The tools of the catalog that are listed."""
        every = view.handshake_tools if era is Era.HANDSHAKE else view.tools
        if not self.is_search(view):
            return list(every)
        return [tool for tool in every if self._is_pinned(tool["name"])]

    def _is_pinned(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self._pinned)
