"""`auth` in mcp.json: what it may say, and what it makes of a server."""

from pathlib import Path
from typing import Any

import pytest

from trunkline.downstream.config import Config, read_entry
from trunkline.downstream.oauth_entry import OAuthConfig

URL = "https://mail.example/mcp"


def read(auth: Any, **more: Any) -> Config:
    entry = {"url": URL, "auth": auth, **more}
    entry = {key: value for key, value in entry.items() if value is not None}
    return read_entry("mail", entry, {"SECRET": "s3cret of mail"}, Path.cwd())


@pytest.mark.parametrize("auth", ["oauth", {"type": "oauth"}])
def test_people_log_in_and_have_sessions_of_their_own(auth: Any) -> None:
    (server,) = read(auth).servers

    assert server.oauth == OAuthConfig()
    assert server.sharing == "user"
    assert server.mapped.needs_user


def test_everything_may_be_said_and_no_secret_is_shown() -> None:
    auth = {
        "type": "oauth",
        "client_id": "ours",
        "client_secret": "${SECRET}",
        "scopes": ["read", "write"],
        "issuer": "https://auth.example/tenant",
        "client_metadata_url": "https://gateway.example/client.json",
    }

    (server,) = read(auth).servers

    assert server.oauth == OAuthConfig(
        client_id="ours",
        client_secret="s3cret of mail",
        scopes=("read", "write"),
        issuer="https://auth.example/tenant",
        client_metadata_url="https://gateway.example/client.json",
    )
    assert "s3cret" not in repr(server)


@pytest.mark.parametrize(
    ("auth", "more", "sentence"),
    [
        ("basic", {}, 'it can be "oauth"'),
        (7, {}, "auth"),
        ({}, {}, '"type": "oauth"'),
        ({"type": "basic"}, {}, 'it can be "oauth"'),
        ({"type": "oauth", "clientid": "a"}, {}, "clientid"),
        ({"type": "oauth", "client_secret": "a"}, {}, "client_id"),
        ({"type": "oauth", "client_id": ""}, {}, "empty"),
        ({"type": "oauth", "scopes": ["a b"]}, {}, "without blanks"),
        ({"type": "oauth", "scopes": "a"}, {}, "scopes"),
        ({"type": "oauth", "issuer": "auth.example"}, {}, "issuer"),
        ({"type": "oauth", "issuer": "https://auth.example?a=b"}, {}, "issuer"),
        ({"type": "oauth", "client_metadata_url": "https://gateway.example"}, {}, "path"),
        ({"type": "oauth", "client_metadata_url": "http://gateway.example/a"}, {}, "https"),
        ({"type": "oauth", "client_secret": "${MISSING}", "client_id": "a"}, {}, "MISSING"),
        ("oauth", {"url": None, "command": "mail"}, 'no "url"'),
        ("oauth", {"headers": {"authorization": "Bearer x"}}, "Keep one of them"),
        ("oauth", {"sharing": "org"}, "sharing"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(auth: Any, more: dict[str, Any], sentence: str) -> None:
    config = read(auth, **more)

    assert config.servers == ()
    assert sentence in " ".join(problem.message for problem in config.problems)
