"""Names: accepted by every client, and the same whoever connects first."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.naming import exposed, free_name, free_scheme, scheme_of

FIT = re.compile(r"[A-Za-z0-9_-]{1,64}")


def test_a_namespace_stands_in_front_of_the_name() -> None:
    assert exposed("github", "github", "create_issue", "create_issue") == "github__create_issue"


def test_an_empty_namespace_changes_nothing() -> None:
    assert exposed("", "github", "create_issue", "create_issue") == "create_issue"


def test_characters_that_clients_refuse_become_underscores() -> None:
    assert exposed("my server", "s", "files.read/all é", "-") == "my_server__files_read_all__"


def test_a_name_of_64_characters_is_whole_and_one_of_65_is_cut_and_marked() -> None:
    whole, cut = "n" * 64, "n" * 65

    assert exposed("", "s", whole, whole) == whole
    assert re.fullmatch(r"n{57}_[0-9a-f]{6}", exposed("", "s", cut, cut))


def test_long_names_that_begin_alike_stay_apart() -> None:
    one, other = "n" * 300 + "a", "n" * 300 + "b"

    assert exposed("", "s", one, one) != exposed("", "s", other, other)
    assert exposed("", "s", one, one) != exposed("", "t", one, one)


def test_the_mark_of_a_name_does_not_change_between_versions() -> None:
    assert exposed("", "github", "x" * 70, "x" * 70) == f"{'x' * 57}_249315"
    assert free_name("a__b", "github", "b", {"a__b"}) == "a__b_72813b"


def test_a_taken_name_is_marked_until_it_is_free() -> None:
    first = free_name("read", "s", "read", {"read"})
    second = free_name("read", "s", "read", {"read", first})

    assert len({"read", first, second}) == 3
    assert free_name("read", "s", "read", set()) == "read"


@settings(deadline=None)
@given(st.text(max_size=80), st.text(max_size=80), st.text(min_size=1, max_size=90))
def test_every_name_fits_whatever_it_is_made_of(prefix: str, provider: str, own: str) -> None:
    name = exposed(prefix, provider, own, own)

    assert FIT.fullmatch(name)
    assert FIT.fullmatch(free_name(name, provider, own, {name}))


@settings(deadline=None)
@given(st.text(max_size=30), st.text(min_size=1, max_size=30))
def test_what_stands_before_a_uri_is_a_scheme(prefix: str, provider: str) -> None:
    scheme = scheme_of(prefix, provider)

    assert re.fullmatch(r"[a-z][a-z0-9.-]*", scheme)
    assert re.fullmatch(r"[a-z][a-z0-9.-]*", free_scheme(scheme, provider, {scheme}))


def test_without_a_namespace_a_uri_is_told_apart_by_the_name_of_its_provider() -> None:
    assert scheme_of("", "My_Files") == "my-files"
    assert scheme_of("files", "My_Files") == "files"
    assert scheme_of("3d", "printer") == "s3d"
