"""What servers offered when they were last seen, kept on disk."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.catalog.shelf import tool
from trunkline.catalog.last_known import LastKnown
from trunkline.models import Listing

LISTING = Listing(
    tools=(tool("a", x_vendor={"big": 10**30, "null": None, "text": "é\u2028"}),),
    resources=({"uri": "x:1", "name": "n"},),
    instructions="Read me.",
    capabilities={"tools": {"listChanged": True}},
    server_info={"name": "s"},
    ttl_ms=5,
    cache_scope="public",
)


def test_a_listing_comes_back_as_it_was(tmp_path: Path) -> None:
    LastKnown(tmp_path).save("s", "print", LISTING)

    assert LastKnown(tmp_path).load("s", "print") == LISTING


def test_a_server_whose_configuration_changed_does_not_inherit(tmp_path: Path) -> None:
    known = LastKnown(tmp_path)
    known.save("s", "old command", LISTING)

    assert known.load("s", "new command") is None
    assert known.load("another", "old command") is None


def test_the_last_listing_counts(tmp_path: Path) -> None:
    known = LastKnown(tmp_path)
    known.save("s", "print", LISTING)
    known.save("s", "print", replace(LISTING, tools=()))

    listing = known.load("s", "print")

    assert listing is not None
    assert listing.tools == ()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b", "..", "", "é\0x", "n" * 5000, "\ud800"]
)
def test_any_server_name_is_a_safe_file_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in" / "here"
    known = LastKnown(folder)

    known.save(name, "print", LISTING)

    if name != "\ud800":  # cannot be written down
        assert known.load(name, "print") == LISTING
    assert [one.name for one in tmp_path.rglob("*") if one.is_file() and one.parent != folder] == []


@pytest.mark.skipif(os.name == "nt", reason="permissions are another matter there")
def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "catalog"

    LastKnown(folder).save("s", "print", LISTING)

    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": 1, "fingerprint": "print"}',
        b'{"format": 1, "fingerprint": "print", "listing": {"tools": 7}}',
    ],
)
def test_a_corrupt_file_is_left_alone_and_logged(tmp_path: Path, content: bytes) -> None:
    known = LastKnown(tmp_path)
    known.save("s", "print", LISTING)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)

    with capture_logs() as logs:
        assert known.load("s", "print") is None

    assert [entry["event"] for entry in logs] == ["last_known.unreadable"]
    known.save("s", "print", LISTING)
    assert known.load("s", "print") == LISTING


def test_a_file_of_another_format_is_not_taken(tmp_path: Path) -> None:
    known = LastKnown(tmp_path)
    known.save("s", "print", LISTING)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes().replace(b'"format":1', b'"format":2'))

    assert known.load("s", "print") is None


def test_a_disk_that_cannot_be_written_is_logged_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    unwritable = LastKnown(tmp_path / "taken")
    known = LastKnown(tmp_path / "folder")

    with capture_logs() as logs:
        unwritable.save("s", "print", LISTING)
        known.save("s", "print", replace(LISTING, instructions="\ud800"))
        assert unwritable.load("s", "print") is None

    events = [entry["event"] for entry in logs]
    assert events == ["last_known.not_saved", "last_known.not_saved", "last_known.unreadable"]
    assert not (tmp_path / "folder").exists()


def test_a_file_that_cannot_be_put_in_its_place_leaves_no_rest(tmp_path: Path) -> None:
    known = LastKnown(tmp_path)
    known.save("s", "print", LISTING)
    (file,) = tmp_path.iterdir()
    file.unlink()
    (file / "in the way").mkdir(parents=True)

    known.save("s", "print", LISTING)

    assert list(tmp_path.iterdir()) == [file]
