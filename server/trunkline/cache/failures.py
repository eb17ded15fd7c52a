"""
What can be wrong with Redis, in our words.

A failure of the cache is never raised at whoever asks it for a value: it is kept here as the
reason why Redis is out of use. Only who asks for the cache itself (`trunkline cache`) sees it.
"""

from typing import Final, Literal

from trunkline.errors import CacheUnavailable

Trouble = Literal[
    "starting", "down", "slow", "loading", "full", "read_only", "refused", "confused", "crowded"
]

SENTENCES: Final[dict[Trouble, str]] = {
    "starting": "The cache is not connected to Redis yet. Try again in a moment.",
    "down": "Redis does not answer. Check that it runs, and that REDIS_URL names it.",
    "slow": "Redis took too long. See what keeps it busy, or raise TRUNKLINE_CACHE__TIMEOUT.",
    "loading": "Redis is still loading its data. It is tried again.",
    "full": "Redis has no memory left. Raise its maxmemory, or set a maxmemory-policy that evicts.",
    "read_only": "Redis takes no changes: it is a replica, or has too few replicas of its own. "
    "Point REDIS_URL at the primary.",
    "refused": "Redis refuses us. Correct the user, password, database or rights in REDIS_URL.",
    "crowded": "More is to be kept at once than Redis can be sent. It is not kept.",
    "confused": "What answers at REDIS_URL does not behave like Redis. Check the address.",
}


class CacheFailure(CacheUnavailable):
    """Redis failed an operation; `trouble` says how, in one word."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(SENTENCES[trouble])
        self.trouble: Trouble = trouble
