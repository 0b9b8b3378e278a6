"""Captioners of the Show and Tell code (tensorflow/models, research/im2txt): a frozen graph or a checkpoint."""

from __future__ import annotations

import ast
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from batchcap.bundle.manifest import Generation
from batchcap.bundle.vocabulary import Vocabulary
from batchcap.errors import BundleError, ExportError
from batchcap_export.importers.im2txt import frozen, show_and_tell
from batchcap_export.importers.im2txt.checkpoints import find_checkpoint
from batchcap_export.importers.im2txt.frozen import FrozenGraph
from batchcap_export.importers.im2txt.tool import Tool, prove
from batchcap_export.model.beams import beams_from_rows
from batchcap_export.model.caption_model import CaptionModel, Original, Tensors
from batchcap_export.model.functions import special_tokens
from batchcap_export.options.importing import ImportOptions

STATE = "lstm"
# The original's fixed settings: its 20 words count `<S>`, which `max_length` does not.
GENERATION = Generation(search="im2txt", beam_size=3, max_length=19, length_penalty=0.0)
_BYTES = re.compile(r"""b(?:'.*'|".*")""")


def load(source: Path, options: ImportOptions) -> CaptionModel:
    """The captioner of a frozen graph (``show-and-tell.pb``) or of a checkpoint (``model.ckpt-STEP``, or its folder).

    Args:
        options: ``vocabulary`` is ``word_counts.txt``; ``start``, ``end`` and ``unknown`` are ``<S>``, ``</S>`` and
            ``<UNK>`` unless it names others.

    Raises:
        ExportError: something of it is missing, or does not fit.
    """
    if options.vocabulary is None:
        raise ExportError(f"{source}: does not hold its words.", "Name them: --vocabulary word_counts.txt.")
    checkpoint = find_checkpoint(source)
    if checkpoint is None:
        definition = frozen.load_graph(source)
    else:
        definition = show_and_tell.inference_graph(show_and_tell.read_checkpoint(checkpoint))
    graph = frozen.inspect_graph(definition, str(source))
    start, end, unknown = options.start or "<S>", options.end or "</S>", options.unknown or "<UNK>"
    words = read_words(options.vocabulary)
    vocabulary = _vocabulary(options.vocabulary, words, unknown, graph.words)
    tokens = special_tokens(vocabulary, start, end, unknown)
    encode, step = frozen.encoder(graph), frozen.stepper(graph)
    single = frozen.single_encoder(graph)
    tool = Tool(definition, words, start=start, end=end, unknown=unknown)
    return CaptionModel(
        encode=lambda image: ({STATE: encode(image)}, {}),
        step=beams_from_rows(lambda word, states, _: _said(step, vocabulary, tokens.unknown, word, states)),
        vocabulary=vocabulary,
        tokens=tokens,
        preprocess=graph.preprocess,
        architecture="im2txt",
        generation=GENERATION,
        parameters=_parameters(definition),
        recipe={"from": "frozen graph" if checkpoint is None else "checkpoint", "outputs": graph.words},
        original=Original(
            encode=lambda image: ({STATE: tf.map_fn(lambda one: single(one[None])[0], image)}, {}),
            step=partial(_original_step, graph, step, len(vocabulary), tokens.unknown),
        ),
        prove=partial(prove, tool),
    )


def read_words(path: Path) -> list[str]:
    """The words of ``word_counts.txt`` by their ids: a line is ``word count``, its number the id.

    Python 3 wrote ``b'word' count`` where Python 2 had written ``word count``; such words are repaired.

    Raises:
        ExportError: it cannot be read, is no text, or has an empty line.
    """
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except OSError as error:
        raise ExportError(f"--vocabulary {path}: cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ExportError(f"--vocabulary {path}: is not UTF-8 text (byte {error.start}).") from error
    while lines and not lines[-1].strip():
        lines.pop()
    words = []
    for number, line in enumerate(lines, 1):
        if not line.split():
            raise ExportError(f"--vocabulary {path}: line {number} is empty.", "Its number would be the id of a word.")
        words.append(line.split()[0])
    # All or none: a single word may really look like this.
    if words and all(_BYTES.fullmatch(word) for word in words):
        words = [ast.literal_eval(word).decode("utf-8") for word in words]
    return words


def _vocabulary(path: Path, words: list[str], unknown: str, outputs: int) -> Vocabulary:
    """The words that captions can hold: those of the file, and ``<UNK>``, which the original appends.

    Raises:
        ExportError: there are more words than outputs, or a word stands twice.
    """
    if len(words) > outputs:
        raise ExportError(
            f"--vocabulary {path}: has {len(words)} words, but the model gives only {outputs}.",
            "Give the file that it was trained with.",
        )
    # With a word for every output nothing is left that could mean an unknown one.
    appended = [unknown] if unknown not in words and len(words) < outputs else []
    try:
        return Vocabulary((*words, *appended))
    except BundleError as error:
        raise ExportError(f"--vocabulary {path}: {error.message}", error.fix) from error


def _said(step: Any, vocabulary: Vocabulary, unknown: int | None, word: Any, states: Tensors) -> tuple[Any, Tensors]:
    """One step; outputs without a word count as ``<UNK>``, which is what the original prints for them.

    What the other words have stays what it was. The logits, because the softmax loses what is below 1e-38.
    """
    logits, state = step(word, states[STATE])
    count = len(vocabulary)
    if logits.shape[1] == count or unknown is None:
        return logits, {STATE: state}
    nameless = tf.concat([logits[:, unknown : unknown + 1], logits[:, count:]], 1)
    # Not tf.reduce_logsumexp, which adds nodes that look for infinities.
    top = tf.reduce_max(nameless, 1, keepdims=True)
    together = top + tf.math.log(tf.reduce_sum(tf.exp(nameless - top), 1, keepdims=True))
    return tf.concat([logits[:, :unknown], together, logits[:, unknown + 1 : count]], 1), {STATE: state}


def _original_step(
    graph: FrozenGraph, step: Any, count: int, unknown: int | None, token: Any, states: Tensors, _: Tensors
) -> tuple[NDArray[Any], Tensors, None]:
    """Tokens [B, K] and states [B, K, S] by the graph itself -> log-probabilities [B, K, V] by NumPy."""
    token = np.asarray(token)
    rows = tf.constant(token.reshape(-1)), tf.reshape(states[STATE], [-1, graph.width])
    logits, state = (made.numpy() for made in step(*rows))
    log_prob = logits.astype(np.float64)
    log_prob -= np.logaddexp.reduce(log_prob, axis=1, keepdims=True)
    if unknown is not None:
        log_prob[:, unknown] = np.logaddexp.reduce(log_prob[:, [unknown, *range(count, graph.words)]], axis=1)
    out = log_prob[:, :count].astype(np.float32).reshape(*token.shape, count)
    return out, {STATE: tf.constant(state.reshape(*token.shape, graph.width))}, None


def _parameters(definition: Any) -> int:
    """How many weights: the elements of all float constants whose values differ."""
    values = (
        tf.make_ndarray(node.attr["value"].tensor)
        for node in definition.node
        if node.op == "Const" and node.attr["dtype"].type == tf.float32.as_datatype_enum
    )
    return sum(value.size for value in values if value.size and np.ptp(value))
