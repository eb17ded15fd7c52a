"""
What dispatch and the catalog know of whoever has tools.

A downstream and a plugin both are providers; nothing above this line knows the difference.
"""

from collections.abc import Callable
from typing import Protocol

from trunkline.downstream.config import ToolRules
from trunkline.models import Caller, Json, Listing, Status


class Provider(Protocol):
    """Somebody who has tools, prompts and resources."""

    @property
    def name(self) -> str:
        """Unique among all providers; what people call it."""
        ...

    @property
    def prefix(self) -> str:
        """The namespace in front of its names; "" for none."""
        ...

    @property
    def position(self) -> int:
        """Its rank where two providers want one name: the smaller keeps it."""
        ...

    @property
    def org(self) -> str | None:
        """The organisation it belongs to; None is global."""
        ...

    @property
    def rules(self) -> ToolRules: ...

    @property
    def listing(self) -> Listing | None:
        """What it offers as far as is known; None while nothing is known yet."""
        ...

    @property
    def status(self) -> Status: ...

    on_change: Callable[["Provider"], None] | None
    """Called (synchronously, cheaply) after `listing` was replaced by a different one."""

    async def request(self, method: str, params: Json, caller: Caller) -> Json:
        """
        Carry one client request to the provider and return its raw result.

        *params* name things the way the provider does, without namespace.
        Raises `RpcError`, `DownstreamError` or `PluginError`.
        """
        ...
