"""Resources: URIs stay as they are, and a URI that two providers have is told apart."""

import pytest

from tests.catalog.shelf import Shelf, catalog_of, everybodys, resources
from trunkline.catalog.view import View
from trunkline.errors import ResourceNotFound
from trunkline.models import Listing


def view_of(*shelves: Shelf) -> View:
    return catalog_of(*shelves).snapshot.view(None)


def target(view: View, uri: str) -> tuple[str, str]:
    """Who is asked for a URI, and for which."""
    entry, sent = view.resource(uri)
    assert entry.own == sent
    return entry.provider, sent


def uris(view: View) -> list[str]:
    return [item["uri"] for item in view.resources]


NOTES = Shelf("notes", resources("note://1", "file:///readme"), prefix="notes")
FILES = Shelf("files", resources("file:///readme", "file:///{+path}"), prefix="files", position=1)


def test_a_uri_that_one_provider_has_stays_as_it_is() -> None:
    view = view_of(NOTES)

    assert uris(view) == ["note://1", "file:///readme"]
    assert target(view, "note://1") == ("notes", "note://1")


def test_a_uri_that_two_providers_list_is_listed_once_for_each_with_its_namespace() -> None:
    view = view_of(NOTES, FILES)

    assert uris(view) == ["note://1", "notes+file:///readme", "files+file:///readme"]
    assert view.resources[1]["name"] == "file:///readme"
    assert target(view, "notes+file:///readme") == ("notes", "file:///readme")
    assert target(view, "files+file:///readme") == ("files", "file:///readme")


def test_a_shared_uri_is_refused_with_both_forms_even_where_a_template_would_match() -> None:
    snapshot = catalog_of(NOTES, FILES).snapshot

    with pytest.raises(ResourceNotFound) as refusal:
        snapshot.view(None).resource("file:///readme")

    assert "notes+file:///readme or files+file:///readme" in str(refusal.value)
    assert all("served as" in snapshot.problems(everybodys(name))[0] for name in ("notes", "files"))


def test_the_namespaced_form_is_understood_where_nothing_collides() -> None:
    view = view_of(NOTES)

    assert target(view, "notes+note://1") == ("notes", "note://1")
    assert view.resource("notes+note://1")[0].name == "notes+note://1"


def test_schemes_are_read_in_any_case() -> None:
    view = view_of(Shelf("s", resources("note://1"), prefix="My_Notes"))

    assert target(view, "my-notes+note://1") == ("s", "note://1")
    assert target(view, "My-Notes+note://1") == ("s", "note://1")


def test_namespaces_that_make_the_same_scheme_stay_apart() -> None:
    view = view_of(
        Shelf("a", resources("x:1"), prefix="my files"),
        Shelf("b", resources("x:1"), prefix="my_files", position=1),
        Shelf("c", resources("x:1"), prefix="my_files", position=2),
    )

    first, *others = uris(view)
    assert first == "my-files+x:1"
    assert [target(view, uri)[0] for uri in (first, *others)] == ["a", "b", "c"]


def test_a_provider_cannot_take_the_namespaced_form_of_another() -> None:
    snapshot = catalog_of(
        Shelf("thief", resources("files+file:///readme"), prefix="thief"),
        Shelf("files", resources("file:///readme"), prefix="files", position=1),
    ).snapshot
    view = snapshot.view(None)

    assert target(view, "files+file:///readme") == ("files", "file:///readme")
    assert target(view, "thief+files+file:///readme") == ("thief", "files+file:///readme")
    assert uris(view) == ["thief+files+file:///readme", "file:///readme"]
    assert "'files'" in snapshot.problems(everybodys("thief"))[0]


def test_a_plus_in_a_scheme_means_nothing_when_no_provider_has_that_name() -> None:
    view = view_of(Shelf("s", resources("git+https://host/repo"), prefix="s"))

    assert target(view, "git+https://host/repo") == ("s", "git+https://host/repo")


def test_a_uri_that_is_not_listed_goes_to_the_provider_whose_template_describes_it() -> None:
    view = view_of(NOTES, FILES)

    assert target(view, "file:///src/main.py") == ("files", "file:///src/main.py")
    assert target(view, "files+file:///src/main.py") == ("files", "file:///src/main.py")


def test_of_several_templates_the_most_specific_one_counts() -> None:
    view = view_of(
        Shelf("any", resources("db://{+path}"), prefix="any"),
        Shelf("users", resources("db://users/{id}"), prefix="users", position=1),
    )

    assert target(view, "db://users/7") == ("users", "db://users/7")
    assert target(view, "db://orders/7") == ("any", "db://orders/7")


def test_templates_that_are_equally_specific_are_refused_with_both_forms() -> None:
    view = view_of(
        Shelf("a", resources("db://{id}"), prefix="a"),
        Shelf("b", resources("db://{name}"), prefix="b", position=1),
    )

    with pytest.raises(ResourceNotFound, match=r"a\+db://7 or b\+db://7"):
        view.resource("db://7")
    assert target(view, "b+db://7") == ("b", "db://7")


def test_a_template_that_two_providers_list_is_told_apart_like_a_resource() -> None:
    view = view_of(
        Shelf("a", resources("db://{id}"), prefix="a"),
        Shelf("b", resources("db://{id}"), prefix="b", position=1),
    )

    assert [one["uriTemplate"] for one in view.templates] == ["a+db://{id}", "b+db://{id}"]
    assert view.template("b+db://{id}").own == "db://{id}"
    assert view.template("b+db://{id}").provider == "b"
    with pytest.raises(ResourceNotFound, match="say which one"):
        view.template("db://{id}")


def test_a_completion_finds_templates_and_resources_in_either_form() -> None:
    view = view_of(NOTES, FILES)

    assert view.template("file:///{+path}").provider == "files"
    assert view.template("files+file:///{+path}").own == "file:///{+path}"
    assert view.template("note://1").provider == "notes"
    assert view.template("notes+note://1").own == "note://1"
    with pytest.raises(ResourceNotFound, match="Did you mean"):
        view.template("file:///{path}")


def test_the_only_provider_that_has_resources_is_asked_for_what_nobody_lists() -> None:
    tools_only = Shelf("tools", Listing(capabilities={"tools": {}}), prefix="tools")
    silent = Shelf("silent", Listing(capabilities={"resources": {}}), prefix="silent", position=1)

    assert target(view_of(tools_only, silent), "x:unlisted") == ("silent", "x:unlisted")
    assert target(view_of(tools_only, silent, NOTES), "x:unlisted") == ("notes", "x:unlisted")


def test_among_several_an_unlisted_uri_is_refused_with_the_ways_to_ask_for_it() -> None:
    view = view_of(NOTES, Shelf("db", resources("db://1"), prefix="db", position=1))

    with pytest.raises(ResourceNotFound, match=r"notes\+ui://chart or db\+ui://chart"):
        view.resource("ui://chart")
    with pytest.raises(ResourceNotFound, match="Did you mean 'note://1'"):
        view.resource("note:///1")
    assert target(view, "db+ui://chart") == ("db", "ui://chart")


def test_without_any_resources_there_is_nothing_to_say_but_no() -> None:
    with pytest.raises(ResourceNotFound) as refusal:
        view_of(Shelf("s", Listing())).resource("x:1")

    assert str(refusal.value) == "There is no resource 'x:1'."


def test_a_uri_that_only_another_organisation_has_too_is_not_told_apart() -> None:
    snapshot = catalog_of(
        NOTES, Shelf("acme", resources("note://1"), prefix="acme", org="acme", position=1)
    ).snapshot

    assert "note://1" in uris(snapshot.view(None))
    assert "acme+note://1" in uris(snapshot.view("acme"))
    with pytest.raises(ResourceNotFound, match="Did you mean"):
        catalog_of(NOTES, FILES).snapshot.view(None).resource("acme+note://1")
