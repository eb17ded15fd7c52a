"""policy.toml as people write it: what it comes to, and what is said of mistakes."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from trunkline.models import LOCAL, Role
from trunkline.security.limits.rules import Rules
from trunkline.security.policy.failures import PolicyInvalid
from trunkline.security.policy.file import parse_policy
from trunkline.security.policy.policies import Policies
from trunkline.security.policy.policy import DEFAULT, UNREADABLE, Action
from trunkline.security.policy.risk import Risk

DOCS = Path(__file__).parents[2] / "docs"
DENIES = '[default]\ndeny = ["shell/*"]\n'
BROKEN = '[default]\ndeny = ["shell/*'


def test_an_empty_file_is_the_default() -> None:
    assert parse_policy("").default.actions == DEFAULT.actions
    assert parse_policy("# nothing yet\n").default.deny == ()
    assert parse_policy("").orgs == {}


def test_an_organisation_has_what_is_said_of_it_before_what_is_said_of_all() -> None:
    file = parse_policy("""
        [default]
        unknown_servers = "strict"
        trusted_servers = ["git"]
        deny = ["shell"]
        risk = {"mail/*" = "HIGH"}
        actions = {HIGH = "deny", operator = {HIGH = "ask"}}
        approvals = {valid_for = 60, four_eyes = true}
        pins = "withhold"

        [org.acme]
        deny = ["mail/drop"]
        trusted_servers = ["time"]
        risk."mail/read" = "LOW"
        actions.HIGH = "ask"
        approvals.valid_for = 30
        audit_arguments = "redacted"
    """)
    acme, others = file.orgs["acme"], file.default

    assert acme.deny == ("mail/drop", "shell/*")
    assert acme.trusted_servers == ("time", "git")
    assert acme.risks == (("mail/read", Risk.LOW), ("mail/*", Risk.HIGH))
    assert acme.actions[Role.USER][Risk.HIGH] is Action.ASK
    assert (acme.approvals.valid_for, acme.approvals.four_eyes) == (30, True)
    assert (acme.pins, acme.descriptions, acme.audit_arguments) == ("withhold", "flag", "redacted")
    assert acme.unknown_servers == "strict"
    assert (others.deny, others.audit_arguments) == (("shell/*",), "none")
    assert others.actions[Role.USER][Risk.HIGH] is Action.DENY
    assert others.actions[Role.OPERATOR][Risk.HIGH] is Action.ASK


def test_limits_are_handed_on_as_they_stand_each_for_itself() -> None:
    file = parse_policy("""
        [default.limits.key]
        calls_per_minute = 600
        burst = 60
        [default.limits.tool."mail/*"]
        concurrent = 2
        [org.acme.limits.key]
        burst = 5
        [org.acme.limits.tool.mail]
        result_bytes = 1000
        [org.acme.limits.org]
        request_bytes = 10
    """)

    assert file.orgs["acme"].limits == {
        "key": {"calls_per_minute": 600, "burst": 5},
        "org": {"request_bytes": 10},
        "tool": {"mail/*": {"result_bytes": 1000, "concurrent": 2}},
    }
    assert file.default.limits["tool"] == {"mail/*": {"concurrent": 2}}
    assert Rules.of(file.orgs["acme"].limits).key.calls_per_minute == 600


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('[default]\n\nunknown_server = "strict"', 3, "Did you mean 'unknown_servers'?"),
        ("[defalt]", 1, "Did you mean 'default'?"),
        ("[default.actions.operater]\nHIGH = 'ask'", 1, "Did you mean 'operator'?"),
        ("[default.actions]\nHIHG = 'ask'", 2, "Did you mean 'HIGH'?"),
        ("[default.aprovals]\nvalid_for = 3", 1, "Did you mean 'approvals'?"),
        ('[default.limits.tool."a/*"]\nbrust = 3', 2, "Did you mean 'burst'?"),
        ("[org.acme.eu]\npins = 'flag'", 1, '[org."acme.eu"]'),
        ("[default]\nfrobnicate = 1", 2, "The keys there are unknown_servers, trusted_servers"),
        ("[default]\npins = 'hide'", 2, "it can be 'flag' or 'withhold'"),
        ("[default.risk]\n'a/b' = 'high'", 2, "'LOW', 'MEDIUM' or 'HIGH'"),
        ("[default]\ndeny = 'shell'", 2, "has to be a list"),
        ("[default]\ndeny = ['a', 3]", 2, "Item 2 of 'deny' has to be text"),
        ("[default]\ndeny = ['']", 2, "is empty"),
        ("[default.approvals]\nvalid_for = '600'", 2, "has to be a number"),
        ("[default.approvals]\nvalid_for = inf", 2, "'valid_for'"),
        ("[default.approvals]\nvalid_for = 0", 2, "greater than 0"),
        ("[default.approvals]\nfour_eyes = 'yes'", 2, "has to be true or false"),
        ("[default.limits.key]\nburst = true", 2, "has to be a whole number"),
        ("[org]\nacme = 1", 2, "has to be a table"),
        ("default = 1", 1, "has to be a table"),
        ("[default]\n'unknown=servers' = 1", 2, "Did you mean 'unknown_servers'?"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_what_was_meant(
    text: str, line: int, said: str
) -> None:
    with pytest.raises(PolicyInvalid) as raised:
        parse_policy(text, "policy.toml")

    assert f"policy.toml, line {line}: " in str(raised.value)
    assert said in str(raised.value)


@pytest.mark.parametrize("text", [BROKEN, "[default]\n[default]", "a = ", "\x00"])
def test_what_is_no_toml_is_told_with_the_place(text: str) -> None:
    with pytest.raises(PolicyInvalid, match=r"no TOML.*\(at (line \d|end of document)"):
        parse_policy(text)


def test_everything_that_is_wrong_is_said_at_once_within_reason() -> None:
    with pytest.raises(PolicyInvalid) as raised:
        parse_policy("[default]\n" + "\n".join(f"wrong_{rank} = 1" for rank in range(30)))

    assert str(raised.value).count("policy.toml, line ") == 5
    assert str(raised.value).endswith("There are 25 more problems.")


@pytest.mark.parametrize("name", ["*", "a/b", "acme.eu", "", " ", "default", "Ünïcode", "x" * 300])
def test_the_name_of_an_organisation_is_no_pattern_and_means_nobody_else(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "policy.toml").write_text('[org."*"]\ndeny=["all"]\n[org.default]\ndeny=["own"]')
    policies = Policies(None, [tmp_path])

    expected = {"*": ("all/*",), "default": ("own/*",)}.get(name, ())
    assert policies.of(name).deny == expected
    assert policies.of(None).deny == ()


def test_the_example_in_the_documentation_is_a_policy() -> None:
    text = (DOCS / "policy.toml").read_text()
    file = parse_policy(text)

    assert replace(file.default, limits=DEFAULT.limits) == DEFAULT
    assert file.orgs.keys() == {"acme"}


def test_every_example_that_the_example_holds_is_good_as_well() -> None:
    text = (DOCS / "policy.toml").read_text()
    file = parse_policy(re.sub(r"^# (?=\S+ = )", "", text, flags=re.MULTILINE))

    assert file.default.risks[0] == ("github/get_*", Risk.LOW)
    assert file.default.actions[Role.USER][Risk.HIGH] is Action.DENY
    assert file.default.limits["tool"] == {"github/search_*": {"calls_per_minute": 30}}


def test_the_policies_on_the_page_about_them_are_policies() -> None:
    page = (DOCS / "policy.md").read_text()
    blocks = re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)

    assert blocks
    for block in blocks:
        parse_policy(block)


# -- the file on disk -----------------------------------------------------------------------------


def test_without_a_file_the_defaults_are_in_force_and_that_is_no_problem(tmp_path: Path) -> None:
    policies = Policies(None, [tmp_path, tmp_path / "nowhere"])

    assert policies.of(None) == policies.of("acme") == DEFAULT
    assert policies.problem is None


def test_the_file_beside_mcp_json_comes_before_the_one_at_home(tmp_path: Path) -> None:
    beside, home = tmp_path / "beside", tmp_path / "home"
    for folder in (beside, home):
        folder.mkdir()
    (home / "policy.toml").write_text(DENIES)
    assert Policies(None, [beside, home]).of(None).deny == ("shell/*",)

    (beside / "policy.toml").write_text("")
    assert Policies(None, [beside, home]).of(None).deny == ()


@pytest.mark.parametrize("content", [BROKEN.encode(), b"\xff\xfe", b"[defalt]"])
def test_a_file_that_is_broken_at_the_start_has_every_call_asked_about(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(content)

    policies = Policies(None, [tmp_path])

    assert policies.of("acme") == policies.of(None) == UNREADABLE
    assert str(path) in str(policies.problem)
    assert "an operator has to approve every call" in str(policies.problem)


def test_a_file_that_was_named_has_to_be_there(tmp_path: Path) -> None:
    policies = Policies(tmp_path / "mine.toml", [tmp_path])

    assert policies.of(None) == UNREADABLE
    assert "There is no file" in str(policies.problem)


def test_a_folder_in_the_place_of_the_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").mkdir()

    assert "cannot be read" in str(Policies(None, [tmp_path]).problem)


class Followed:
    """Policies that follow their file."""

    def __init__(self, policies: Policies) -> None:
        self.policies = policies
        self._changed = asyncio.Event()
        policies.on_change = self._changed.set

    async def change(self) -> None:
        """Wait until other policies are in force, or the problem is another."""
        async with asyncio.timeout(20):
            await self._changed.wait()
        self._changed.clear()

    def denies(self, org: str | None = None) -> bool:
        decision = self.policies.of(org).decide(LOCAL, "shell", "ls", Risk.LOW)
        return decision.action is Action.DENY


@asynccontextmanager
async def following(named: Path | None, folder: Path) -> AsyncGenerator[Followed]:
    followed = Followed(Policies(named, [folder]))
    task = asyncio.create_task(followed.policies.run())
    try:
        yield followed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.anyio
async def test_a_change_is_in_force_at_once_and_a_mistake_leaves_the_last_good_policy(
    tmp_path: Path,
) -> None:
    path = tmp_path / "policy.toml"
    async with following(None, tmp_path) as followed:
        assert not followed.denies()

        path.write_text(DENIES)
        await followed.change()
        assert followed.denies()

        path.write_text(BROKEN)
        await followed.change()
        assert followed.denies()
        assert "what it last said stays in force" in str(followed.policies.problem)

        path.write_text("[org.acme]\n" + DENIES.partition("\n")[2])
        await followed.change()
        assert (followed.denies(), followed.denies("acme")) == (False, True)
        assert followed.policies.problem is None


@pytest.mark.anyio
async def test_a_first_file_with_a_mistake_leaves_the_defaults_in_force(tmp_path: Path) -> None:
    async with following(None, tmp_path) as followed:
        (tmp_path / "policy.toml").write_text(BROKEN)
        await followed.change()

        assert followed.policies.of(None) == DEFAULT
        assert followed.policies.problem is not None


@pytest.mark.anyio
async def test_a_file_that_vanishes_stays_in_force_until_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(DENIES)
    async with following(None, tmp_path) as followed:
        path.unlink()
        await followed.change()
        assert followed.denies()
        assert "There is no file" in str(followed.policies.problem)

        path.write_text("")
        await followed.change()
        assert not followed.denies()


@pytest.mark.anyio
async def test_a_file_that_is_written_in_two_steps_is_never_in_force_by_halves(
    tmp_path: Path,
) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(DENIES)
    seen: list[bool] = []
    async with following(None, tmp_path) as followed:
        for _ in range(20):
            path.write_text("")  # as an editor empties a file before it fills it
            await asyncio.sleep(0)
            path.write_text(DENIES)
            seen.append(followed.denies())
        path.write_text(DENIES + '[org.acme]\npins = "withhold"')
        await followed.change()

        assert followed.policies.of("acme").pins == "withhold"
        assert all(seen)
        assert followed.denies()
