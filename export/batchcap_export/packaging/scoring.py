"""A bundle scored on captioned images, for its card."""

from __future__ import annotations

from collections.abc import Sequence

from batchcap.bundle.bundle import Bundle
from batchcap.bundle.manifest import Metric
from batchcap.reporting import Say
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap_export.proof.evaluate import Evaluation, Scores, caption_files, empty_warning, score


def scored(
    bundle: Bundle, evaluations: Sequence[Evaluation], plain: list[str] | None, store: str, say: Say
) -> list[Metric]:
    """Caption and score images with a bundle's defaults.

    Args:
        plain: captions of the first of ``evaluations`` by the unrounded model, to count what rounding changed.
        store: how the weights are stored.
    """
    metrics = []
    for index, evaluation in enumerate(evaluations):
        say(f"captioning {len(evaluation.files)} images of {evaluation.name}")
        captions = caption_files(bundle, evaluation.files)
        if warning := empty_warning(captions):
            say(warning)
        label = decoding_options(bundle.manifest).label
        scores = score(captions, evaluation.references, f"{evaluation.name}; {label}; {store} weights")
        metrics += _metrics(evaluation.name, scores)
        say(
            f"{evaluation.name}: BLEU-4 {scores.bleu[3]:.3f}, CIDEr {scores.cider:.3f}, "
            f"{scores.distinct} distinct captions"
        )
        if plain is not None and index == 0:
            changed = sum(a != b for a, b in zip(plain, captions, strict=True))
            before = score(plain, evaluation.references)
            text = (
                f"captions that rounding to {store} changed, of {len(plain)} ({evaluation.name}); "
                f"unrounded CIDEr {before.cider:.4f}"
            )
            metrics.append(Metric(name="changed_by_rounding", value=float(changed), signature=text))
            say(f"rounding to {store} changed {changed} of {len(plain)} captions (CIDEr {before.cider:.4f} before)")
    return metrics


def _metrics(name: str, scores: Scores) -> list[Metric]:
    values = {f"bleu_{n}": value for n, value in enumerate(scores.bleu, 1)}
    values |= {"cider": scores.cider, "distinct_captions": float(scores.distinct)}
    return [Metric(name=f"{name}/{key}", value=value, signature=scores.signature) for key, value in values.items()]
