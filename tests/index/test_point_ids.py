"""Every row gets a number of its own, and its end is announced before it comes."""

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from trunkline.errors import PointIdOverflow
from trunkline.index.point_ids import Usage, point_id, row_of
from trunkline.models import KINDS, Kind


def warned(usage: Usage, kind: Kind, *ids: int) -> list[str]:
    """What is logged when points of these rows are numbered."""
    with capture_logs() as logs:
        for db_id in ids:
            point_id(kind, db_id, usage=usage)
    return [entry["event"] for entry in logs if entry["log_level"] == "warning"]


def measured(type_: str) -> float | None:
    return REGISTRY.get_sample_value("trunkline_point_id_usage", {"type": type_})


@pytest.mark.parametrize(
    ("kind", "first"),
    [("tools", 0), ("prompts", 1_000_000), ("resources", 2_000_000), ("templates", 2_000_000)],
)
def test_a_type_has_a_million_numbers(kind: Kind, first: int) -> None:
    assert point_id(kind, 1) == first + 1
    assert point_id(kind, 42) == first + 42


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("db_id", [1, 899_999, 900_000, 999_999])
def test_a_number_leads_back_to_its_row(kind: Kind, db_id: int) -> None:
    type_ = "resource" if kind == "templates" else kind.removesuffix("s")

    assert row_of(point_id(kind, db_id)) == (type_, db_id)


def test_no_two_rows_share_a_number() -> None:
    kinds: list[Kind] = ["tools", "prompts", "resources"]

    numbers = [point_id(kind, db_id) for kind in kinds for db_id in (0, 1, 500_000, 999_999)]

    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("db_id", [1_000_000, 1_000_001, 2**63])
def test_an_id_that_would_collide_is_refused_with_the_items_name(kind: Kind, db_id: int) -> None:
    type_ = "resource" if kind == "templates" else kind.removesuffix("s")

    with pytest.raises(PointIdOverflow) as refused:
        point_id(kind, db_id, item="'send' of 'mail'")

    said = f"Point ID overflow: {type_} db_id={db_id} exceeds max 999999. IDs would collide."
    assert str(refused.value).startswith(said)
    assert "'send' of 'mail'" in str(refused.value)
    assert refused.value.code == "point_id_overflow"


@pytest.mark.parametrize("number", [-1, 3_000_000])
def test_a_number_of_nobody_leads_nowhere(number: int) -> None:
    with pytest.raises(ValueError, match="no point id"):
        row_of(number)


def test_an_id_below_zero_is_no_row() -> None:
    with pytest.raises(ValueError, match="no id of a row"):
        point_id("prompts", -1)


def test_the_end_of_the_ids_is_announced_once_for_each_percent() -> None:
    usage = Usage()

    assert warned(usage, "tools", 1, 899_999) == []
    assert warned(usage, "tools", 900_000) == [
        "Point ID approaching limit: tool db_id=900000 (90% of capacity)"
    ]
    assert warned(usage, "tools", 900_000, 900_001, 909_999, 5, 899_999) == []
    assert warned(usage, "tools", 920_000) == [
        "Point ID approaching limit: tool db_id=920000 (92% of capacity)"
    ]
    assert warned(usage, "tools", *range(920_000, 930_000)) == []
    assert warned(usage, "tools", 999_999) == [
        "Point ID approaching limit: tool db_id=999999 (100% of capacity)"
    ]


def test_each_type_is_announced_for_itself() -> None:
    usage = Usage()

    assert len(warned(usage, "tools", 950_000)) == 1
    assert warned(usage, "prompts", 920_000) == [
        "Point ID approaching limit: prompt db_id=920000 (92% of capacity)"
    ]


def test_templates_use_up_the_ids_of_resources() -> None:
    usage = Usage()

    assert warned(usage, "templates", 920_000) == [
        "Point ID approaching limit: resource db_id=920000 (92% of capacity)"
    ]
    assert warned(usage, "resources", 920_001) == []


def test_the_usage_of_a_type_is_the_highest_id_so_far() -> None:
    usage = Usage()

    point_id("prompts", 250_000, usage=usage)
    point_id("prompts", 7, usage=usage)

    assert measured("prompt") == 0.25


def test_the_usage_can_be_told_before_any_point_is_written() -> None:
    usage = Usage()

    usage.note("tools", 800_000)

    assert measured("tool") == 0.8


def test_an_id_that_is_refused_does_not_count_as_used() -> None:
    usage = Usage()

    point_id("tools", 10, usage=usage)

    with pytest.raises(PointIdOverflow):
        point_id("tools", 1_000_000, usage=usage)

    assert measured("tool") == 0.00001
