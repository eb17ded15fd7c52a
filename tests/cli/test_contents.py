"""A result as a person sees it: text as text, binary data as a note or a file."""

import base64
from pathlib import Path

import pytest

from trunkline.cli.contents import show_result
from trunkline.errors import UsageError

PNG = b"\x89PNG" + bytes(2000)


def image(data: bytes = PNG) -> dict[str, object]:
    return {"type": "image", "data": base64.b64encode(data).decode(), "mimeType": "image/png"}


def test_every_kind_of_content_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    blob = base64.b64encode(b"12345").decode()
    show_result(
        {
            "content": [
                {"type": "text", "text": "two\nlines"},
                image(),
                {"type": "audio", "data": "abcd, efgh", "mimeType": "audio/wav"},
                {"type": "resource", "resource": {"uri": "note://a", "text": "a note"}},
                {"type": "resource", "resource": {"uri": "note://b", "blob": blob}},
                {"type": "resource_link", "uri": "note://c", "name": "c", "title": "See"},
                {"type": "hologram"},
                "garbage",
            ]
        },
        None,
    )

    assert capsys.readouterr().out.splitlines() == [
        "two",
        "lines",
        "[image/png, 2.0 kB; --output FILE saves it]",
        "[audio/wav]",
        "a note",
        "[resource, 5 bytes; --output FILE saves it]",
        "[link to note://c: See]",
        "[hologram]",
    ]


def test_a_result_that_is_only_structured_is_printed_as_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_result({"structuredContent": {"answer": 42}, "content": []}, None)

    assert capsys.readouterr().out == '{\n  "answer": 42\n}\n'


def test_one_image_is_written_where_it_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_result({"content": [image(), {"type": "text", "text": "done"}]}, tmp_path / "a.png")

    captured = capsys.readouterr()
    assert (tmp_path / "a.png").read_bytes() == PNG
    assert captured.out == "done\n"
    assert "Wrote" in captured.err


def test_several_images_are_numbered(tmp_path: Path) -> None:
    show_result({"content": [image(b"one"), image(b"two")]}, tmp_path / "a.png")

    assert (tmp_path / "a-1.png").read_bytes() == b"one"
    assert (tmp_path / "a-2.png").read_bytes() == b"two"


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Choose another --output"):
        show_result({"content": [image()]}, tmp_path / "missing" / "a.png")


def test_output_for_a_result_without_binary_data_is_a_remark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_result({"content": [{"type": "text", "text": "words"}]}, tmp_path / "a.png")

    captured = capsys.readouterr()
    assert captured.out == "words\n"
    assert "nothing to write" in captured.err
    assert not (tmp_path / "a.png").exists()
