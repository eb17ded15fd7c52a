"""
A query of ours as one request to Qdrant, and its answer.

Both lists are made and fused on the server, by the distribution of their scores (DBSF): a point's
score in a list is its distance from the list's mean, in sixths of a standard deviation, and the two
are added. That is the z-score fusion of the in-process index over the best of each list instead of
the whole catalog. Boosts are added to the fused score in the same request.

    dense  ── best 500 ──┐
                         ├── DBSF ── best ── + boosts ── limit
    sparse ── best 500 ──┘
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from qdrant_client import models

from trunkline.index.fusion import PRECISION
from trunkline.index.index import Match, Query
from trunkline.index.qdrant_points import EVERYONE, audience, directions, ref_of, term_vector
from trunkline.index.qdrant_schema import SPARSE, Space

DEPTH: Final = 500
"""
How many of each list are fused, at least. The mean and the spread are of these: the more, the
nearer to those of the whole catalog, and the better the order.
"""

FUSION: Final = models.FusionQuery(fusion=models.Fusion.DBSF)

MARGIN: Final = 20
"""Points that are read beyond the limit, so that equal ones at its end are put in our order."""

SIXTH: Final = 1 / 6
"""A standard deviation of one list, in DBSF's scale."""


def lets_nothing_through(query: Query) -> bool:
    """Whether the answer is empty whatever there is."""
    return query.limit < 1 or frozenset() in (query.kinds, query.servers, query.skills)


def arguments(query: Query, space: Space) -> dict[str, Any] | None:
    """
    What `query_points` is called with; None for a query that says nothing.

    Raises `IndexMismatch` for a vector of another space.
    """
    seen, limit = _seen(query), query.limit + MARGIN
    depth = max(DEPTH, limit)
    lists = [
        models.Prefetch(query=asked, using=name, filter=seen, limit=depth, params=params)
        for name, asked, params in _asked(query, space)
    ]
    if not lists:
        return None
    if query.boosts:
        # A boost is in standard deviations of the lists' mean; DBSF has their sum, in sixths.
        boosted = _boosted(query.boosts, SIXTH * len(lists))
        fused = models.Prefetch(prefetch=lists, query=FUSION, limit=len(lists) * depth)
        return {"prefetch": fused, "query": boosted, "limit": limit}
    first, *more = lists
    if more or isinstance(first.query, models.RecommendQuery):
        return {"prefetch": lists, "query": FUSION, "limit": limit}
    return {
        "query": first.query,
        "using": first.using,
        "query_filter": seen,
        "search_params": first.params,
        "limit": limit,
    }


def matches_of(
    found: Sequence[models.ScoredPoint], query: Query, space: Space, asked: Mapping[str, Any]
) -> list[Match]:
    """The answer to *query*, which was *asked* with these arguments."""
    # Without a vector's name it is a fused score, which is none of a single list.
    using = asked.get("using")
    matches = [
        Match(
            ref=ref_of(point),
            score=point.score,
            dense=point.score if using == space.dense else None,
            lexical=point.score if using == SPARSE else None,
        )
        for point in found
    ]
    return sorted(matches, key=_order)[: query.limit]


def _order(match: Match) -> tuple[float, str, str, str, str]:
    """As the in-process index orders: what differs by a rounding error only is equal."""
    ref = match.ref
    return -round(match.score, PRECISION), ref.kind, ref.server, ref.own_name, str(ref.org or "")


def _asked(query: Query, space: Space) -> Iterator[tuple[str, Any, models.SearchParams | None]]:
    if query.vector is not None and (rows := directions(query.vector, space, "the query")):
        yield space.dense, _nearest(rows), None
    if query.terms:
        # How rare a term is, is counted among what the asker may see: no other organisation's
        # items show in the scores.
        corpus = models.IdfCorpusParams(corpus=models.Filter(must=[_visible(query)]))
        yield SPARSE, term_vector(query.terms), models.SearchParams(idf=corpus)


def _nearest(rows: list[list[float]]) -> Any:
    """Asks for what is near one vector, or near any of several."""
    if len(rows) == 1:
        return rows[0]
    near: list[models.VectorInput] = [*rows]
    best = models.RecommendStrategy.BEST_SCORE
    return models.RecommendQuery(recommend=models.RecommendInput(positive=near, strategy=best))


def _seen(query: Query) -> models.Filter:
    """Who may see it, always; and whatever else is asked for."""
    must: list[models.Condition] = [_visible(query)]
    wanted = {"kind": query.kinds, "server": query.servers, "skills": query.skills}
    must += [_any(field, values) for field, values in wanted.items() if values is not None]
    return models.Filter(must=must)


def _visible(query: Query) -> models.FieldCondition:
    return _any("visibility", {EVERYONE, audience(query.org)})


def _any(field: str, values: set[str] | frozenset[Any]) -> models.FieldCondition:
    return models.FieldCondition(key=field, match=models.MatchAny(any=sorted(values)))


def _boosted(boosts: Mapping[str, float], unit: float) -> models.FormulaQuery:
    """
    The fused score, plus the best boost among a point's skills.

    Qdrant has no maximum over the elements of a list. So each boost, the greatest first, goes to
    the points that have its skill and none of those before.
    """
    terms: list[models.Expression] = ["$score"]
    greater: list[models.Condition] = []
    for skill, boost in sorted(boosts.items(), key=lambda item: (-item[1], item[0])):
        has = _any("skills", {skill})
        best = models.Filter(must=[has], must_not=list(greater))
        terms.append(models.MultExpression(mult=[boost * unit, best]))
        greater.append(has)
    return models.FormulaQuery(formula=models.SumExpression(sum=terms))
