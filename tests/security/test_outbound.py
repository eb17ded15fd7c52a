"""URLs that people enter lead to public addresses, or nowhere."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address

import httpx
import pytest
from pydantic import ValidationError

from tests.servers.raw_http import Reply, Request, serve
from trunkline.downstream.channel import Channel, ChannelLost
from trunkline.downstream.config import ServerConfig
from trunkline.downstream.guarded import Guard
from trunkline.downstream.http import HttpClient
from trunkline.downstream.streamable_http import open_streamable_http
from trunkline.errors import DownstreamUnavailable
from trunkline.security.outbound.addresses import special_kind
from trunkline.security.outbound.guard import OutboundGuard, OutboundRefused
from trunkline.security.outbound.http import guarded_client
from trunkline.settings import DownstreamSettings, OutboundSettings

pytestmark = pytest.mark.anyio


def guard(*allow: str, ports: tuple[int, ...] = ()) -> OutboundGuard:
    return OutboundGuard(OutboundSettings(allow=allow, ports=ports))


# -- which addresses are public ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("fc00::1", "private"),
        ("fd00:ec2::254", "private"),
        ("fec0::1", "private"),
        ("100.64.0.1", "carrier"),
        ("100.100.100.200", "carrier"),
        ("169.254.169.254", "link-local"),
        ("169.254.170.2", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("168.63.129.16", "cloud"),
        ("192.0.0.192", "reserved"),
        ("192.0.2.1", "reserved"),
        ("198.18.0.1", "reserved"),
        ("203.0.113.9", "reserved"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("2001:db8::1", "reserved"),
        ("3fff::1", "reserved"),
        ("5f00::1", "reserved"),
        ("100::1", "reserved"),
        ("2001::1", "tunnel"),
        ("2002:7f00:1::", "tunnel"),
        ("64:ff9b:1::1", "tunnel"),
        ("64:ff9b::127.0.0.1", "loopback"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:10.0.0.1", "private"),
        ("::127.0.0.1", "reserved"),
    ],
)
def test_a_special_address_is_told_by_its_kind(address: str, kind: str) -> None:
    assert kind in (special_kind(ip_address(address)) or "")


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.0.0.1"),
        *("128.0.0.1", "172.15.255.255", "172.32.0.0", "192.0.1.1", "223.255.255.255"),
        *("2606:4700::1111", "2a00:1450::1", "2001:4860:4860::8888", "::ffff:1.1.1.1"),
        "64:ff9b::1.1.1.1",
    ],
)
def test_a_public_address_is_not_special(address: str) -> None:
    assert special_kind(ip_address(address)) is None


# -- what a URL says --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com:6379/_INFO",
        "javascript:alert(1)",
        "//example.com/",
        "example.com",
        "",
        "http://",
        "http:///mcp",
        "http://user@example.com/",
        "http://user:secret@example.com/",
        "http://@example.com/",
        "http://example.com:0/",
        "http://example.com:-1/",
        "http://example.com:65536/",
        "http://example.com:http/",
        "http://[::1/",
        "http://example.com\\@127.0.0.1/",
        "http://example.com /",
        "http://example.com/\r\nHost: other",
        "http://exa\tmple.com/",
        "http://%6c%6f%63alhost/",
        "http://[fe80::1%25eth0]/",
    ],
)
def test_a_url_that_has_another_form_is_refused(url: str) -> None:
    with pytest.raises(OutboundRefused) as refused:
        guard("*").check_url(url)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.0.0.1./",
        "https://127.0.0.1:8443/mcp",
        "HTTP://127.0.0.1",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[64:ff9b::a9fe:a9fe]/latest/meta-data/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://0.0.0.0:8080/",
        "http://10.1.2.3/",
    ],
)
def test_an_address_that_is_not_public_is_refused_without_asking_anybody(url: str) -> None:
    with pytest.raises(OutboundRefused, match="TRUNKLINE_OUTBOUND__ALLOW"):
        guard().check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        *("http://localhost/", "http://LOCALHOST:80/", "http://2130706433/", "http://0x7f.1/"),
        *("http://0177.0.0.1/", "http://127.1/", "http://0/", "http://0x7f000001/"),
        "http://①②⑦.⓪.⓪.①/",
    ],
)
async def test_a_name_and_any_other_way_to_write_an_address_is_judged_by_where_it_leads(
    url: str,
) -> None:
    with pytest.raises(OutboundRefused, match="TRUNKLINE_OUTBOUND__ALLOW"):
        await guard().allow_url(url)


async def test_the_sentence_does_not_tell_the_address() -> None:
    with pytest.raises(OutboundRefused) as refused:
        await guard().allow_url("http://localhost:5432/")

    assert "'localhost'" in str(refused.value)
    assert "127.0.0.1" not in str(refused.value)
    assert refused.value.code == "outbound_refused"


@pytest.mark.parametrize("url", ["https://1.1.1.1/mcp", "http://[2606:4700::1111]:8080/"])
async def test_a_public_address_is_let_through(url: str) -> None:
    await guard().allow_url(url)


async def test_a_host_that_is_not_known_yet_may_be_entered() -> None:
    await guard().allow_url("https://mcp.invalid/")


@pytest.mark.parametrize(
    "allow", ["localhost", "LOCALHOST", "local*", "127.0.0.0/8", "127.0.0.1", "*"]
)
async def test_what_the_operator_allows_is_let_through(allow: str) -> None:
    await guard(allow).allow_url("http://localhost:8080/mcp")


@pytest.mark.parametrize("allow", ["host", "localhos", "10.0.0.0/8", "127.0.0.2", "::1", "1.1.1.1"])
async def test_and_nothing_else_is(allow: str) -> None:
    with pytest.raises(OutboundRefused):
        await guard(allow).allow_url("http://localhost:8080/mcp")


def test_an_allowed_network_holds_for_addresses_that_ipv6_only_carries() -> None:
    guard("10.0.0.0/8").check_url("http://[::ffff:10.0.0.1]/")
    guard("64:ff9b::/96").check_url("http://[64:ff9b::a00:1]/")


def test_a_network_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(ValidationError):
        OutboundSettings(allow=("10.0.0.0/33",))


def test_ports_can_be_limited() -> None:
    guard(ports=(443, 8443)).check_url("https://example.com/")

    with pytest.raises(OutboundRefused, match="TRUNKLINE_OUTBOUND__PORTS"):
        guard(ports=(443, 8443)).check_url("http://example.com/")


# -- what a connection does -------------------------------------------------------------------


class Changing(Guard):
    """A guard that lets through, until it does not: as if the name led elsewhere by now."""

    def __init__(self) -> None:
        self.is_open = True
        self.asked: list[tuple[str, list[str]]] = []

    def check_url(self, url: str) -> None:
        """It is the address that counts here."""

    def check_addresses(self, host: str, addresses: Iterable[str]) -> None:
        self.asked.append((host, list(addresses)))
        if not self.is_open:
            raise OutboundRefused("It leads elsewhere now.")


@asynccontextmanager
async def opened(url: str, guard: Guard | None) -> AsyncGenerator[Channel]:
    """A channel to a server whose URL somebody entered."""
    server = ServerConfig(name="added", transport="streamable-http", url=url, guarded=True)
    async with (
        asyncio.timeout(30),
        HttpClient(guard) as client,
        open_streamable_http(server, DownstreamSettings(), client) as channel,
    ):
        yield channel


async def answer(request: Request, reply: Reply) -> None:
    await reply.result(request, {})


async def answer_once(request: Request, reply: Reply) -> None:
    await reply.result(request, {}, connection="close")


async def test_a_guarded_server_is_reached_at_the_address_that_was_checked() -> None:
    changing = Changing()

    async with serve(answer) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        async with opened(url, changing) as channel:
            await channel.request("ping", None)
            await channel.request("ping", None)

    assert changing.asked == [("localhost", ["127.0.0.1"])], "once for the one connection"


async def test_each_connection_is_checked_anew() -> None:
    changing = Changing()

    async with serve(answer_once) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        async with opened(url, changing) as channel:
            await channel.request("ping", None)
            changing.is_open = False
            with pytest.raises(ChannelLost, match="leads elsewhere now") as lost:
                await channel.request("ping", None)

    assert not lost.value.sent
    assert len(server.requests) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]", "①②⑦.⓪.⓪.①"])
async def test_a_guarded_server_at_a_private_address_is_not_connected_to(host: str) -> None:
    async with serve(answer) as server:
        with pytest.raises(DownstreamUnavailable, match="TRUNKLINE_OUTBOUND__ALLOW"):
            async with opened(server.url.replace("127.0.0.1", host), guard()):
                pass

    assert server.requests == []


@pytest.mark.parametrize("host", ["localhost", "0x7f.1", "2130706433", "127.1"])
async def test_a_guarded_server_whose_name_leads_inside_gets_no_request(host: str) -> None:
    async with (
        serve(answer) as server,
        opened(server.url.replace("127.0.0.1", host), guard()) as channel,
    ):
        with pytest.raises(ChannelLost):
            await channel.request("ping", None)

    assert server.requests == []


async def test_a_guarded_server_cannot_redirect() -> None:
    async def redirect(request: Request, reply: Reply) -> None:
        await reply.whole(307, b"", {"location": "/elsewhere"})

    async with serve(redirect) as server, opened(server.url, guard("127.0.0.1")) as channel:
        with pytest.raises(ChannelLost, match="redirects to"):
            await channel.request("ping", None)

    assert len(server.requests) == 1


async def test_a_guarded_server_is_not_reached_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    async with serve(answer) as server:
        url = server.url.replace("127.0.0.1", "0x7f.1")
        async with opened(url, guard("0x7f.1")) as channel:
            await channel.request("ping", None)

    assert len(server.requests) == 1


async def test_a_connection_of_the_operators_is_not_lent_to_a_guarded_server() -> None:
    settings = DownstreamSettings()

    async with serve(answer) as server, HttpClient(guard()) as client:
        url = server.url.replace("127.0.0.1", "localhost")
        own = ServerConfig(name="own", transport="streamable-http", url=url)
        added = replace(own, name="added", guarded=True)
        async with open_streamable_http(own, settings, client) as channel:
            await channel.request("ping", None)
        async with open_streamable_http(added, settings, client) as channel:
            with pytest.raises(ChannelLost, match="TRUNKLINE_OUTBOUND__ALLOW"):
                await channel.request("ping", None)


async def test_without_a_guard_nothing_guarded_is_connected_to() -> None:
    async with serve(answer) as server:
        with pytest.raises(DownstreamUnavailable):
            async with opened(server.url, None):
                pass


# -- the client for everything else -----------------------------------------------------------


async def test_the_httpx_client_goes_where_it_may_under_the_name_it_was_given() -> None:
    async def tell_host(request: Request, reply: Reply) -> None:
        await reply.whole(200, request.headers["host"].encode())

    async with serve(tell_host) as server, guarded_client(guard("localhost")) as client:
        url = server.url.replace("127.0.0.1", "localhost")
        response = await client.get(url)

    assert response.text == url.removeprefix("http://").partition("/")[0]
    assert response.request.url == url


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"])
async def test_the_httpx_client_refuses_what_leads_inside(host: str) -> None:
    async with serve(answer) as server, guarded_client(guard()) as client:
        with pytest.raises(OutboundRefused):
            await client.get(server.url.replace("127.0.0.1", host))

    assert server.requests == []


async def test_the_httpx_client_follows_no_redirect() -> None:
    async def redirect(request: Request, reply: Reply) -> None:
        await reply.whole(302, b"", {"location": "http://169.254.169.254/"})

    async with serve(redirect) as server, guarded_client(guard("127.0.0.1")) as client:
        assert (await client.get(server.url)).status_code == 302


async def test_the_httpx_client_says_when_a_host_is_not_known() -> None:
    async with guarded_client(guard()) as client:
        with pytest.raises(httpx.ConnectError, match="not known"):
            await client.get("http://mcp.invalid/")


async def test_the_httpx_client_shows_the_name_in_the_tls_handshake() -> None:
    names: list[str | None] = []

    async def take_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        names.append(server_name(await reader.read(4096)))
        writer.close()

    server = await asyncio.start_server(take_hello, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, guarded_client(guard("localhost")) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(f"https://localhost:{port}/")

    assert names == ["localhost"]


def server_name(hello: bytes) -> str | None:
    """The name in a TLS ClientHello, as the `ssl` module reads it."""
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(hello)
    with pytest.raises(ssl.SSLError):
        context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    return names[0]
