"""
Embeddings from any endpoint that speaks OpenAI's `POST /embeddings`.

Everything the endpoint can do wrong ends as a sentence here: what may pass is tried again until the
deadline for the whole, what will not pass is said at once, and an answer is looked at before it is
believed. The key is sent in one header and shown nowhere.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import numpy as np
import stamina
from numpy.typing import NDArray
from pydantic import SecretStr

from trunkline.errors import (
    EmbeddingInvalid,
    EmbeddingRefused,
    EmbeddingUnavailable,
    SettingsInvalid,
)
from trunkline.wire import decode, encode

LONGEST_TEXT: Final = 8_000
"""Characters of a text that are sent: some 2,000 tokens. Endpoints refuse what is too long."""

LONGEST_QUOTE: Final = 200
"""Characters of the endpoint's own words that an error repeats."""

_WORTH_RETRYING: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 529})


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the vectors come from, and how long they may take."""

    url: str
    """The base, such as `https://api.openai.com/v1`, or the whole address of `/embeddings`."""

    model: str
    dimensions: int
    key: SecretStr | None = None
    batch: int = 64
    """Texts in one request."""

    timeout: float = 20.0
    """Seconds one request may take."""

    deadline: float = 120.0
    """Seconds one `embed` may take with all its requests, attempts and pauses."""

    attempts: int = 4
    """How often one request is tried."""

    pause: float = 0.5
    """Seconds before the second attempt; doubled for each after it."""


@asynccontextmanager
async def open_endpoint(endpoint: Endpoint) -> "AsyncGenerator[EndpointEmbedding]":
    """
    The embedding behind *endpoint*, and its connections, for the life of the block.

    Asks nothing yet. Raises `SettingsInvalid` for an address or a key that can never work.
    """
    headers = {"Content-Type": "application/json", **_authorization(endpoint.key)}
    url = _address(endpoint.url)
    async with httpx.AsyncClient(headers=headers, timeout=endpoint.timeout) as client:
        yield EndpointEmbedding(endpoint, url, client)


class EndpointEmbedding:
    """An `Embedding` that somebody else computes."""

    def __init__(self, endpoint: Endpoint, url: httpx.URL, client: httpx.AsyncClient) -> None:
        self.model, self.dimensions = endpoint.model, endpoint.dimensions
        self._endpoint, self._url, self._client = endpoint, url, client

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """See `Embedding.embed`. What the endpoint does not take, an empty text, is not sent."""
        rows = np.zeros((len(texts), self.dimensions), np.float32)
        sent = [number for number, text in enumerate(texts) if text.strip()]
        try:
            async with asyncio.timeout(self._endpoint.deadline):
                for start in range(0, len(sent), self._endpoint.batch):
                    batch = sent[start : start + self._endpoint.batch]
                    rows[batch] = await self._embed([_sendable(texts[n]) for n in batch])
        except TimeoutError as error:
            raise self._late(self._endpoint.deadline) from error
        return rows

    async def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        """One request, tried as often as it makes sense."""
        body = encode({"model": self.model, "input": texts, "encoding_format": "float"})
        async for attempt in stamina.retry_context(
            on=self._wait_before_retry,
            attempts=self._endpoint.attempts,
            timeout=None,
            wait_initial=self._endpoint.pause,
            wait_max=self._endpoint.pause * 16,
            wait_jitter=self._endpoint.pause / 2,
        ):
            with attempt:
                return self._vectors(await self._post(body), len(texts))
        raise AssertionError  # the last attempt returns or raises

    async def _post(self, body: bytes) -> bytes:
        """The answer to one request that was taken."""
        try:
            response = await self._client.post(self._url, content=body)
        except httpx.TimeoutException as error:
            raise self._late(self._endpoint.timeout) from error
        except httpx.TransportError as error:
            raise EmbeddingUnavailable(
                f"The embedding endpoint at {self._url.host} cannot be reached "
                f"({type(error).__name__}). Check that it runs and that its address is right."
            ) from error
        if response.is_success:
            return response.content
        raise self._refusal(response)

    def _wait_before_retry(self, error: Exception) -> bool | float:
        """Whether to try again, and after how many seconds if the endpoint has named them."""
        if not isinstance(error, EmbeddingUnavailable):
            return False
        if error.retry_after is None:
            return True
        return error.retry_after <= self._endpoint.deadline and error.retry_after

    def _late(self, seconds: float) -> EmbeddingUnavailable:
        return EmbeddingUnavailable(
            f"The embedding endpoint at {self._url.host} did not answer within {seconds:g} "
            f"seconds. Check that it runs, or give it more time."
        )

    def _refusal(self, response: httpx.Response) -> EmbeddingUnavailable | EmbeddingRefused:
        status, host = response.status_code, self._url.host
        if status in _WORTH_RETRYING:
            return EmbeddingUnavailable(
                f"The embedding endpoint at {host} is not able to answer now (status {status}). "
                f"Try again later.",
                retry_after=_seconds(response.headers.get("Retry-After")),
            )
        if status in (401, 403):
            return EmbeddingRefused(
                f"The embedding endpoint at {host} does not accept the key (status {status}). "
                f"Set EMBEDDING_KEY to one that may use the model {self.model!r}."
            )
        return EmbeddingRefused(
            f"The embedding endpoint at {host} refuses the request (status {status}"
            f"{self._quote(response)}). Check its address and the model {self.model!r}."
        )

    def _quote(self, response: httpx.Response) -> str:
        """The endpoint's own message, where it has one that can be shown."""
        try:
            message = str(decode(response.content)["error"]["message"])
        except (ValueError, LookupError, TypeError):
            return ""
        if self._endpoint.key and (secret := self._endpoint.key.get_secret_value().strip()):
            message = message.replace(secret, "***")
        return f": {message[:LONGEST_QUOTE]}"

    def _vectors(self, answer: bytes, count: int) -> NDArray[np.float32]:
        """The vectors in an answer, in the order of the texts. Raises `EmbeddingInvalid`."""
        try:
            with np.errstate(over="ignore"):
                rows = np.asarray(_in_order(decode(answer)["data"]), np.float32)
        except (ValueError, LookupError, TypeError, OverflowError) as error:
            raise self._invalid("something that is not a list of vectors") from error
        if len(rows) != count:
            raise self._invalid(f"{len(rows)} vectors to {count} texts")
        if rows.shape != (count, self.dimensions):
            found = rows.shape[-1]
            raise EmbeddingInvalid(
                f"The model {self.model!r} makes vectors of {found} numbers, not of "
                f"{self.dimensions}. Set EMBEDDING_DIMENSIONS to {found} if that model is meant."
            )
        if not np.isfinite(rows).all():
            raise self._invalid("vectors with values that are no numbers")
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)

    def _invalid(self, what: str) -> EmbeddingInvalid:
        return EmbeddingInvalid(
            f"The embedding endpoint at {self._url.host} answered with {what}. "
            f"Check that {self.model!r} is an embedding model."
        )


def _address(url: str) -> httpx.URL:
    """Where the requests go."""
    try:
        base = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
        raise SettingsInvalid(f"EMBEDDING_URL cannot be read: {error}.") from error
    if base.scheme not in ("http", "https") or not base.host:
        raise SettingsInvalid(
            "EMBEDDING_URL is no address of an endpoint. "
            "It begins like https://api.openai.com/v1 or http://127.0.0.1:11434/v1."
        )
    path = base.path.rstrip("/").removesuffix("/embeddings")
    return base.copy_with(path=f"{path}/embeddings")


def _authorization(key: SecretStr | None) -> dict[str, str]:
    secret = key.get_secret_value().strip() if key else ""
    if not (secret.isascii() and secret.isprintable()):
        raise SettingsInvalid("EMBEDDING_KEY has characters that no key has. Copy it once more.")
    return {"Authorization": f"Bearer {secret}"} if secret else {}


def _sendable(text: str) -> str:
    """*text*, cut, and without halves of surrogate pairs, which JSON cannot say in UTF-8."""
    return text[:LONGEST_TEXT].encode("utf-8", "replace").decode()


def _in_order(data: Any) -> list[Any]:
    """The vectors by their `index`, which must be 0, 1, 2, … in any order."""
    by_index = {int(item["index"]): item["embedding"] for item in data}
    return [by_index[index] for index in range(len(by_index))]


def _seconds(retry_after: str | None) -> float | None:
    """A `Retry-After` in seconds; None for none, and for a date (RFC 9110, 10.2.3)."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None
