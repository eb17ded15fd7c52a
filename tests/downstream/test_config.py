"""mcp.json is read as people write it, and what is wrong with it is said with its place."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trunkline.downstream.config import (
    Config,
    ServerConfig,
    ToolRules,
    difference,
    read_config,
)
from trunkline.downstream.server_entry import ALIASES, KEYS, PASSED_OVER, REFUSED

Read = Callable[[str | dict[str, Any]], Config]

ENVIRON = {"HOME": "/home/ada", "TOKEN": "s3cret"}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read a file with this text, or with these servers."""

    def read(content: str | dict[str, Any]) -> Config:
        text = content if isinstance(content, str) else json.dumps({"mcpServers": content})
        path = tmp_path / "mcp.json"
        path.write_text(text, encoding="utf-8")
        return read_config(path, ENVIRON)

    return read


def only(config: Config) -> ServerConfig:
    """The one server of a configuration without problems."""
    assert config.problems == ()
    (server,) = config.servers
    return server


# -- what is understood -------------------------------------------------------------------------


def test_every_key_is_read(read: Read, tmp_path: Path) -> None:
    config = read(
        {
            "a": {
                "command": "run-me",
                "args": ["--token", "${TOKEN}", "${PORT:-80}"],
                "env": {"HOME": "${userHome}", "EMPTY": ""},
                "cwd": "inside",
                "transport": "stdio",
                "type": "local",
                "disabled": False,
                "lazy": True,
                "sharing": "client",
                "timeout": 5,
                "idle_timeout": 0.5,
                "namespace": "",
                "tools": {
                    "allow": ["a*"],
                    "deny": ["b"],
                    "rename": {"a1": "one"},
                    "cache": {"get_*": 60, "a1": 0},
                    "risk": {"a*": "HIGH"},
                },
                "org": "acme",
                "health_url": "http://localhost/${TOKEN}",
            }
        }
    )

    assert only(config) == ServerConfig(
        name="a",
        transport="stdio",
        command="run-me",
        args=("--token", "s3cret", "80"),
        env={"HOME": "/home/ada", "EMPTY": ""},
        cwd=str(tmp_path / "inside"),
        lazy=True,
        sharing="client",
        timeout=5.0,
        idle_timeout=0.5,
        namespace="",
        tools=ToolRules(
            allow=("a*",),
            deny=("b",),
            rename={"a1": "one"},
            cache={"get_*": 60.0, "a1": 0.0},
            risk={"a*": "HIGH"},
        ),
        org="acme",
        health_url="http://localhost/s3cret",
    )


@pytest.mark.parametrize(
    ("entry", "transport"),
    [
        ({"command": "x"}, "stdio"),
        ({"command": "x", "type": "local"}, "stdio"),
        ({"url": "http://h/mcp"}, "streamable-http"),
        ({"url": "http://h/sse"}, "sse"),
        ({"url": "http://h/sse/?key=/x"}, "sse"),
        ({"url": "http://h/mcp?next=/sse"}, "streamable-http"),
        ({"url": "http://h/sse", "type": "http"}, "streamable-http"),
        ({"url": "http://h/mcp", "type": "sse"}, "sse"),
        ({"url": "http://h/mcp", "transport": "streamableHttp"}, "streamable-http"),
        ({"url": "http://h/mcp", "type": "remote"}, "streamable-http"),
        ({"url": "http://h/sse", "type": "remote"}, "sse"),
        ({"serverUrl": "http://h/sse"}, "sse"),
        ({"httpUrl": "http://h/sse"}, "streamable-http"),
    ],
)
def test_the_transport_is_guessed_unless_it_is_said(
    read: Read, entry: dict[str, str], transport: str
) -> None:
    assert only(read({"a": entry})).transport == transport


def test_files_of_vs_code_are_understood(read: Read) -> None:
    config = read(
        """{
          // where I work
          "inputs": [{"id": "token", "type": "promptString"}],
          "servers": {"a": {"type": "http", "url": "http://h/mcp",},},
        }"""
    )

    assert only(config).url == "http://h/mcp"


def test_what_other_programs_say_of_tools_is_a_rule(read: Read) -> None:
    config = read(
        {
            "a": {
                "command": "x",
                "alwaysAllow": ["t"],
                "disabledTools": ["b"],
                "includeTools": ["a"],
                "tools": {"deny": ["c"]},
            }
        }
    )

    assert only(config).tools == ToolRules(allow=("a",), deny=("c", "b"))


@pytest.mark.parametrize("ttl", [-1, -0.5, 86_401, 10**400, "60", True, None, [60]])
def test_a_time_to_keep_results_that_is_none_is_refused_with_its_place(
    read: Read, ttl: object
) -> None:
    config = read({"a": {"command": "x", "tools": {"cache": {"get_*": ttl}}}})

    (problem,) = config.problems
    assert config.servers == ()
    assert problem.code == "config_invalid"
    assert 'needs seconds as "get_*" in "cache"' in problem.message


def test_a_configuration_in_an_editor_folder_is_about_the_folder_above(tmp_path: Path) -> None:
    path = tmp_path / ".vscode" / "mcp.json"
    path.parent.mkdir()
    path.write_text('{"servers": {"a": {"command": "${workspaceFolder}/run", "cwd": "."}}}')

    server = only(read_config(path, {}))

    assert (server.command, server.cwd) == (f"{tmp_path}/run", str(tmp_path))


def test_a_server_that_is_switched_off_may_refer_to_what_is_not_there(read: Read) -> None:
    config = read({"a": {"url": "${NOWHERE}", "disabled": True}})

    assert only(config).disabled


def test_secrets_are_not_shown_when_a_server_is_printed(read: Read) -> None:
    config = read({"a": {"url": "http://h", "headers": {"X": "${TOKEN}"}, "env": {"Y": "k3y"}}})

    assert "s3cret" not in repr(config)
    assert "k3y" not in repr(config)


# -- what is wrong with one server --------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({}, "config_invalid", 'neither "command" nor "url"'),
    ({"command": "x", "url": "http://h"}, "config_invalid", 'both "command" and "url"'),
    ({"command": "x", "type": "sse"}, "config_invalid", 'type can only be "stdio"'),
    ({"url": "http://h", "type": "stdio"}, "config_invalid", 'of type "stdio" but has a "url"'),
    ({"url": "http://h", "type": "sse", "transport": "http"}, "config_invalid", "differ"),
    ({"url": "http://h", "type": "websocket"}, "config_invalid", "'websocket' as \"type\""),
    ({"url": "h/mcp"}, "config_invalid", "begins with http:// or https://"),
    ({"command": ""}, "config_invalid", 'an empty "command"'),
    ({"command": ["x"]}, "config_invalid", 'needs text as "command", not a list'),
    ({"command": None}, "config_invalid", "not null"),
    ({"command": "x\0y"}, "config_invalid", "a character"),
    ({"command": "x", "args": "-v"}, "config_invalid", 'needs a list as "args"'),
    ({"command": "x", "args": ["-p", 80]}, "config_invalid", 'item 2 of "args", not a number'),
    ({"command": "x", "env": {"P": 1}}, "config_invalid", '"P" in "env", not a number'),
    ({"command": "x", "env": ["P=1"]}, "config_invalid", 'needs an object as "env"'),
    ({"command": "x", "lazy": "yes"}, "config_invalid", 'true or false as "lazy", not text'),
    ({"command": "x", "timeout": -1}, "config_invalid", "more than 0 seconds"),
    ({"command": "x", "timeout": True}, "config_invalid", "needs a number"),
    ({"command": "x", "timeout": 10**400}, "config_invalid", "9,999 at most"),
    ({"command": "x", "timeout": 30000}, "config_invalid", "write 30"),
    ({"command": "x", "idle_timeout": 0}, "config_invalid", "more than 0 seconds"),
    ({"command": "x", "sharing": "clients"}, "config_invalid", '"user" or "client"'),
    ({"command": "x", "namespace": "a b"}, "config_invalid", "'a_b' would do"),
    ({"command": "x", "namespace": "a" * 41}, "config_invalid", "up to 40"),
    ({"url": "http://h", "headers": {"A B": "x"}}, "config_invalid", "'A B'"),
    ({"url": "http://h", "headers": {"A": "x\r\ny"}}, "config_invalid", "one line"),
    ({"command": "x", "tools": {"rename": {"a": ""}}}, "config_invalid", "to nothing"),
    ({"command": "x", "tiemout": 3}, "config_unknown_key", 'Did you mean "timeout"?'),
    ({"command": "x", "tools": {"alow": []}}, "config_unknown_key", '"tools.alow". Did you mean'),
    ({"command": "x", "envFile": ".env"}, "config_unknown_key", 'into "env"'),
    ({"command": "x", "zzz": 1}, "config_unknown_key", "check its spelling"),
    ({"command": "${NOPE}"}, "config_variable", "variable NOPE is not set"),
    ({"command": "x", "args": ["${input:api-key}"]}, "config_invalid", "asks a person"),
]


@pytest.mark.parametrize(("entry", "code", "said"), WRONG, ids=[said for *_, said in WRONG])
def test_what_is_wrong_with_one_server_is_said_and_the_others_work(
    read: Read, entry: dict[str, Any], code: str, said: str
) -> None:
    config = read({"fine": {"command": "x"}, "odd": entry, "too": {"url": "http://h"}})

    (problem,) = config.problems
    assert [server.name for server in config.servers] == ["fine", "too"]
    assert (problem.code, problem.server) == (code, "odd")
    assert said in problem.message
    assert problem.message.startswith("The server 'odd' ")
    assert (problem.line, problem.column is not None) == (1, True)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "日本", "x" * 41])
def test_a_name_that_cannot_be_used_is_refused(read: Read, name: str) -> None:
    config = read({name: {"command": "x"}})

    assert [problem.code for problem in config.problems] == ["config_invalid"]
    assert config.servers == ()


def test_a_namespace_helps_a_name_that_cannot_be_lent(read: Read) -> None:
    assert only(read({"日本": {"command": "x", "namespace": "japan"}})).prefix == "japan"


@pytest.mark.parametrize("entry", ["x", [], None, 3])
def test_a_server_that_is_no_object_is_refused(read: Read, entry: Any) -> None:
    (problem,) = read({"a": entry}).problems

    assert "needs an object" in problem.message


def test_everything_that_is_wrong_with_a_server_is_said_at_once_and_where(read: Read) -> None:
    config = read(
        """{
  "mcpServers": {
    "a": {
      "command": "x",
      "lazzy": true,
      "timeout": "5"
    }
  }
}"""
    )

    assert [(problem.line, problem.column) for problem in config.problems] == [(5, 7), (6, 18)]


def test_no_value_that_may_be_a_secret_is_in_a_sentence(read: Read) -> None:
    config = read(
        {
            "a": {"url": "ftp://u:p4ss@h", "headers": {"X": "p4ss\n"}, "env": {"E": "p4ss${"}},
            "b": {"command": "p4ss", "url": "http://p4ss"},
        }
    )

    assert len(config.problems) == 4
    assert "p4ss" not in str(config.problems)


def test_a_key_that_is_there_twice_is_refused(read: Read) -> None:
    config = read(
        '{"mcpServers": {"a": {"command": "x", "env": {"K": "1", "K": "2"}, "url": "", "url": ""}}}'
    )

    said = [problem.message for problem in config.problems if problem.code == "config_duplicate"]
    assert len(said) == 2
    assert '"url" twice' in said[0]
    assert '"env.K" twice' in said[1]


def test_the_first_of_two_servers_with_one_name_is_used(read: Read) -> None:
    config = read(
        '{"mcpServers": {"a": {"command": "1"},\n "a": {"command": "2"}},\n'
        ' "servers": {"a": {"command": "3"}}}'
    )

    assert [server.command for server in config.servers] == ["1"]
    assert [(problem.code, problem.line) for problem in config.problems] == [
        ("config_duplicate", 2),
        ("config_duplicate", 3),
    ]


# -- what is wrong with the file ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"mcpServers": {}, "mcpservers": {}}', 'Did you mean "mcpServers"?'),
        ('{"mcpServers": {}, "time": {"command": "x"}}', 'move it into "mcpServers"'),
        ('{"mcpServers": []}', "needs an object"),
        ('{"mcpServers": {}, "mcpServers": {}}', "there twice"),
        ("{}", 'There is no "mcpServers"'),
    ],
)
def test_what_is_wrong_beside_the_servers_is_said(read: Read, text: str, said: str) -> None:
    (problem,) = read(text).problems

    assert said in problem.message
    assert problem.server is None


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"", "config_syntax", "is empty"),
        (b" \n", "config_syntax", "is empty"),
        (b"[]", "config_invalid", "holds no object"),
        (b'{"mcpServers": {}', "config_syntax", 'Add "}"'),
        (b'{"a": "\xe4"}', "config_unreadable", "not UTF-8"),
        ('{"mcpServers": {}}'.encode("utf-16"), "config_unreadable", "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_explained(
    tmp_path: Path, content: bytes, code: str, said: str
) -> None:
    path = tmp_path / "mcp.json"
    path.write_bytes(content)

    config = read_config(path, {})

    (problem,) = config.problems
    assert (problem.code, config.servers, config.is_readable) == (code, (), False)
    assert said in problem.message


def test_a_missing_file_and_a_folder_are_explained(tmp_path: Path) -> None:
    (missing,) = read_config(tmp_path / "mcp.json", {}).problems
    (folder,) = read_config(tmp_path, {}).problems

    assert (missing.code, folder.code) == ("config_missing", "config_unreadable")
    assert "Create it" in missing.message
    assert "is a folder" in folder.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text("{}")
    path.chmod(0)

    (problem,) = read_config(path, {}).problems

    assert "Check its permissions" in problem.message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(sorted(KEYS | {"mcpServers", "servers", "a", "deny", "rename"})),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_nothing_in_the_file_makes_reading_fail(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {"s": document}, "servers": document}))

    config = read_config(path, ENVIRON)

    assert all(problem.message.endswith((".", "?")) for problem in config.problems)


# -- what has changed ---------------------------------------------------------------------------

A = ServerConfig(name="a", transport="stdio", command="x")
B = ServerConfig(name="b", transport="sse", url="http://h/sse", position=1)


def test_only_what_changed_is_mentioned() -> None:
    changed = replace(A, args=("-v",))
    new = ServerConfig(name="c", transport="stdio", command="y")

    changes = difference(Config(servers=(A, B)), Config(servers=(changed, new)))

    assert (changes.added, changes.removed, changes.changed) == ((new,), (B.id,), (changed,))
    assert changes.renamed == ()


@pytest.mark.parametrize(
    "new",
    [
        replace(A, position=5),
        replace(A, namespace="other"),
        replace(A, timeout=3.0),
        replace(A, tools=ToolRules(deny=("t",))),
    ],
)
def test_names_rules_rank_and_timeout_need_no_reconnection(new: ServerConfig) -> None:
    changes = difference(Config(servers=(A,)), Config(servers=(new,)))

    assert changes.renamed == (new,)
    assert (changes.added, changes.removed, changes.changed) == ((), (), ())


@pytest.mark.parametrize(
    "new",
    [replace(A, env={"K": "v"}), replace(A, disabled=True), replace(A, sharing="user")],
)
def test_everything_else_needs_one(new: ServerConfig) -> None:
    assert difference(Config(servers=(A,)), Config(servers=(new,))).changed == (new,)


def test_what_is_equal_is_not_mentioned(read: Read) -> None:
    text = '{"mcpServers": {"a": {"command": "x", "env": {"K": "${TOKEN}"}}}}'

    assert difference(read(text), read(f"// the same\n{text}")) == difference(Config(), Config())


def test_servers_stay_while_the_file_is_half_saved(read: Read) -> None:
    before = read({"a": {"command": "x"}})

    now = read('{"mcpServers": {').keeping(before)

    assert now.servers == before.servers
    assert [problem.code for problem in now.problems] == ["config_syntax"]
    assert read({}).keeping(before).servers == ()


def test_a_fingerprint_is_that_of_the_server_and_not_of_its_rules() -> None:
    assert A.fingerprint == replace(A, position=3, timeout=1.0, lazy=True).fingerprint
    assert len({A.fingerprint, B.fingerprint, replace(A, env={"K": "v"}).fingerprint}) == 3


# -- what is documented -------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_every_key_is_documented_and_no_other() -> None:
    rows = re.findall(r"^\| ((?:`[a-z_.]+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    documented = {key for row in rows for key in re.findall(r"`([a-z_.]+)`", row)}

    rules = ("allow", "cache", "deny", "rename", "risk")
    assert documented == KEYS | {f"tools.{rule}" for rule in rules}


@pytest.mark.parametrize("key", sorted((*ALIASES, *PASSED_OVER, *REFUSED)))
def test_every_key_of_other_programs_is_documented(key: str) -> None:
    assert f"`{key}`" in PAGE


@pytest.mark.parametrize("example", re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
def test_every_example_is_right(tmp_path: Path, example: str) -> None:
    path = tmp_path / "mcp.json"
    path.write_text(example)

    tokens = {"DOCS_TOKEN": "1", "BROWSER_TOKEN": "2", "SCRAPER_KEY": "3"}

    assert read_config(path, tokens).problems == ()


def test_the_mcp_json_of_the_first_run_is_right() -> None:
    config = read_config(Path(__file__).parents[2] / "mcp.json", {})

    assert config.problems == ()
    assert [server.name for server in config.servers] == ["time", "git", "fetch"]


def test_a_risk_that_does_not_exist_is_refused_with_those_that_do(read: Read) -> None:
    problem = read({"a": {"command": "x", "tools": {"risk": {"b*": "SEVERE"}}}}).problems[0]

    assert 'needs "LOW", "MEDIUM" or "HIGH" as "b*" in "risk".' in problem.message
