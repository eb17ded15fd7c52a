"""Calls that wait for a person: who is asked, what counts as a yes, and that it counts once."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.databases import database_of
from trunkline.errors import OrgNotFound, RpcError
from trunkline.gateway.held import HeldCalls
from trunkline.models import LOCAL, Client, Era, Json, Principal, Role
from trunkline.security.approvals.approvals import MOST_ASKED, MOST_PENDING, Approvals
from trunkline.security.approvals.desk import ApprovalDesk
from trunkline.security.approvals.events import ApprovalEvent
from trunkline.security.approvals.questions import RiskyCall
from trunkline.security.policy.failures import (
    ApprovalDenied,
    ApprovalForbidden,
    ApprovalNotFound,
    ApprovalSettled,
    ApprovalsFull,
    ApprovalUnavailable,
    AuthorizationRequired,
    PolicyDenied,
    ToolChanged,
)
from trunkline.security.policy.policies import Policies
from trunkline.security.policy.risk import Risk
from trunkline.settings import DatabaseSettings
from trunkline.storage.pool import Database, open_pool
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.wire import METHOD_NOT_FOUND

pytestmark = pytest.mark.anyio

NOWHERE = "postgresql:///trunkline?host=/nonexistent"
DEFINITION: Json = {"name": "mail__drop", "description": "Drops a box.", "inputSchema": {}}
CALL = RiskyCall(
    server="mail", tool="drop", arguments={"box": "in"}, definition=DEFINITION, risk=Risk.HIGH
)
ALICE = Principal(subject="key:alice", org="acme", user="alice")
OPERATOR = Principal(subject="key:olga", org="acme", user="olga", role=Role.OPERATOR)
YES: Json = {"action": "accept", "content": {"approve": True}}
NO: Json = {"action": "accept", "content": {"approve": False}}


class Person:
    """A client with somebody at it, who answers as they are told to."""

    def __init__(
        self,
        principal: Principal = ALICE,
        answer: Any = None,
        think: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        """With neither an *answer* nor a *think* that comes to one, the client cannot be asked."""
        able = answer is not None or think is not None
        self.client = Client(
            id=principal.subject,
            era=Era.HANDSHAKE,
            protocol_version="2025-11-25",
            capabilities={"elicitation": {}} if able else {},
            principal=principal,
        )
        self.log_level: str | None = None
        self.asked: list[Json] = []
        self._answer: Any = answer
        self._think = think

    @property
    def standing(self) -> None:
        return None

    async def ask(self, method: str, params: Json | None) -> Json:
        assert method == "elicitation/create"
        assert params is not None
        self.asked.append(params)
        if self._think is not None:
            return await self._think()
        return self._answer

    async def tell(self, method: str, params: Json | None) -> None:
        """Nobody tells anything here."""


class House:
    """Approvals over a database, with a policy that can be written."""

    def __init__(self, database: Database, folder: Path, orgs: dict[str | None, UUID | None]):
        self.events: list[ApprovalEvent] = []
        self.database, self._folder, self._orgs = database, folder, orgs
        self.definition: Json | None = DEFINITION
        self.write_policy("")

    def write_policy(self, text: str) -> None:
        (self._folder / "policy.toml").write_text(text)
        self.policies = Policies(None, [self._folder])
        self.approvals = Approvals(
            self.database,
            self.policies,
            self.scope_made,
            definition_of=lambda _org, _server, _tool: self.definition,
            on_decision=self.events.append,
        )
        self.desk = ApprovalDesk(self.database, self.scope, on_decision=self.events.append)

    def scope(self, org: str | None) -> UUID | None:
        if org not in self._orgs:
            raise OrgNotFound(org)
        return self._orgs[org]

    async def scope_made(self, org: str | None) -> UUID | None:
        return None if org is None else await OrgRepository(self.database).put(org)

    async def requested(self, call: RiskyCall = CALL, person: Person | None = None) -> str:
        """Make a call that nobody can be asked about; return the id of its request."""
        with pytest.raises(AuthorizationRequired) as raised:
            await self.approvals.require(call, person or Person())
        return raised.value.id

    def told(self) -> list[tuple[str, str]]:
        return [(event.kind, event.by.subject) for event in self.events]


@asynccontextmanager
async def open_house(dsn: str, folder: Path) -> AsyncGenerator[House]:
    async with open_pool(dsn, DatabaseSettings(connect_timeout=20)) as database:
        if dsn == NOWHERE:
            yield House(database, folder, {None: None, "acme": None})
            return
        await database.wait_available(20)
        orgs = OrgRepository(database)
        ids: dict[str | None, UUID | None] = {name: await orgs.put(name) for name in ("acme", "b")}
        yield House(database, folder, {None: None, **ids})


@pytest.fixture
async def house(tmp_path: Path) -> AsyncGenerator[House]:
    async with open_house(database_of(tmp_path), tmp_path) as house:
        yield house


@pytest.fixture
async def away(tmp_path: Path) -> AsyncGenerator[House]:
    """A house whose database does not answer."""
    async with open_house(NOWHERE, tmp_path) as house:
        yield house


def with_arguments(**arguments: Any) -> RiskyCall:
    return replace(CALL, arguments=arguments)


# -- a request, an approval, one call -------------------------------------------------------------


async def test_a_call_that_nobody_can_be_asked_about_is_kept_approved_and_runs_once(
    house: House,
) -> None:
    id_ = await house.requested()
    assert await house.requested() == id_

    approved = await house.desk.approve(OPERATOR, f" {id_.upper()} ")
    await house.approvals.require(CALL, Person())

    assert (approved.state, approved.decided_by) == ("approved", "key:olga")
    assert await house.requested() != id_
    assert house.told() == [
        ("requested", "key:alice"),
        ("approved", "key:olga"),
        ("used", "key:alice"),
        ("requested", "key:alice"),
    ]


async def test_the_refusal_says_how_to_approve_and_until_when(house: House) -> None:
    with pytest.raises(AuthorizationRequired) as raised:
        await house.approvals.require(CALL, Person())

    error = raised.value
    assert error.code == "AUTHORIZATION_REQUIRED"
    assert f"`trunkline approve {error.id}`" in str(error)
    assert error.details["id"] == error.id
    assert error.details["expires_at"] == error.expires_at.isoformat(timespec="seconds")
    assert len(error.id) == 8


async def test_of_many_that_repeat_an_approved_call_at_once_one_runs(house: House) -> None:
    await house.desk.approve(OPERATOR, await house.requested())

    async def call() -> bool:
        try:
            await house.approvals.require(CALL, Person())
        except AuthorizationRequired:
            return False
        return True

    assert sum(await asyncio.gather(*(call() for _ in range(10)))) == 1


async def test_of_two_replicas_one_uses_an_approval(house: House, tmp_path: Path) -> None:
    await house.desk.approve(OPERATOR, await house.requested())

    async with open_house(database_of(tmp_path), tmp_path) as other:
        ends = await asyncio.gather(
            *(one.approvals.require(CALL, Person()) for one in (house, other, house, other)),
            return_exceptions=True,
        )

    assert len([end for end in ends if end is None]) == 1
    assert {type(end) for end in ends if end is not None} == {AuthorizationRequired}


ANOTHER_WAY = {
    "another value": with_arguments(box="out"),
    "more": with_arguments(box="in", force=True),
    "none": with_arguments(),
    "another tool": replace(CALL, tool="Drop"),
    "another server": replace(CALL, server="mail2"),
    "a prompt of that name": replace(CALL, method="prompts/get"),
    "another description": replace(CALL, definition={**DEFINITION, "description": "Safe."}),
    "another schema": replace(CALL, definition={**DEFINITION, "inputSchema": {"x": 1}}),
    "other hints": replace(CALL, definition={**DEFINITION, "annotations": {"readOnlyHint": True}}),
}


@pytest.mark.parametrize("other", ANOTHER_WAY.values(), ids=ANOTHER_WAY)
async def test_an_approval_is_for_this_call_as_it_was_shown_and_for_no_other(
    other: RiskyCall, house: House
) -> None:
    await house.desk.approve(OPERATOR, await house.requested())

    await house.requested(other)

    await house.approvals.require(CALL, Person())


@pytest.mark.parametrize(
    "other",
    [
        replace(ALICE, subject="key:other"),
        replace(ALICE, user="bob"),
        replace(ALICE, user=None),
        replace(ALICE, org="b"),
        replace(ALICE, org=None),
    ],
    ids=["another key", "another person", "nobody", "another organisation", "none"],
)
async def test_an_approval_is_for_this_caller_and_for_no_other(
    other: Principal, house: House
) -> None:
    await house.desk.approve(OPERATOR, await house.requested())

    await house.requested(person=Person(other))


async def test_an_approval_is_good_for_a_while_that_the_policy_sets(house: House) -> None:
    house.write_policy("[default.approvals]\nvalid_for = 0.001\npending_for = 600")
    await house.desk.approve(OPERATOR, await house.requested())
    await house.database.fetch("SELECT pg_sleep(0.01)")

    await house.requested()


# -- in the client --------------------------------------------------------------------------------


async def test_a_person_at_the_client_is_asked_and_a_yes_is_good_for_one_call(
    house: House,
) -> None:
    person = Person(answer=YES)

    await house.approvals.require(CALL, person)
    await house.approvals.require(CALL, person)

    assert len(person.asked) == 2
    assert person.asked[0]["requestedSchema"]["required"] == ["approve"]
    for part in ("mail", "drop", '"in"', "HIGH"):
        assert part in person.asked[0]["message"]
    assert house.told() == [("approved", "key:alice")] * 2
    assert await house.desk.list_open(OPERATOR) == []


@pytest.mark.parametrize("answer", [NO, {"action": "decline"}])
async def test_a_no_is_a_no_and_the_model_cannot_ask_until_it_is_a_yes(
    answer: Json, house: House
) -> None:
    person = Person(answer=answer)
    for _ in range(3):
        with pytest.raises(ApprovalDenied):
            await house.approvals.require(CALL, person)

    assert len(person.asked) == 1
    assert house.told() == [("denied", "key:alice")]


@pytest.mark.parametrize(
    "answer",
    [
        {"action": "cancel"},
        {"action": "accept"},
        {"action": "accept", "content": {}},
        {"action": "accept", "content": {"approve": "true"}},
        {"action": "accept", "content": {"approve": 1}},
        {"action": "accept", "content": [True]},
        {"action": "ACCEPT", "content": {"approve": True}},
        {"action": ["accept"], "content": {"approve": True}},
        {"content": {"approve": True}},
        {"approve": True},
        {},
        [],
        "yes",
        7,
    ],
)
async def test_what_is_neither_yes_nor_no_approves_nothing_and_is_left_to_an_operator(
    answer: Any, house: House
) -> None:
    await house.requested(person=Person(answer=answer))

    assert [row.tool for row in await house.desk.list_open(OPERATOR)] == ["drop"]


async def test_a_client_that_hangs_or_leaves_is_not_waited_for_for_ever(house: House) -> None:
    house.write_policy("[default.approvals]\nanswer_within = 0.05")
    hanging = asyncio.Event()

    async def hang() -> Json:
        await hanging.wait()
        return YES

    async def leave() -> Json:
        raise RpcError(METHOD_NOT_FOUND, "The client has disconnected.")

    async with asyncio.timeout(20):
        first = await house.requested(person=Person(think=hang))
        assert await house.requested(person=Person(think=leave)) == first


async def test_so_many_questions_are_open_in_a_client_and_further_calls_are_kept(
    house: House,
) -> None:
    released, asked = asyncio.Event(), asyncio.Semaphore(0)

    async def think() -> Json:
        asked.release()
        await released.wait()
        return YES

    person = Person(think=think)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for rank in range(MOST_ASKED):
            group.create_task(house.approvals.require(with_arguments(rank=rank), person))
        for _ in range(MOST_ASKED):
            await asked.acquire()
        await house.requested(with_arguments(rank="one more"), person)
        released.set()

    assert len(person.asked) == MOST_ASKED


async def test_a_denial_of_an_operator_stands_against_the_client(house: House) -> None:
    await house.desk.deny(OPERATOR, await house.requested())
    person = Person(answer=YES)

    with pytest.raises(ApprovalDenied, match="not asked about again before"):
        await house.approvals.require(CALL, person)

    assert person.asked == []


async def test_an_approval_of_an_operator_spares_the_client_the_question(house: House) -> None:
    await house.desk.approve(OPERATOR, await house.requested())
    person = Person(answer=YES)

    await house.approvals.require(CALL, person)

    assert person.asked == []


async def test_a_tool_that_changes_while_a_person_thinks_does_not_run(house: House) -> None:
    async def think() -> Json:
        house.definition = {**DEFINITION, "description": "Drops everything."}
        return YES

    with pytest.raises(ToolChanged):
        await house.approvals.require(CALL, Person(think=think))

    house.definition = None
    with pytest.raises(ToolChanged):
        await house.approvals.require(CALL, Person(answer=YES))


async def test_a_policy_that_changes_while_a_person_thinks_is_heeded(
    house: House, tmp_path: Path
) -> None:
    following = asyncio.create_task(house.policies.run())

    async def think() -> Json:
        changed = asyncio.Event()
        house.policies.on_change = changed.set
        (tmp_path / "policy.toml").write_text('[default]\ndeny = ["mail"]')
        await changed.wait()
        return YES

    async with asyncio.timeout(20):
        with pytest.raises(PolicyDenied):
            await house.approvals.require(CALL, Person(think=think))
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_a_modern_client_is_asked_by_a_result_and_the_call_goes_on_where_it_was(
    house: House,
) -> None:
    async def call(held: Any) -> Json:
        await house.approvals.require(CALL, held)
        return {"ran": True}

    async with asyncio.timeout(20), HeldCalls().open() as calls:
        asked = await calls.start(call, Person(answer=YES), "binding")
        ((key, question),) = asked["inputRequests"].items()
        ended = await calls.resume(asked["requestState"], {key: YES}, Person(), "binding")

    assert question["method"] == "elicitation/create"
    assert "mail" in question["params"]["message"]
    assert ended == {"ran": True}


# -- whose client is asked ------------------------------------------------------------------------


async def test_under_four_eyes_nobody_is_asked_and_nobody_approves_their_own_call(
    house: House,
) -> None:
    house.write_policy("[default.approvals]\nfour_eyes = true")
    own = replace(OPERATOR, subject="key:second", user="olga")
    person = Person(OPERATOR, YES)
    id_ = await house.requested(person=person)

    for who in (OPERATOR, own):
        with pytest.raises(ApprovalForbidden, match="somebody else"):
            await house.desk.approve(who, id_)
    await house.desk.approve(replace(OPERATOR, subject="key:otto", user="otto"), id_)

    await house.approvals.require(CALL, person)
    assert person.asked == []


async def test_the_policy_can_leave_the_decision_to_operators(house: House) -> None:
    house.write_policy('[default.approvals]\nask_in_client = "operators"')
    alice, olga = Person(ALICE, YES), Person(OPERATOR, YES)

    await house.requested(person=alice)
    await house.approvals.require(CALL, olga)

    assert (len(alice.asked), len(olga.asked)) == (0, 1)
    assert (house.approvals.asks(alice.client), house.approvals.asks(olga.client)) == (False, True)


# -- who decides ----------------------------------------------------------------------------------


async def test_only_operators_of_the_organisation_and_global_administrators_decide(
    house: House,
) -> None:
    id_ = await house.requested()
    stranger = replace(OPERATOR, org="b")
    for who in (ALICE, replace(ALICE, subject="key:else", user="eve")):
        with pytest.raises(ApprovalForbidden):
            await house.desk.approve(who, id_)
        with pytest.raises(ApprovalForbidden):
            await house.desk.list_open(who)
    for who in (stranger, replace(stranger, role=Role.ADMIN), replace(OPERATOR, org=None)):
        assert await house.desk.list_open(who, over=True) == []
        for decide in (house.desk.approve, house.desk.deny):
            with pytest.raises(ApprovalNotFound):
                await decide(who, id_)

    assert [row.id for row in await house.desk.list_open(LOCAL)] == [id_]
    assert (await house.desk.approve(LOCAL, id_)).org == "acme"


async def test_what_is_over_is_told_of_in_a_sentence(house: House) -> None:
    id_ = await house.requested()
    await house.desk.approve(OPERATOR, id_)
    with pytest.raises(ApprovalSettled, match="is approved already"):
        await house.desk.approve(OPERATOR, id_)
    await house.approvals.require(CALL, Person())
    with pytest.raises(ApprovalSettled, match="is used already"):
        await house.desk.deny(OPERATOR, id_)

    id_ = await house.requested()
    await house.database.execute("UPDATE mcp.approvals SET expires_at = now()")
    with pytest.raises(ApprovalSettled, match="has expired"):
        await house.desk.approve(OPERATOR, id_)
    for unknown in ("nothing", "", "\0", "'; DROP TABLE mcp.approvals; --"):
        with pytest.raises(ApprovalNotFound):
            await house.desk.approve(OPERATOR, unknown)


async def test_a_flood_of_calls_leaves_so_many_requests_and_the_callers_others_in_peace(
    house: House,
) -> None:
    for rank in range(MOST_PENDING):
        await house.requested(with_arguments(rank=rank))
    with pytest.raises(ApprovalsFull, match="20 of your calls"):
        await house.approvals.require(with_arguments(rank=MOST_PENDING), Person())

    await house.requested(person=Person(replace(ALICE, subject="key:else")))
    await house.requested(with_arguments(rank=3))


# -- without a database ---------------------------------------------------------------------------


async def test_while_the_database_is_away_clients_are_asked_and_nothing_else_runs(
    away: House,
) -> None:
    async with asyncio.timeout(5):
        await away.approvals.require(CALL, Person(answer=YES))
        with pytest.raises(ApprovalDenied):
            await away.approvals.require(CALL, Person(answer=NO))
        for person in (Person(), Person(replace(ALICE, user="bob"), {"action": "cancel"})):
            with pytest.raises(ApprovalUnavailable, match="Nothing was run"):
                await away.approvals.require(CALL, person)


async def test_a_request_of_an_organisation_that_had_nothing_before_is_kept(house: House) -> None:
    id_ = await house.requested(person=Person(replace(ALICE, org="new")))

    assert [(row.id, row.org) for row in await house.desk.list_open(LOCAL)] == [(id_, "new")]


async def test_no_secret_is_kept_in_the_database_or_told_in_an_error(house: House) -> None:
    call = with_arguments(token="canary-1234567890", url="https://me:canary-pw@example.com")

    with pytest.raises(AuthorizationRequired) as raised:
        await house.approvals.require(call, Person())

    rows = await house.database.fetch("SELECT row_to_json(a)::text AS row FROM mcp.approvals AS a")
    assert len(rows) == 1
    assert "canary" not in rows[0]["row"] + str(raised.value) + repr(raised.value.details)
