"""
policy.toml: one readable file, made into a `Policy` for everybody and one for each organisation.

    [default]          for everybody
    [org.acme]         what is different for acme: its lists are added to those of [default], its
                       rules come before them, and every other value takes the place of theirs

A file is used whole or not at all: what is wrong with it is said with the line, and a rule that
means nothing is never passed over, for it may be the one that was to keep somebody out.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from trunkline.models import Role
from trunkline.security.policy.failures import PolicyInvalid
from trunkline.security.policy.policy import DEFAULT, Action, Actions, ApprovalTerms, Policy
from trunkline.security.policy.risk import Risk

SAID_AT_ONCE: Final = 5
"""Complaints that are told of one file."""

LONGEST_WAIT: Final = 31 * 86_400.0
"""Seconds an approval may wait or stand."""

Level = Literal["LOW", "MEDIUM", "HIGH"]
Deed = Literal["allow", "ask", "deny"]
Pattern = Annotated[str, StringConstraints(min_length=1)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=LONGEST_WAIT, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True, gt=0)]


class _Table(BaseModel):
    """A table of the file. What is not set is None, and taken from elsewhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Levels(_Table):
    LOW: Deed | None = None
    MEDIUM: Deed | None = None
    HIGH: Deed | None = None


class _Actions(_Levels):
    user: _Levels = _Levels()
    operator: _Levels = _Levels()
    admin: _Levels = _Levels()


class _Approvals(_Table):
    valid_for: Seconds | None = None
    pending_for: Seconds | None = None
    answer_within: Seconds | None = None
    four_eyes: Annotated[bool, Field(strict=True)] | None = None
    ask_in_client: Literal["everybody", "operators"] | None = None


class _Limit(_Table):
    calls_per_minute: Whole | None = None
    burst: Whole | None = None
    concurrent: Whole | None = None
    request_bytes: Whole | None = None
    result_bytes: Whole | None = None


class _Limits(_Table):
    key: _Limit = _Limit()
    org: _Limit = _Limit()
    tool: dict[Pattern, _Limit] = {}


class _Rules(_Table):
    unknown_servers: Literal["trusted", "strict"] | None = None
    trusted_servers: tuple[Pattern, ...] = ()
    deny: tuple[Pattern, ...] = ()
    pins: Literal["flag", "withhold"] | None = None
    descriptions: Literal["flag", "withhold"] | None = None
    audit_arguments: Literal["none", "redacted"] | None = None
    risk: dict[Pattern, Level] = {}
    actions: _Actions = _Actions()
    approvals: _Approvals = _Approvals()
    limits: _Limits = _Limits()


class _File(_Table):
    default: _Rules = _Rules()
    org: dict[Pattern, _Rules] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """What policy.toml says."""

    default: Policy = DEFAULT
    orgs: Mapping[str, Policy]
    """By the name of the organisation, those that have a table of their own."""


def parse_policy(text: str, name: str = "policy.toml") -> PolicyFile:
    """What the text of a policy.toml says. Raises `PolicyInvalid`; *name* is what it calls it."""
    try:
        file = _File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise PolicyInvalid(f"{name} is no TOML: {error}.") from error
    except ValidationError as error:
        raise PolicyInvalid(" ".join(_complaints(error, text, name))) from error
    return PolicyFile(
        default=_policy(file.default),
        orgs={org: _policy(rules, file.default) for org, rules in file.org.items()},
    )


# -- tables into policies -------------------------------------------------------------------------


def _policy(*tables: _Rules) -> Policy:
    """One policy of several tables, of which the first that says something counts."""
    said = {key: _first(tables, key) for key in ("unknown_servers", "pins", "descriptions")}
    said["audit_arguments"] = _first(tables, "audit_arguments")
    terms = [table.approvals for table in tables]
    approvals = {one.name: _first(terms, one.name) for one in fields(ApprovalTerms)}
    return Policy(
        deny=tuple(_whole(pattern) for table in tables for pattern in table.deny),
        risks=tuple(
            (_whole(pattern), Risk(level))
            for table in tables
            for pattern, level in table.risk.items()
        ),
        trusted_servers=tuple(pattern for table in tables for pattern in table.trusted_servers),
        actions=_actions([table.actions for table in tables]),
        approvals=ApprovalTerms(**_set(approvals)),
        limits=_limits([table.limits for table in tables]),
        **_set(said),
    )


def _actions(tables: Iterable[_Actions]) -> Actions:
    """What becomes of each risk: what is said of the role counts, then what is said of all."""

    def action(role: Role, risk: Risk) -> Action:
        for table in tables:
            of_role: _Levels = getattr(table, role.value)
            said = getattr(of_role, risk.value) or getattr(table, risk.value)
            if said is not None:
                return Action(said)
        return DEFAULT.actions[role][risk]

    return {role: {risk: action(role, risk) for risk in Risk} for role in Role}


def _limits(tables: Iterable[_Limits]) -> dict[str, dict[str, Any]]:
    """The tables `key`, `org` and `tool`, each limit on its own."""
    merged: dict[str, dict[str, Any]] = {"key": {}, "org": {}, "tool": {}}
    for table in tables:
        for name, given in table.model_dump(exclude_none=True).items():
            if name != "tool":
                merged[name] = {**given, **merged[name]}
                continue
            for pattern, limit in given.items():
                whole = _whole(pattern)
                merged["tool"][whole] = {**limit, **merged["tool"].get(whole, {})}
    return merged


def _first(tables: Iterable[BaseModel], key: str) -> Any:
    return next((said for table in tables if (said := getattr(table, key)) is not None), None)


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _whole(pattern: str) -> str:
    """A pattern without a slash is about a whole server."""
    return pattern if "/" in pattern else f"{pattern}/*"


# -- complaints -----------------------------------------------------------------------------------

_WANTED: Final = {
    "tuple_type": 'has to be a list, such as ["github/delete_*"]',
    "model_type": "has to be a table",
    "dict_type": "has to be a table",
    "string_type": "has to be text in quotes",
    "string_too_short": "is empty",
    "bool_type": "has to be true or false",
    "float_type": "has to be a number",
    "int_type": "has to be a whole number",
}
"""What pydantic says in words of its own."""


def _complaints(error: ValidationError, text: str, name: str) -> Iterator[str]:
    """What is wrong with a file, each with its line where that can be told."""
    lines = dict(_places(text))
    problems = error.errors(include_url=False)
    for problem in problems[:SAID_AT_ONCE]:
        path = tuple(str(part) for part in problem["loc"])
        place = next((at for at in _upwards(path) if at in lines), ())
        where = f"{name}, line {lines[place]}" if place in lines else name
        yield f"{where}: {_sentence(problem, path)}"
    if (more := len(problems) - SAID_AT_ONCE) > 0:
        yield f"There {'is 1 more problem' if more == 1 else f'are {more} more problems'}."


def _sentence(problem: Mapping[str, Any], path: tuple[str, ...]) -> str:
    *table, key = path
    shown = f"{key!r} in [{'.'.join(table)}]" if table else repr(key)
    if key.isdigit():
        shown = f"Item {int(key) + 1} of {table[-1]!r}"
    if problem["type"] == "extra_forbidden":
        advice = _did_you_mean(key, table)
        return f"{shown} is not a key of a policy. {advice}"
    if problem["type"] == "literal_error":
        return f"{shown} is {problem['input']!r}; it can be {problem['ctx']['expected']}."
    said = _WANTED.get(problem["type"]) or str(problem["msg"]).removeprefix("Input ")
    return f"{shown} {said[0].lower()}{said[1:]}."


def _did_you_mean(key: str, table: list[str]) -> str:
    known = _keys(table)
    if len(table) == 2 and table[0] == "org":
        hint = f'A name with a dot is written in quotes: [org."{table[1]}.{key}"].'
    else:
        hint = f"The keys there are {', '.join(known)}."
    near = get_close_matches(key, known, n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}?" if near else hint


def _keys(table: list[str]) -> list[str]:
    """The keys that a table may have."""
    model: type[BaseModel] = _File
    for part in table:
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
        elif part in ("org", "tool"):
            model = _Org if part == "org" else _Tool
        elif model is _Org:
            model = _Rules
        elif model is _Tool:
            model = _Limit
    return list(model.model_fields)


class _Org(_Table):
    """Any name, and then a table of rules."""


class _Tool(_Table):
    """Any pattern, and then a table of limits."""


def _upwards(path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """A path, and then those of the tables it is in."""
    for length in range(len(path), 0, -1):
        yield path[:length]


_HEADER = re.compile(r"\s*\[(?!\[)(?P<path>.+)\]\s*(#.*)?$")


def _places(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """
    The path of every table and key that begins a line, and the line.

    tomllib tells no places. It reads the names all the same, one line at a time, so that quotes
    and dots mean here what they mean there.
    """
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if (header := _HEADER.match(line)) is not None:
            table = _path(header["path"]) or table
            yield table, number
            continue
        ends = (match.start() for match in re.finditer("=", line))
        key = next((path for end in ends if (path := _path(line[:end]))), ())
        if key:
            yield (*table, *key), number


def _path(written: str) -> tuple[str, ...]:
    """The path that a key is written as; none if it is no key."""
    try:
        found: Any = tomllib.loads(f"{written} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    while isinstance(found, dict) and len(found) == 1:
        ((name, found),) = found.items()
        path.append(name)
    return tuple(path)
