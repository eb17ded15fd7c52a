"""How long answers are kept, and how patient we are with Redis."""

from pydantic import Field, PositiveFloat, PositiveInt

from trunkline.settings import Section


class CacheSettings(Section):
    """How long answers are kept, and how patient we are with Redis."""

    tool_ttl: PositiveFloat = 300.0
    """Seconds one tool, prompt or resource is kept."""

    list_ttl: PositiveFloat = 60.0
    """Seconds a list is kept."""

    search_ttl: PositiveFloat = 30.0
    """Seconds the answer to a search is kept."""

    skill_ttl: PositiveFloat = 600.0
    """Seconds skills are kept."""

    result_ttl: PositiveFloat = 60.0
    """Seconds the result of a tool is kept, where neither mcp.json nor the result says."""

    negative_ttl: PositiveFloat = 5.0
    """Seconds it is remembered that there is no answer."""

    jitter: float = Field(default=0.1, ge=0, lt=1)
    """Up to which part of its time a value goes early, so that not all go at once."""

    timeout: PositiveFloat = 0.25
    """Seconds Redis may take to answer a call before the call goes on without it."""

    connect_timeout: PositiveFloat = 2.0
    """Seconds a connection may take to be made, behind the scenes."""

    max_value: PositiveInt = 1024 * 1024
    """Bytes one value may have. A larger one is not kept."""
