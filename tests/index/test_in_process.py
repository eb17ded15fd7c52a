"""The in-process index against one that is slow and plainly right, and what is its own."""

import math
import pickle
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.index.contract import ACME, DIMENSIONS, GLOBEX, ask, direction, names, point
from trunkline.index.bm25 import K1, B
from trunkline.index.fusion import best
from trunkline.index.in_process import InProcessIndex
from trunkline.index.index import Point, Query, Ref

pytestmark = pytest.mark.anyio

NEAR: Final = 2e-3
"""How far two scores may be apart that were computed in another precision and order."""


class PlainIndex:
    """What the index should answer, by the formulas, one point at a time."""

    def __init__(self) -> None:
        self.points: dict[Ref, Point] = {}

    def scores(self, query: Query) -> dict[Ref, float]:
        """The fused score of everything that is to be found."""
        seen = [one for one in self.points.values() if one.ref.org in {None, query.org}]
        cosines = self.cosines(query, seen)
        ranks = self.bm25(query.terms, seen)
        lists = [one for one in (cosines, ranks) if one]
        if not lists:
            return {}
        wanted = [
            one
            for one in seen
            if (query.kinds is None or one.ref.kind in query.kinds)
            and (query.servers is None or one.ref.server in query.servers)
            and (query.skills is None or query.skills & set(one.skills))
            and (cosines or ranks[one.ref] > 0)
        ]
        standard = [standardised(one) for one in lists]
        return {
            one.ref: sum(z[one.ref] for z in standard) / len(lists)
            + max((query.boosts[s] for s in one.skills if s in query.boosts), default=0.0)
            for one in wanted
        }

    def cosines(self, query: Query, seen: list[Point]) -> dict[Ref, float]:
        if query.vector is None:
            return {}
        rows = [row for row in np.atleast_2d(query.vector).astype(float) if row.any()]
        if not rows:
            return {}
        return {one.ref: max(float(row @ one.vector) for row in rows) for one in seen}

    def bm25(self, terms: Mapping[str, float], seen: list[Point]) -> dict[Ref, float]:
        if not any(term in one.terms for term in terms for one in seen):
            return {}
        lengths = {one.ref: sum(one.terms.values()) for one in seen}
        mean = sum(lengths.values()) / len(seen)
        scores = dict.fromkeys(lengths, 0.0)
        for term, weight in terms.items():
            having = [one for one in seen if term in one.terms]
            rarity = math.log(1 + (len(seen) - len(having) + 0.5) / (len(having) + 0.5))
            for one in having:
                count, norm = one.terms[term], K1 * (1 - B + B * lengths[one.ref] / mean)
                scores[one.ref] += weight * rarity * count * (K1 + 1) / (count + norm)
        return scores


def standardised(scores: Mapping[Ref, float]) -> dict[Ref, float]:
    mean = sum(scores.values()) / len(scores)
    spread = math.sqrt(sum((one - mean) ** 2 for one in scores.values()) / len(scores))
    return {ref: (one - mean) / spread if spread > 1e-6 else 0.0 for ref, one in scores.items()}


ORGS = st.sampled_from([None, ACME, GLOBEX])
SKILLS = st.sampled_from(["email", "tasks", "notes"])
TERMS = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([0.5, 1.0, 3.0]), max_size=5)
VECTORS = st.builds(direction, *[st.sampled_from([0, 0, 1, -1, 2])] * 3)
REFS = st.builds(
    Ref,
    org=ORGS,
    kind=st.sampled_from(["tools", "prompts"]),
    server=st.sampled_from(["mail", "github"]),
    own_name=st.sampled_from("xyz"),
)
POINTS = st.builds(
    Point, ref=REFS, vector=VECTORS, terms=TERMS, skills=st.lists(SKILLS, max_size=2)
)
CHANGES = st.lists(st.lists(POINTS, max_size=6) | st.lists(REFS, min_size=1, max_size=4))
QUERIES = st.builds(
    Query,
    org=ORGS,
    vector=st.none() | VECTORS | st.lists(VECTORS, min_size=1, max_size=3).map(np.stack),
    terms=TERMS,
    kinds=st.none() | st.frozensets(st.sampled_from(["tools", "prompts"])),
    servers=st.none() | st.frozensets(st.sampled_from(["mail", "github", "other"])),
    skills=st.none() | st.frozensets(SKILLS),
    boosts=st.dictionaries(SKILLS, st.sampled_from([-0.2, 0.1, 0.3])),
    limit=st.integers(0, 12),
)


@settings(max_examples=200, deadline=None)
@given(changes=CHANGES, queries=st.lists(QUERIES, min_size=1, max_size=4))
async def test_after_any_changes_it_answers_as_the_formulas_say(
    changes: list[list[Point] | list[Ref]], queries: list[Query]
) -> None:
    index, plain = InProcessIndex(DIMENSIONS), PlainIndex()
    for change in changes:
        await apply(change, index, plain)

    assert await index.count() == len(plain.points)
    for query in queries:
        expected = plain.scores(query)
        matches = await index.search(query)
        best = sorted(expected.values(), reverse=True)[: query.limit]
        assert [match.score for match in matches] == pytest.approx(best, abs=NEAR)
        assert len({match.ref for match in matches}) == len(matches)
        seen = [one for one in plain.points.values() if one.ref.org in {None, query.org}]
        cosines, ranks = plain.cosines(query, seen), plain.bm25(query.terms, seen)
        for match in matches:
            assert match.score == pytest.approx(expected[match.ref], abs=NEAR)
            assert match.dense == (pytest.approx(cosines[match.ref], abs=NEAR) if cosines else None)
            assert match.lexical == (pytest.approx(ranks[match.ref], abs=NEAR) if ranks else None)


async def apply(change: list[Point] | list[Ref], index: InProcessIndex, plain: PlainIndex) -> None:
    points = [one for one in change if isinstance(one, Point)]
    refs = [one for one in change if isinstance(one, Ref)]
    await index.upsert(points)
    await index.delete(refs)
    plain.points |= {one.ref: one for one in points}
    for ref in refs:
        plain.points.pop(ref, None)


@settings(max_examples=60, deadline=None)
@given(changes=CHANGES, query=QUERIES)
async def test_what_another_organisation_has_changes_nothing_in_an_answer(
    changes: list[list[Point] | list[Ref]], query: Query
) -> None:
    everything, without, plain = (
        InProcessIndex(DIMENSIONS),
        InProcessIndex(DIMENSIONS),
        PlainIndex(),
    )
    for change in changes:
        await apply(change, everything, plain)
        seen: Any = [one for one in change if org_of(one) in {None, query.org}]
        await apply(seen, without, plain)

    def told(matches: Any) -> list[Any]:
        return [(one.ref, round(one.score, 3)) for one in matches]

    assert sorted(told(await everything.search(query)), key=str) == sorted(
        told(await without.search(query)), key=str
    )


def org_of(one: Point | Ref) -> Any:
    return one.ref.org if isinstance(one, Point) else one.org


async def test_a_word_that_only_another_organisation_has_is_unknown() -> None:
    index = InProcessIndex(DIMENSIONS)
    await index.upsert([*crowd(5), point("theirs", "secret", direction(1), org=GLOBEX)])

    told = await index.search(ask("secret", direction(1), org=ACME))

    assert told == await index.search(ask("xyzzy", direction(1), org=ACME))


async def test_the_terms_of_a_match_add_up_to_its_score() -> None:
    index = InProcessIndex(DIMENSIONS)
    await index.upsert([point("send", "send mail now", direction(1)), point("read", "read mail")])

    match, *_ = await index.search(ask("send mail xyzzy", direction(1)))

    assert match.ref.own_name == "send"
    assert set(match.terms) == {"send", "mail"}
    assert sum(match.terms.values()) == pytest.approx(match.lexical)
    assert match.dense == pytest.approx(1.0)
    assert match.terms["send"] > match.terms["mail"]


async def test_a_filter_chooses_and_does_not_change_the_order() -> None:
    index = InProcessIndex(DIMENSIONS)
    await index.upsert(list(crowd(40)))
    query = ask("a b", direction(1, 2), limit=40)

    everything = await index.search(query)
    some = await index.search(ask("a b", direction(1, 2), limit=40, servers=frozenset({"mail"})))

    assert [one for one in everything if one.ref.server == "mail"] == some


async def test_equal_points_come_in_the_order_of_their_names_whatever_was_put_first() -> None:
    same = [point(name, "mail", direction(1, 2, 3)) for name in "dbaec"]
    for order in (same, same[::-1]):
        index = InProcessIndex(DIMENSIONS)
        await index.upsert([*order[:2], *crowd(9), *order[2:]])

        assert names(await index.search(ask("mail", direction(1, 2, 3), limit=5))) == list("abcde")


def test_scores_that_differ_by_rounding_only_are_equal() -> None:
    scores = np.array([0.5, 0.50000004, 0.9, 0.49999997, 0.1], np.float32)
    everything = np.ones(5, np.bool_)

    assert [best(scores, everything, limit, int) for limit in (1, 3, 9)] == [
        [2],
        [2, 0, 1],
        [2, 0, 1, 3, 4],
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
async def test_a_vector_that_is_no_number_harms_nobody(bad: float) -> None:
    index = InProcessIndex(DIMENSIONS)
    broken = np.full(DIMENSIONS, bad, np.float32)
    await index.upsert([point("broken", "mail", broken), point("send", "post", direction(1))])

    assert names(await index.search(ask("mail"))) == ["broken"]
    assert names(await index.search(ask(vector=direction(1), limit=1))) == ["send"]
    assert await index.search(ask(vector=broken)) == []


@pytest.mark.parametrize("count", [0.0, -1.0, math.nan, math.inf])
async def test_a_count_that_is_none_is_not_counted(count: float) -> None:
    index = InProcessIndex(DIMENSIONS)
    ref = point("send").ref
    await index.upsert([Point(ref=ref, vector=direction(1), terms={"mail": count, "post": 1.0})])

    assert await index.search(ask("mail")) == []
    assert names(await index.search(ask("post"))) == ["send"]


async def test_nothing_is_left_of_what_was_deleted() -> None:
    index, sizes = InProcessIndex(DIMENSIONS), list[int]()
    for turn in range(20):
        points = list(crowd(100, f"turn{turn}"))
        await index.upsert(points)
        await index.delete([one.ref for one in points])
        sizes.append(len(pickle.dumps(index)))

    assert await index.count() == 0
    assert sizes[-1] <= sizes[9] + 50


def crowd(size: int, word: str = "a") -> Iterator[Point]:
    """Points of which no two are alike."""
    for number in range(size):
        words = " ".join([word] * (1 + number % 3) + ["b"] * (number % 2) + [f"w{number}"])
        server = ("mail", "github")[number % 2]
        yield point(f"other{number}", words, direction(1, number), server=server, skills=[word])
