"""
A search as somebody asks for it: words and filters in, hits that may be called out.

    request ── check ── index (by strategy) ── catalog: may it be seen? ── collapse ── hits

The index only proposes. What it finds is looked up in the catalog as the asker sees it, so a tool
that has just left, or is somebody else's, is no hit whatever the index says.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final
from uuid import UUID

from trunkline.catalog.catalog import Catalog
from trunkline.catalog.offer import Entry
from trunkline.catalog.view import View
from trunkline.errors import IndexFailure, InvalidArguments, OrgNotFound
from trunkline.index.index import Match, Query
from trunkline.models import KINDS, Kind, Principal, Scope
from trunkline.search.cards import CardShelf
from trunkline.search.collapse import Candidate, collapse
from trunkline.search.remembered import RememberedSearcher
from trunkline.search.strategies import STRATEGIES, Searcher, Strategy
from trunkline.search.text import ItemText
from trunkline.storage.rows import Org

MOST: Final = 100
"""Hits one answer may have."""

SPARE: Final = 4
"""How many candidates are looked at for each hit: some are alike, and become one."""

LONGEST: Final = 10_000
"""Characters of a query that are read. Nobody's need takes more."""

NOBODYS: Final = UUID(int=0)
"""The scope of an organisation that has nothing of its own yet: it finds what is everybody's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked. A filter that is empty lets everything through."""

    words: str
    limit: int = 5
    kinds: Sequence[Kind] = ()
    servers: Sequence[str] = ()
    skills: Sequence[str] = ()
    min_score: float | None = None
    strategy: Strategy = "hybrid"


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing that was found."""

    entry: Entry
    score: float
    also_on: Sequence[Entry]
    """The same on other servers."""

    match: Match
    """What the index says of it."""


@dataclass(frozen=True, slots=True)
class Found:
    """The answer."""

    hits: list[Hit]
    strategy: Strategy
    degraded: bool
    """Whether something did not answer, and what is left was asked instead."""

    skills: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    """The skills that the words have to do with, if the strategy asked for them."""


class Search:
    """Finds tools, prompts and resources."""

    def __init__(
        self,
        catalog: Catalog,
        searcher: Searcher | RememberedSearcher,
        cards: CardShelf,
        scope: Callable[[str | None], Org],
    ) -> None:
        self._catalog, self._searcher, self._cards, self._scope = catalog, searcher, cards, scope

    async def find(self, request: Request, principal: Principal) -> Found:
        """
        The best hits among what somebody may see.

        Words that say nothing find nothing. Raises `InvalidArguments` for a filter or a limit that
        makes no sense, and `IndexFailure`.
        """
        view = self._catalog.snapshot.seen_by(principal)
        scope = self._scope_of(principal.org)
        cards = self._cards.of(scope)
        _check(request, view, cards.names if cards is not None else ())
        limit = min(request.limit, MOST)
        filters = Query(
            org=scope,
            kinds=frozenset(request.kinds) or None,
            servers=frozenset(request.servers) or _within(principal.scope, view),
            skills=frozenset(request.skills) or None,
            limit=limit * SPARE,
        )
        answer = await self._searcher.search(
            request.words[:LONGEST], filters, strategy=request.strategy, cards=cards
        )
        hits = _hits(answer.matches, view, scope, request.min_score)
        return Found(hits[:limit], answer.strategy, answer.degraded, answer.skills)

    def _scope_of(self, org: str | None) -> Org:
        try:
            return self._scope(org)
        except OrgNotFound:
            return NOBODYS


def _hits(matches: Iterable[Match], view: View, scope: Org, least: float | None) -> list[Hit]:
    """Those matches that *view*, which is that of *scope*, has; those that are alike as one."""
    seen: dict[int, tuple[Entry, Match]] = {}
    candidates: list[Candidate] = []
    for match in matches:
        if least is not None and match.score < least:
            break
        ref = match.ref
        entry = view.of_origin(ref.kind, ref.server, ref.own_name)
        # Another process may have a server of that name for everyone, and this one for an org.
        if entry is None or ref.org != (None if entry.org is None else scope):
            continue
        text = ItemText.of(ref.kind, entry.definition, server=ref.server)
        candidate = Candidate(
            ref=ref,
            score=match.score,
            name=ref.own_name,
            text=f"{text.description} {text.parameters}",
        )
        seen[id(candidate)] = entry, match
        candidates.append(candidate)
    return [
        Hit(
            seen[id(hit.best)][0],
            hit.best.score,
            [seen[id(one)][0] for one in hit.also],
            seen[id(hit.best)][1],
        )
        for hit in collapse(candidates)
    ]


def _within(scope: Scope, view: View) -> frozenset[str] | None:
    """The servers to ask about, so that what may not be seen takes no hit's place; None for all."""
    return None if scope.permits_all else view.providers


def _check(request: Request, view: View, skills: Collection[str]) -> None:
    """Raise `InvalidArguments` for what cannot be meant."""
    if request.limit < 1:
        raise InvalidArguments(f"limit is {request.limit}; it has to be 1 or more.")
    if request.strategy not in STRATEGIES:
        raise InvalidArguments(_unknown("strategy", request.strategy, STRATEGIES))
    for kind in request.kinds:
        if kind not in KINDS:
            raise InvalidArguments(_unknown("type", kind, KINDS))
    for server in request.servers:
        if server not in view.providers:
            raise InvalidArguments(_unknown("server", server, view.providers))
    for skill in request.skills:
        if skills and skill not in skills:
            raise InvalidArguments(_unknown("skill", skill, skills))


def _unknown(what: str, value: str, known: Collection[str]) -> str:
    near = get_close_matches(value, list(known), n=3, cutoff=0.5)
    shown = value if len(value) <= 100 else f"{value[:97]}..."
    hint = (
        f"Did you mean {' or '.join(map(repr, near))}?"
        if near
        else (f"There are {', '.join(sorted(known)[:30])}." if known else "There is none.")
    )
    return f"There is no {what} {shown!r}. {hint}"


__all__ = ["Found", "Hit", "IndexFailure", "Request", "Search"]
