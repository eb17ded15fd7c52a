"""Which URIs a template describes."""

import pytest

from trunkline.catalog.uri_template import matches, weight


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("test://{id}/data", "test://7/data"),
        ("test://{id}/data", "test://a%2Fb.c-d/data"),
        ("test://{a}{b}", "test://xy"),
        ("test://{a}-{b}", "test://x-y-z"),
        ("file:///{+path}", "file:///a/b?c#d"),
        ("file:///{path*}", "file:///a"),
        ("x://list{?page,size}", "x://list"),
        ("x://list{?page,size}", "x://list?size=1&page=2"),
        ("x://list?a=1{&b}", "x://list?a=1&b=2"),
        ("x://doc{#part}", "x://doc#a/b"),
        ("x://doc{#part}", "x://doc"),
        ("x://doc{.ext}", "x://doc.txt"),
        ("x://doc{/one}", "x://doc/a"),
        ("x://doc{/many*}", "x://doc/a/b"),
        ("x://doc{;v}", "x://doc;v=1"),
        ("{+url}", "https://host/path"),
        ("x://{broken", "x://{broken"),
        ("x://plain.", "x://plain."),
        ("x://{id}", "x://line\nbreak"),
    ],
)
def test_a_template_describes(template: str, uri: str) -> None:
    assert matches(template, uri)


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("test://{id}/data", "test://7/other"),
        ("test://{id}/data", "test://a/b/data"),
        ("test://{id}/data", "test:///data"),
        ("test://{id}", "test://7?x=1"),
        ("file:///{+path}", "file:///"),
        ("x://list{?page}", "x://list/page"),
        ("x://list{?page}", "x://list?a#b"),
        ("x://doc{/one}", "x://doc/a/b"),
        ("x://doc{.ext}", "x://doctxt"),
        ("x://plain.", "x://plain!"),
        ("x://{id}", "y://7"),
        ("x://{a}{b}", "x://a"),
        ("", "x:"),
    ],
)
def test_a_template_does_not_describe(template: str, uri: str) -> None:
    assert not matches(template, uri)


def test_the_more_a_template_fixes_the_more_specific_it_is() -> None:
    assert weight("db://users/{id}") > weight("db://{+path_with_a_long_name}")


def test_a_template_made_to_be_slow_is_not() -> None:
    """One that backtracks would not end within the time a test may take."""
    template = "x://" + "{a}x" * 200 + "y"

    assert not matches(template, "x://" + "x" * 1000)
    assert matches(template, "x://" + "x" * 1000 + "y")
