"""Options and environment become settings, or a sentence that says which one is wrong."""

from pathlib import Path

import pytest

from trunkline.cli.options import parse_address, read_settings
from trunkline.errors import SettingsInvalid, UsageError


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever TRUNKLINE_ variables the person running the tests has set are not ours."""
    import os

    for name in os.environ:
        if name.startswith("TRUNKLINE_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9000", "127.0.0.1", 9000),
        ("localhost:9000", "localhost", 9000),
        ("localhost", "localhost", 8080),
        (":9000", "127.0.0.1", 9000),
        ("9000", "127.0.0.1", 9000),
        ("0", "127.0.0.1", 0),
        ("[::1]:9000", "::1", 9000),
        ("[::1]", "::1", 8080),
    ],
)
def test_an_address_may_leave_out_what_is_usual(text: str, host: str, port: int) -> None:
    settings = read_settings(http=text)

    assert (settings.http.host, settings.http.port) == (host, port)


@pytest.mark.parametrize(
    "text", ["::1", "::1:80", "a:b", "http://localhost:80", "127.0.0.1:", "70000", "1:2:3", "a b"]
)
def test_what_is_no_address_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no address to listen on. Write 127.0.0.1:8080"):
        parse_address(text)


def test_the_command_line_wins_over_the_environment_field_by_field(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRUNKLINE_HTTP__HOST", "localhost")
    monkeypatch.setenv("TRUNKLINE_HTTP__STOP_GRACE", "1.5")
    monkeypatch.setenv("TRUNKLINE_LOG_LEVEL", "error")

    settings = read_settings(http=":9000", plugins=(Path("mine"),), log_level="debug")

    assert settings.http.host == "localhost"
    assert settings.http.port == 9000
    assert settings.http.stop_grace == 1.5
    assert settings.plugins.folders == (Path("mine"),)
    assert settings.log_level == "debug"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("TRUNKLINE_DOWNSTREAM__CALL_TIMEOUT", "soon", "CALL_TIMEOUT is 'soon': input should be"),
        ("TRUNKLINE_DOWNSTREAM__CALL_TIMEOUT", "-1", "CALL_TIMEOUT is '-1': input should be gre"),
        ("TRUNKLINE_DOWNSTREAM__CALL_TIMEOT", "5", "no setting TRUNKLINE_DOWNSTREAM__CALL_TIMEOT"),
        ("TRUNKLINE_HTTP__ALLOWED_HOSTS", "a.example", "Lists are written as JSON"),
        ("TRUNKLINE_LOG_LEVEL", "loud", "TRUNKLINE_LOG_LEVEL is 'loud'; choose one of debug"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsInvalid) as caught:
        read_settings()

    assert sentence in str(caught.value)
