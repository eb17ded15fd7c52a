"""The catalog: who has which name, who sees what, and who is told."""

import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.catalog.shelf import Shelf, catalog_of, everybodys, names, resources, tool, tools
from trunkline.catalog.catalog import Catalog
from trunkline.downstream.config import ToolRules
from trunkline.errors import DownstreamUnavailable, PromptNotFound, ToolNotFound
from trunkline.models import Listing, ProviderId

# -- names ----------------------------------------------------------------------------------------


def test_a_tool_is_found_by_its_namespaced_name_and_called_by_its_own() -> None:
    catalog = catalog_of(Shelf("github", tools("create_issue"), prefix="gh"))

    entry = catalog.snapshot.view(None).tool("gh__create_issue")

    assert (entry.provider, entry.own) == ("github", "create_issue")
    assert catalog.provider_of(entry).name == "github"


def test_a_definition_is_passed_on_in_its_order_with_nothing_but_the_name_replaced() -> None:
    given_tool = {
        "x-vendor": {"deep": [None, 10**30]},
        "name": "draw",
        "inputSchema": {"$defs": {}, "type": "object"},
        "description": "Draws.",
        "_meta": {"a/b": 1},
    }
    catalog = catalog_of(Shelf("art", Listing(tools=(given_tool,)), prefix="art"))

    (shown,) = catalog.snapshot.view(None).tools

    assert list(shown.items()) == list({**given_tool, "name": "art__draw"}.items())
    assert given_tool["name"] == "draw"


def test_of_two_providers_that_want_one_name_the_one_of_smaller_position_keeps_it() -> None:
    first, second = Shelf("b", tools("read"), position=1), Shelf("a", tools("read"), position=2)

    snapshot = catalog_of(second, first).snapshot

    assert snapshot.view(None).tool("read").provider == "b"
    (other,) = [name for name in names(snapshot.view(None).tools) if name != "read"]
    assert re.fullmatch(r"read_[0-9a-f]{6}", other)
    assert snapshot.view(None).tool(other).provider == "a"
    assert snapshot.problems(everybodys("b")) == ()
    (sentence,) = snapshot.problems(everybodys("a"))
    assert "'b'" in sentence
    assert other in sentence


def test_names_that_become_alike_when_sanitised_stay_apart_and_the_first_keeps_its_own() -> None:
    snapshot = catalog_of(Shelf("s", tools("a.b", "a_b", "a b"), prefix="s")).snapshot

    view = snapshot.view(None)

    assert view.tool("s__a_b").own == "a.b"
    assert {view.tool(name).own for name in names(view.tools)} == {"a.b", "a_b", "a b"}
    assert len(snapshot.problems(everybodys("s"))) == 2


def test_a_name_that_looks_like_the_mark_of_another_loses_nothing() -> None:
    crowd = tools("read.all", "read_all")
    marked = next(
        name
        for name in names(catalog_of(Shelf("s", crowd)).snapshot.view(None).tools)
        if name != "read_all"
    )

    view = catalog_of(Shelf("s", tools(marked, "read.all", "read_all"))).snapshot.view(None)

    assert {view.tool(name).own for name in names(view.tools)} == {marked, "read.all", "read_all"}


def test_a_tool_listed_twice_is_served_once_and_told() -> None:
    snapshot = catalog_of(
        Shelf("s", Listing(tools=(tool("a", title="One"), tool("a", title="Two"), tool("b"))))
    ).snapshot

    assert [one.get("title") for one in snapshot.view(None).tools] == ["One", None]
    assert snapshot.problems(everybodys("s")) == (
        "The tool 'a' is listed twice; the first one is served.",
    )


def test_prompts_are_named_like_tools_and_apart_from_them() -> None:
    listing = Listing(tools=(tool("review"),), prompts=({"name": "review"}, {"name": "re view"}))

    view = catalog_of(Shelf("s", listing, prefix="s")).snapshot.view(None)

    assert names(view.prompts) == ["s__review", "s__re_view"]
    assert view.prompt("s__re_view").own == "re view"
    assert view.tool("s__review").kind == "tools"


def test_lists_are_ordered_by_position_then_provider_then_as_the_provider_has_them() -> None:
    catalog = catalog_of(
        Shelf("c", tools("z", "a"), prefix="c", position=2),
        Shelf("b", tools("y"), prefix="b", position=2),
        Shelf("d", tools("x"), prefix="d", position=1),
    )

    assert names(catalog.snapshot.view(None).tools) == ["d__x", "b__y", "c__z", "c__a"]


_own_names = st.lists(
    st.sampled_from(["read", "re ad", "re_ad", "r" * 70, "r" * 71, "s0__read", "ü", "write"]),
    max_size=5,
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(_own_names, st.sampled_from(["", "s0", "s 0"])), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_names_do_not_depend_on_the_order_in_which_providers_come_and_change(
    offers: list[tuple[list[str], str]], chance: random.Random
) -> None:
    shelves = [
        Shelf(f"p{index}", tools(*own), prefix=prefix, position=index // 2)
        for index, (own, prefix) in enumerate(offers)
    ]
    expected = catalog_of(*shelves).snapshot.view(None)

    catalog = Catalog()
    steps = [(shelf, chance.choice(["full", "empty", "gone"])) for shelf in shelves * 2]
    chance.shuffle(steps)
    for shelf, step in [*steps, *((one, "full") for one in chance.sample(shelves, len(shelves)))]:
        if step == "gone":
            catalog.remove(everybodys(shelf.name))
        else:
            catalog.put(shelf if step == "full" else replace(shelf, listing=Listing()))
    view = catalog.snapshot.view(None)

    assert view.tools == expected.tools
    shown = names(view.tools)
    assert len(shown) == len(set(shown)) == sum(len(set(own)) for own, _ in offers)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in shown)


# -- rules ----------------------------------------------------------------------------------------


def test_rules_choose_and_rename_tools_by_the_names_their_server_gives_them() -> None:
    rules = ToolRules(allow=("get_*", "drop"), deny=("get_secret*",), rename={"get_a": "first"})

    view = catalog_of(
        Shelf("s", tools("get_a", "get_b", "get_secret_c", "drop", "put"), prefix="s", rules=rules)
    ).snapshot.view(None)

    assert names(view.tools) == ["s__first", "s__get_b", "s__drop"]
    assert view.tool("s__first").own == "get_a"
    with pytest.raises(ToolNotFound):
        view.tool("s__get_a")


def test_a_rule_that_matches_nothing_is_told_with_the_nearest_name() -> None:
    rules = ToolRules(deny=("delete_fiel",), rename={"list*": "all"})

    problems = catalog_of(
        Shelf("s", tools("delete_file", "list_all"), rules=rules)
    ).snapshot.problems(everybodys("s"))

    assert problems == (
        "\"tools.deny\" names 'delete_fiel', but it has no such tool. Did you mean 'delete_file'?",
        "\"tools.rename\" names 'list*', but it has no such tool. Did you mean 'list_all'?",
    )


def test_rules_are_silent_while_a_server_has_listed_nothing() -> None:
    shelf = Shelf("s", None, rules=ToolRules(deny=("x",)))

    assert catalog_of(shelf).snapshot.problems(everybodys("s")) == ()


def test_denying_a_malformed_tool_settles_it() -> None:
    broken = {"name": "broken", "inputSchema": []}

    catalog = catalog_of(Shelf("s", Listing(tools=(broken,)), rules=ToolRules(deny=("broken",))))

    assert catalog.snapshot.problems(everybodys("s")) == ()


# -- unknown names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("get_current_time", "time__get_current_time"),
        ("get_curent_time", "time__get_current_time"),
        ("time.get_current_time", "time__get_current_time"),
        ("Time__Get_Current_Time", "time__get_current_time"),
        ("github__createIssue", "github__create_issue"),
    ],
)
def test_an_unknown_tool_is_refused_with_the_name_that_was_meant(wrong: str, right: str) -> None:
    catalog = catalog_of(
        Shelf("time", tools("get_current_time", "convert_time"), prefix="time"),
        Shelf("github", tools("create_issue", "list_issues"), prefix="github"),
    )

    with pytest.raises(ToolNotFound) as refusal:
        catalog.snapshot.view(None).tool(wrong)

    assert refusal.value.similar[0] == right
    assert right in str(refusal.value)


def test_a_long_namespace_does_not_hide_a_name() -> None:
    view = catalog_of(Shelf("s", tools("search"), prefix="the_archive_of_everything")).snapshot

    with pytest.raises(ToolNotFound) as refusal:
        view.view(None).tool("search")

    assert refusal.value.similar == ["the_archive_of_everything__search"]


def test_at_most_three_names_are_suggested_and_none_when_nothing_is_like_it() -> None:
    shelves = [Shelf(f"s{n}", tools("search"), prefix=f"s{n}", position=n) for n in range(5)]
    view = catalog_of(*shelves).snapshot.view(None)

    with pytest.raises(ToolNotFound) as many:
        view.tool("search")
    with pytest.raises(ToolNotFound) as none:
        view.tool("qqqqqqqq" * 1000)
    with pytest.raises(PromptNotFound):
        view.prompt("search")

    assert many.value.similar == ["s0__search", "s1__search", "s2__search"]
    assert none.value.similar == []


# -- organisations --------------------------------------------------------------------------------


def test_an_organisation_sees_what_is_global_and_its_own_and_nothing_of_another() -> None:
    snapshot = catalog_of(
        Shelf("all", tools("a"), prefix="all"),
        Shelf("acme", tools("b"), prefix="acme", org="acme"),
        Shelf("globex", tools("c"), prefix="globex", org="globex"),
    ).snapshot

    assert names(snapshot.view(None).tools) == ["all__a"]
    assert names(snapshot.view("acme").tools) == ["acme__b", "all__a"]
    assert names(snapshot.view("globex").tools) == ["all__a", "globex__c"]
    with pytest.raises(ToolNotFound) as refusal:
        snapshot.view("acme").tool("globex__c")
    assert refusal.value.similar == []


def test_names_tell_an_organisation_nothing_of_what_another_has() -> None:
    acme = Shelf("acme-files", tools("read"), position=2, org="acme")
    globex = Shelf("globex-files", tools("read"), position=1, org="globex")

    with_both = catalog_of(acme, globex).snapshot

    assert names(with_both.view("acme").tools) == ["read"]
    assert names(with_both.view("globex").tools) == ["read"]
    assert with_both.problems(ProviderId("acme", "acme-files")) == ()


def test_organisations_without_anything_of_their_own_share_one_view() -> None:
    snapshot = catalog_of(Shelf("all", tools("a"))).snapshot

    assert snapshot.view("acme") is snapshot.view("globex") is snapshot.view(None)


# -- changes --------------------------------------------------------------------------------------


class Ears:
    """Hears what a catalog tells."""

    def __init__(self, catalog: Catalog) -> None:
        self.heard: list[list[str]] = []
        catalog.listeners.append(lambda _old, _new, changed: self.heard.append(sorted(changed)))


def test_a_put_that_changes_nothing_makes_no_snapshot_and_tells_nobody() -> None:
    catalog = catalog_of(Shelf("s", tools("a", "b")))
    ears, before = Ears(catalog), catalog.snapshot

    catalog.put(Shelf("s", tools("a", "b")))

    assert catalog.snapshot is before
    assert ears.heard == []


def test_listeners_hear_of_the_kinds_that_changed_and_of_no_other() -> None:
    catalog = catalog_of(Shelf("s", tools("a")))
    ears = Ears(catalog)

    catalog.put(Shelf("s", Listing(tools=(tool("a"),), prompts=({"name": "p"},))))
    catalog.put(Shelf("s", Listing(tools=(tool("a", title="A"),), prompts=({"name": "p"},))))
    catalog.put(Shelf("r", resources("file:///a", "file:///{b}")))
    catalog.remove(everybodys("s"))

    assert ears.heard == [["prompts"], ["tools"], ["resources", "templates"], ["prompts", "tools"]]


def test_another_order_or_name_is_a_change_and_other_instructions_are_not_one_of_a_list() -> None:
    catalog = catalog_of(Shelf("s", tools("a", "b")))
    ears = Ears(catalog)

    catalog.put(Shelf("s", tools("b", "a")))
    catalog.put(Shelf("s", tools("b", "a"), prefix="s"))
    catalog.put(Shelf("s", replace(tools("b", "a"), instructions="Read me."), prefix="s"))

    assert ears.heard == [["tools"], ["tools"]]
    assert catalog.snapshot.view(None).instructions == "Read me."


def test_listeners_hear_after_the_swap_and_versions_grow() -> None:
    catalog, seen = Catalog(), list[tuple[int, int, bool]]()
    catalog.listeners.append(
        lambda old, new, _: seen.append((old.version, new.version, catalog.snapshot is new))
    )

    catalog.put(Shelf("a", tools("x")))
    catalog.put(Shelf("b", tools("y")))
    catalog.remove(everybodys("nobody"))

    assert seen == [(0, 1, True), (1, 2, True)]


def test_a_snapshot_that_is_in_use_does_not_change() -> None:
    catalog = catalog_of(Shelf("s", tools("a")))
    held = catalog.snapshot

    catalog.put(Shelf("s", tools("b")))

    assert names(held.view(None).tools) == ["a"]


def test_a_provider_that_has_left_is_not_available_for_entries_that_were_found_before() -> None:
    catalog = catalog_of(Shelf("s", tools("a")))
    entry = catalog.snapshot.view(None).tool("a")

    catalog.remove(everybodys("s"))

    with pytest.raises(DownstreamUnavailable, match="removed"):
        catalog.provider_of(entry)
    assert catalog.snapshot.view(None).tools == ()


# -- facts for the gateway ------------------------------------------------------------------------


def test_instructions_of_one_provider_are_its_own_and_of_several_stand_under_their_names() -> None:
    time = Shelf("clock", Listing(instructions="Ask me the time."), prefix="time")
    files = Shelf("files", Listing(instructions="# Paths\nAre absolute."), position=1)
    mute = Shelf("mute", Listing(), position=2)

    assert catalog_of(time).snapshot.view(None).instructions == "Ask me the time."
    assert catalog_of(time, files, mute).snapshot.view(None).instructions == (
        "# time\n\nAsk me the time.\n\n# files\n\n# Paths\nAre absolute."
    )
    assert catalog_of(time, mute).snapshot.view(None).instructions == "# time\n\nAsk me the time."
    assert catalog_of(mute).snapshot.view(None).instructions == ""


def test_lists_are_kept_as_briefly_and_as_privately_as_any_provider_wants() -> None:
    long = Shelf("long", Listing(ttl_ms=9000, cache_scope="public"))
    short = Shelf("short", Listing(ttl_ms=100, cache_scope="public"))
    private = Shelf("private", Listing(ttl_ms=500, cache_scope="public"), org="acme")

    snapshot = catalog_of(long, short, private).snapshot

    assert (snapshot.view(None).ttl_ms, snapshot.view(None).cache_scope) == (100, "public")
    assert snapshot.view("acme").cache_scope == "private"
    assert (Catalog().snapshot.view(None).ttl_ms, Catalog().snapshot.view(None).cache_scope) == (
        0,
        "private",
    )


def test_a_tool_is_safe_to_repeat_when_its_provider_says_so() -> None:
    listing = Listing(
        tools=(
            tool("reads", annotations={"readOnlyHint": True}),
            tool("sets", annotations={"idempotentHint": True}),
            tool("adds", annotations={"readOnlyHint": False}),
            tool("says_nothing"),
        )
    )
    view = catalog_of(Shelf("s", listing)).snapshot.view(None)

    safe = [name for name in names(view.tools) if view.tool(name).is_safe_to_repeat]

    assert safe == ["reads", "sets"]


def test_items_are_counted_by_provider_and_kind() -> None:
    snapshot = catalog_of(Shelf("s", tools("a", "b")), Shelf("r", resources("x:1"))).snapshot

    assert snapshot.count(everybodys("s"), "tools") == 2
    assert snapshot.count(everybodys("r"), "resources") == 1
    assert snapshot.count(everybodys("nobody"), "tools") == 0
