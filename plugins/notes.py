"""
Notes: short texts to keep, as files in a folder of yours.

Copy this one for a plugin with resources: one that is always there (the list of notes), one for
every note (a template), and a prompt that uses them. The folder is `NOTES_FOLDER`, or `notes` in
the home directory.
"""

import os
import re
from pathlib import Path

from fastmcp.exceptions import PromptError, ResourceError, ToolError

from trunkline import Plugin

plugin = Plugin("notes", summary="Keeps short texts and finds them again.")

TITLE = re.compile(r"[^\W_][\w -]{0,79}")
"""Letters, digits, spaces, hyphens and underscores: no title leads out of the folder."""


def folder() -> Path:
    """Where the notes are. Read on every call, so that importing the plugin does nothing."""
    return Path(os.environ.get("NOTES_FOLDER") or Path.home() / "notes")


def path_of(title: str) -> Path:
    """The file of one note. A link that somebody put there is not followed."""
    if not TITLE.fullmatch(title):
        raise ValueError(
            f"{title!r} cannot be the title of a note. Use up to 80 letters, digits, spaces, "
            f"hyphens and underscores, starting with a letter or a digit."
        )
    path = folder() / f"{title}.txt"
    if path.is_symlink():
        raise ValueError(f"The note {title!r} is a link to another place and is not followed.")
    return path


def read(title: str) -> str:
    try:
        return path_of(title).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise ValueError(f"There is no note {title!r}. There are: {titles() or 'none'}.") from None


def titles() -> list[str]:
    return sorted(
        path.stem
        for path in folder().glob("*.txt")
        if TITLE.fullmatch(path.stem) and path.is_file() and not path.is_symlink()
    )


@plugin.tool(annotations={"idempotentHint": True, "destructiveHint": True})
def write_note(title: str, text: str) -> str:
    """Keep *text* under *title*. A note of that title is replaced."""
    try:
        path = path_of(title)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except ValueError as error:
        raise ToolError(str(error)) from None
    return f"Kept as {title!r}."


@plugin.tool(annotations={"readOnlyHint": True})
def find_notes(words: str) -> list[str]:
    """The titles of the notes that contain all of *words*, in any order and case."""
    wanted = words.casefold().split()
    return [
        title
        for title in titles()
        if all(word in f"{title} {read(title)}".casefold() for word in wanted)
    ]


@plugin.resource("notes://index", mime_type="text/plain")
def index() -> str:
    """The titles of all notes, one a line."""
    return "\n".join(titles())


@plugin.resource("notes://note/{title}", mime_type="text/plain")
def note(title: str) -> str:
    """One note."""
    try:
        return read(title)
    except ValueError as error:
        raise ResourceError(str(error)) from None


@plugin.prompt
def summarize_note(title: str) -> str:
    """Ask for a summary of one note."""
    try:
        return f"Summarize this note in three sentences:\n\n{read(title)}"
    except ValueError as error:
        raise PromptError(str(error)) from None
