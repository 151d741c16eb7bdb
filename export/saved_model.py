"""A Keras model as a SavedModel that TensorFlow Serving runs.

python -m export.saved_model runs/demo/best.keras models/spinet --version 1

Signatures:

serving_default
    images uint16 (batch, time, height, width, bands), digital numbers, reflectance = DN / 10000;
    num_frames int32 (batch,), how many of the `time` frames are real, the first ones
    -> probabilities float32 (batch, scale * height, scale * width, 1)
uint8
    the same -> probabilities uint8, round(p * 254): a quarter of the bytes. 255 never occurs, so that it can stand for
    nodata in a map, and 127 is exactly one half
    Of a model with uncertainty, these two and with_means also give uncertainty, shaped and stored like the
    probabilities: their standard deviation, 0 to 0.5, see spinet_tf.models.answers
means
    the same -> block_means float32 (batch, blocks, filters) and frame_means float32 (batch, time, filters), the means
    behind the gates of TEFA and the filters of TERN; of a SPInet only, like the next
with_means
    the same, block_means and frame_means -> probabilities, float32, with those of a scene, say, whose tiles are asked;
    where they are NaN, with the tile's own
describe
    request int32 (n,), any numbers: TensorFlow Serving needs an input, and batches along its first axis
    -> bands string (n, bands), the names in order, none where the model has none; scale int32 (n,)

`num_frames`, not a mask: pad_variable_length_inputs pads every tensor with its own first element, a mask with true.
`describe`, not a file beside the graph: TensorFlow Serving hands out what a graph answers, and no files.

The version's folder also holds warm-up requests (assets.extra), a model card (README.md) and a STAC item with the
Machine Learning Model extension (stac-item.json).
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import keras

import export.card
import export.stac
from export.comparison import SavedModelEngine, prove_equal
from export.facts import gather_facts
from export.graph import Exportable
from export.warmup import LENGTHS, SIZES, write_warmup
from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.files import replacing
from spinet_tf.inference.model import load_model

EPILOG = """examples:
  python -m export.saved_model runs/demo/best.keras models/spinet --version 2
  python -m export.saved_model best.keras models/spinet --warmup-lengths 10 20 --warmup-sizes 64 128 --overwrite
"""


def export_saved_model(
    model: keras.Model,
    out: str | os.PathLike,
    version: int = 1,
    overwrite: bool = False,
    *,
    source: str | os.PathLike | None = None,
    scores: str | os.PathLike | None = None,
    warmup_lengths: Sequence[int] = LENGTHS,
    warmup_sizes: Sequence[int] = SIZES,
) -> tuple[Path, float]:
    """Write `model` as version `version` of a servable, once it is shown to answer as the Keras model does.

    Everything is written under a temporary name and renamed, so that a server that watches the folder never sees half
    a version.

    Args:
        model: as `SPInet`.
        out: the servable's folder; the version becomes a numbered folder in it.
        version: a positive number; TensorFlow Serving serves the greatest.
        overwrite: whether an existing version may be replaced.
        source: the .keras file, for the model card: training leaves its configuration and scores beside it.
        scores: an evaluation's scores.md for the model card, where it does not lie beside `source`.
        warmup_lengths: numbers of frames of the warm-up requests, where the model takes any.
        warmup_sizes: sides of their tiles, in pixels of the images.

    Returns:
        The folder written, and the greatest difference of a probability from the Keras model's.

    Raises:
        SpinetError: if the version exists, the backend is not TensorFlow, it is not a segmentation model, or the export
            answers differently.

    Example:
        export_saved_model(keras.models.load_model("best.keras"), "models/spinet")
    """
    path = _version_folder(Path(out), version, overwrite)
    exportable = Exportable(model)
    facts = gather_facts(exportable, Path(out).resolve().name, version, source, scores)
    lengths = warmup_lengths if exportable.frames is None else [exportable.frames]
    with replacing(path, overwrite=overwrite) as temporary:
        _archive(exportable).write_out(str(temporary), verbose=False)
        means = (exportable.blocks, exportable.filters) if exportable.takes_means else None
        write_warmup(temporary, exportable.bands, lengths, warmup_sizes, means)
        (temporary / export.card.FILE).write_text(export.card.model_card(facts), encoding="utf-8")
        item = json.dumps(export.stac.stac_item(facts), indent=2)
        (temporary / export.stac.FILE).write_text(item + "\n", encoding="utf-8")
        with SavedModelEngine(temporary) as engine:
            return path, prove_equal(exportable, engine, "SavedModel")


def _version_folder(out: Path, version: int, overwrite: bool) -> Path:
    # TensorFlow Serving takes versions for 64-bit integers.
    if not 1 <= version < 2**63:
        raise SpinetError(f"Expected a version of 1 or more. Received: {version}.")
    path = out / str(version)
    if path.exists() and not overwrite:
        versions = [int(folder.name) for folder in out.iterdir() if folder.name.isdecimal()]
        raise SpinetError(f"{path} exists already. Pass --version {max(versions) + 1}, or --overwrite to replace it.")
    return path


def _archive(exportable: Exportable) -> keras.export.ExportArchive:
    archive = keras.export.ExportArchive()
    for name, (function, signature) in exportable.signatures().items():
        archive.add_endpoint(name, function, signature)
    return archive


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command with `argv`, by default the program's own arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m export.saved_model",
        description="Write a .keras model as a SavedModel for TensorFlow Serving, with warm-up requests, a model card "
        "and a STAC item, and check that it answers as the .keras model does.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", help="the .keras file; config.yaml and evaluation/scores.md beside it go into the model card")
    add("out", help="the servable's folder, in which the version becomes a numbered folder")
    add("--version", type=int, default=1, help="the version's number (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace the version if it exists")
    add("--scores", metavar="FILE", help="scores.md of training.evaluate, if not beside the model")
    for name, default, meaning in (
        ("lengths", LENGTHS, "numbers of frames of the warm-up requests"),
        ("sizes", SIZES, "sides of their tiles in pixels"),
    ):
        shown = " ".join(map(str, default))
        add(f"--warmup-{name}", type=int, nargs="+", default=default, metavar="N", help=f"{meaning} (default: {shown})")
    args = parser.parse_args(argv)
    path, delta = export_saved_model(
        load_model(args.model),
        args.out,
        args.version,
        args.overwrite,
        source=args.model,
        scores=args.scores,
        warmup_lengths=args.warmup_lengths,
        warmup_sizes=args.warmup_sizes,
    )
    print(f"Equal to {args.model} on batches, lengths and sizes not seen before: max |delta p| = {delta:.1e}")
    print(f"Wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
