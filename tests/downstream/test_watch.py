"""A change of mcp.json is noticed once, however it comes about."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from trunkline.downstream.watch import watch_config

pytestmark = pytest.mark.anyio

LIMIT = 60.0
"""Seconds until a change must have been noticed. A busy machine is slow."""

QUIET = 1.0
"""Seconds in which nothing is to be noticed: several looks."""


@asynccontextmanager
async def watching(path: Path, *, look_again: float = 0.2) -> AsyncGenerator[AsyncGenerator[None]]:
    """Watch *path* for the length of the block."""
    async with aclosing(watch_config(path, settle=0.05, look_again=look_again)) as changes:
        yield changes


async def noticed(changes: AsyncGenerator[None]) -> None:
    """Wait for the next change."""
    async with asyncio.timeout(LIMIT):
        await anext(changes)


def replace(path: Path, text: str) -> None:
    """Save as editors do: write beside, then rename over."""
    beside = path.with_suffix(".tmp")
    beside.write_text(text)
    beside.replace(path)


def overwrite(path: Path, text: str) -> None:
    """Save in place, in two steps."""
    path.write_text("")
    path.write_text(text)


@pytest.mark.parametrize("save", [overwrite, replace], ids=["in place", "renamed over"])
async def test_every_saved_change_is_noticed(
    tmp_path: Path, save: Callable[[Path, str], None]
) -> None:
    path = tmp_path / "mcp.json"
    path.write_text("0")

    async with watching(path) as changes:
        for text in ("1", "2", "3"):
            save(path, text)
            await noticed(changes)
            assert path.read_text() == text


def in_a_folder_to_come(folder: Path) -> tuple[Path, Path]:
    return folder / "not" / "yet" / "mcp.json", folder / "not" / "yet" / "mcp.json"


def behind_a_link(folder: Path) -> tuple[Path, Path]:
    (folder / "config").mkdir()
    (folder / "dotfiles").mkdir()
    path, target = folder / "config" / "mcp.json", folder / "dotfiles" / "mcp.json"
    path.symlink_to(target)
    return path, target


def as_it_is(folder: Path) -> tuple[Path, Path]:
    return folder / "mcp.json", folder / "mcp.json"


@pytest.mark.parametrize("place", [as_it_is, in_a_folder_to_come, behind_a_link])
async def test_an_event_is_enough(
    tmp_path: Path, place: Callable[[Path], tuple[Path, Path]]
) -> None:
    path, target = place(tmp_path)

    async with watching(path, look_again=2 * LIMIT) as changes:
        waiting = asyncio.ensure_future(noticed(changes))
        # The watch begins at some moment of a wait; what happens after that is an event.
        await asyncio.wait([waiting], timeout=0.5)
        target.parent.mkdir(parents=True, exist_ok=True)
        while not waiting.done():
            await asyncio.wait([waiting], timeout=0.5)
            target.write_text(str(asyncio.get_running_loop().time()))
        await waiting


async def test_a_change_that_is_taken_back_at_once_is_none(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text("1")

    async with aclosing(watch_config(path, settle=QUIET, look_again=0.1)) as changes:
        waiting = asyncio.ensure_future(noticed(changes))
        path.write_text("2")
        await asyncio.wait([waiting], timeout=QUIET / 2)
        path.write_text("1")
        await asyncio.wait([waiting], timeout=3 * QUIET)

        assert not waiting.done()

        path.write_text("3")
        await waiting


async def test_a_save_that_changes_nothing_is_not_noticed(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text("same")

    async with watching(path) as changes:
        waiting = asyncio.ensure_future(noticed(changes))
        replace(path, "same")
        os.utime(path)
        (tmp_path / "neighbour.json").write_text("other")
        await asyncio.wait([waiting], timeout=QUIET)

        assert not waiting.done()

        path.write_text("other")
        await waiting


async def test_creation_and_deletion_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"

    async with watching(path) as changes:
        path.write_text("1")
        await noticed(changes)
        path.unlink()
        await noticed(changes)

        assert not path.exists()


async def test_a_folder_that_comes_goes_and_comes_again_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "not" / "yet" / "mcp.json"

    async with watching(path) as changes:
        for text in ("1", "2"):
            path.parent.mkdir(parents=True)
            path.write_text(text)
            await noticed(changes)
            shutil.rmtree(tmp_path / "not")
            await noticed(changes)


async def test_a_swapped_link_of_kubernetes_is_noticed(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "mcp.json").write_text(version)
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "mcp.json"
    path.symlink_to("..data/mcp.json")

    async with watching(path) as changes:
        (tmp_path / "..new").symlink_to("..2")
        (tmp_path / "..new").replace(tmp_path / "..data")
        await noticed(changes)

    assert path.read_text() == "2"


async def test_a_change_at_the_end_of_a_link_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "config").mkdir()
    target, path = tmp_path / "dotfiles" / "mcp.json", tmp_path / "config" / "mcp.json"
    target.write_text("1")
    path.symlink_to(target)

    async with watching(path) as changes:
        replace(target, "2")
        await noticed(changes)

    assert path.is_symlink()


async def test_a_folder_in_the_place_of_the_file_is_survived(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.mkdir()

    async with watching(path) as changes:
        path.rmdir()
        path.write_text("1")
        await noticed(changes)


async def test_cancelling_the_wait_ends_the_watch(tmp_path: Path) -> None:
    async with watching(tmp_path / "mcp.json", look_again=2 * LIMIT) as changes:
        waiting = asyncio.ensure_future(noticed(changes))
        await asyncio.wait([waiting], timeout=0.2)
        waiting.cancel()
        async with asyncio.timeout(LIMIT):
            with pytest.raises(asyncio.CancelledError):
                await waiting
