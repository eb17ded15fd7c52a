"""What is listed of a catalog: all of it, or only what finds and calls the rest."""

import pytest
from tests.catalog.shelf import Shelf, catalog_of, tools

from trunkline.catalog.view import View
from trunkline.gateway.exposure import MANY, Exposure
from trunkline.models import Era


def view_of(number: int, prefix: str = "mail") -> View:
    names = (f"tool_{n}" for n in range(number))
    return catalog_of(Shelf("mail", tools(*names), prefix=prefix)).snapshot.view(None)


def listed(exposure: Exposure, view: View) -> list[str]:
    return [tool["name"] for tool in exposure.tools(view, Era.MODERN)]


def test_auto_lists_everything_up_to_forty_tools_and_nothing_beyond() -> None:
    auto = Exposure("auto", ())

    assert MANY == 40
    assert not auto.is_search(view_of(40))
    assert len(listed(auto, view_of(40))) == 40
    assert auto.is_search(view_of(41))
    assert listed(auto, view_of(41)) == []


def test_what_stands_in_for_a_server_lists_what_that_lists_however_much_it_is() -> None:
    stands_in = Exposure("auto", (), stands_in=lambda: True)

    assert len(listed(stands_in, view_of(500, ""))) == 500
    assert not stands_in.shows_own


@pytest.mark.parametrize("number", [0, 1, 500])
def test_full_and_search_do_not_count(number: int) -> None:
    assert len(listed(Exposure("full", ()), view_of(number))) == number
    assert listed(Exposure("search", ()), view_of(number)) == []


@pytest.mark.parametrize(
    ("pinned", "expected"),
    [
        ((), []),
        (("mail__tool_7",), ["mail__tool_7"]),
        (("mail__tool_1?", "mail__tool_11"), [f"mail__tool_1{n}" for n in range(10)]),
        (("*_3", "*_4*"), ["mail__tool_3", "mail__tool_4", "mail__tool_40"]),
        (("tool_7", "MAIL__TOOL_7", ""), []),
    ],
)
def test_pinned_tools_are_listed_in_any_case_and_once(
    pinned: tuple[str, ...], expected: list[str]
) -> None:
    assert listed(Exposure("auto", pinned), view_of(41)) == expected


def test_a_tool_that_is_called_like_one_of_ours_is_listed_in_its_place() -> None:
    catalog = catalog_of(
        Shelf("mail", tools("send"), prefix="mail"), Shelf("own", tools("search_tools", "find"))
    )

    assert listed(Exposure("search", ()), catalog.snapshot.view(None)) == ["search_tools"]


def test_an_organisation_is_shown_a_search_by_what_it_sees() -> None:
    many = tools(*(f"tool_{n}" for n in range(30)))
    catalog = catalog_of(
        Shelf("mail", many, prefix="mail"), Shelf("payroll", many, prefix="payroll", org="acme")
    )
    auto = Exposure("auto", ())

    assert auto.is_search(catalog.snapshot.view("acme"))
    assert not auto.is_search(catalog.snapshot.view("globex"))
