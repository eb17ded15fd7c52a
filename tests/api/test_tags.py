"""What is read has a tag, and is not sent again to who has it."""

import pytest

from tests.api.office import Office

pytestmark = pytest.mark.anyio

LISTS = ("/me", "/servers", "/keys", "/approvals", "/pins", "/audit", "/openapi.json")


@pytest.mark.parametrize("path", LISTS)
async def test_who_has_it_already_is_told_so(office: Office, path: str) -> None:
    first = await office.ask("admin", "GET", path)
    tag = first.headers["etag"]

    for wanted in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await office.ask("admin", "GET", path, headers={"if-none-match": wanted})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    other = await office.ask("admin", "GET", path, headers={"if-none-match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)


async def test_a_tag_changes_with_what_there_is(office: Office) -> None:
    before = (await office.ask("admin", "GET", "/keys")).headers["etag"]
    await office.key("acme")

    answer = await office.ask("admin", "GET", "/keys", headers={"if-none-match": before})

    assert answer.status_code == 200
    assert answer.headers["etag"] != before


async def test_a_refusal_has_no_tag(office: Office) -> None:
    answer = await office.ask("user", "GET", "/keys", headers={"if-none-match": "*"})

    assert answer.status_code == 403
    assert "etag" not in answer.headers
