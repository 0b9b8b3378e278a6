"""A full-size attention-GRU on InceptionResNetV2 at 299x299, with random weights: the bundle to measure speed with.

    python benchmarks/inception_bundle.py BUNDLE --images PHOTOS
    batchcap bench PHOTOS --model BUNDLE

Speed does not depend on what the weights are; the captions are nonsense. They are scaled so that captions differ from
picture to picture, because a bundle leaves the export only after 64 of them were compared with the Keras model.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from batchcap import preprocess
from batchcap.vocabulary import Vocabulary
from batchcap_export.architectures import AttentionGRU
from batchcap_export.backbones import load_backbone
from batchcap_export.bundling import BundleOptions, export_model
from batchcap_export.datasets import SPECIAL
from batchcap_export.images import find_images, read_image
from batchcap_export.stepping import TrainedCaptioner
from batchcap_export.train import TrainOptions, preprocessing, trained_model


def main() -> None:
    """Build, scale, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="folder of at least 64 photos")
    parser.add_argument("--backbone", default="InceptionResNetV2")
    parser.add_argument("--words", type=int, default=5000)
    parser.add_argument("--units", type=int, default=512)
    options = parser.parse_args()
    keras.utils.set_random_seed(1)
    backbone = load_backbone(options.backbone)
    decoder = AttentionGRU(options.words, options.units)
    decoder.build(((None, None, backbone.features), (None, None)))
    files = find_images(options.images)
    how = preprocessing(backbone)
    pixels = np.stack([preprocess.apply(read_image(file), how) for file in files[:8]])
    features = np.asarray(backbone.model(pixels.astype(np.float32), training=False)).reshape(-1, backbone.features)
    # What all pictures have in common is taken out, the rest is made large.
    kernel = np.asarray(decoder.regions.kernel) / max(float(features.std(axis=0).mean()), 1e-6)
    decoder.regions.kernel.assign(kernel)
    decoder.regions.bias.assign(-(features.mean(axis=0) @ kernel))
    decoder.embedding.embeddings.assign(np.asarray(decoder.embedding.embeddings) * 12)
    decoder.words.kernel.assign(np.asarray(decoder.words.kernel) * 12)
    vocabulary = Vocabulary((*SPECIAL, *(f"word{i}" for i in range(options.words - len(SPECIAL)))))
    captioner = TrainedCaptioner(backbone, decoder, vocabulary, how)
    nowhere = Path("nowhere")
    trained = TrainOptions(images=nowhere, captions=nowhere, train_split=nowhere, dev_split=nowhere)
    model = trained_model(captioner, trained, {"weights": "random"})
    card = BundleOptions(name=options.bundle.name, data="Random weights, for measuring speed.", terms="Apache-2.0")
    _, parity = export_model(model, options.bundle, card, files, print)
    print(f"{options.bundle}: {parity.summary()}")


if __name__ == "__main__":
    main()
