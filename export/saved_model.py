"""A Keras model as a SavedModel that TensorFlow Serving runs.

python -m export.saved_model runs/demo/best.keras models/spinet --version 1

Signatures:

serving_default
    images uint16 (batch, time, height, width, bands), digital numbers, reflectance = DN / 10000;
    num_frames int32 (batch,), how many of the `time` frames are real, the first ones
    -> probabilities float32 (batch, scale * height, scale * width, 1)
describe
    request int32 (n,), any numbers: TensorFlow Serving needs an input, and batches along its first axis
    -> bands string (n, bands), the names in order, none where the model has none; scale int32 (n,)

`num_frames`, not a mask: pad_variable_length_inputs pads every tensor with its own first element, a mask with true.
`describe`, not a file beside the graph: TensorFlow Serving hands out what a graph answers, and no files.
"""

import argparse
import os
import sys
from pathlib import Path

import keras
import tensorflow as tf

from export.verify import TOLERANCE, greatest_difference
from spinet_tf.bands import QUANTIFICATION
from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.files import replacing
from spinet_tf.inference.engine import KerasEngine
from spinet_tf.inference.model import load_model


def export_saved_model(
    model: keras.Model, out: str | os.PathLike, version: int = 1, overwrite: bool = False
) -> tuple[Path, float]:
    """Write `model` as version `version` of a servable, once it is shown to answer as the Keras model does.

    Args:
        model: as `SPInet`.
        out: the servable's folder; the version becomes a numbered folder in it.
        version: a positive number; TensorFlow Serving serves the greatest.
        overwrite: whether an existing version may be replaced.

    Returns:
        The folder written, and the greatest difference of a probability from the Keras model's.

    Raises:
        SpinetError: if the version exists, the backend is not TensorFlow, or the export answers differently.

    Example:
        export_saved_model(keras.models.load_model("best.keras"), "models/spinet")
    """
    if keras.backend.backend() != "tensorflow":
        raise SpinetError(
            f"Export needs the TensorFlow backend of Keras. Received: {keras.backend.backend()}. "
            "Set KERAS_BACKEND=tensorflow."
        )
    if version < 1:
        raise SpinetError(f"Expected a version of 1 or more. Received: {version}.")
    engine = KerasEngine(model)
    bands = model.input["images"].shape[-1]

    archive = keras.export.ExportArchive()
    archive.add_endpoint(
        "serving_default",
        _serving_default(model, bands),
        [
            tf.TensorSpec([None, None, None, None, bands], tf.uint16, "images"),
            tf.TensorSpec([None], tf.int32, "num_frames"),
        ],
    )
    archive.add_endpoint("describe", _describe(engine), [tf.TensorSpec([None], tf.int32, "request")])
    path = Path(out) / str(version)
    with replacing(path, overwrite=overwrite) as temporary:
        archive.write_out(str(temporary), verbose=False)
        difference = greatest_difference(engine, temporary, bands)
        if not difference <= TOLERANCE:
            raise SpinetError(
                f"The SavedModel's probabilities differ from the Keras model's by {difference:.1e}, more than "
                f"{TOLERANCE:.0e}. Nothing was written."
            )
    return path, difference


def _serving_default(model, bands):
    names = "" if model.band_names is None else f" ({', '.join(model.band_names)})"

    def serving_default(images, num_frames):
        shape = tf.shape(images)
        time = shape[1]
        checks = [
            (
                tf.reduce_min(shape) > 0,
                ["Expected images with at least one sample, frame, row and column. Received the shape", shape],
            ),
            (
                # The signature fixes the number of bands, so a graph optimiser may take shape[4] for granted, though
                # TensorFlow Serving does not check it. The number of values it cannot know.
                tf.equal(tf.size(images), tf.reduce_prod(shape[:4]) * bands),
                [f"Expected images of {bands} bands{names}. Received the shape", shape],
            ),
            (
                tf.equal(tf.size(num_frames), shape[0]),
                ["Expected one num_frames per sample of a batch of", shape[0], "Received:", num_frames],
            ),
            (
                tf.reduce_all((num_frames >= 1) & (num_frames <= time)),
                ["Expected num_frames from 1 to the number of frames,", time, "Received:", num_frames],
            ),
        ]
        for condition, message in checks:
            # One after the other, and before the network: the first thing wrong is what the client is told.
            with tf.control_dependencies([tf.debugging.Assert(condition, message, summarize=16)]):
                images = tf.identity(images)
        reflectance = tf.cast(images, tf.float32) / QUANTIFICATION
        frame_mask = tf.range(time) < num_frames[:, None]
        logits = model({"images": reflectance, "frame_mask": frame_mask}, training=False)
        return {"probabilities": tf.sigmoid(tf.cast(logits, tf.float32))}

    return serving_default


def _describe(engine):
    bands = tf.constant(list(engine.band_names or ()), tf.string)

    def describe(request):
        n = tf.size(request)
        return {"bands": tf.tile(bands[None], [n, 1]), "scale": tf.fill([n], engine.scale)}

    return describe


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command with `argv`, by default the program's own arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m export.saved_model",
        description="Write a .keras model as a SavedModel for TensorFlow Serving, and check that both answer alike.",
        epilog="example:\n  python -m export.saved_model runs/demo/best.keras models/spinet --version 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="the .keras file")
    parser.add_argument("out", help="the servable's folder, in which the version becomes a numbered folder")
    parser.add_argument("--version", type=int, default=1, help="the version's number (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace the version if it exists")
    args = parser.parse_args(argv)
    path, difference = export_saved_model(load_model(args.model), args.out, args.version, args.overwrite)
    print(f"Equal to {args.model} on batches, lengths and sizes not seen before: max |delta p| = {difference:.1e}")
    print(f"Wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
