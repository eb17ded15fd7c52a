"""No path leads out of where it begins: in plugin folders, in names, and in URIs."""

import asyncio
from pathlib import Path
from textwrap import dedent

import mcp_types as types
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from tests.gateway_under_test import gateway
from trunkline import Plugin
from trunkline.errors import PluginError
from trunkline.plugin.host import PluginHost

pytestmark = pytest.mark.anyio

CANARY = "canary-5f1c"

CODE = """
    from trunkline import Plugin

    plugin = Plugin("{name}")

    @plugin.tool
    def tell() -> str:
        return "{name}"
"""


def code(name: str) -> str:
    return dedent(CODE.format(name=name))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plugin folder, with a good plugin in it."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "good.py").write_text(code("good"))
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "evil.py").write_text(code("evil"))
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text(code("pack"))
    return folder


async def loaded(folder: Path) -> tuple[list[str], dict[str, str]]:
    """What is served of a folder, and what is said of the rest."""
    async with PluginHost([folder], register_timeout=30).open() as host:
        async with asyncio.timeout(60):
            await host.settled.wait()
        served = sorted(plugin.name for plugin in host.plugins)
        return served, {failure.name: failure.sentence for failure in host.failures}


# -- plugin folders ---------------------------------------------------------------------------


async def test_a_link_out_of_the_folder_is_refused_and_its_neighbours_are_served(
    folder: Path, outside: Path
) -> None:
    (folder / "evil.py").symlink_to(outside / "evil.py")
    (folder / "pack").symlink_to(outside / "pack")

    served, failures = await loaded(folder)

    assert served == ["good"]
    assert failures.keys() == {"evil", "pack"}
    assert all("outside of the plugin folder" in said for said in failures.values())
    assert all("--plugins" in said for said in failures.values())


@pytest.mark.parametrize("part", ["_shared.py", "parts/inner.py", "parts"])
async def test_nor_does_a_part_of_a_plugin_come_from_outside(
    folder: Path, outside: Path, part: str
) -> None:
    (outside / "inner.py").write_text("x = 1\n")
    (folder / "parts").mkdir()
    (folder / "_shared.py").write_text("x = 1\n")
    (folder / "parts" / "inner.py").write_text("x = 1\n")
    (folder / "user.py").write_text(
        f"from ._shared import x\nfrom .parts.inner import x\n{code('user')}"
    )
    assert (await loaded(folder))[0] == ["good", "user"]

    path = folder / part
    if path.is_dir():
        (path / "inner.py").unlink()
        path.rmdir()
        path.symlink_to(outside)
    else:
        path.unlink()
        path.symlink_to(outside / "inner.py")

    served, failures = await loaded(folder)
    assert served == ["good"]
    assert "outside of the plugin folder" in failures["user"]


async def test_links_within_the_folder_are_followed_as_kubernetes_makes_them(
    folder: Path,
) -> None:
    (folder / "..2026_11_24").mkdir()
    (folder / "..2026_11_24" / "mapped.py").write_text(code("mapped"))
    (folder / "..data").symlink_to("..2026_11_24")
    (folder / "mapped.py").symlink_to("..data/mapped.py")

    assert await loaded(folder) == (["good", "mapped"], {})


async def test_the_folder_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)

    assert await loaded(link) == (["good"], {})


async def test_a_link_that_leads_in_circles_is_no_plugin(folder: Path) -> None:
    (folder / "loop.py").symlink_to("loop.py")
    (folder / "gone.py").symlink_to("nowhere.py")

    assert await loaded(folder) == (["good"], {})


@pytest.mark.parametrize(
    "name", ["..", "../evil", "a/b", "a\\b", "/etc", "", ".hidden", "a\0", "a\n", "a" * 65, "a b"]
)
def test_no_name_of_a_plugin_is_a_path(name: str) -> None:
    with pytest.raises(PluginError):
        Plugin(name)
    with pytest.raises(PluginError):
        Plugin("fine", namespace=name or " ")


# -- URIs -------------------------------------------------------------------------------------


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the example plugin, and files with a canary in and around it."""
    folder = tmp_path / "kept" / "notes"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    (folder / ".hidden.txt").write_text(CANARY)
    (folder.parent / "secret.txt").write_text(CANARY)
    (folder / "way out.txt").symlink_to(folder.parent / "secret.txt")
    monkeypatch.setenv("NOTES_FOLDER", str(folder))
    return folder


async def test_no_uri_reads_a_file_that_nobody_offers(notes: Path, tmp_path: Path) -> None:
    secret = notes.parent / "secret.txt"
    plugins = Path(__file__).parents[2] / "plugins"
    uris = [
        secret.as_uri(),
        f"file://localhost{secret}",
        "file:///etc/passwd",
        "file:///proc/self/environ",
        str(secret),
        *(f"notes://note/{title}" for title in ["../secret", "..%2Fsecret", "..%2fsecret.txt"]),
        *("notes://note/%2e%2e/secret", "notes://note/%252e%252e%252fsecret"),
        *("notes://note/way%20out", "notes://note/.hidden", "notes://note/mine.txt%00"),
        *("notes://note/..\\secret", f"notes://note/{secret}", "notes://index/../note/../secret"),
    ]

    async with gateway({}, tmp_path, plugins=(plugins,)) as gate, Client(gate.mcp) as client:
        assert text_of(await client.read_resource("notes://note/mine")) == "mine"
        for uri in uris:
            with pytest.raises(MCPError) as refused:
                await client.read_resource(uri)
            assert CANARY not in str(refused.value), uri


def text_of(result: types.ReadResourceResult) -> str:
    content = result.contents[0]
    assert isinstance(content, types.TextResourceContents)
    return content.text
