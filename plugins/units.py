"""
Units: converts lengths, masses, volumes and temperatures.

Copy this one if you prefer a plain function to an object: `register_<file name>(mcp)` is handed a
FastMCP server and adds to it. It may be `async`, to look something up before it registers.
"""

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError

SCALES: dict[str, dict[str, float]] = {
    "length": {
        "mm": 0.001,
        "cm": 0.01,
        "m": 1.0,
        "km": 1000.0,
        "in": 0.0254,
        "ft": 0.3048,
        "yd": 0.9144,
        "mi": 1609.344,
    },
    "mass": {"g": 0.001, "kg": 1.0, "t": 1000.0, "oz": 0.028349523125, "lb": 0.45359237},
    "volume": {"ml": 0.001, "l": 1.0, "m3": 1000.0, "gal": 3.785411784, "floz": 0.0295735295625},
}
"""Quantity -> unit -> how many of the first SI unit (m, kg, l) it is."""

TEMPERATURES: dict[str, tuple[float, float]] = {
    "K": (1.0, 0.0),
    "C": (1.0, 273.15),
    "F": (5 / 9, 459.67 * 5 / 9),
}
"""Unit -> (kelvins per degree, kelvins at zero)."""


async def register_units(mcp: FastMCP) -> None:
    """Add the tool and the list of units."""

    @mcp.tool(annotations={"readOnlyHint": True})
    def convert(value: float, from_unit: str, to_unit: str) -> float:
        """Convert *value* from one unit to another, such as `mi` to `km` or `F` to `C`."""
        return round(converted(value, from_unit, to_unit), 9)

    @mcp.resource("units://all", mime_type="application/json")
    def units() -> dict[str, list[str]]:
        """All units, by quantity."""
        return {name: list(scale) for name, scale in SCALES.items()} | {
            "temperature": list(TEMPERATURES)
        }


def converted(value: float, from_unit: str, to_unit: str) -> float:
    if from_unit in TEMPERATURES and to_unit in TEMPERATURES:
        degree, zero = TEMPERATURES[from_unit]
        to_degree, to_zero = TEMPERATURES[to_unit]
        return (value * degree + zero - to_zero) / to_degree
    for scale in SCALES.values():
        if from_unit in scale and to_unit in scale:
            return value * scale[from_unit] / scale[to_unit]
    raise ToolError(
        f"{from_unit!r} cannot be converted to {to_unit!r}. Both must be units of one quantity; "
        f"the resource `units://all` lists them."
    )
