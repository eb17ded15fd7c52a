"""
From the words of a search to the best matches, by the strategy that was asked for.

    words ─┬─ terms ──────────────────────────┐
           └─ embed ── vector ─┬──────────────┼── Query ── index ── Answer
                               └── skills ── boosts

`hybrid` asks by terms and vector, `lexical` and `semantic` by one of them. `hierarchical` asks
first which skills the words have to do with, and then searches like `hybrid` with a soft boost for
the tools of those skills. It filters nothing out, since a skill that was guessed wrong would take
the right tool with it; and where no skill is sure enough, it boosts nothing either.
"""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final, Literal, get_args

import structlog

from trunkline.errors import EmbeddingError
from trunkline.index.fallback import FallbackIndex
from trunkline.index.index import Index, Match, Query
from trunkline.search.embedding.embedding import Embedding
from trunkline.search.parts import query_parts
from trunkline.search.skills import Floats, Skill, SkillCards
from trunkline.search.terms import query_terms

log = structlog.get_logger(__name__)

Strategy = Literal["hybrid", "hierarchical", "lexical", "semantic"]

STRATEGIES: Final[tuple[Strategy, ...]] = get_args(Strategy)

REACHED: Final = 0.4
"""What the confidence of a query's surest skill has to reach for its skills to count."""

LEAST: Final = 0.05
"""What the confidence of a further skill of the query has to reach to be boosted with it."""

BOOST: Final = 0.25
"""
What is added to the fused score, in standard deviations, of the tools of a query's skills.

The same for each of them: weighing them by their confidence found no more.
"""


PATIENCE: Final = 5.0
"""Seconds that a search waits for the vector of its words."""

PAUSE: Final = 10.0
"""Seconds in which an embedding that did not answer is not asked again, and nobody waits for it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found, and how."""

    matches: list[Match]
    strategy: Strategy
    degraded: bool
    """Whether something did not answer, and what is left was asked instead."""

    skills: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    """The skills that were boosted, with their confidence. None: the search went directly."""


class Searcher:
    """Asks an index in words. It outlives an embedding that does not answer."""

    def __init__(
        self,
        index: Index,
        embedding: Embedding,
        *,
        patience: float = PATIENCE,
        pause: float = PAUSE,
    ) -> None:
        self._index, self._embedding = index, embedding
        self._patience, self._pause = patience, pause
        self._silent_until: float | None = None
        """When the embedding is asked again; None while it answers."""

    async def search(
        self,
        words: str,
        filters: Query,
        *,
        strategy: Strategy = "hybrid",
        cards: SkillCards | None = None,
    ) -> Answer:
        """
        The best matches for *words* among what *filters* let through.

        *cards* are those of the organisation that asks; only `hierarchical` looks at them. What has
        neither a term nor a vector finds nothing. Raises `IndexFailure`.
        """
        vectors = await self._embed(words) if strategy != "lexical" else None
        failed = strategy != "lexical" and vectors is None
        # Without its vector, a semantic search by terms is better than none.
        terms = query_terms(words) if strategy != "semantic" or failed else {}
        skills = _reached(vectors, cards) if strategy == "hierarchical" else []
        boosts = {skill.name: BOOST for skill in skills}
        matches, degraded = await self._ask(
            replace(filters, vector=vectors, terms=terms, boosts=boosts)
        )
        told = [(skill.name, skill.confidence) for skill in skills]
        return Answer(matches, strategy, degraded or failed, told)

    async def _ask(self, query: Query) -> tuple[list[Match], bool]:
        if isinstance(self._index, FallbackIndex):
            return await self._index.answer(query)
        return await self._index.search(query), False

    async def _embed(self, words: str) -> Floats | None:
        """A vector for each part of *words*; None if they could not be had."""
        now = asyncio.get_running_loop().time
        if self._silent_until is not None and now() < self._silent_until:
            return None
        try:
            async with asyncio.timeout(self._patience):
                vectors = await self._embedding.embed(query_parts(words), query=True)
        except (EmbeddingError, TimeoutError) as error:
            if self._silent_until is None:
                log.warning("search.embedding_down", reason=str(error) or "It did not answer.")
            self._silent_until = now() + self._pause
            return None
        if self._silent_until is not None:
            self._silent_until = None
            log.info("search.embedding_up")
        return vectors


def _reached(vectors: Floats | None, cards: SkillCards | None) -> list[Skill]:
    """
    The skills of a query, the surest first; none if not even that is sure enough.

    A query that asks for several things has the skills of each.
    """
    if vectors is None or cards is None:
        return []
    surest: dict[str, float] = {}
    for skills in cards.skills_of(vectors, least=LEAST):
        if skills and skills[0].confidence >= REACHED:
            for skill in skills:
                surest[skill.name] = max(skill.confidence, surest.get(skill.name, 0))
    ranked = sorted(surest.items(), key=lambda one: (-one[1], one[0]))
    return [Skill(name, confidence) for name, confidence in ranked]
