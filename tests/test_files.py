"""A file is replaced as a whole, keeps what is not its content, and leaves a copy."""

import os
import stat
from pathlib import Path

import pytest

from trunkline.errors import ConfigError, SystemRefusal
from trunkline.files import back_up, rewrite

on_posix = pytest.mark.skipif(os.name == "nt", reason="POSIX modes and owners")
AS_ROOT = os.name != "nt" and os.geteuid() == 0


def test_the_old_file_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    backup = rewrite(path, lambda old: old + b" and new")

    assert backup is not None
    assert backup.parent == tmp_path
    assert (path.read_bytes(), backup.read_bytes()) == (b"old and new", b"old")


def test_what_does_not_change_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    before = path.stat()

    assert rewrite(path, lambda old: old) is None

    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert list(tmp_path.iterdir()) == [path]


@on_posix
def test_a_new_file_is_for_its_owner_alone_and_has_no_copy(tmp_path: Path) -> None:
    path = tmp_path / "not" / "yet" / "a.json"

    assert rewrite(path, lambda old: old + b"new") is None

    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@on_posix
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640])
def test_the_mode_stays_and_the_copy_has_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    path.chmod(mode)

    backup = rewrite(path, lambda _: b"new")

    assert backup is not None
    assert [stat.S_IMODE(file.stat().st_mode) for file in (path, backup)] == [mode, mode]


@pytest.mark.skipif(not AS_ROOT, reason="only root can write for somebody else")
def test_the_owner_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    os.chown(path, 65534, 65534)

    backup = rewrite(path, lambda _: b"new")

    assert backup is not None
    assert {(file.stat().st_uid, file.stat().st_gid) for file in (path, backup)} == {(65534, 65534)}


@on_posix
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, path = tmp_path / "dotfiles.json", tmp_path / "a.json"
    target.write_bytes(b"old")
    path.symlink_to(target)

    rewrite(path, lambda _: b"new")

    assert path.is_symlink()
    assert target.read_bytes() == b"new"


def test_copies_of_one_second_have_names_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    assert len({back_up(path) for _ in range(3)}) == 3


def test_what_another_program_wrote_meanwhile_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"1")
    others = iter([b"2", b"3"])

    def change(old: bytes) -> bytes:
        if (theirs := next(others, None)) is not None:
            path.write_bytes(theirs)
        return old + b" and ours"

    rewrite(path, change)

    assert path.read_bytes() == b"3 and ours"


def test_a_file_that_never_rests_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"0")

    def change(old: bytes) -> bytes:
        path.write_bytes(old + b"1")
        return b"ours"

    with pytest.raises(ConfigError, match="another program"):
        rewrite(path, change)

    assert b"ours" not in path.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_a_change_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def change(old: bytes) -> bytes:
        raise ConfigError("no")

    with pytest.raises(ConfigError):
        rewrite(path, change)

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_refusal_of_the_system_is_a_sentence_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()

    with pytest.raises(SystemRefusal, match="refused"):
        rewrite(tmp_path / "a.json", lambda _: b"new")

    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
