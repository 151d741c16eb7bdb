"""A Keras model as an ONNX file, opset 18.

python -m export.onnx runs/demo/best.keras spinet.onnx

Inputs and output are those of the SavedModel's `serving_default`, with the named sizes batch, time, height and width:

    images uint16 (batch, time, height, width, bands), digital numbers, reflectance = DN / 10000
    num_frames int32 (batch,), how many of the `time` frames are real, the first ones
    -> probabilities float32 (batch, scale * height, scale * width, 1)

Of a SPInet it has two more inputs, which may be left out, and two more outputs, as the signatures `means` and
`with_means` of the SavedModel have them:

    block_means float32 (batch, blocks, filters), frame_means float32 (batch, time, filters)
    -> own_block_means, own_frame_means, shaped likewise

Of a model with uncertainty it has one more output, as the SavedModel has:

    -> uncertainty float32 (batch, scale * height, scale * width, 1)

ONNX has no operation that refuses its input with a message. ONNX Runtime itself refuses another type, rank or number of
bands. A sample whose num_frames is not from 1 to `time` is answered with NaN, so that it cannot be mistaken for a map.

The file's metadata (`metadata_props`) holds `bands`, a JSON list of names or null, `scale`, `quantification` and
`made_with`.
"""

import argparse
import json
import os
import sys

import keras
import numpy as np
import tensorflow as tf

from export.comparison import prove_equal
from export.graph import Exportable
from spinet_tf._version import __version__
from spinet_tf.bands import QUANTIFICATION
from spinet_tf.errors import reports_errors
from spinet_tf.files import replacing
from spinet_tf.inference.model import load_model
from spinet_tf.inference.onnx_engine import OnnxEngine, not_installed

OPSET = 18

# The axes of each input and output; None where the size is a number.
AXES = {
    "images": ("batch", "time", "height", "width", None),
    "num_frames": ("batch",),
    "block_means": ("batch", None, None),
    "frame_means": ("batch", "time", None),
    "probabilities": ("batch", "fine_height", "fine_width", None),
    "uncertainty": ("batch", "fine_height", "fine_width", None),
    "own_block_means": ("batch", None, None),
    "own_frame_means": ("batch", "time", None),
}


def export_onnx(model: keras.Model, path: str | os.PathLike, overwrite: bool = False) -> float:
    """Write `model` as an ONNX file, once ONNX Runtime is shown to answer as the Keras model does.

    Args:
        model: as `SPInet`.
        path: the file to write.
        overwrite: whether an existing file may be replaced.

    Returns:
        The greatest difference of a probability from the Keras model's.

    Raises:
        SpinetError: if a package of the extra `onnx` is missing, the file exists, the backend is not TensorFlow, it is
            not a segmentation model, or an operation of it has no counterpart in ONNX.

    Example:
        export_onnx(keras.models.load_model("best.keras"), "spinet.onnx")
    """
    exportable = Exportable(model)
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(_convert(exportable).SerializeToString())
        return prove_equal(exportable, OnnxEngine(temporary), "ONNX file")


def _convert(exportable: Exportable):
    """The model as an ONNX ModelProto."""
    try:
        import onnx
        import tf2onnx

        from export.onnx_operations import HANDLERS
    except ImportError as error:
        raise not_installed(error) from error

    @tf.function
    def answer(images, num_frames, *means):
        named = {}
        if means:
            answers, *own = exportable.answers_with_means(images, num_frames, *means)
            named = dict(zip(("own_block_means", "own_frame_means"), own, strict=True))
        else:
            answers = exportable.answers(images, num_frames)
        valid = ((num_frames >= 1) & (num_frames <= tf.shape(images)[1]))[:, None, None, None]
        return {name: tf.where(valid, answer, np.float32("nan")) for name, answer in answers.items()} | named

    proto, _ = tf2onnx.convert.from_function(
        answer,
        exportable.means_signature if exportable.takes_means else exportable.input_signature,
        opset=OPSET,
        custom_op_handlers=HANDLERS,
    )
    if exportable.takes_means:
        # What stands for an input that is left out: the tile's own means.
        for left_out, values in zip(("block_means", "frame_means"), exportable.unknown_means(1, 1), strict=True):
            proto.graph.initializer.append(onnx.numpy_helper.from_array(values, left_out))
    for value in [*proto.graph.input, *proto.graph.output]:
        for dimension, name in zip(value.type.tensor_type.shape.dim, AXES[value.name], strict=True):
            if name is not None and not dimension.dim_value:
                dimension.dim_param = name
    names = exportable.band_names
    metadata = {
        "bands": json.dumps(None if names is None else list(names)),
        "scale": str(exportable.scale),
        "quantification": str(QUANTIFICATION),
        "made_with": f"spinet_tf {__version__}, {type(exportable.model).__name__}",
    }
    onnx.helper.set_model_props(proto, metadata)
    return proto


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command with `argv`, by default the program's own arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m export.onnx",
        description="Write a .keras model as an ONNX file, and check that ONNX Runtime answers as the model does.",
        epilog="example:\n  python -m export.onnx runs/demo/best.keras spinet.onnx",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="the .keras file")
    parser.add_argument("out", help="the .onnx file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    args = parser.parse_args(argv)
    delta = export_onnx(load_model(args.model), args.out, args.overwrite)
    print(f"Equal to {args.model} on batches, lengths and sizes not seen before: max |delta p| = {delta:.1e}")
    print(f"Wrote {args.out}")


if __name__ == "__main__":
    sys.exit(main())
