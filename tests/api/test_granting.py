"""What one may give to others is never more than one has."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.api.granting import check_within
from trunkline.errors import Forbidden
from trunkline.models import LOCAL, LOOPBACK, Principal, Role, Scope

ALPHABET = "ab/*?[]!-"
PATTERN = st.text(ALPHABET, min_size=1, max_size=6)
FILLED = st.text(ALPHABET, max_size=4)
NAMED = st.text("ab", max_size=2)


def scoped(*allow: str, deny: tuple[str, ...] = ()) -> Principal:
    return Principal(subject="x", org="acme", user=None, role=Role.ADMIN, scope=Scope(allow, deny))


def _full(pattern: str) -> str:
    return pattern if "/" in pattern else f"{pattern}/*"


def is_within(giver: Principal, given_: Principal) -> bool:
    try:
        check_within(giver, given_)
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize(
    ("own", "wanted", "is_given"),
    [
        (["*"], "*", True),
        (["*"], "github/a?[bc]", True),
        (["github"], "github", True),
        (["github"], "github/*", True),
        (["github/*"], "github", True),
        (["github/*"], "github/list_*", True),
        (["github/list_*"], "github/*", False),
        (["git*/*"], "github/a", True),
        (["github"], "gitlab", False),
        (["github", "mail"], "mail/send", True),
        (["github/a?"], "github/a?", True),
        (["github/a?"], "github/a*", False),
        (["github/a?"], "github/ab", False),
        (["*/read_*"], "*", False),
        (["*b]/x"], "[ab]/x", False),
    ],
)
def test_a_pattern_is_given_where_it_is_certain_to_be_within(
    own: list[str], wanted: str, is_given: bool
) -> None:
    assert is_within(scoped(*own), scoped(wanted)) is is_given


@st.composite
def triples(draw: st.DrawFn) -> tuple[str, str, str]:
    """A pattern, one that is made of it by filling it in, and a name made of that one."""
    own = _full(draw(PATTERN))
    wanted = "".join(draw(FILLED) if one in "*?" else one for one in own)
    name = "".join(draw(NAMED) if one in "*?[]" else one for one in wanted)
    return own, wanted, name


@settings(max_examples=1_000)
@given(one=triples())
def test_what_is_given_permits_nothing_that_its_giver_has_not(one: tuple[str, str, str]) -> None:
    own, wanted, (server, _, item) = one[0], one[1], one[2].partition("/")
    giver, holder = scoped(own), scoped(wanted)

    is_beyond = holder.scope.permits(server, item) and not giver.scope.permits(server, item)

    assert not (is_beyond and is_within(giver, holder))


@given(own=PATTERN, inserted=st.text("ab/", max_size=3))
def test_what_fills_in_the_stars_of_a_pattern_is_within_it(own: str, inserted: str) -> None:
    full = _full(own).translate(str.maketrans("?[", "ab"))

    assert is_within(scoped(full), scoped(full.replace("*", inserted)))


def test_what_is_denied_to_the_giver_is_denied_to_the_holder() -> None:
    giver = scoped("*", deny=("mail/delete",))

    assert not is_within(giver, scoped("*"))
    assert is_within(giver, scoped("*", deny=("mail/delete", "mail/send")))


def test_a_role_is_not_above_the_givers() -> None:
    operator = Principal(subject="x", org="acme", user=None, role=Role.OPERATOR)
    admin = Principal(subject="y", org="acme", user=None, role=Role.ADMIN)

    assert not is_within(operator, admin)
    assert is_within(admin, operator)


def test_only_who_may_run_commands_gives_that() -> None:
    strong = Principal(subject="key:x", org=None, user=None, role=Role.ADMIN)

    assert is_within(LOCAL, strong)
    assert not is_within(LOOPBACK, strong)
