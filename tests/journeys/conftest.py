"""
One gateway in front of the same server four times: both eras, over stdio and over HTTP.

Everything is started once for the whole folder. Tests share it, so they use names and keys of their
own, and compare with what was there before.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import pytest
from mcp import Client

from tests.gateway_under_test import Gateway, Person, gateway
from tests.journeys.raw_client import RawClient, raw_client
from tests.servers.processes import running, stdio_entry

ERAS: Final = ("handshake", "modern")
DOWNSTREAMS: Final = ("handshake_stdio", "handshake_http", "modern_stdio", "modern_http")


@dataclass
class Journey:
    """A client of one era on its way to a server of one era over one transport."""

    gateway: Gateway
    era: str
    downstream: str

    @property
    def downstream_era(self) -> str:
        return self.downstream.split("_")[0]

    @property
    def transport(self) -> str:
        return self.downstream.split("_")[1]

    def name(self, own: str) -> str:
        """What the gateway calls a tool or prompt of the server."""
        return f"{self.downstream}__{own}"

    def uri(self, own: str) -> str:
        """What the gateway calls a resource that all four servers have."""
        return f"{self.downstream.replace('_', '-')}+{own}"

    def own(self, uri: str) -> str:
        """What the server calls it."""
        return uri.removeprefix(self.uri(""))

    def client(self, person: Person | None = None) -> Client:
        """A client of the SDK."""
        return (person or Person()).client(self.gateway.mcp, self.era)

    def raw(self, **options: Any) -> AbstractAsyncContextManager[RawClient]:
        """A client that sees the wire; takes the options of `raw_client`."""
        return raw_client(self.gateway.mcp, self.era, **options)


@pytest.fixture(scope="package")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="package")
async def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Gateway]:
    """The gateway and its four servers."""
    async with AsyncExitStack() as stack:
        servers: dict[str, Any] = {}
        for downstream in DOWNSTREAMS:
            era, transport = downstream.split("_")
            if transport == "stdio":
                servers[downstream] = stdio_entry("everything", era=era)  # pyright: ignore[reportArgumentType]
            else:
                server = await stack.enter_async_context(running("everything", era=era))  # pyright: ignore[reportArgumentType]
                servers[downstream] = server.entry()
        folder = tmp_path_factory.mktemp("journeys")
        yield await stack.enter_async_context(gateway(servers, folder))


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    """The era of the client."""
    return request.param


@pytest.fixture(params=DOWNSTREAMS)
def journey(shared_gateway: Gateway, era: str, request: pytest.FixtureRequest) -> Journey:
    """Each way there is: two eras of clients to four servers."""
    return Journey(shared_gateway, era, request.param)


@pytest.fixture(params=DOWNSTREAMS)
def handshake_journey(shared_gateway: Gateway, request: pytest.FixtureRequest) -> Journey:
    """A handshake client's ways to the four servers."""
    return Journey(shared_gateway, "handshake", request.param)


@pytest.fixture(params=DOWNSTREAMS)
def modern_journey(shared_gateway: Gateway, request: pytest.FixtureRequest) -> Journey:
    """A modern client's ways to the four servers."""
    return Journey(shared_gateway, "modern", request.param)
