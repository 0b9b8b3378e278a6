"""The words of a captioner that was made elsewhere: text, JSON, or the layer that made ids of them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from batchcap.bundle.vocabulary import Vocabulary
from batchcap.errors import BundleError, ExportError
from batchcap_export.data.words import PADDING
from batchcap_export.options.importing import ImportOptions

_FORMS = (
    "Text with one word a line, JSON (a list, or an object of word and id), or a .keras file with TextVectorization."
)
_LAYERS = ("TextVectorization", "StringLookup")
_UNKNOWN = ("<unk>", "[UNK]", "<UNK>")


def read_vocabulary(path: Path) -> Vocabulary:
    """The word of every id.

    Args:
        path: text with one word a line, the first has the id 0; JSON: a list, an object of word -> id or id -> word, or
            what ``keras.preprocessing.text.Tokenizer.to_json`` gives; a ``.keras`` file that holds a TextVectorization
            or StringLookup layer. An empty word for padding becomes ``<pad>``.

    Raises:
        ExportError: the file cannot be read, is none of these, or its words cannot be used.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path}: cannot be read: {error.strerror or error}.", f"A vocabulary is: {_FORMS}") from None
    if data[:1] == b"\x80":
        raise ExportError(f"{path}: is a pickle, which can run any code when it is opened.", f"Save it as: {_FORMS}")
    if zipfile.is_zipfile(path):
        words = _layer_words(path)
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ExportError(
                f"{path}: is not UTF-8 text (byte {error.start}).", f"A vocabulary is: {_FORMS}"
            ) from None
        is_json = path.suffix.lower() == ".json" or text.lstrip()[:1] in ("[", "{")
        words = _json_words(path, text) if is_json and _is_json(text) else _lines(path, text)
    try:
        return Vocabulary(tuple(word or PADDING if index == 0 else word for index, word in enumerate(words)))
    except BundleError as error:
        raise ExportError(f"{path}: {error.message}", error.fix or "Every id needs a word of its own.") from None


def special_words(vocabulary: Vocabulary, options: ImportOptions) -> dict[str, str | None]:
    """Start, end, unknown and padding for `caption_model`: as the user says, else as they are usually called.

    Raises:
        ExportError: a token that the user names is no word of the vocabulary.
    """
    for what in ("unknown", "padding"):
        word = getattr(options, what)
        if word is not None and word not in vocabulary.words:
            raise ExportError(f"The vocabulary has no {what} token {word!r}.", f"Leave --{what} out, or name another.")
    usual = next((word for word in _UNKNOWN if word in vocabulary.words), None)
    return {
        "start": options.start or "<start>",
        "end": options.end or "<end>",
        "unknown": options.unknown or usual,
        "padding": options.padding or PADDING,
    }


def _lines(path: Path, text: str) -> list[str]:
    if path.suffix.lower() == ".json":
        raise ExportError(f"{path}: is not JSON.", f"A vocabulary is: {_FORMS}")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _json_words(path: Path, text: str) -> list[str]:
    found = json.loads(text)
    if isinstance(found, str):
        found = json.loads(found) if _is_json(found) else found  # Tokenizer.to_json is often dumped once more
    if isinstance(found, dict) and found.get("class_name") == "Tokenizer":
        return _tokenizer_words(path, found.get("config", {}))
    if isinstance(found, list) and all(isinstance(word, str) for word in found):
        return found
    if isinstance(found, dict) and found:
        if all(type(value) is int for value in found.values()):
            return _by_id(path, [(number, word) for word, number in found.items()])
        if all(isinstance(value, str) and key.isdecimal() for key, value in found.items()):
            return _by_id(path, [(int(key), word) for key, word in found.items()])
    raise ExportError(f"{path}: is JSON, but no vocabulary.", f"A vocabulary is: {_FORMS}")


def _tokenizer_words(path: Path, config: dict[str, Any]) -> list[str]:
    index = config.get("word_index", {})
    index = json.loads(index) if isinstance(index, str) else index
    kept = config.get("num_words")
    # ``num_words`` counts the id 0, which no word has.
    return _by_id(path, [(number, word) for word, number in index.items() if kept is None or number < kept])


def _by_id(path: Path, pairs: Sequence[tuple[int, str]]) -> list[str]:
    """The words in the order of their ids; where these start with 1, id 0 is padding."""
    words: dict[int, str] = {}
    for number, word in pairs:
        if number in words:
            raise ExportError(
                f"{path}: the words {words[number]!r} and {word!r} have one id, {number}.",
                "Every id needs a word of its own.",
            )
        words[number] = word
    words.setdefault(0, PADDING)
    missing = next((number for number in range(len(words)) if number not in words), None)
    if missing is not None or not pairs:
        raise ExportError(
            f"{path}: no word has the id {missing or 0}, though there are {len(pairs)} words.",
            "Every id from 0 (or 1, where 0 is padding) to the last needs one word.",
        )
    return [words[number] for number in range(len(words))]


def _layer_words(path: Path) -> list[str]:
    """The words of the one lookup layer in a ``.keras`` file, read without running anything in it."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if "config.json" not in names:
            raise ExportError(f"{path}: is no .keras file.", f"A vocabulary is: {_FORMS}")
        layers = list(_configs(json.loads(archive.read("config.json"))))
        # A vocabulary that was adapted lies beside the config, whole.
        files = {name.split("/")[-2]: name for name in names if name.endswith("/vocabulary.txt")}
        if len(layers) != 1:
            found = ", ".join(str(layer["config"].get("name")) for layer in layers) or "none"
            raise ExportError(
                f"{path}: holds {len(layers)} TextVectorization or StringLookup layers ({found}), not one.",
                "Save the words of the right one: '\\n'.join(layer.get_vocabulary()).",
            )
        config = layers[0]["config"]
        given = config.get("vocabulary")
        if isinstance(given, list):
            return _with_special(given, config, layers[0]["class_name"])
        name = files.get("_lookup_layer") or files.get(str(config.get("name"))) or next(iter(files.values()), None)
        if name is None:
            raise ExportError(f"{path}: its {layers[0]['class_name']} layer has no words.", "Adapt it before saving.")
        return archive.read(name).decode("utf-8").split("\n")


def _configs(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("class_name") in _LAYERS and isinstance(node.get("config"), dict):
            yield node
        else:
            for value in node.values():
                yield from _configs(value)
    elif isinstance(node, list):
        for value in node:
            yield from _configs(value)


def _with_special(words: Sequence[str], config: dict[str, Any], layer: str) -> list[str]:
    """A vocabulary as it was given to the layer, with the mask and unknown tokens that the layer puts before it."""
    mask = "" if layer == "TextVectorization" else config.get("mask_token")
    unknown = [config.get("oov_token", "[UNK]")] * int(config.get("num_oov_indices", 1))
    special = ([] if mask is None else [mask]) + unknown
    return list(words) if list(words[: len(special)]) == special else [*special, *words]
