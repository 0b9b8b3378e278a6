"""What a saved network wants of images: their size, how they are resized, and which values its pixels have."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers, tree

from batchcap.errors import ExportError
from batchcap.images.preprocess import Preprocess
from batchcap_export.importers.keras import functional
from batchcap_export.importers.keras.networks import Network, Port
from batchcap_export.options.importing import ImportOptions, Scale

# The means and deviations of ImageNet's channels, as keras.applications.imagenet_utils has them.
_CAFFE_MEAN = (103.939, 116.779, 123.68)
_TORCH_MEAN, _TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ARITHMETIC = frozenset({"Add", "Subtract", "Multiply", "Divide", "TrueDivide", "GetItem"})


def preprocessing(network: Network, image: Port, options: ImportOptions) -> Preprocess:
    """How images become the input: by default as TensorFlow's own functions decode and resize them, unrounded.

    Raises:
        ExportError: the size is not known, or is not the network's.
    """
    height, width = image.shape[1:3]
    asked = options.size
    if asked is None and (height is None or width is None):
        raise ExportError(f"{network.file}: its input {image} takes images of any size.", "Say which: --size N.")
    if asked is not None and any(size not in (None, asked) for size in (height, width)):
        raise ExportError(f"{network.file}: --size {asked} is not the size of its input {image}.", "Leave --size out.")
    height, width = height or asked, width or asked
    assert height is not None
    assert width is not None
    return Preprocess(
        height=height,
        width=width,
        resize_height=height,
        resize_width=width,
        method=options.resize or "bilinear",
        pixels="float32",
        jpeg_dct="fast",
    )


def scale_of(network: Network, image: Port, options: ImportOptions) -> Scale:
    """The values that the network wants of its pixels.

    Raises:
        ExportError: it was not said, and the network does not begin with a scaling of its own.
    """
    if options.scale is not None:
        return options.scale
    if network.model is not None and _scales_itself(network.model, image):
        return "0..255"
    raise ExportError(
        f"{network.file}: the values that its pixels must have are not known.",
        "Say it: --scale 0..1 (pixels / 255, as in the attention lab), -1..1 (preprocess_input of Inception, Xception "
        "and MobileNet), caffe (of VGG and ResNet), torch (of DenseNet), or 0..255 where it scales them itself.",
    )


def scaled(pixels: Any, scale: Scale) -> Any:
    """Pixels [B, H, W, 3] 0..255 -> float32 in the range, or by the mode of ``keras.applications``, that is asked for.

    Args:
        scale: ``caffe``: blue, green, red, each less ImageNet's mean. ``torch``: 0..1, less the mean, by the deviation.
    """
    pixels = tf.cast(pixels, tf.float32)
    if scale == "0..1":
        return pixels / 255.0
    if scale == "-1..1":
        return pixels / 127.5 - 1.0
    if scale == "caffe":
        return pixels[..., ::-1] - tf.reshape(_CAFFE_MEAN, (1, 1, 1, 3))
    if scale == "torch":
        return (pixels / 255.0 - tf.reshape(_TORCH_MEAN, (1, 1, 1, 3))) / tf.reshape(_TORCH_DEVIATION, (1, 1, 1, 3))
    return pixels


def _scales_itself(model: keras.Model, image: Port) -> bool:
    """Whether the image goes through arithmetic before the first layer with weights."""
    found = False

    def call(_: functional.Key, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[bool]:
        nonlocal found
        raw = any(value is True for value in tree.flatten((args, kwargs)))
        is_scaling = isinstance(operation, (layers.Rescaling, layers.Normalization))
        if raw and (is_scaling or type(operation).__name__ in _ARITHMETIC):
            found = True
        learnt = isinstance(operation, keras.Layer) and bool(operation.weights) and not is_scaling
        return [raw and not learnt] * len(tree.flatten(operation.output))

    functional.evaluate(model, [tensor.name == image.name for tensor in model.inputs], call)
    return found


def regions_grid(model: keras.Model | None, regions: int) -> tuple[int, int]:
    """Rows and columns of the regions that a network makes of an image: its last map of so many places."""
    root = round(regions**0.5)
    grid = (root, root) if root * root == regions else (1, regions)
    for operation in model.operations if model is not None else ():
        for tensor in tree.flatten(operation.output):
            if (
                len(tensor.shape) == 4
                and None not in tensor.shape[1:3]
                and tensor.shape[1] * tensor.shape[2] == regions
            ):
                grid = tensor.shape[1], tensor.shape[2]
    return grid
