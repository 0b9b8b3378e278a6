"""Files of captions and splits as people have them: the token format of Flickr8k, the CSV of its download, others."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcap.errors import DataError
from batchcap_export.data.caption_files import read_captions
from batchcap_export.data.splits import CaptionedImages, keep_apart, read_split
from batchcap_export.data.words import build_vocabulary

# As the usual download has it: unquoted where nothing asks for it, quotation marks doubled.
DOWNLOAD = """image,caption
1000268201_693b08cb0e.jpg,A child in a pink dress is climbing up a set of stairs in an entry way .
1000268201_693b08cb0e.jpg,"A little girl climbing , the stairs to her playhouse ."
1012212859_01547e3f17.jpg,"A dog named ""Rex"" shakes its head , near the shore ."
"""
READ = {
    "1000268201_693b08cb0e.jpg": (
        "A child in a pink dress is climbing up a set of stairs in an entry way .",
        "A little girl climbing , the stairs to her playhouse .",
    ),
    "1012212859_01547e3f17.jpg": ('A dog named "Rex" shakes its head , near the shore .',),
}
TOKENS = "a.jpg#0\tA dog , running .\nb.jpg#0\tA cat\na.jpg#1\ttwo dogs\n"


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "captions.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_usual_download_is_read(tmp_path: Path, bom: bytes, end: bytes) -> None:
    assert read_captions(written(tmp_path, bom + DOWNLOAD.encode().replace(b"\n", end))) == READ


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_token_format_is_read_from_any_system(tmp_path: Path, bom: bytes, end: bytes) -> None:
    captions = read_captions(written(tmp_path, bom + TOKENS.encode().replace(b"\n", end)))
    assert captions == {"a.jpg": ("A dog , running .", "two dogs"), "b.jpg": ("A cat",)}


def test_commas_that_nobody_quoted_belong_to_the_caption(tmp_path: Path) -> None:
    captions = read_captions(written(tmp_path, 'image,caption\na.jpg,A dog, a "cat", and a cow .\n'))
    assert captions == {"a.jpg": ('A dog, a "cat", and a cow .',)}


def test_columns_are_found_by_their_names(tmp_path: Path) -> None:
    text = 'Number,Caption,Image\n0,"A dog , running .",a.jpg\n1,A cat,b.jpg\n'
    assert read_captions(written(tmp_path, text)) == {"a.jpg": ("A dog , running .",), "b.jpg": ("A cat",)}


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1), min_size=1))
def test_what_csv_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, captions: list[str]) -> None:
    captions = [text.strip() or "x" for text in captions]
    out = io.StringIO()
    csv.writer(out).writerows([("image", "caption"), *(("a.jpg", text) for text in captions)])
    path = written(tmp_path_factory.mktemp("csv"), out.getvalue())
    assert read_captions(path) == {"a.jpg": tuple(captions)}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            "image_name| comment_number| comment\na.jpg| 0| A dog\n",
            r"line 1: not of a form that is known: image_name\|",
        ),
        ("a.jpg A dog\n", "line 1: not of a form that is known: a.jpg A dog"),
        ("a.jpg#0\tok\na.jpg\n", "line 2: not of a form that is known: a.jpg"),
        ("file,text\na.jpg,A dog\n", "line 1: not of a form that is known: file,text"),
        ("image,caption\na.jpg\n", "line 2: 1 cells where the header has 2"),
        ("caption,image\nA dog, running,a.jpg\n", "line 2: 3 cells where the header has 2"),
        ("image,caption\n", "holds no caption"),
        ("", "holds no caption"),
    ],
)
def test_other_files_are_told_the_forms_with_an_example(tmp_path: Path, content: str, told: str) -> None:
    with pytest.raises(DataError, match=told) as caught:
        read_captions(written(tmp_path, content))
    assert "captions.txt" in caught.value.message
    assert "dog.jpg#0<TAB>A dog runs ." in caught.value.fix
    assert 'dog.jpg,"A dog , running ."' in caught.value.fix


@pytest.mark.parametrize(
    ("content", "told"),
    [
        # An open quotation mark would make one caption of the rest of the file.
        ('image,caption\na.jpg,"A dog\nb.jpg,A cat\n', "is no CSV"),
        ('image,caption\na.jpg,"Stop" says a sign\n', "line 2: is no CSV"),
        ("image,caption\na.jpg,  \n", "line 2: a.jpg has an empty caption"),
        ("a.jpg#0\tA dog\nb.jpg#0\t\n", "line 2: b.jpg has an empty caption"),
        (b"a.jpg#0\tA caf\xe9\n", r"is not UTF-8 text \(byte 13\)"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, content: str | bytes, told: str) -> None:
    with pytest.raises(DataError, match=told) as caught:
        read_captions(written(tmp_path, content))
    assert caught.value.fix


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.txt"):
        (folder / name).touch()
    return folder


CAPTIONS = dict.fromkeys(("a.jpg", "b.jpg", "c.jpg", "d.jpg"), ("A dog",))


def _split(images: Path, name: str, text: str | bytes) -> tuple[Path, CaptionedImages]:
    path = images.parent / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path, read_split(images, CAPTIONS, path)


def test_splits_from_another_system_are_read(images: Path) -> None:
    _, split = _split(images, "train.txt", b"\xef\xbb\xbfa.jpg\r\nb.jpg\r\n")
    assert [file.name for file in split.files] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_split_is_named(images: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"train\.txt: names no image\. Write one"):
        _split(images, "train.txt", text)


def test_a_text_file_is_no_image(images: Path) -> None:
    with pytest.raises(DataError, match=r"no image in .* for 1 of 2 names, such as d\.jpg"):
        _split(images, "train.txt", "a.jpg\nd.jpg\n")


def test_splits_that_share_images_are_refused(images: Path) -> None:
    train, learn = _split(images, "train.txt", "a.jpg\nb.jpg\n")
    other, dev = _split(images, "dev.txt", "c.jpg\n")
    keep_apart(learn, dev, train, other)
    with pytest.raises(DataError, match=r"train\.txt and .*train\.txt name the same images") as caught:
        keep_apart(learn, learn, train, train)
    assert "none of them may be learnt" in caught.value.fix
    _, mixed = _split(images, "dev.txt", "c.jpg\nb.jpg\n")
    with pytest.raises(DataError, match=r"dev\.txt: 1 of its 2 images are in --train-split .*, such as b\.jpg"):
        keep_apart(learn, mixed, train, other)
    # The same images under other names, and as other files.
    (images / "c.jpg").unlink()
    (images / "c.jpg").symlink_to("a.jpg")
    _, linked = _split(images, "dev.txt", "c.jpg\n")
    with pytest.raises(DataError, match="1 of its 1 images"):
        keep_apart(learn, linked, train, other)


def test_the_words_of_a_download_are_those_of_the_token_format(tmp_path: Path) -> None:
    """One captioning, in both forms, gives one vocabulary."""
    tokens = "".join(f"{name}#{i}\t{text}\n" for name, texts in READ.items() for i, text in enumerate(texts))
    both = [read_captions(written(tmp_path, content)) for content in (DOWNLOAD, tokens)]
    assert both[0] == both[1]
    one, other = (build_vocabulary(captions.values(), 1).words for captions in both)
    assert one == other
