"""
The whole of Trunkline in the test's own process, on a port of its own.

In this process, so that a test can look at tasks and descriptors, and see errors where they are
raised. Clients connect over HTTP as anybody would.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mcp_types as types
from mcp import Client

from tests.databases import database_of
from trunkline.app import App, ServerReport, open_app
from trunkline.cli.serve import http_face, identify, identities_of, show_login_pages
from trunkline.gateway.http import serve_http
from trunkline.gateway.identity import LOCAL_ONLY
from trunkline.security.identity.identities import Identities
from trunkline.settings import HttpSettings, PluginSettings, Settings

Json = dict[str, Any]


@dataclass
class Gateway:
    """A gateway that serves."""

    app: App
    url: str
    """Without a path."""

    config: Path
    identities: Identities

    @property
    def mcp(self) -> str:
        """The streamable HTTP endpoint."""
        return f"{self.url}/mcp"

    def configure(self, servers: Mapping[str, Json]) -> None:
        """Write another mcp.json, as an editor would."""
        fresh = self.config.with_suffix(".new")
        fresh.write_text(json.dumps({"mcpServers": servers}))
        fresh.replace(self.config)

    def report(self, name: str) -> ServerReport:
        """How one server stands."""
        return next(report for report in self.app.reports() if report.name == name)


@asynccontextmanager
async def gateway(
    servers: Mapping[str, Json] | str | None,
    folder: Path,
    *,
    plugins: tuple[Path, ...] = (),
    settled: bool = True,
    identified: bool = False,
    **settings: Any,
) -> AsyncGenerator[Gateway]:
    """
    Serve *servers*, with state under *folder*. A text is a mcp.json as it stands; None is none.

    With *settled* the block begins when every server has connected or failed. The database is one
    of the folder's own; `database_url=None` takes Trunkline's own server. With *identified* it asks
    who comes; otherwise everybody is the user of this machine. The admin tools are only
    offered, and tools only searched for, if asked for.
    """
    config = folder / "mcp.json"
    if servers is not None:
        text = servers if isinstance(servers, str) else json.dumps({"mcpServers": servers})
        config.write_text(text)
    settings.setdefault("database_url", database_of(folder / "home"))
    settings.setdefault("admin_tools", False)
    settings.setdefault("exposure", "full")
    chosen = Settings(
        config=config,
        home=folder / "home",
        http=HttpSettings(port=0, stop_grace=1),
        plugins=PluginSettings(folders=plugins),
        **settings,
    )
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with (
        open_app(chosen, single_client=False) as app,
        identities_of(app) as identities,
        asyncio.TaskGroup() as tasks,
    ):
        identity = identify(app, identities) if identified else LOCAL_ONLY
        http = http_face(app, identity, is_closed=lambda: identified and identities.is_closed)
        tasks.create_task(
            serve_http(http, chosen.http, on_listening=listening.set_result, stop=stop)
        )
        async with asyncio.timeout(60):
            url = await listening
        show_login_pages(app, url)
        if settled:
            assert await app.settled(60), f"not settled: {app.reports()}"
        try:
            yield Gateway(app, url, config, identities)
        finally:
            stop.set()


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something that another process or task brings about."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


class Person:
    """Someone at a client: answers what is asked under a name, and keeps what is told."""

    def __init__(self, name: str = "Ada") -> None:
        self.name = name
        self.asked: list[Any] = []
        self.logs: list[types.LoggingMessageNotificationParams] = []
        self.progress: list[tuple[float, float | None, str | None]] = []
        self.notices: list[str] = []

    async def elicit(self, context: Any, params: Any) -> types.ElicitResult:
        self.asked.append(params)
        return types.ElicitResult(action="accept", content={"name": self.name})

    async def sample(self, context: Any, params: Any) -> types.CreateMessageResult:
        self.asked.append(params)
        return types.CreateMessageResult(
            role="assistant",
            content=types.TextContent(text=f"by {self.name}"),
            model=f"model-{self.name}",
            stop_reason="endTurn",
        )

    async def roots(self, context: Any) -> types.ListRootsResult:
        return types.ListRootsResult(
            roots=[types.Root.model_validate({"uri": f"file:///home/{self.name}"})]
        )

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.logs.append(params)

    async def on_progress(self, progress: float, total: float | None, message: str | None) -> None:
        self.progress.append((progress, total, message))

    async def notice(self, message: Any) -> None:
        self.notices.append(getattr(message, "method", type(message).__name__))

    def client(self, url: Any, era: str) -> Client:
        """A client of the MCP SDK that can do everything; *url* may be one of its transports."""
        return Client(
            url,
            mode="legacy" if era == "handshake" else "auto",
            elicitation_callback=self.elicit,
            sampling_callback=self.sample,
            list_roots_callback=self.roots,
            logging_callback=self.log,
            message_handler=self.notice,
            client_info=types.Implementation(name=f"client-of-{self.name}", version="1"),
        )
