"""Which tensor of a saved encoder and decoder is what: by their wiring, type, shape and name, or as the user says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from batchcap.errors import ExportError
from batchcap_export.importers.keras.networks import Network, Port

PLAIN = ("image", "word", "logits", "attention", "unused")
_WORD_NAMES = frozenset({"word", "words", "token", "tokens", "caption", "captions", "text", "ids"})
_LOGIT_NAMES = frozenset({"logits", "logit", "predictions", "prediction", "probabilities", "words"})
_ATTENTION_NAMES = frozenset({"attention", "weights", "alpha", "alphas", "scores"})
# Parts of names that distinguish an input from an output, but not one state from another.
_SIDES = frozenset({"in", "input", "inputs", "out", "output", "outputs", "next", "new", "prev", "previous", "initial"})


@dataclass(slots=True)
class Roles:
    """The tensors of an encoder and a decoder, by what they are."""

    image: Port
    word: Port
    logits: Port
    attention: Port | None
    states: dict[str, tuple[Port, Port]] = field(default_factory=dict)
    """State -> the decoder's input with it and its output with the next one."""
    memories: dict[str, Port] = field(default_factory=dict)
    """Memory -> the decoder's input with it."""
    encoded: dict[str, Port] = field(default_factory=dict)
    """State or memory -> the encoder's output that it starts as; a state that is not here starts as zeros."""


def read_map(map_: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """``TENSOR=ROLE`` -> {tensor: roles}; a tensor may be given several times, as the start of two states.

    Raises:
        ExportError: no ``=``, or no role.
    """
    out: dict[str, tuple[str, ...]] = {}
    for entry in map_ or ():
        tensor, equals, role = entry.rpartition("=")
        kind, _, name = role.partition(".")
        if (
            not equals
            or not tensor
            or not (role in PLAIN or (kind in ("state", "memory") and ("." not in role or name)))
        ):
            raise ExportError(
                f"--map {entry}: is not TENSOR=ROLE.",
                f"ROLE is one of {', '.join(PLAIN)}, state, memory, state.NAME, memory.NAME.",
            )
        out[tensor] = (*out.get(tensor, ()), role)
    return out


def match_pair(encoder: Network, decoder: Network, words: int, mapping: Mapping[str, tuple[str, ...]]) -> Roles:
    """Find out what every tensor of an encoder and its decoder is.

    Args:
        words: how many the vocabulary has.
        mapping: see `read_map`.

    Raises:
        ExportError: something does not fit, is missing, or could be two things; the message lists the tensors.
    """
    ports = [*encoder.inputs, *encoder.outputs, *decoder.inputs, *decoder.outputs]
    for tensor in mapping:
        if tensor not in {port.name for port in ports}:
            raise ExportError(f"--map {tensor}: no tensor has this name.", f"There are {_listed(ports)}.")
    image = find_image(encoder, mapping)
    word = find_word(decoder, mapping)
    logits = find_logits(decoder, words, mapping)
    inputs = [port for port in decoder.inputs if port != word]
    outputs = [port for port in decoder.outputs if port != logits and not _is(port, mapping, "unused")]
    states = _mapped_states(decoder, inputs, outputs, mapping)
    by_name = {port.name: port for port in decoder.inputs}, {port.name: port for port in decoder.outputs}
    for before, after in decoder.follows.items():
        pair = by_name[0][before], by_name[1][after]
        if pair[0] in inputs and pair[1] in outputs and not {before, after} & mapping.keys():
            states[before] = pair
    inputs = [port for port in inputs if port not in [pair[0] for pair in states.values()]]
    outputs = [port for port in outputs if port not in [pair[1] for pair in states.values()]]
    attention = _attention(inputs, outputs, mapping)
    outputs = [port for port in outputs if port != attention]
    if not outputs and not states:
        raise ExportError(
            f"{decoder.file}: has no state, so that it can only take a whole caption again for every word: "
            f"{decoder.tensors()}.",
            "Save the decoder that makes one step (state in, state out), or export the training model, which takes the "
            "image as well: batchcap export MODEL --vocabulary FILE.",
        )
    candidates = [port for port in inputs if not any(role.startswith("memory") for role in mapping.get(port.name, ()))]
    for after, before in _pair_up(
        outputs, candidates, _fits, decoder, "which input is the state that output {} follows"
    ).items():
        states[before.name] = before, after
    inputs = [port for port in inputs if port not in [pair[0] for pair in states.values()]]
    roles = Roles(image, word, logits, attention, states)
    _match_encoder(roles, inputs, encoder, mapping)
    return roles


def _match_encoder(
    roles: Roles, memories: Sequence[Port], encoder: Network, mapping: Mapping[str, tuple[str, ...]]
) -> None:
    """Which output of the encoder each memory is, and which state each other output starts."""
    encoded = [port for port in encoder.outputs if not _is(port, mapping, "unused")]
    taken: list[Port] = []
    for port in encoded:
        for role in mapping.get(port.name, ()):
            kind, _, name = role.partition(".")
            names = [p.name for p in memories] if kind == "memory" else list(roles.states)
            mapped_name = [n for n in names if f"{kind}.{name}" in mapping.get(n, ()) or n == name]
            target = mapped_name[0] if name and mapped_name else names[0] if not name and len(names) == 1 else None
            if target is None:
                raise ExportError(
                    f"--map {port.name}={role}: the decoder has no such {kind}.",
                    f"It has {', '.join(f'{kind}.{n}' for n in names) or 'none'}.",
                )
            roles.encoded[target] = port
            taken.append(port)
    left = [port for port in encoded if port not in taken]
    wanting = [port for port in memories if port.name not in roles.encoded]
    found = _pair_up(wanting, left, _fits_regions, encoder, "which output is the decoder's input {}")
    roles.encoded |= {port.name: output for port, output in found.items()}
    roles.memories = {port.name: port for port in memories}
    left = [port for port in left if port not in found.values()]
    open_states = [pair[0] for name, pair in roles.states.items() if name not in roles.encoded]
    starts = _pair_up(left, open_states, _fits, encoder, "which of the decoder's states does output {} start")
    roles.encoded |= {state.name: port for port, state in starts.items()}


def find_image(network: Network, mapping: Mapping[str, tuple[str, ...]]) -> Port:
    """The input [B, H, W, 3].

    Raises:
        ExportError: there is none, or more than one.
    """
    fits = [port for port in network.inputs if len(port.shape) == 4 and port.shape[3] in (3, None)]
    return _one(network, "image", "[B, H, W, 3]", fits, network.inputs, mapping)


def find_word(decoder: Network, mapping: Mapping[str, tuple[str, ...]]) -> Port:
    """The input with the words: what goes into an Embedding, whole numbers, or what is called so.

    Raises:
        ExportError: there is none, or more than one.
    """
    flat = [port for port in decoder.inputs if len(port.shape) in (1, 2)]
    known = [port for port in flat if port.name in decoder.words]
    whole = [port for port in flat if "int" in port.dtype]
    named = [port for port in flat if _tokens(port.name) & _WORD_NAMES]
    fits = next((found for found in (known, whole, named) if len(found) == 1), known or whole or named)
    return _one(decoder, "word", "[B, 1]", fits, decoder.inputs, mapping)


def find_logits(network: Network, words: int, mapping: Mapping[str, tuple[str, ...]]) -> Port:
    """The output with a value for each word.

    Raises:
        ExportError: there is none, or more than one.
    """
    following = set(network.follows.values())
    own = [port for port in network.outputs if port.name not in following and len(port.shape) in (2, 3)]
    fits = [port for port in own if port.shape[-1] == words]
    named = [port for port in fits if _tokens(port.name) & _LOGIT_NAMES]
    mapped = [port for port in network.outputs if _is(port, mapping, "logits")]
    if (len(mapped) == 1 and mapped[0].shape[-1] not in (words, None)) or not (fits or mapped):
        sizes = ", ".join(str(port) for port in mapped or own or network.outputs)
        raise ExportError(
            f"{network.file}: no output has a value for each of the {words} words of the vocabulary: {sizes}.",
            "Give the vocabulary that the model was trained with, special tokens included, in its order: --vocabulary. "
            "If the model was made for more words than there are, fill the vocabulary up.",
        )
    return _one(network, "logits", f"[B, 1, {words}]", named if len(named) == 1 else fits, network.outputs, mapping)


def _attention(inputs: Sequence[Port], outputs: Sequence[Port], mapping: Mapping[str, tuple[str, ...]]) -> Port | None:
    mapped = [port for port in outputs if _is(port, mapping, "attention")]
    free = [port for port in outputs if not mapping.get(port.name)]
    alone = [port for port in free if not any(_fits(port, other) for other in inputs)]
    named = [port for port in free if _tokens(port.name) & _ATTENTION_NAMES]
    return next((found[0] for found in (mapped, alone, named) if len(found) == 1), None)


def _mapped_states(
    decoder: Network, inputs: Sequence[Port], outputs: Sequence[Port], mapping: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[Port, Port]]:
    before = {role: port for port in inputs for role in mapping.get(port.name, ()) if role.startswith("state")}
    after = {role: port for port in outputs for role in mapping.get(port.name, ()) if role.startswith("state")}
    if before.keys() != after.keys():
        alone = min(before.keys() ^ after.keys())
        side = "input" if alone in before else "output"
        raise ExportError(
            f"--map: only an {side} of the decoder has the role {alone}.",
            f"A state is an input and an output: give both the same role. {_how(decoder)}",
        )
    return {before[role].name: (before[role], after[role]) for role in before}


def _one(
    network: Network,
    role: str,
    shape: str,
    fits: Sequence[Port],
    ports: Sequence[Port],
    mapping: Mapping[str, tuple[str, ...]],
) -> Port:
    mapped = [port for port in ports if _is(port, mapping, role)]
    fits = mapped or [port for port in fits if not mapping.get(port.name)]
    if len(fits) != 1:
        problem = f"more than one tensor can be the {role}" if fits else f"no tensor can be the {role} {shape}"
        raise ExportError(f"{network.file}: {problem}: {_listed(fits or ports)}.", _how(network, role))
    return fits[0]


def _pair_up(
    left: Sequence[Port], right: Sequence[Port], fits: Callable[[Port, Port], bool], network: Network, what: str
) -> dict[Port, Port]:
    """A partner for each port on the left: of those that fit the one with its name, or the only one.

    Args:
        what: of an error, with the port in place of ``{}``.
    """
    found: dict[Port, Port] = {}
    while len(found) < len(left):
        free = {p: [o for o in right if fits(p, o) and o not in found.values()] for p in left if p not in found}
        same = {p: [o for o in others if _core(o.name) == _core(p.name)] for p, others in free.items()}
        sure = {p: others for p, others in same.items() if len(others) == 1}
        # Without names: only where no other port wants the same one.
        sure = sure or {
            p: others
            for p, others in free.items()
            if len(others) == 1 and not any(others[0] in more for q, more in free.items() if q != p)
        }
        if not sure:
            port, others = next(iter(free.items()))
            why = f"more than one fits: {_listed(others)}" if len(others) > 1 else f"there is {_listed(right)}"
            raise ExportError(f"{network.file}: {what.format(port)}: {why}.", _how(network))
        port, others = next(iter(sure.items()))
        found[port] = others[0]
    return found


def _fits(a: Port, b: Port) -> bool:
    """One shape, as far as both are known."""
    pairs = zip(a.shape[1:], b.shape[1:], strict=False)
    return len(a.shape) == len(b.shape) and all(None in pair or pair[0] == pair[1] for pair in pairs)


def _fits_regions(memory: Port, encoded: Port) -> bool:
    """The same, or a map [B, h, w, D] for regions [B, R, D]."""
    if len(memory.shape) != 3 or len(encoded.shape) != 4:
        return _fits(memory, encoded)
    rows, columns = encoded.shape[1:3]
    regions = None if rows is None or columns is None else rows * columns
    return _fits(memory, Port(encoded.name, (None, regions, encoded.shape[3]), encoded.dtype))


def _is(port: Port, mapping: Mapping[str, tuple[str, ...]], role: str) -> bool:
    return role in mapping.get(port.name, ())


def _tokens(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", name.lower()))


def _core(name: str) -> frozenset[str]:
    """A name without the parts that distinguish an input from an output."""
    return _tokens(name) - _SIDES


def _listed(ports: Iterable[Port]) -> str:
    return "; ".join(map(str, ports)) or "none"


def _how(network: Network, role: str = "ROLE") -> str:
    roles = "image, word, logits, attention, state.NAME, memory.NAME or unused"
    return f"Say it: --map TENSOR={role}" + ("" if role != "ROLE" else f" ({roles})") + f". It has {network.tensors()}."
