"""Results and errors take the form of the client's era, and lose nothing else."""

import pytest

from trunkline.errors import (
    DownstreamUnavailable,
    InvalidArguments,
    ResourceNotFound,
    RpcError,
    ToolNotFound,
    TrunklineError,
)
from trunkline.gateway.shape import listed, rpc_failure, shape, tool_failure
from trunkline.models import Era
from trunkline.wire import META_SERVER_INFO

OURS = {"name": "trunkline", "version": "1"}
THEIRS = {"name": "behind", "version": "2"}


def test_a_handshake_client_gets_a_handshake_result_untouched() -> None:
    result = {"content": [], "x-vendor": 1, "_meta": {"example.com/x": 1}}

    assert shape(result, Era.HANDSHAKE, OURS) is result


def test_a_handshake_client_gets_nothing_of_what_the_modern_era_added() -> None:
    modern = {"resultType": "complete", "ttlMs": 5, "cacheScope": "public", "x": 1}

    assert shape({**modern, "_meta": {META_SERVER_INFO: THEIRS}}, Era.HANDSHAKE, OURS) == {"x": 1}
    assert shape({**modern, "_meta": {META_SERVER_INFO: THEIRS, "y": 2}}, Era.HANDSHAKE, OURS) == {
        "x": 1,
        "_meta": {"y": 2},
    }


def test_a_modern_client_gets_the_gateways_own_signature() -> None:
    result = {"content": [], "_meta": {META_SERVER_INFO: THEIRS, "y": 2}}

    assert shape(result, Era.MODERN, OURS) == {
        "resultType": "complete",
        "content": [],
        "_meta": {META_SERVER_INFO: OURS, "y": 2},
    }


def test_a_read_is_private_and_not_to_be_kept_unless_the_server_says_otherwise() -> None:
    silent = shape({"contents": []}, Era.MODERN, OURS, cacheable=True)
    told = {"contents": [], "ttlMs": 7, "cacheScope": "public"}
    kept = shape(told, Era.MODERN, OURS, cacheable=True)

    assert (silent["ttlMs"], silent["cacheScope"]) == (0, "private")
    assert (kept["ttlMs"], kept["cacheScope"]) == (7, "public")


def test_a_question_is_never_cacheable() -> None:
    question = {"resultType": "input_required", "inputRequests": {}}

    assert "ttlMs" not in shape(question, Era.MODERN, OURS, cacheable=True)


def test_a_meta_that_is_no_object_does_no_harm() -> None:
    assert shape({"_meta": 3}, Era.MODERN, OURS)["_meta"] == {META_SERVER_INFO: OURS}
    assert shape({"_meta": 3}, Era.HANDSHAKE, OURS) == {"_meta": 3}


def test_a_list_says_how_long_it_keeps_to_modern_clients_only() -> None:
    modern = listed("tools", [], Era.MODERN, OURS, ttl_ms=9, cache_scope="public")
    handshake = listed("tools", [], Era.HANDSHAKE, OURS, ttl_ms=9, cache_scope="public")

    assert (modern["ttlMs"], modern["cacheScope"]) == (9, "public")
    assert handshake == {"tools": []}


def test_a_server_that_is_away_is_a_result_the_model_can_read() -> None:
    result = tool_failure(DownstreamUnavailable("one", "it has ended."))

    assert result["isError"] is True
    assert "'one' is not available: it has ended." in result["content"][0]["text"]
    assert result["_meta"]["trunkline/error"] == {"code": "downstream_unavailable", "server": "one"}


@pytest.mark.parametrize(
    ("error", "handshake", "modern"),
    [
        (RpcError(-31000, "x", {"y": 1}), -31000, -31000),
        (RpcError(-32002, "x"), -32002, -32602),
        (ResourceNotFound("a://b"), -32002, -32602),
        (ToolNotFound("x"), -32602, -32602),
        (InvalidArguments("x"), -32602, -32602),
        (DownstreamUnavailable("one", "x"), -32603, -32603),
    ],
)
def test_an_error_has_the_code_of_the_clients_era(
    error: TrunklineError, handshake: int, modern: int
) -> None:
    assert rpc_failure(error, "any", Era.HANDSHAKE).error.code == handshake
    assert rpc_failure(error, "any", Era.MODERN).error.code == modern


def test_the_data_of_an_error_says_what_a_program_can_use() -> None:
    tool = rpc_failure(ToolNotFound("ecko", similar=["echo"]), "tools/call", Era.MODERN)
    resource = rpc_failure(ResourceNotFound("a://b"), "resources/read", Era.HANDSHAKE)
    theirs = rpc_failure(RpcError(-1, "x", [None]), "tools/call", Era.MODERN)

    assert tool.error.data == {"code": "tool_not_found", "similar": ["echo"]}
    assert resource.error.data == {"code": "resource_not_found", "uri": "a://b"}
    assert theirs.error.data == [None]
