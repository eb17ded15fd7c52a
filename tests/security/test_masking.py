"""Secrets in texts: what is found, what is left alone, and where secrets are looked for."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from trunkline.downstream.config import read_entry
from trunkline.models import Json
from trunkline.security.masking.masking import MASK, PASSING, Secrets
from trunkline.security.masking.sources import secrets_of_server, secrets_of_settings
from trunkline.settings import SearchSettings, Settings, VaultSettings

SECRET = "s3cr3t-v4lue"


def knowing(*values: str) -> Secrets:
    secrets = Secrets()
    secrets.learn("test", values)
    return secrets


# -- known secrets ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SECRET, MASK),
        (f"before {SECRET} after", f"before {MASK} after"),
        (SECRET + SECRET, MASK + MASK),
        (f"x{SECRET}", f"x{MASK}"),
        (SECRET[:-1], SECRET[:-1]),
        (f"{SECRET[:8]}{SECRET}", f"{SECRET[:8]}{MASK}"),
        ("", ""),
        ("short", "short"),
    ],
)
def test_a_known_secret_is_masked_wherever_it_stands(text: str, expected: str) -> None:
    assert knowing(SECRET).mask(text) == expected


@pytest.mark.parametrize(
    "secret",
    ['quo"ted\\back', "spa ces & more", "ünïcödé-sécret", "line\nbreak-secret", "a@b:c/d?e="],
)
def test_a_secret_is_found_as_json_and_urls_write_it(secret: str) -> None:
    masked = knowing(secret)

    for written in (secret, json.dumps({"key": secret}), quote(secret, safe=""), repr(secret)):
        assert secret not in masked.mask(written)
        assert MASK in masked.mask(written), written
    assert json.loads(masked.mask(json.dumps({"key": secret}))) == {"key": MASK}


def test_of_secrets_that_begin_alike_the_longest_is_masked() -> None:
    secrets = knowing("password", "password-1", "password-12")

    assert secrets.mask("password-12 password-1 password") == f"{MASK} {MASK} {MASK}"


def test_what_is_too_short_to_tell_from_a_word_is_left() -> None:
    assert knowing("debug", "").mask("debug mode is on") == "debug mode is on"


def test_what_is_no_longer_configured_is_no_longer_masked() -> None:
    secrets = Secrets()
    secrets.learn("one", ["first-secret", "shared-secret"])
    secrets.learn("two", ["shared-secret"])

    secrets.learn("one", ["second-secret"])

    text = "first-secret second-secret shared-secret"
    assert secrets.mask(text) == f"first-secret {MASK} {MASK}"
    secrets.learn("two", [])
    assert secrets.mask("shared-secret") == "shared-secret"


def test_credentials_of_people_make_room_for_newer_ones() -> None:
    secrets = Secrets()
    secrets.learn("configuration", ["fixed-secret"])
    secrets.meet(f"token-number-{number}" for number in range(PASSING + 1))

    assert secrets.mask("token-number-0 is old") == "token-number-0 is old"
    assert secrets.mask(f"token-number-{PASSING} is new") == f"{MASK} is new"
    assert secrets.mask("fixed-secret") == MASK


def test_everything_within_a_value_is_masked_and_the_rest_stays() -> None:
    value = {"a": [SECRET, 1, None, True, {SECRET: (SECRET,)}], "b": 1.5}

    assert knowing(SECRET).mask_all(value) == {
        "a": [MASK, 1, None, True, {MASK: [MASK]}],
        "b": 1.5,
    }


# -- what secrets look like -------------------------------------------------------------------

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abcdef123456", f"Authorization: Bearer {MASK}"),
        ("'authorization': 'bearer abcdef123456'", f"'authorization': 'bearer {MASK}'"),
        ("Basic dXNlcjpwYXNzd29yZA==", f"Basic {MASK}"),
        (f"it was {JWT}.", f"it was {MASK}."),
        ("key tk_ab12cd_abcdefghijklmnop234567", f"key tk_{MASK}"),
        ("postgresql://me:hunter2@db/x", f"postgresql://me:{MASK}@db/x"),
        ("redis://:hunter2@cache:6379/0", f"redis://:{MASK}@cache:6379/0"),
        ("https://me:p@ss:w0rd@example.com/", f"https://me:{MASK}@example.com/"),
    ],
)
def test_what_looks_like_a_secret_is_masked_unknown(text: str, expected: str) -> None:
    assert Secrets().mask(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The server 'github' is not available: nothing answers at http://127.0.0.1:8080.",
        "Bearer tokens are not passed on.",
        "There is no tool named 'token_count'.",
        "http://127.0.0.1:8080/mcp and mail@example.com",
        '{"url": "http://localhost:80", "mail": "a@b.c"}',
        '{"url":"http://localhost:80","mail":"a@b.c"}',
        "It waits for somebody with a token 'github' of their own.",
        "basic authentication",
        "see https://example.com/a@b and https://example.com:443/@me",
    ],
)
def test_ordinary_sentences_are_left_alone(text: str) -> None:
    assert Secrets().mask(text) == text


def test_a_text_made_to_take_long_takes_no_longer() -> None:
    secrets = knowing("aaaaaaaaaaaaaaaaaaaaaaaab")
    hostile = ("a" * 50_000, "Bearer " * 10_000, "://" * 20_000, "eyJ" * 20_000, "tk_a" * 20_000)

    for text in hostile:
        secrets.mask(text)


# -- where secrets are ------------------------------------------------------------------------


def of(entry: Json) -> list[str]:
    return secrets_of_server(read_entry("one", entry, {}, Path()).servers[0])


def masked_of(entry: Json, texts: Iterable[str]) -> list[str]:
    secrets = Secrets()
    secrets.learn("one", of(entry))
    return [secrets.mask(text) for text in texts]


@pytest.mark.parametrize(
    "entry",
    [
        {"url": "https://x/", "headers": {"Authorization": f"Bearer {SECRET}"}},
        {"url": "https://x/", "headers": {"X-Api-Key": SECRET}},
        {"url": "https://x/", "headers": {"X-Whatever": SECRET}},
        {"url": "https://x/", "headers": {"X-Who": f"{SECRET} ${{user.name}}"}},
        {"url": f"https://me:{SECRET}@x/"},
        {"url": f"https://x/?apikey={SECRET}"},
        {"url": "https://x/", "health_url": f"https://x/health?k={SECRET}"},
        {"command": "x", "env": {"GITHUB_TOKEN": SECRET}},
        {"command": "x", "env": {"GH_PAT": SECRET}},
        {"command": "x", "env": {"DATABASE_URL": f"postgresql://me:{SECRET}@db/x"}},
        {"command": "x", "args": ["--api-key", SECRET]},
        {"command": "x", "args": [f"--token={SECRET}"]},
        {"command": "x", "args": ["--header", f"Authorization: Bearer {SECRET}"]},
        {"command": "x", "args": [f"postgresql://me:{SECRET}@db/x"]},
    ],
)
def test_a_secret_of_mcp_json_is_known(entry: Json) -> None:
    assert masked_of(entry, [SECRET]) == [MASK]


def test_what_is_plainly_harmless_in_mcp_json_stays_readable() -> None:
    entry: Json = {
        "command": "x",
        "args": ["--log-level", "information", "/srv/data/folder", "server.py"],
        "env": {
            "PATH": "/usr/local/bin:/usr/bin",
            "NODE_ENV": "production",
            "API_URL": "https://api.example.com/v1",
            "API_PORT": "80808080",
            "FEATURE": "true",
        },
    }
    words = ("information", "/srv/data/folder", "production", "https://api.example.com/v1")

    assert masked_of(entry, words) == list(words)


def test_the_secrets_of_the_settings_are_known() -> None:
    settings = Settings(
        database_url=SecretStr("postgresql://me:database-password@db/x"),
        redis_url=SecretStr("redis://:redis-password@cache/0"),
        qdrant_url="http://me:qdrant-password@vectors:6333",
        qdrant_api_key=SecretStr("qdrant-api-key"),
        embedding_url="https://embedding/v1?key=embedding-url-key",
        embedding_key=SecretStr("embedding-key"),
        search=SearchSettings(skills_key=SecretStr("skills-key-1")),
        vault=VaultSettings(key=SecretStr("vault-key-1"), old_keys=(SecretStr("vault-key-2"),)),
    )
    secrets = knowing(*secrets_of_settings(settings))

    kept = ("database-password", "redis-password", "qdrant-api-key", "embedding-key")
    kept += ("skills-key-1", "vault-key-1", "vault-key-2")
    for secret in (*kept, "qdrant-password", "embedding-url-key"):
        assert secrets.mask(secret) == MASK, secret
    for secret in kept:
        assert secret not in repr(settings), secret


# -- logs -------------------------------------------------------------------------------------

LOGGING = """
import logging, structlog
from trunkline import logs
from trunkline.security.masking.masking import SECRETS

SECRETS.learn("test", ["s3cr3t-v4lue"])
logs.configure("debug", mask=SECRETS.mask_all)
log = structlog.get_logger("test")
log.info("thing.done", text="s3cr3t-v4lue", inner={"list": ["s3cr3t-v4lue"]}, number=1)
log.bind(bound="s3cr3t-v4lue").warning("thing.failed s3cr3t-v4lue")
try:
    raise ValueError("s3cr3t-v4lue")
except ValueError as error:
    log.exception("thing.crashed", error=error, reason=str(error))
    logging.getLogger("library").exception("library s3cr3t-v4lue %s", "s3cr3t-v4lue")
log.info("x", **{"s3cr3t-v4lue": 1})
"""


def test_no_log_line_holds_a_secret() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LOGGING], capture_output=True, text=True, timeout=60, check=True
    )

    lines = ended.stderr.splitlines()
    assert "s3cr3t-v4lue" not in ended.stderr
    first = json.loads(lines[0])
    assert first["text"] == MASK
    assert first["inner"] == {"list": [MASK]}
    assert first["number"] == 1
    assert "ValueError" in ended.stderr
    assert f"library {MASK} {MASK}" in ended.stderr
