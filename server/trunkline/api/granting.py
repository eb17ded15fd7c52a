"""
What one may give to others: nothing that goes beyond what one has.

Whoever makes a key, or is shown the new secret of one, could use it. So both are measured by this.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from trunkline.errors import Forbidden
from trunkline.models import Principal, Scope


def check_within(giver: Principal, given: Principal) -> None:
    """Raise `Forbidden` if *given* could do anything that *giver* cannot."""
    if (excess := _excess(giver, given)) is not None:
        raise Forbidden(f"That key would go beyond what you may do yourself: {excess}")


def _excess(giver: Principal, given: Principal) -> str | None:
    if giver.org not in (None, given.org):
        return "it would act in another organisation."
    if not giver.role.includes(given.role):
        return f"its role would be {given.role.value!r}, and yours is {giver.role.value!r}."
    if given.may_run_commands and not giver.may_run_commands:
        return (
            "it could run commands on this machine. Its own administrator makes such a key: "
            "`trunkline key create NAME --role admin`."
        )
    own = giver.orgs | {giver.org}
    if giver.org is not None and (others := given.orgs - own):
        return f"you cannot act for {', '.join(map(repr, sorted(others)))}."
    return _excess_scope(giver.scope, given.scope)


def _excess_scope(own: Scope, given: Scope) -> str | None:
    wide = [one for one in given.allow if not _is_covered(one, own.allow)]
    if wide:
        return f"it would be allowed {', '.join(map(repr, wide))}."
    if missing := set(own.deny) - set(given.deny):
        return f"it would have to be denied {', '.join(map(repr, sorted(missing)))}, as you are."
    return None


def _is_covered(pattern: str, by: Iterable[str]) -> bool:
    return any(_covers(_full(one), _full(pattern)) for one in by)


def _covers(wide: str, narrow: str) -> bool:
    """
    Whether all that *narrow* fits, *wide* fits for certain.

    A pattern fits another one's text where only `*` has to swallow what is special in that. With
    `?` or `[` that cannot be told so easily, and only the same pattern counts.
    """
    if wide in (narrow, "*/*"):
        return True
    is_plain = not set("?[") & set(wide) and "[" not in narrow
    return is_plain and fnmatchcase(narrow, wide)


def _full(pattern: str) -> str:
    return pattern if "/" in pattern else f"{pattern}/*"
