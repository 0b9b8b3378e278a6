"""A full-size captioner with random weights: the bundle to measure speed with. By default an attention-GRU on
InceptionResNetV2 at 299x299.

    python benchmarks/inception_bundle.py BUNDLE --images PHOTOS
    python benchmarks/inception_bundle.py BUNDLE --images PHOTOS --architecture show-and-tell --backbone VGG16
    batchcap bench PHOTOS --model BUNDLE

Speed does not depend on what the weights are; the captions are nonsense. They are scaled so that captions differ from
image to image, because a bundle leaves the export only after 64 of them were compared with the Keras model.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from batchcap.bundle.vocabulary import Vocabulary
from batchcap.images.pixels import preprocess
from batchcap_export.architectures.table import ARCHITECTURES
from batchcap_export.data.images import find_images, read_image
from batchcap_export.data.words import SPECIAL
from batchcap_export.options.bundles import BundleOptions
from batchcap_export.options.training import TrainOptions
from batchcap_export.packaging.bundling import export_model
from batchcap_export.training.backbones import Backbone, load_backbone
from batchcap_export.training.finished_run import trained_model
from batchcap_export.training.trained_captioner import TrainedCaptioner, build_decoder, preprocessing


def main() -> None:
    """Build, scale, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="folder of at least 64 photos")
    parser.add_argument("--architecture", default="attention-gru", choices=ARCHITECTURES)
    parser.add_argument("--backbone", default="InceptionResNetV2")
    parser.add_argument("--words", type=int, default=5000)
    parser.add_argument("--units", type=int, default=512)
    options = parser.parse_args()
    keras.utils.set_random_seed(1)
    files = find_images(options.images)
    backbone = varied(load_backbone(options.backbone), files[:8])
    nowhere = Path("nowhere")
    trained = TrainOptions(
        images=nowhere,
        captions=nowhere,
        train_split=nowhere,
        dev_split=nowhere,
        architecture=options.architecture,
        units=options.units,
    )
    decoder = build_decoder(trained, options.words, backbone.features)
    for weight in decoder.weights:
        if weight.path.endswith(("embeddings", "words/kernel")):
            weight.assign(weight * 12)
    vocabulary = Vocabulary((*SPECIAL, *(f"word{i}" for i in range(options.words - len(SPECIAL)))))
    captioner = TrainedCaptioner(backbone, decoder, vocabulary, preprocessing(backbone))
    model = trained_model(captioner, trained, {"weights": "random"})
    card = BundleOptions(name=options.bundle.name, data="Random weights, for measuring speed.", terms="Apache-2.0")
    _, parity = export_model(model, options.bundle, card, files, print)
    print(f"{options.bundle}: {parity.summary()}")


def varied(backbone: Backbone, files: list[Path]) -> Backbone:
    """Features of a random network hardly vary: what all have in common is taken out, the rest is made large."""
    pixels = np.stack([preprocess(read_image(file), preprocessing(backbone)) for file in files])
    features = np.asarray(backbone.model(pixels.astype(np.float32), training=False)).reshape(-1, backbone.features)
    scale = 1 / max(float(features.std(axis=0).mean()), 1e-6)
    centred = keras.layers.Rescaling(scale, offset=(-features.mean(axis=0) * scale).tolist())(backbone.model.output)
    return replace(backbone, model=keras.Model(backbone.model.input, centred))


if __name__ == "__main__":
    main()
