"""
Clock: what time is it, anywhere?

The smallest useful plugin, and the one to copy when you write your own.
"""

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastmcp.exceptions import ToolError

from trunkline import Plugin

plugin = Plugin("clock", summary="Current time in any time zone.")


@plugin.tool(annotations={"readOnlyHint": True})
def now(zone: str = "UTC") -> str:
    """The current time in *zone* (an IANA name such as `Europe/Paris`), as ISO 8601."""
    try:
        return datetime.now(ZoneInfo(zone)).isoformat(timespec="seconds")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ToolError(f"{zone!r} is not a time zone. Try `Europe/Paris` or `UTC`.") from None
