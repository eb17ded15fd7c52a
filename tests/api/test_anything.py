"""Whatever is sent to whatever route: an answer that fits the description, and no fault of ours."""

import json
from urllib.parse import quote

import anyio
import anyio.from_thread
import anyio.to_thread
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.office import Office
from trunkline.models import Json

pytestmark = pytest.mark.anyio

TEXT = st.text(max_size=40) | st.sampled_from(["mail", "send", "*", "\0", "..", "a/b", "x" * 300])
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)
NAMES = ("name", "config", "org", "user", "role", "allow", "deny", "orgs", "expires_at")
BODY = st.none() | st.dictionaries(st.sampled_from([*NAMES, "hash", "grace_seconds"]), VALUE)

QUERY = st.dictionaries(
    st.sampled_from(["limit", "cursor", "state", "since", "changed", "open", "who", "what"]), TEXT
)
WHO = st.sampled_from(["root", "admin", "operator", "limited", "newcomer", "loopback"])


@st.composite
def requests(draw: st.DrawFn, described: Json) -> Json:
    """A request to one of the routes, of any content."""
    path = draw(st.sampled_from(sorted(described["paths"])))
    method = draw(st.sampled_from(sorted(described["paths"][path])))
    for part in ("server", "tool", "key", "approval"):
        path = path.replace(f"{{{part}}}", quote(draw(TEXT.filter(bool)), safe=""))
    body = draw(BODY)
    return {
        "method": method.upper(),
        "path": path,
        "params": draw(QUERY),
        "content": None if body is None else json.dumps(body),
        "headers": {"content-type": "application/json"},
        "person": draw(WHO),
    }


async def test_whatever_is_sent_is_no_fault_of_ours(office: Office) -> None:
    await office.pin("acme", "mail", "send", "Sends.", "Sends more.")
    described = (await office.ask("user", "GET", "/openapi.json")).json()

    async def send(request: Json) -> httpx.Response:
        return await office.ask(**request)

    @settings(
        max_examples=150,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(request=requests(described))
    def try_all(request: Json) -> None:
        answer = anyio.from_thread.run(send, request)
        assert answer.status_code < 500, answer.text
        if answer.is_error:
            assert answer.json()["status"] == answer.status_code
            assert "Traceback" not in answer.text

    await anyio.to_thread.run_sync(try_all)

    assert [event for event in office.events if event.code == "unexpected"] == []
