"""
What dispatch and the catalog know of whoever has tools.

A downstream and a plugin both are providers; nothing above this line knows the difference.
"""

from collections.abc import Callable
from typing import Any, Protocol

from trunkline.downstream.config import ToolRules
from trunkline.models import Caller, Client, Json, Listing, ProviderId, Status
from trunkline.providers.sharing import ResultScope


class Provider(Protocol):
    """Somebody who has tools, prompts and resources."""

    @property
    def name(self) -> str:
        """What people call it. Unique within what one organisation sees."""
        ...

    @property
    def id(self) -> ProviderId:
        """What no other provider has."""
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
    def is_plugin(self) -> bool:
        """Whether it runs in this process."""
        ...

    @property
    def rules(self) -> ToolRules: ...

    @property
    def listing(self) -> Listing | None:
        """What it offers as far as is known; None while nothing is known yet."""
        ...

    @property
    def status(self) -> Status: ...

    on_change: "Callable[[Any], None] | None"
    """Called (synchronously, cheaply) with the provider after `listing` became a different one."""

    on_updated: "Callable[[str, str, Json], None] | None"
    """Called with an audience (see `subscribe`), its own URI and the params of each
    `notifications/resources/updated`."""

    async def request(
        self, method: str, params: Json, caller: Caller, *, repeatable: bool = False
    ) -> Json:
        """
        Carry one client request to the provider and return its raw result.

        *params* name things the way the provider does, without namespace. *repeatable* says that
        running it twice does no harm. Raises `RpcError` or `DownstreamError`.
        """
        ...

    def may_ask(self, client: Client) -> bool:
        """Whether a modern client's request may end in a question that has to be held open."""
        ...

    def result_scope(self, client: Client) -> ResultScope | None:
        """Whom else a result of this client's is good for; None if for nobody, ever."""
        ...

    async def subscribe(self, uri: str, caller: Caller) -> str:
        """
        Report on a resource to this client. Raises like `request`.

        Returns the audience that the client is in: reports to another are not for it.
        """
        ...

    async def unsubscribe(self, uri: str, caller: Caller) -> None: ...

    async def set_level(self, caller: Caller, level: str) -> None:
        """Pass on the log level a client wants."""
        ...

    async def notify(self, method: str, params: Json | None, client: Client) -> None:
        """Pass on a notification of the client's own, where that is safe."""
        ...

    async def forget(self, client_id: str) -> None:
        """A client has left: end what was only for it."""
        ...
