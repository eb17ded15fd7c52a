"""Skills from a model: a real HTTP server that answers well, badly, late or never."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import numpy as np
import pytest
from aiohttp import web
from pydantic import SecretStr
from structlog.testing import capture_logs

from trunkline.search.skill_endpoint import (
    ATTEMPTS,
    BATCH,
    LONGEST_TEXT,
    EndpointClassifier,
    SkillEndpoint,
    open_endpoint_classifiers,
)
from trunkline.search.skills import Floats, Skill

pytestmark = pytest.mark.anyio

KEY = "sk-not-to-be-shown"
OFFLINE = [Skill("offline", 0.5)]
WEATHER = [Skill("weather", 0.9)]


class Card(NamedTuple):
    name: str
    description: str
    keywords: tuple[str, ...] = ()


CARDS = [Card("email", "Letters."), Card("weather", "Rain."), Card("music", "Songs.")]


class Offline:
    """A classifier whose answer can be told from the model's."""

    async def classify(self, texts: Sequence[str], vectors: Floats) -> list[list[Skill]]:
        return [OFFLINE for _ in texts]


class Model:
    """What the server was asked, and the ways in which it answers: the last one for ever."""

    def __init__(self, *ways: "Way") -> None:
        self.ways = list(ways)
        self.asked: list[Any] = []
        self.keys: list[str | None] = []
        self.over = asyncio.Event()

    @property
    def tools(self) -> list[Any]:
        """The tools of the last request."""
        return json.loads(self.asked[-1]["messages"][1]["content"])["tools"]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        self.keys.append(request.headers.get("Authorization"))
        way = self.ways.pop(0) if len(self.ways) > 1 else self.ways[0]
        return await way(self, request)


Way = Callable[[Model, web.Request], Awaitable[web.StreamResponse]]


def says(content: Any) -> Way:
    """Answer with a message of this content."""

    async def answer(model: Model, request: web.Request) -> web.StreamResponse:
        text = content if isinstance(content, str) else json.dumps(content)
        return web.json_response({"choices": [{"message": {"role": "assistant", "content": text}}]})

    return answer


def gives(number: int, *skills: tuple[str, float]) -> Any:
    named = [{"name": name, "confidence": confidence} for name, confidence in skills]
    return {"number": number, "skills": named}


async def well(model: Model, request: web.Request) -> web.StreamResponse:
    """Every tool is about the weather."""
    tools = [gives(tool["number"], ("weather", 0.9)) for tool in model.tools]
    return await says({"tools": tools})(model, request)


def status(code: int, **headers: str) -> Way:
    """Refuse, and repeat the key, as some servers do."""

    async def answer(model: Model, request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text=f"Bad key {model.keys[-1]}", headers=headers)

    return answer


def raw(text: str) -> Way:
    async def answer(model: Model, request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type="application/json")

    return answer


async def never(model: Model, request: web.Request) -> web.StreamResponse:
    await model.over.wait()
    return web.Response()


async def hang_up(model: Model, request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@asynccontextmanager
async def asking(model: Model, **changes: Any) -> AsyncGenerator[EndpointClassifier]:
    """A classifier that asks *model* over loopback."""
    application = web.Application(client_max_size=2**24)
    application.router.add_post("/v1/chat/completions", model.answer)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        settings: dict[str, Any] = {
            "url": f"http://127.0.0.1:{runner.addresses[0][1]}/v1",
            "key": SecretStr(KEY),
            "first_wait": 0.01,
            "timeout": 10.0,
        }
        endpoint = SkillEndpoint(model="judge", **(settings | changes))
        with anyio.fail_after(60):
            async with open_endpoint_classifiers(endpoint) as make:
                classifier = make(CARDS, Offline())
                yield classifier
    finally:
        model.over.set()
        await runner.cleanup()


async def classify(classifier: EndpointClassifier, *texts: str) -> list[list[Skill]]:
    return await classifier.classify(texts, np.zeros((len(texts), 4), np.float32))


async def test_the_model_says_which_skills_a_tool_has() -> None:
    model = Model(says({"tools": [gives(1, ("music", 0.7), ("email", 0.95)), gives(2)]}))

    async with asking(model) as classifier:
        skills = await classify(classifier, "radio: send", "things: nothing")

    assert skills == [[Skill("email", 0.95), Skill("music", 0.7)], []]
    (asked,) = model.asked
    assert asked["model"] == "judge"
    assert "- weather: Rain." in asked["messages"][0]["content"]
    assert [tool["text"] for tool in model.tools] == ["radio: send", "things: nothing"]
    assert model.keys == [f"Bearer {KEY}"]


async def test_without_a_key_none_is_sent() -> None:
    model = Model(well)

    async with asking(model, key=None) as classifier:
        assert await classify(classifier, "a") == [WEATHER]

    assert model.keys == [None]


async def test_many_tools_are_asked_about_in_batches_and_long_texts_are_cut() -> None:
    model = Model(well)
    texts = ["x" * 100_000] * (2 * BATCH + 1)

    async with asking(model) as classifier:
        skills = await classify(classifier, *texts)
        assert await classify(classifier) == []

    assert skills == [WEATHER] * len(texts)
    assert len(model.asked) == 3
    assert {len(tool["text"]) for tool in model.tools} == {LONGEST_TEXT}


@pytest.mark.parametrize("around", ["```json\n%s\n```", "Here you are: %s I hope it helps.", "%s"])
async def test_what_stands_around_the_answer_is_passed_over(around: str) -> None:
    reply = {"note": 1, "tools": [gives(1, ("weather", 0.9)) | {"why": "It rains."}]}

    async with asking(Model(says(around % json.dumps(reply)))) as classifier:
        assert await classify(classifier, "a") == [WEATHER]


async def test_only_skills_that_exist_and_tools_that_were_asked_about_are_taken() -> None:
    reply = [
        gives(1, ("weather", 0.9), ("root access", 1.0)),
        gives(3, ("email", 1.0)),
        gives(0, ("email", 1.0)),
        gives(-1, ("email", 1.0)),
    ]

    async with asking(Model(says({"tools": reply}))) as classifier:
        skills = await classify(classifier, "a", "b")

    assert skills == [WEATHER, OFFLINE]


async def test_no_tool_gets_more_than_three_skills_or_one_that_is_hardly_sure() -> None:
    cards = [Card(f"skill{number}", "") for number in range(6)]
    reply = gives(1, *((card.name, 0.1 + number / 10) for number, card in enumerate(cards)))
    model = Model(says({"tools": [reply]}))

    async with asking(model) as classifier:
        endpoint = classifier.endpoint
        async with open_endpoint_classifiers(endpoint) as make:
            other = make(cards, Offline())
            (skills,) = await classify(other, "a")

    assert [skill.name for skill in skills] == ["skill5", "skill4", "skill3"]


@pytest.mark.parametrize(
    "way",
    [
        says("I cannot do that."),
        says(""),
        says("}{"),
        says('{"tools": [{"number": "one", "skills": []}]}'),
        says({"tools": [gives(1, ("weather", 1.5))]}),
        says('{"tools": [{"number": 1, "skills": [{"name": "weather", "confidence": NaN}]}]}'),
        says({"tools": {"1": "weather"}}),
        says("[" * 100_000),
        raw('{"choices": []}'),
        raw('{"choices": [{"message": {"content": null}}]}'),
        raw("<html>Welcome</html>"),
        raw(""),
        status(401),
        status(403),
        status(404),
        status(307, Location="http://127.0.0.1:9/"),
    ],
)
async def test_what_cannot_be_used_is_not_asked_for_again(way: Way) -> None:
    model = Model(way)

    async with asking(model) as classifier:
        with capture_logs() as logs:
            skills = await classify(classifier, "a", "b")

    assert skills == [OFFLINE, OFFLINE]
    assert len(model.asked) == 1
    assert [line["event"] for line in logs] == ["skills.endpoint_down"]
    assert logs[0]["offline"] == 2
    assert KEY not in repr(logs) + repr(classifier) + repr(classifier.endpoint)


@pytest.mark.parametrize(
    "way", [status(500), status(503), status(429), status(429, **{"Retry-After": "0"}), hang_up]
)
async def test_what_may_pass_is_tried_again(way: Way) -> None:
    model = Model(way, way, well)

    async with asking(model) as classifier:
        assert await classify(classifier, "a") == [WEATHER]

    assert len(model.asked) == ATTEMPTS


@pytest.mark.parametrize("way", [status(500), hang_up])
async def test_what_does_not_pass_is_given_up(way: Way) -> None:
    model = Model(way)

    async with asking(model) as classifier:
        with capture_logs() as logs:
            skills = await classify(classifier, *"abcdefghijklmnopqrstuvwxyz")

    assert skills == [OFFLINE] * 26
    assert len(model.asked) == ATTEMPTS
    assert [line["event"] for line in logs].count("skills.endpoint_down") == 1
    assert KEY not in repr(logs)


@pytest.mark.parametrize("limits", [{"deadline": 0.1}, {"timeout": 0.05}])
async def test_an_endpoint_that_never_answers_is_not_waited_for(limits: dict[str, float]) -> None:
    model = Model(never)

    async with asking(model, **limits) as classifier:
        with capture_logs() as logs:
            skills = await classify(classifier, "a")

    assert skills == [OFFLINE]
    assert [line["event"] for line in logs].count("skills.endpoint_down") == 1


async def test_an_endpoint_that_asks_for_patience_gets_it_within_the_deadline() -> None:
    model = Model(status(429, **{"Retry-After": "3600"}), well)

    async with asking(model, deadline=0.2) as classifier:
        assert await classify(classifier, "a") == [OFFLINE]

    assert len(model.asked) == 1


async def test_an_endpoint_that_is_not_there_is_told_of_once() -> None:
    # Port 9 is "discard" (RFC 863), which nobody serves on loopback.
    endpoint = SkillEndpoint(url="http://127.0.0.1:9/v1", model="judge", first_wait=0.01)

    with anyio.fail_after(60), capture_logs() as logs:
        async with open_endpoint_classifiers(endpoint) as make:
            classifier = make(CARDS, Offline())
            assert await classify(classifier, "a") == [OFFLINE]
            assert await classify(classifier, "a") == [OFFLINE]

    assert [line["event"] for line in logs].count("skills.endpoint_down") == 1


async def test_after_a_failure_it_is_left_alone_and_then_asked_again() -> None:
    model = Model(status(401), well)

    async with asking(model, pause=3600) as classifier:
        assert await classify(classifier, "a") == [OFFLINE]
        assert await classify(classifier, "a") == [OFFLINE]
        assert len(model.asked) == 1

    model = Model(status(401), status(401), well)
    async with asking(model, pause=0) as classifier:
        with capture_logs() as logs:
            answers = [await classify(classifier, "a") for _ in range(4)]

    assert answers == [[OFFLINE], [OFFLINE], [WEATHER], [WEATHER]]
    assert [line["event"] for line in logs] == ["skills.endpoint_down", "skills.endpoint_up"]


async def test_what_was_answered_before_a_failure_is_kept() -> None:
    model = Model(well, status(401))

    async with asking(model) as classifier:
        skills = await classify(classifier, *["a"] * (BATCH + 2))

    assert skills == [WEATHER] * BATCH + [OFFLINE] * 2
