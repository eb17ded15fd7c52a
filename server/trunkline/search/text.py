"""
What an item of the catalog says of itself, as the two sides of search read it.

The dense side reads one sentence, `server: name. description`. The lexical side counts terms, and a
word in a name counts for more than one in a parameter's description. Definitions come from servers
as they like to send them: what should be text and is not is read as none, and what is endless is
cut.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final, Self

from trunkline.models import Json, Kind
from trunkline.search.terms import split_terms

LONGEST_DENSE: Final = 2_000
"""Characters that are embedded."""

LONGEST_TITLE: Final = 200
"""Characters of them that may be the server's title."""

LONGEST_FIELD: Final = 8_000
"""Characters of each field whose terms are counted."""

MOST_PARAMETERS: Final = 200
"""Parameters that are read: the first ones."""

NAME_WEIGHT: Final = 3.0
PARAMETER_WEIGHT: Final = 0.5
"""
What one occurrence counts for in the name, and among the parameters. Elsewhere it is one.

Weighting counts and not scores is the simple form of BM25F: S. Robertson, H. Zaragoza, M. Taylor,
"Simple BM25 extension to multiple weighted fields", CIKM 2004. The weights are from `bench.search`.
"""

_ABOUT = ("title", "description", "uri", "uriTemplate", "mimeType")


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemText:
    """The texts of one tool, prompt, resource or resource template."""

    server: str
    """What a reader knows its server by."""

    servers: str
    """All that its server is called."""

    name: str
    description: str
    about: str
    """What it says of itself besides its name: title, description, URI, media type."""

    parameters: str
    """The names of its parameters, and what is said of them."""

    @classmethod
    def of(cls, kind: Kind, definition: Json, *, server: str, server_title: str = "") -> Self:
        """Read a definition as its server sent it. Nothing that stands in it is an error."""
        parameters = islice(_parameters(kind, definition), MOST_PARAMETERS)
        return cls(
            server=(_text(server_title) or server)[:LONGEST_TITLE],
            servers=_joined((_text(server_title), server)),
            name=_text(definition.get("name")),
            description=_text(definition.get("description")),
            about=_joined(_text(definition.get(key)) for key in _ABOUT),
            parameters=_joined(chain.from_iterable(parameters)),
        )

    @property
    def dense(self) -> str:
        """The sentence to embed."""
        subject = ": ".join(filter(None, (self.server, self.name)))
        text = ". ".join(filter(None, (subject, self.description)))[:LONGEST_DENSE]
        # Half of a surrogate pair is nothing that a tokenizer or a hash takes.
        return text.encode("utf-8", "replace").decode()

    def count_terms(self) -> dict[str, float]:
        """How often each term occurs, weighted by where, for `Point.terms`."""
        counts: defaultdict[str, float] = defaultdict(float)
        # A title often says the name again, which makes the server's words no more telling.
        _add(counts, dict.fromkeys(split_terms(self.servers)), 1.0)
        _add(counts, split_terms(self.name), NAME_WEIGHT)
        _add(counts, split_terms(self.about), 1.0)
        _add(counts, split_terms(self.parameters), PARAMETER_WEIGHT)
        return dict(counts)


def _add(counts: defaultdict[str, float], terms: Iterable[str], weight: float) -> None:
    for term in terms:
        counts[term] += weight


def _parameters(kind: Kind, definition: Json) -> Iterator[tuple[str, str]]:
    """The name and the description of each parameter, as far as they are text."""
    if kind == "tools":
        schema = definition.get("inputSchema")
        properties = schema.get("properties") if isinstance(schema, dict) else None
        for name, value in properties.items() if isinstance(properties, dict) else ():
            yield _text(name), _text(value.get("description")) if isinstance(value, dict) else ""
    if kind == "prompts":
        arguments = definition.get("arguments")
        for value in arguments if isinstance(arguments, list) else ():
            if isinstance(value, dict):
                yield _text(value.get("name")), _text(value.get("description"))


def _text(value: Any) -> str:
    return value[:LONGEST_FIELD] if isinstance(value, str) else ""


def _joined(texts: Iterable[str]) -> str:
    return " ".join(filter(None, texts))[:LONGEST_FIELD]
