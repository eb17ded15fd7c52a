"""
The tools of 38 real servers: all are listed, named as clients need it, and found by their names.

Only their names are kept here. Where the complete lists stand beside the checkout (or where
`TRUNKLINE_REAL_CATALOGUE` says), their definitions are checked as well.
"""

import json
import re

import pytest

from tests.catalog.real_lists import LISTS, load_lists, load_names
from tests.catalog.shelf import Shelf, catalog_of, everybodys, names
from trunkline.catalog.snapshot import Snapshot
from trunkline.models import Json, Listing


@pytest.fixture(params=["names", "definitions"])
def servers(request: pytest.FixtureRequest) -> dict[str, list[Json]]:
    """Server -> its tools."""
    if request.param == "names":
        return load_names()
    if not LISTS.is_dir():
        pytest.skip(f"There are no complete lists in {LISTS}; the names alone are checked.")
    return load_lists()


def snapshot_of(servers: dict[str, list[Json]], *, with_prefix: bool) -> Snapshot:
    return catalog_of(
        *(
            Shelf(
                server,
                Listing(tools=tuple(own)),
                prefix=server if with_prefix else "",
                position=position,
            )
            for position, (server, own) in enumerate(servers.items())
        )
    ).snapshot


@pytest.mark.parametrize("with_prefix", [True, False])
def test_every_tool_is_listed_and_found_by_a_name_that_clients_accept(
    servers: dict[str, list[Json]], with_prefix: bool
) -> None:
    view = snapshot_of(servers, with_prefix=with_prefix).view(None)

    found = [view.tool(name) for name in names(view.tools)]

    assert [(one.provider, one.own) for one in found] == [
        (server, item["name"]) for server, own in servers.items() for item in own
    ]
    assert len(found) == 653
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", one.name) for one in found)


def test_every_definition_is_passed_on_untouched_but_for_its_name(
    servers: dict[str, list[Json]],
) -> None:
    shown = snapshot_of(servers, with_prefix=True).view(None).tools

    given = [item for own in servers.values() for item in own]
    for one, other in zip(given, shown, strict=True):
        assert json.dumps({**other, "name": one["name"]}) == json.dumps(one)


def test_nothing_of_a_real_server_is_left_out_or_mended(servers: dict[str, list[Json]]) -> None:
    snapshot = snapshot_of(servers, with_prefix=True)

    told = [problem for server in servers for problem in snapshot.problems(everybodys(server))]

    assert told == []


def test_without_namespaces_every_collision_is_told(servers: dict[str, list[Json]]) -> None:
    snapshot = snapshot_of(servers, with_prefix=False)

    told = [problem for server in servers for problem in snapshot.problems(everybodys(server))]

    distinct = {item["name"] for own in servers.values() for item in own}
    assert len(told) == 653 - len(distinct)
    assert len(told) > 20
