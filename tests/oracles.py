"""Tables as models, and searches over them in plain Python: what the searches of batchcap are compared with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import strategies as st

from batchcap.decoding.driver import STRATEGIES, search
from batchcap.decoding.pruning import prune_at_once, prune_by_halves
from batchcap.decoding.request import SearchRequest
from batchcap.decoding.types import Hypothesis, StepOutput, Stepper
from batchcap.options.decoding import DecodingOptions

START, END = 0, 1
INF = float("inf")
# Of the oracle's attention: room for the image and for the tokens so far.
REGIONS = 12
# The fake model of the Show and Tell code's own tests: of twelve words, 0 starts and 1 ends; word -> (next word,
# probability). Those tests publish the captions, which begin with 0.
IM2TXT_TABLE = {
    0: [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)],
    2: [(5, 0.1), (6, 0.9)],
    3: [(1, 0.1), (7, 0.4), (8, 0.5)],
    4: [(1, 0.3), (9, 0.3), (10, 0.4)],
    9: [(1, 0.5), (11, 0.5)],
}


@dataclass(frozen=True)
class Model:
    """Every image has a row of a table; a token leads to another row."""

    log_prob: np.ndarray
    """float32 [rows, V]; they need not sum to one."""
    following: np.ndarray
    """[rows, V]."""
    rows: tuple[int, ...]
    """The first row of each image."""
    banned: tuple[int, ...] = (START,)
    prefix: tuple[int, ...] = ()

    def only(self, *images: int) -> Model:
        return replace(self, rows=tuple(self.rows[i] for i in images))

    def search(self, options: DecodingOptions, **settings: object) -> list[list[Hypothesis]]:
        return self.watched_search(options, **settings)[0]

    def watched_search(
        self, options: DecodingOptions, **settings: object
    ) -> tuple[list[list[Hypothesis]], TableStepper]:
        stepper = TableStepper(self)
        return search(stepper, self.request(options, **settings)), stepper

    def request(self, options: DecodingOptions, **settings: object) -> SearchRequest:
        asked = {"start": START, "end": END, "banned": self.banned, "prefix": self.prefix, **settings}
        return SearchRequest(images=len(self.rows), options=options, vocabulary_size=self.log_prob.shape[1], **asked)


def candidates_needed(options: DecodingOptions, vocabulary_size: int, banned: Sequence[int] = ()) -> int:
    """C of every step that has a choice."""
    request = SearchRequest(
        images=1, options=options, start=START, end=END, vocabulary_size=vocabulary_size, banned=banned
    )
    return STRATEGIES[options.search](request).candidates


class TableStepper(Stepper):
    """A stepper over a `Model`. Its attention tells which image a row is of, and all tokens that it was given."""

    def __init__(self, model: Model, most: int | None = None) -> None:
        self.model, self.most = model, most
        """It never shows more than ``most`` candidates."""
        self.row = np.array(model.rows)[:, None]
        self.given = np.arange(len(model.rows))[:, None, None]
        self.fed: list[np.ndarray] = []
        self.shown: list[tuple[int, int, int]] = []
        """[B, K, C] of each step."""

    def step(self, token: np.ndarray, parent: np.ndarray, *, candidates: int, attention: bool = False) -> StepOutput:
        assert token.dtype == parent.dtype == np.int64
        self.fed.append(token.copy())
        self.row = self.model.following[np.take_along_axis(self.row, parent, axis=1), token]
        log_prob = self.model.log_prob[self.row]
        best = np.argsort(-log_prob, axis=-1, kind="stable")[..., : min(candidates, self.most or candidates)]
        self.shown.append(best.shape)
        self.given = np.concatenate((np.take_along_axis(self.given, parent[:, :, None], axis=1), token[:, :, None]), 2)
        weights = None
        if attention:
            weights = np.full((*token.shape, REGIONS), -1, np.float32)
            weights[:, :, : self.given.shape[2]] = self.given
        return StepOutput(np.take_along_axis(log_prob, best, axis=-1), best, weights)

    def select(self, rows: np.ndarray) -> None:
        self.row, self.given = self.row[rows], self.given[rows]


def attention_of(image: int, tokens: tuple[int, ...]) -> list[list[float]]:
    """The attention of a `TableStepper` for each of ``tokens``: all tokens that it was given before."""
    seen = [[image, START, *tokens[:words]] for words in range(len(tokens))]
    return [line + [-1] * (REGIONS - len(line)) for line in seen]


def same_attention(found: list[Hypothesis], image: int) -> None:
    for h in found:
        assert h.attention is not None
        assert h.attention.dtype == np.float32
        assert h.attention.shape == (len(h.tokens), REGIONS)
        assert h.attention.base is None  # its own memory, not the batch's
        assert h.attention.tolist() == attention_of(image, h.tokens)


def allowed(model: Model, options: DecodingOptions, tokens: tuple[int, ...], token: int) -> bool:
    """The rules word for word: may ``token`` follow ``tokens``?"""
    if len(tokens) < len(model.prefix):
        return token == model.prefix[len(tokens)]
    if token == END:
        return len(tokens) >= options.min_length
    n, longer = options.no_repeat_ngram, (*tokens, token)
    runs = [longer[i : i + n] for i in range(len(longer) - n + 1)] if n else []
    return token not in model.banned and (not runs or runs[-1] not in runs[:-1])


def naive(model: Model, image: int, options: DecodingOptions) -> list[Hypothesis]:
    """The contract word for word, one image, all extensions, and never done early."""
    living = [((), 0.0, model.rows[image], START)]
    finished = []

    def scored(tokens: tuple[int, ...], total: float, length: int, ended: bool) -> Hypothesis:
        return Hypothesis(tokens, total, total / max(length, 1) ** options.length_penalty, ended)

    for words in range(options.max_length + 1):
        extensions = []
        for beam, (tokens, total, row, last) in enumerate(living):
            for token, log_prob in enumerate(model.log_prob[model.following[row, last]].tolist()):
                masked = words == options.max_length and token != END
                if log_prob > -INF and not masked and allowed(model, options, tokens, token):
                    extensions.append((-(total + log_prob), token, beam))
        following = []
        for negative, token, beam in sorted(extensions):
            tokens, _, row, last = living[beam]
            if token == END:
                finished.append(scored(tokens, -negative, words + 1, ended=True))
            else:
                following.append(((*tokens, token), -negative, int(model.following[row, last]), token))
                if len(following) == options.beam_size:
                    break
        if words == options.max_length or not following:
            break
        living = following
    cut = [scored(tokens, total, len(tokens), ended=False) for tokens, total, _, _ in living]
    return sorted(finished or cut, key=lambda h: -h.score)[: options.num_captions]


def greedy(model: Model, image: int, options: DecodingOptions) -> Hypothesis:
    """The most probable token at each step, the lower one of equal ones, until it is the end or may only be the end."""
    said, total, row, last = [], 0.0, model.rows[image], START
    while True:
        row = model.following[row, last]
        chances = {t: float(x) for t, x in enumerate(model.log_prob[row]) if allowed(model, options, tuple(said), t)}
        if len(said) == options.max_length:
            chances = {END: chances[END]}
        last = max(chances, key=lambda t: (chances[t], -t), default=END)
        ended = last == END and chances.get(END, -INF) > -INF
        if ended or chances.get(last, -INF) == -INF:
            total += chances[END] if ended else 0.0
            score = total / max(len(said) + ended, 1) ** options.length_penalty
            return Hypothesis(tuple(said), total, score, finished=ended)
        total += chances[last]
        said.append(last)


def exhaustive(model: Model, image: int, options: DecodingOptions) -> list[Hypothesis]:
    """Every sequence up to ``max_length`` that ends, best first."""
    words = [t for t in range(model.log_prob.shape[1]) if t != END]
    found = []
    for length in range(options.max_length + 1):
        for tokens in itertools.product(words, repeat=length):
            total = rescored(model, image, (*tokens, END))
            said = (*tokens, END)
            if total > -INF and all(allowed(model, options, said[:i], token) for i, token in enumerate(said)):
                found.append(Hypothesis(tokens, total, total / (length + 1) ** options.length_penalty, finished=True))
    return sorted(found, key=lambda h: -h.score)


def rescored(model: Model, image: int, tokens: tuple[int, ...]) -> float:
    row, last, total = model.rows[image], START, 0.0
    for token in tokens:
        row = model.following[row, last]
        total += float(model.log_prob[row, token])
        last = token
    return total


@st.composite
def models(draw: st.DrawFn, max_words: int = 6, max_images: int = 5) -> Model:
    """Smooth and peaked ones, and ones full of ties and impossible tokens."""
    words = draw(st.integers(1, max_words))
    size = 2 + words
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.integers(1, 5))
    if draw(st.booleans()):
        log_prob = random.choice([-0.5, -1.0, -2.0, -INF], (rows, size))
    else:
        logits = random.normal(0, draw(st.sampled_from([0.1, 1.0, 4.0])), (rows, size))
        logits[:, END] += draw(st.sampled_from([-4.0, 0.0, 4.0]))
        log_prob = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    images = draw(st.integers(1, max_images))
    banned = (START, *draw(st.lists(st.integers(2, size - 1), max_size=2)))
    return Model(
        log_prob.astype(np.float32),
        random.integers(0, rows, (rows, size)),
        tuple(random.integers(0, rows, images).tolist()),
        banned,
    )


@st.composite
def prefixed_models(draw: st.DrawFn, max_words: int = 6, max_images: int = 5) -> Model:
    """Some of them with forced first words, which may be banned or impossible."""
    model = draw(models(max_words, max_images))
    words = st.integers(2, model.log_prob.shape[1] - 1)
    return replace(model, prefix=tuple(draw(st.lists(words, max_size=3))))


policies = st.sampled_from([None, prune_at_once, prune_by_halves])
PENALTIES = [0.0, 0.3, 0.7, 1.0, 1.5, 2.0]
penalties = st.sampled_from(PENALTIES)


@st.composite
def decodings(draw: st.DrawFn) -> DecodingOptions:
    beams, max_length = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    return DecodingOptions(
        beam_size=beams,
        num_captions=draw(st.integers(1, beams)),
        max_length=max_length,
        length_penalty=draw(penalties),
        min_length=draw(st.sampled_from([0, 0, 1, max_length // 2, max_length])),
        no_repeat_ngram=draw(st.sampled_from([0, 0, 1, 2, 3])),
    )


def same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [(h.tokens, h.finished) for h in found] == [(h.tokens, h.finished) for h in expected]
    assert [h.log_prob for h in found] == pytest.approx([h.log_prob for h in expected])
    assert [h.score for h in found] == pytest.approx([h.score for h in expected])


def model_of(*log_prob: list[float], following: list[list[int]] | None = None, images: int = 2) -> Model:
    table = np.array(log_prob, np.float32)
    return Model(table, np.zeros(table.shape, int) if following is None else np.array(following), (0,) * images)


# Row 0 ends at once; rows 1 and 2 say two different words in turn, and row 3 ends.
TURNS = model_of(
    [-INF, -0.01, -5.0, -5.0],
    [-INF, -9.0, -0.1, -5.0],
    [-INF, -9.0, -5.0, -0.1],
    [-INF, -0.1, -9.0, -9.0],
    following=[[0] * 4, [1, 1, 2, 2], [2, 2, 3, 3], [3] * 4],
)


def adversaries(length: int) -> dict[str, list[tuple[list[float], int | list[int]]]]:
    """Tables that a search can trip over at a max_length of ``length``.

    Each is a list of rows: the log-probabilities of <start>, <end>, 2, 3 and 4, and the row that all, or each, of these
    lead to. All numbers are sums of powers of two: equal totals are equal to the last bit.
    """
    dead = [-INF] * 5
    return {
        "ties everywhere": [([-INF, -1.0, -1.0, -1.0, -1.0], 0)],
        "<end> at once, and certain": [([-INF, 0.0, -0.5, -0.5, -0.5], 0)],
        "<end> always last": [([-INF, -8.0, -0.5, -1.0, -2.0], 0)],
        "no <end>": [([-INF, -INF, -0.5, -1.0, -1.0], 0)],
        "no <end> before the last": [
            *(([-INF, -INF, -0.5, -0.5, -1.0], i + 1) for i in range(length)),
            ([-0.25] * 5, length),
        ],
        "one word": [([-INF, -1.0, -0.5, -INF, -INF], 0)],
        "one word and no <end>": [([-INF, -INF, -0.5, -INF, -INF], 0)],
        "<end> alone": [([-INF, -0.5, -INF, -INF, -INF], 0)],
        "nothing": [(dead, 0)],
        "the best word leads nowhere": [
            ([-INF, -INF, -0.25, -1.0, -4.0], [0, 0, 1, 2, 2]),
            (dead, 1),
            ([-INF, -0.5, -INF, -4.0, -INF], 2),
        ],
        # Only its first word costs anything: no bound may forget how long it can become.
        "a sleeper": [
            ([-INF, -1.0, -1.5, -INF, -INF], [0, 0, 1, 1, 1]),
            *(([-INF, -INF, 0.0, -INF, -INF], i + 1) for i in range(1, length)),
            ([-INF, 0.0, -INF, -INF, -INF], length),
        ],
        "narrow, then wide": [([-INF, -INF, -0.5, -INF, -INF], [0, 0, 1, 1, 1]), ([-INF, -2.0, -1.0, -1.0, -1.0], 1)],
    }


def adversarial_model(length: int) -> Model:
    """All of them in one batch."""
    log_prob, following, rows = [], [], []
    for table in adversaries(length).values():
        rows.append(len(log_prob))
        for line, leads_to in table:
            log_prob.append(line)
            following.append([rows[-1] + to for to in ([leads_to] * 5 if isinstance(leads_to, int) else leads_to)])
    return Model(np.array(log_prob, np.float32), np.array(following), tuple(rows))


def tokens(found: list[list[Hypothesis]]) -> list[list[tuple[int, ...]]]:
    return [[h.tokens for h in best] for best in found]
