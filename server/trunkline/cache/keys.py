"""
What things are called in Redis.

    mcp:cache:v1:search:{ORG}:KEY               a value
    mcp:cache:v1:generation:{ORG}:search        a generation: of all that ORG has in `search`
    mcp:cache:v1:generation:{ORG}:search:17     a generation: of a sixty-fourth of it

The org, `global` or a UUID, stands in braces in every key: that is what Redis Cluster picks a
node by, so the keys of one org are together. A value counts as long as the generations it was
made under are still there; to invalidate is to remove one. An org sees what is global too, so the
global generations are among those of its values.

Removing a single key's share of the generations may take a few neighbours with it, which costs a
miss. In return it holds for values that are not there yet: see `cache`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal, get_args
from uuid import UUID
from zlib import crc32

from trunkline.cache.version import CACHE_VERSION

Namespace = Literal["tool", "tool_list", "prompt", "resource", "search", "skill", "result"]
NAMESPACES: Final[tuple[Namespace, ...]] = get_args(Namespace)

Org = UUID | None
"""Whose; None for what belongs to everyone."""

ROOT: Final = "mcp:cache:"
PREFIX: Final = f"{ROOT}v{CACHE_VERSION}:"
GENERATIONS: Final = f"{PREFIX}generation:"
PROBE: Final = f"{PREFIX}probe:{{global}}"
"""Written to see whether Redis takes anything."""

SHARES: Final = 64
LONGEST_NAME: Final = 128
"""Characters of a caller's key that are kept as they are; a longer key is known by its hash."""

SPECIAL: Final = "*?[\\"
"""What a Redis pattern can begin its variable part with."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where one value is, and which generations it depends on."""

    namespace: Namespace
    value: str
    generations: tuple[str, ...]
    """The last one is its share of its own org."""

    @classmethod
    def of(cls, namespace: Namespace, org: Org, key: str) -> "Address":
        share = crc32(key.encode(errors="surrogatepass")) % SHARES
        generations = tuple(
            generation(namespace, scope, of)
            for scope in ((None,) if org is None else (None, org))
            for of in (None, share)
        )
        return cls(namespace, f"{PREFIX}{namespace}:{tag(org)}:{_short(key)}", generations)


@lru_cache(maxsize=1024)
def tag(org: Org) -> str:
    """The org as keys have it."""
    return f"{{{org or 'global'}}}"


def generation(namespace: Namespace, org: Org, share: int | None = None) -> str:
    """The key of a generation: of a whole namespace of an org, or of a share of it."""
    whole = f"{GENERATIONS}{tag(org)}:{namespace}"
    return whole if share is None else f"{whole}:{share}"


def is_generation(key: str) -> bool:
    return key.startswith(GENERATIONS)


def full_pattern(pattern: str) -> str:
    """*pattern* within our own keys: `tool:*` is `mcp:cache:v1:tool:*`."""
    return pattern if pattern.startswith(ROOT) else f"{PREFIX}{pattern}"


def generations_covered(pattern: str) -> list[str]:
    """
    The generations that cover every key of *pattern*, stored or still being computed.

    What stands before the first special character decides. It may name an org or stop before; then
    the global generation covers all orgs at once.
    """
    special = [pattern.find(character) for character in SPECIAL if character in pattern]
    fixed = pattern[: min(special, default=len(pattern))]
    return [
        whole
        for namespace in NAMESPACES
        for whole in _covering(f"{PREFIX}{namespace}:", namespace, fixed)
    ]


def _covering(beginning: str, namespace: Namespace, fixed: str) -> Sequence[str]:
    if not fixed.startswith(beginning):
        return [generation(namespace, None)] if beginning.startswith(fixed) else []
    org, closed, _ = fixed.removeprefix(beginning).partition("}")
    try:
        return [generation(namespace, UUID(org.removeprefix("{")) if closed else None)]
    except ValueError:
        return [generation(namespace, None)]


def _short(key: str) -> str:
    if len(key) <= LONGEST_NAME and key.isprintable():
        return key
    return blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()
