"""
How much of the catalog a client is shown: every tool, or only those that find and call the others.

A model pays for every description it is given, in money and in attention. Beyond a few dozen tools
it is better served by a search.
"""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal

from trunkline.catalog.view import View
from trunkline.models import Era, Json

Mode = Literal["auto", "full", "search"]

MANY: Final = 40
"""Tools up to which `auto` lists them all."""


META: Final = frozenset({"search_tools", "describe_tool", "call_tool"})
"""
The names of the gateway's tools about tools.

A tool of the catalog that has one of them is what is called by it, and so is listed in its place.
"""


class Exposure:
    """Decides what is listed. What can be called is another matter: that is everything."""

    def __init__(
        self,
        mode: Mode = "full",
        pinned: Sequence[str] = (),
        *,
        stands_in: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        *pinned* are patterns (`fnmatch`) of tools that are listed in any case. *stands_in* tells
        whether there is a single server, without a namespace: nobody is to see that it is not it.
        """
        self._mode, self._pinned, self._stands_in = mode, pinned, stands_in

    @property
    def shows_own(self) -> bool:
        """Whether tools of the gateway's own may be listed."""
        return not self._stands_in()

    def is_search(self, view: View) -> bool:
        """Whether tools are to be searched for, and not listed."""
        if self._mode == "auto":
            return len(view.tools) > MANY and self.shows_own
        return self._mode == "search"

    def tools(self, view: View, era: Era) -> list[Json]:
        """The tools of the catalog that are listed."""
        every = view.handshake_tools if era is Era.HANDSHAKE else view.tools
        if not self.is_search(view):
            return list(every)
        return [tool for tool in every if self._is_kept(tool["name"])]

    def _is_kept(self, name: str) -> bool:
        return name in META or any(fnmatchcase(name, pattern) for pattern in self._pinned)
