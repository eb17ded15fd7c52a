"""`trunkline key` as a program: what it makes, shows once, and takes back."""

import json
import re
from time import monotonic
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from tests.cli.conftest import LIMIT, Workplace
from tests.cli.test_serve import read_until, started

from trunkline.security.identity.keys import FORM


def made(workplace: Workplace, *arguments: str) -> Any:
    done = workplace.run("key", "create", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def listed(workplace: Workplace) -> list[Any]:
    done = workplace.run("key", "list", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["keys"]


def test_a_key_is_shown_once_and_alone_on_stdout(workplace: Workplace) -> None:
    done = workplace.run("key", "create", "laptop")
    shown = workplace.run("key", "list")
    key = done.stdout.strip()

    assert done.returncode == shown.returncode == 0
    assert FORM.fullmatch(key)
    assert key not in done.stderr
    assert "not shown again" in done.stderr
    assert "Authorization: Bearer" in done.stderr
    assert key[3:15] in shown.stdout
    assert key.rpartition("_")[2] not in shown.stdout + shown.stderr


def test_a_key_is_made_as_it_is_described_and_listed_like_that(workplace: Workplace) -> None:
    options = ["--org", "acme", "--user", "ann", "--role", "operator", "--expires", "90d"]
    options += ["--allow", "github", "--allow", "fetch/get_*", "--deny", "github/delete_*"]
    options += ["--authorized-org", "globex"]

    answer = made(workplace, "ci", *options)
    (key,) = listed(workplace)
    table = workplace.run("key", "list").stdout

    assert set(answer) == {"key", "secret"}
    assert answer["key"] == key
    assert (key["org"], key["user"], key["role"]) == ("acme", "ann", "operator")
    assert (key["allow"], key["deny"]) == (["github", "fetch/get_*"], ["github/delete_*"])
    assert (key["orgs"], key["state"]) == (["globex"], "good")
    assert answer["secret"] not in json.dumps(key)
    assert re.search(r"ci +acme, also globex +ann +operator +github, fetch/get_\*, not", table)
    assert re.search(r"good until \d{4}-\d\d-\d\d \d\d:\d\d UTC", table)


def test_a_key_is_rotated_and_revoked_by_its_name_or_its_id(workplace: Workplace) -> None:
    first = made(workplace, "laptop")
    other = made(workplace, "phone")

    rotated = workplace.run("key", "rotate", "laptop")
    at_once = workplace.run("key", "rotate", first["key"]["id"], "--grace", "0s", "--json")
    revoked = workplace.run("key", "revoke", "laptop")
    again = workplace.run("key", "revoke", "laptop")
    late = workplace.run("key", "rotate", first["key"]["id"])
    states = {key["name"]: key["state"] for key in listed(workplace)}

    assert rotated.stdout.startswith(f"tk_{first['key']['id']}_")
    assert rotated.stdout.strip() != first["secret"]
    assert "The secret before is good until" in rotated.stderr
    assert json.loads(at_once.stdout)["key"]["old_secret_until"] is None
    assert revoked.stdout == f"Revoked laptop ({first['key']['id']}).\n"
    assert "[key_not_found]" in again.stderr
    assert "[key_not_found]" in late.stderr
    assert (again.returncode, late.returncode) == (1, 1)
    assert states == {"laptop": "revoked", "phone": "good"}
    assert other["key"]["id"] != first["key"]["id"]


def test_a_name_that_several_keys_have_is_asked_about(workplace: Workplace) -> None:
    ours = made(workplace, "ci", "--org", "acme")
    made(workplace, "ci")

    taken = workplace.run("key", "create", "ci", "--org", "acme")
    which = workplace.run("key", "revoke", "ci")
    by_id = workplace.run("key", "revoke", ours["key"]["id"])

    assert "[key_name_taken]" in taken.stderr
    assert taken.stdout == ""
    assert "Say which by its id" in which.stderr
    assert ours["key"]["id"] in which.stderr
    assert by_id.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["create", "x", "--expires", "soon"], "Write 90d, 12h, 30m or 0s. [usage]"),
        (["create", "x", "--expires", "0d"], "never good"),
        (["create", "x", "--expires", "-1d"], "[usage]"),
        (["create", "x", "--expires", "999999999w"], "is no length of time"),
        (["create", "x", "--role", "root"], "[usage]"),
        (["create", ""], "[not_storable]"),
        (["rotate", "x", "--grace", "1y"], "is no length of time"),
        (["revoke", "nobody"], "There is no key 'nobody' that is in use."),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    workplace: Workplace, arguments: list[str], sentence: str
) -> None:
    done = workplace.run("key", *arguments)

    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr


def test_without_keys_that_is_said(workplace: Workplace) -> None:
    assert "There are no keys" in workplace.run("key", "list").stdout
    assert listed(workplace) == []


def status(url: str, *, key: str | None = None) -> int:
    request = Request(f"{url}/mcp", b"{}", {"Content-Type": "application/json"})
    if key is not None:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=LIMIT) as response:
            return response.status
    except HTTPError as error:
        return error.code


def test_the_first_key_closes_a_server_that_runs_and_opens_other_addresses(
    workplace: Workplace,
) -> None:
    workplace.configure({})
    refused = workplace.run("serve", "--http", "0.0.0.0:0")
    with started(workplace, "serve", "--http", ":0", "--log-level", "critical") as process:
        url = read_until(process, "trunkline install")[0].rpartition(" ")[2]
        before = status(url)
        secret = made(workplace, "laptop")["secret"]
        deadline = monotonic() + 10
        while status(url) != 401:
            assert monotonic() < deadline
        with_key = status(url, key=secret)
    with started(workplace, "serve", "--http", "0.0.0.0:0", "--log-level", "critical") as process:
        lines = read_until(process, "trunkline install")
        public = status(lines[0].rpartition(" ")[2])

    assert refused.returncode == 2
    assert refused.stdout == ""
    told = refused.stderr.splitlines()[-1]
    assert told.startswith("Error: '0.0.0.0' can be reached from other machines")
    assert "trunkline key create" in told
    assert told.endswith("[public_address]")
    assert before == with_key == 406, "no message it accepts, but let in"
    assert public == 401
    assert any("Clients need a key" in line for line in lines)


def test_switching_it_off_is_for_this_machine_alone(workplace: Workplace) -> None:
    made(workplace, "laptop")

    done = workplace.run("serve", "--http", "0.0.0.0:0", TRUNKLINE_AUTH__REQUIRED="false")

    assert done.returncode == 2
    assert "TRUNKLINE_AUTH__REQUIRED=false" in done.stderr


def test_a_secret_in_a_setting_that_is_wrong_is_not_shown(workplace: Workplace) -> None:
    wrong = [{"issuer": "x", "audience": ["y"], "introspection_url": "z", "client_secret": "hush"}]

    done = workplace.run("serve", "--http", ":0", TRUNKLINE_AUTH__TOKENS=json.dumps(wrong))

    assert done.returncode == 2
    assert "TRUNKLINE_AUTH__TOKENS__0" in done.stderr
    assert "needs client_id and client_secret" in done.stderr
    assert "hush" not in done.stderr
