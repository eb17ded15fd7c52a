"""
What goes wrong between the Qdrant client and its server, in our words.

The client wraps everything of httpx in one exception and every status in another; its local mode
raises `ValueError`. Here each becomes `IndexUnavailable` (worth a retry) or `IndexRefused` (not).
`ConnectionError` and `TimeoutError` are the words the log has for the two ways of silence.
"""

import json
from collections.abc import Generator
from contextlib import contextmanager

import httpx
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from trunkline.errors import IndexFailure, IndexRefused, IndexUnavailable

_PASSING = frozenset({408, 425, 429})
"""Statuses below 500 that are worth another try (RFC 9110, 15.5.9; RFC 8470; RFC 6585, 4)."""

_SHOWN = 300
"""Characters of Qdrant's own words that an error repeats."""


@contextmanager
def translated() -> Generator[None]:
    """Let the client's errors leave the block as ours."""
    try:
        yield
    except ResourceExhaustedResponse as error:
        after = float(error.retry_after_s)
        raise IndexUnavailable("429 Too Many Requests", retry_after=after) from error
    except QdrantException as error:
        # A `Retry-After` that is a date: the client has no other exception of this class.
        raise IndexUnavailable("429 Too Many Requests") from error
    except UnexpectedResponse as error:
        raise _of_status(error) from error
    except ResponseHandlingException as error:
        raise _of_source(error.source) from error
    except json.JSONDecodeError as error:
        raise _of_source(error) from error
    except ValueError as error:
        raise IndexRefused(f"Qdrant refused: {str(error)[:_SHOWN]}") from error


def _of_status(error: UnexpectedResponse) -> IndexFailure:
    status = error.status_code or 0
    if status >= 500 or status in _PASSING:
        return IndexUnavailable(f"{status} {error.reason_phrase}".rstrip())
    if status in (401, 403):
        return IndexRefused(
            f"Qdrant does not let Trunkline in ({status}). "
            f"Set QDRANT_API_KEY to a key that may manage collections."
        )
    return IndexRefused(f"Qdrant refused ({status}): {_words(error.content)}")


def _of_source(source: Exception) -> IndexFailure:
    if isinstance(source, httpx.TimeoutException):
        return IndexUnavailable("TimeoutError")
    if isinstance(source, httpx.TransportError):
        return IndexUnavailable("ConnectionError", detail=str(source)[:_SHOWN])
    return IndexRefused(
        "What answers at QDRANT_URL does not speak Qdrant's REST interface. Is it another "
        "server, or the gRPC port? REST is on 6333 usually."
    )


def _words(content: bytes) -> str:
    """Qdrant's own sentence, or the beginning of whatever was answered."""
    try:
        return str(json.loads(content)["status"]["error"])[:_SHOWN]
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")[:_SHOWN]
