"""
Looks the locked dependencies up among known weaknesses: `python -m tools.audit`.

A weakness is an error. A list that cannot be reached (no network, a registry without one) is not,
but it is said: pip-audit by itself would call that "no known vulnerabilities".
"""

# ruff: noqa: T201 - a program that prints

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

LOCK: Final = Path(__file__).parents[1] / "requirements.lock"
LIMIT: Final = 300.0
"""Seconds it may take."""


def main() -> int:
    found = look_up()
    asked = [one for one in found if "vulns" in one]
    weak = [(one, flaw) for one in asked for flaw in one["vulns"]]
    for one, flaw in weak:
        better = ", ".join(flaw["fix_versions"]) or "no version yet"
        print(f"{one['name']} {one['version']}: {flaw['id']}, mended in {better}.")
    if not asked:
        print("The list of known weaknesses cannot be reached from here: nothing was audited.")
    elif len(asked) < len(found):
        print(f"{len(found) - len(asked)} of {len(found)} dependencies could not be looked up.")
    elif not weak:
        print(f"None of {len(found)} dependencies has a known weakness.")
    return 1 if weak else 0


def look_up() -> list[dict[str, Any]]:
    """What pip-audit says of each dependency; nothing if it cannot reach anybody."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    command += ["--disable-pip", "--require-hashes", "--requirement", str(LOCK)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)  # noqa: S603 - our own words
        return json.loads(done.stdout)["dependencies"]
    except (ValueError, subprocess.TimeoutExpired):
        return []


if __name__ == "__main__":
    sys.exit(main())
