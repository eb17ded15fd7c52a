"""
What every index promises, as tests. A module of tests subclasses `IndexContract` and gives it an
`index` fixture: an empty index for vectors of `DIMENSIONS`.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import numpy as np
import pytest

from trunkline.errors import IndexMismatch
from trunkline.index.index import Index, Match, Point, Query, Ref, Vector
from trunkline.models import Kind

DIMENSIONS: Final = 8
ACME, GLOBEX = UUID(int=1), UUID(int=2)

_ids = itertools.count(1)


def direction(*weights: float) -> Vector:
    """A vector of length one with these first coordinates; zeros if there are none."""
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[: len(weights)] = weights
    return vector / np.float32(np.linalg.norm(vector) or 1.0)


def point(
    name: str,
    words: str = "",
    vector: Vector | None = None,
    *,
    org: UUID | None = None,
    kind: Kind = "tools",
    server: str = "mail",
    skills: Sequence[str] = (),
) -> Point:
    """An item of some words. One that is given no vector has one far from all of `direction`'s."""
    return Point(
        ref=Ref(org=org, kind=kind, server=server, own_name=name, db_id=next(_ids)),
        vector=direction(*[0.0] * (DIMENSIONS - 1), 1.0) if vector is None else vector,
        terms={term: float(count) for term, count in Counter(words.split()).items()},
        skills=skills,
        content_hash=sha256(words.encode()).digest(),
    )


def ask(words: str = "", vector: Vector | None = None, **more: Any) -> Query:
    terms = dict.fromkeys(words.split(), 1.0)
    return replace(Query(org=None, vector=vector, terms=terms), **more)


def names(matches: Sequence[Match]) -> list[str]:
    return [match.ref.own_name for match in matches]


@pytest.mark.anyio
class IndexContract:
    """What every index promises."""

    async def test_an_empty_index_finds_nothing(self, index: Index) -> None:
        assert await index.search(ask("send", direction(1))) == []
        assert await index.count() == 0
        assert [one async for one in index.contents()] == []

    async def test_a_point_is_found_by_its_words_and_by_its_vector(self, index: Index) -> None:
        send, read = (
            point("send", "send mail", direction(1)),
            point("read", "read", direction(0, 1)),
        )
        await index.upsert([send, read])

        (by_words,) = await index.search(ask("send"))
        by_vector = await index.search(ask(vector=direction(1), limit=1))
        by_both = await index.search(ask("send", direction(1)))

        assert by_words.ref == send.ref
        assert by_words.ref.db_id == send.ref.db_id
        assert names(by_vector) == ["send"]
        assert names(by_both)[0] == "send"

    async def test_the_nearest_comes_first(self, index: Index) -> None:
        angles = {"far": direction(1, 3), "near": direction(3, 1), "between": direction(1, 1)}
        await index.upsert([point(name, vector=vector) for name, vector in angles.items()])

        matches = await index.search(ask(vector=direction(1)))

        assert names(matches) == ["near", "between", "far"]
        assert [match.score for match in matches] == sorted(
            (match.score for match in matches), reverse=True
        )

    async def test_of_several_vectors_the_nearest_counts(self, index: Index) -> None:
        ways = {"first": direction(1), "second": direction(0, 1), "between": direction(1, 1)}
        await index.upsert([point(name, vector=vector) for name, vector in ways.items()])

        asked = np.stack([direction(1), direction(0, 1)])
        matches = await index.search(ask(vector=asked, limit=2))

        assert set(names(matches)) == {"first", "second"}

    async def test_a_rare_word_counts_for_more_than_a_frequent_one(self, index: Index) -> None:
        await index.upsert([point(f"get{number}", "get thing") for number in range(8)])
        await index.upsert([point("invoice", "invoice thing")])

        assert names(await index.search(ask("get invoice", limit=1))) == ["invoice"]

    async def test_both_lists_have_their_say(self, index: Index) -> None:
        crowd = [point(f"other{number}", "other", direction(0, 0, 1)) for number in range(6)]
        words = point("words", "cancel order", direction(0, 1))
        sense = point("sense", "revoke purchase", direction(1))
        both = point("both", "cancel order", direction(1))
        await index.upsert([*crowd, words, sense, both])

        matches = await index.search(ask("cancel order", direction(1), limit=3))

        assert names(matches)[0] == "both"
        assert set(names(matches)) == {"both", "words", "sense"}

    async def test_a_point_put_again_replaces_the_one_before(self, index: Index) -> None:
        before = point("send", "send mail", direction(1))
        after = replace(before, terms={"post": 1.0}, vector=direction(0, 1), content_hash=b"new")
        await index.upsert([before, point("read", "read", direction(1, 1))])

        await index.upsert([after])

        assert await index.count() == 2
        assert await index.search(ask("mail")) == []
        assert names(await index.search(ask("post"))) == ["send"]
        assert names(await index.search(ask(vector=direction(0, 1), limit=1))) == ["send"]
        assert (after.ref, b"new") in [one async for one in index.contents()]

    async def test_a_deleted_point_is_never_found(self, index: Index) -> None:
        send, read = point("send", "mail", direction(1)), point("read", "mail", direction(1))
        await index.upsert([send, read])

        await index.delete([send.ref])

        assert await index.count() == 1
        assert names(await index.search(ask("mail", direction(1)))) == ["read"]
        assert [ref async for ref, _ in index.contents()] == [read.ref]

    async def test_deleting_what_is_not_there_is_no_error(self, index: Index) -> None:
        send = point("send", "mail")

        await index.delete([send.ref])
        await index.upsert([send])
        await index.delete([send.ref, send.ref])

        assert await index.count() == 0

    async def test_a_deleted_point_can_come_back(self, index: Index) -> None:
        send = point("send", "mail", direction(1))
        await index.upsert([send, point("read", "read", direction(0, 1))])

        await index.delete([send.ref])
        await index.upsert([replace(send, terms={"letter": 1.0})])

        assert await index.search(ask("mail")) == []
        assert names(await index.search(ask("letter"))) == ["send"]

    @pytest.mark.parametrize(
        ("org", "found"),
        [(None, {"ours"}), (ACME, {"ours", "acme"}), (GLOBEX, {"ours", "globex"})],
        ids=["nobody", "acme", "globex"],
    )
    async def test_an_organisation_finds_its_own_and_what_is_everyones(
        self, index: Index, org: UUID | None, found: set[str]
    ) -> None:
        owners = {"ours": None, "acme": ACME, "globex": GLOBEX}
        for name, owner in owners.items():
            await index.upsert([point(name, "mail", direction(1), org=owner)])

        for query in (ask("mail"), ask(vector=direction(1)), ask("mail", direction(1))):
            assert set(names(await index.search(replace(query, org=org)))) == found

    @pytest.mark.parametrize(
        ("filters", "found"),
        [
            ({"kinds": frozenset({"prompts"})}, {"letter"}),
            ({"kinds": frozenset({"tools", "prompts"})}, {"send", "letter", "open"}),
            ({"servers": frozenset({"github"})}, {"open"}),
            ({"skills": frozenset({"email"})}, {"send"}),
            ({"skills": frozenset({"email", "tasks"})}, {"send", "open"}),
            ({"kinds": frozenset({"tools"}), "skills": frozenset({"tasks"})}, {"send", "open"}),
            ({"servers": frozenset({"unknown"})}, set[str]()),
            ({"skills": frozenset[str]()}, set[str]()),
        ],
    )
    async def test_filters_choose(
        self, index: Index, filters: Mapping[str, Any], found: set[str]
    ) -> None:
        await index.upsert(
            [
                point("send", "mail", direction(1), skills=["email", "tasks"]),
                point("open", "mail", direction(1), server="github", skills=["tasks"]),
                point("letter", "mail", direction(1), kind="prompts"),
            ]
        )

        for query in (ask("mail"), ask(vector=direction(1)), ask("mail", direction(1))):
            assert set(names(await index.search(replace(query, **filters)))) == found

    async def test_a_boosted_skill_comes_first(self, index: Index) -> None:
        await index.upsert(
            [
                point("a", "mail", direction(1)),
                point("b", "mail", direction(1), skills=["tasks"]),
                point("c", "mail", direction(1), skills=["tasks", "email"]),
                point("d", "other", direction(0, 1)),
            ]
        )

        boosts = {"email": 0.3, "tasks": 0.2}
        matches = await index.search(ask("mail", direction(1), boosts=boosts))

        assert names(matches) == ["c", "b", "a", "d"]

    async def test_the_limit_is_kept(self, index: Index) -> None:
        await index.upsert([point(f"tool{number}", "mail", direction(1)) for number in range(12)])

        found = [
            len(await index.search(ask("mail", direction(1), limit=limit)))
            for limit in (0, 1, 5, 10_000)
        ]

        assert found == [0, 1, 5, 12]

    async def test_equal_points_have_a_stable_order(self, index: Index) -> None:
        await index.upsert([point(f"tool{number}", "mail", direction(1)) for number in range(30)])

        answers = [
            names(await index.search(ask("mail", direction(1), limit=limit)))
            for limit in (10, 10, 20)
        ]

        assert answers[0] == answers[1] == answers[2][:10]

    async def test_a_query_that_says_nothing_finds_nothing(self, index: Index) -> None:
        await index.upsert([point("send", "mail", direction(1))])

        assert await index.search(ask()) == []
        assert await index.search(ask("xyzzy")) == []

    async def test_a_point_may_have_words_only_or_a_vector_only(self, index: Index) -> None:
        await index.upsert([point("words", "mail", direction()), point("sense", "", direction(1))])

        assert names(await index.search(ask("mail"))) == ["words"]
        assert names(await index.search(ask(vector=direction(1), limit=1))) == ["sense"]

    async def test_the_same_name_of_another_owner_kind_or_server_is_another_point(
        self, index: Index
    ) -> None:
        same = [
            point("get", "mail", direction(1)),
            point("get", "mail", direction(1), org=ACME),
            point("get", "mail", direction(1), kind="prompts"),
            point("get", "mail", direction(1), server="other"),
        ]
        await index.upsert(same)

        matches = await index.search(ask("mail", direction(1), org=ACME))

        assert await index.count() == 4
        assert {match.ref for match in matches} == {one.ref for one in same}

    async def test_names_and_words_of_any_script_are_kept(self, index: Index) -> None:
        odd = point("天気://{都市}/'\"\\\n", "天気 🌦 прогноз", direction(1), kind="templates")
        await index.upsert([odd])

        (match,) = await index.search(ask("天気"))

        assert match.ref == odd.ref

    async def test_contents_are_all_there_is(self, index: Index) -> None:
        points = [point(f"tool{number}", f"word{number}", direction(1)) for number in range(600)]
        await index.upsert(points)

        contents = [one async for one in index.contents()]

        assert await index.count() == 600
        assert sorted(contents, key=lambda one: one[0].own_name) == sorted(
            ((one.ref, one.content_hash) for one in points), key=lambda one: one[0].own_name
        )

    async def test_a_vector_of_another_model_is_refused_and_nothing_is_changed(
        self, index: Index
    ) -> None:
        wrong = np.ones(DIMENSIONS + 1, np.float32)
        await index.upsert([point("send", "mail", direction(1))])

        with pytest.raises(IndexMismatch):
            await index.upsert([point("good", "mail"), replace(point("bad"), vector=wrong)])
        with pytest.raises(IndexMismatch):
            await index.search(ask("mail", wrong))

        assert names(await index.search(ask("mail"))) == ["send"]
