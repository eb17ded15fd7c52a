"""What random requests have found, each as a test of its own."""

import httpx
import pytest

from tests.fuzz.messages import encode
from tests.fuzz.target import CANARY, Target


@pytest.mark.parametrize("name", [{}, [], {"a": []}, 1, None, True])
def test_a_tool_whose_name_is_no_text_is_refused_in_a_sentence(
    gateway: Target, name: object
) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name}}

    status, answer = gateway.post(encode(call), {"mcp-session-id": gateway.session()})

    assert status == 200
    assert '"code":-32602' in answer
    assert "unhashable" not in answer


def test_asking_for_the_head_of_a_stream_opens_none(gateway: Target) -> None:
    assert gateway.request("HEAD", "/sse")[0] == 405
    assert gateway.request("GET", "/health")[0] == 200


@pytest.mark.parametrize(
    "text",
    [
        f"key={CANARY}",
        "Traceback (most recent call last):",
        '  File "/usr/lib/x.py", line 1',
        "<trunkline.app.App object at 0x7f>",
        '{"error": {"code": 0, "message": "unhashable"}}',
    ],
)
def test_a_leak_would_be_found(gateway: Target, text: str) -> None:
    with pytest.raises(AssertionError):
        gateway.judge(httpx.Response(200), text)


def test_a_500_would_be_found(gateway: Target) -> None:
    with pytest.raises(AssertionError):
        gateway.judge(httpx.Response(500), "")
