"""
How much harm a tool can do: LOW, MEDIUM or HIGH.

    policy.toml ── mcp.json ── a plugin's `_meta` ── annotations
    the first of these that says something counts

Annotations are hints of the server's own (MCP 2025-11-25, "ToolAnnotations"). A server may say in
`_meta` that a tool is riskier than its hints; only a plugin, which is the operator's own code, may
say that it is less so.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Final

from trunkline.models import Json

META_RISK: Final = "trunkline/risk"
"""The key of a definition's `_meta` under which a tool names its risk."""


class Risk(StrEnum):
    """What a call of a tool can do."""

    LOW = "LOW"
    """It only reads."""

    MEDIUM = "MEDIUM"
    """It changes something, and destroys nothing."""

    HIGH = "HIGH"
    """It may destroy something, or somebody says that a person should know of it."""

    def or_higher(self, other: "Risk | None") -> "Risk":
        """The higher of two; this one if there is no other."""
        if other is None:
            return self
        return self if _RANKS[self] >= _RANKS[other] else other


_RANKS: Final = {risk: rank for rank, risk in enumerate(Risk)}


def risk_of_hints(definition: Json, *, otherwise: Risk) -> Risk:
    """
    The risk that a tool's annotations speak of.

    *otherwise* is that of a tool which says that it destroys, or nothing at all: the protocol takes
    that for the same. What destroys is not made better by another hint: deleting can be repeated,
    and one that also claims to read only contradicts itself.
    """
    hints = definition.get("annotations")
    if not isinstance(hints, dict) or hints.get("destructiveHint") is True:
        return otherwise
    if hints.get("readOnlyHint") is True:
        return Risk.LOW
    is_mild = hints.get("destructiveHint") is False or hints.get("idempotentHint") is True
    return Risk.MEDIUM if is_mild else otherwise


def risk_of_meta(definition: Json) -> Risk | None:
    """The risk a tool names in its `_meta`; None if it names none that there is."""
    meta = definition.get("_meta")
    return _risk(meta.get(META_RISK)) if isinstance(meta, dict) else None


def first_fitting(rules: Iterable[tuple[str, Risk]], server: str, own: str) -> Risk | None:
    """The risk of the first `server/tool` pattern that fits a tool."""
    name = f"{server}/{own}"
    return next((risk for pattern, risk in rules if fnmatchcase(name, pattern)), None)


def configured_risk(rules: Mapping[str, str], own: str) -> Risk | None:
    """The risk that the `tools.risk` of mcp.json has for a tool: the first pattern that fits."""
    return next((_risk(risk) for pattern, risk in rules.items() if fnmatchcase(own, pattern)), None)


def _risk(value: Any) -> Risk | None:
    return Risk(value) if isinstance(value, str) and value in _NAMES else None


_NAMES: Final = frozenset(Risk)
