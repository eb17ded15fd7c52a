"""`trunkline vault`, run as a program: what it keeps, what it never shows, and new keys."""

import base64
import json
import secrets
from subprocess import CompletedProcess

import pytest
from tests.cli.conftest import Workplace

TOKEN = "ghp_canary0123456789"


def key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def vault(workplace: Workplace, *words: str, stdin: str = "", **more: str) -> CompletedProcess[str]:
    return workplace.run("vault", *words, stdin=stdin, **more)


def kept(workplace: Workplace, *words: str, **more: str) -> None:
    ended = vault(workplace, "set", *words, stdin=f"{TOKEN}\n", **more)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    assert TOKEN not in ended.stdout


def counted(workplace: Workplace, **more: str) -> tuple[int, list[dict[str, object]]]:
    ended = vault(workplace, "status", "--json", **more)
    return ended.returncode, json.loads(ended.stdout)["keys"]


def test_a_token_is_kept_counted_rotated_and_forgotten(workplace: Workplace) -> None:
    assert vault(workplace, "status").stdout == "The vault is empty.\n"

    kept(workplace, "ada", "github")
    _, [first] = counted(workplace)
    rotated = vault(workplace, "rotate")
    code, [second] = counted(workplace)
    forgotten = vault(workplace, "forget", "ada", "github")
    again = vault(workplace, "forget", "ada", "github")

    assert first["secrets"] == second["secrets"] == 1
    assert (first["role"], second["role"]) == ("seals", "seals")
    assert first["key"] != second["key"]
    assert rotated.stdout == f"1 secret brought under the key {second['key']}.\n"
    assert code == 0
    assert forgotten.stdout == "Forgot github of ada.\n"
    assert again.stdout == "ada has no github.\n"


def test_the_key_is_for_its_owner_alone(workplace: Workplace) -> None:
    kept(workplace, "ada", "github")

    file = workplace.folder / "home" / "vault.key"

    assert file.stat().st_mode & 0o777 == 0o600


def test_a_key_of_the_environment_makes_no_file(workplace: Workplace) -> None:
    given = key()

    kept(workplace, "ada", "github", TRUNKLINE_VAULT__KEY=given)
    code, [held] = counted(workplace, TRUNKLINE_VAULT__KEY=given)

    assert not (workplace.folder / "home" / "vault.key").exists()
    assert (code, held["role"]) == (0, "seals")


def test_a_new_key_of_the_environment_takes_over_from_the_older(workplace: Workplace) -> None:
    old, new = key(), key()
    both = {"TRUNKLINE_VAULT__KEY": new, "TRUNKLINE_VAULT__OLD_KEYS": json.dumps([old])}
    kept(workplace, "ada", "github", TRUNKLINE_VAULT__KEY=old)

    lacking, _ = counted(workplace, TRUNKLINE_VAULT__KEY=new)
    refused = vault(workplace, "rotate", TRUNKLINE_VAULT__KEY=new)
    rotated = vault(workplace, "rotate", **both)
    code, [held] = counted(workplace, TRUNKLINE_VAULT__KEY=new)

    assert lacking == 1
    assert refused.returncode == 1
    assert "it is not here" in refused.stdout
    assert rotated.returncode == 0
    assert (code, held["secrets"]) == (0, 1)
    for ended in (refused, rotated):
        assert old not in ended.stdout + ended.stderr
        assert new not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("stdin", "complaint"), [("", "no token on stdin"), ("two\nlines\n", "line break")]
)
def test_what_is_no_token_is_refused(workplace: Workplace, stdin: str, complaint: str) -> None:
    ended = vault(workplace, "set", "ada", "github", stdin=stdin)

    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert vault(workplace, "status").stdout == "The vault is empty.\n"


def test_an_organisation_there_is_none_of_is_said(workplace: Workplace) -> None:
    ended = vault(workplace, "set", "ada", "github", "--org", "nowhere", stdin=TOKEN)

    assert ended.returncode == 1
    assert "[org_not_found]" in ended.stderr
    assert TOKEN not in ended.stderr


def test_a_bad_key_is_said_without_being_shown(workplace: Workplace) -> None:
    ended = vault(
        workplace, "set", "ada", "github", stdin=TOKEN, TRUNKLINE_VAULT__KEY="not-a-real-key"
    )

    assert ended.returncode == 2
    assert "[vault_key_invalid]" in ended.stderr
    assert "not-a-real-key" not in ended.stderr
