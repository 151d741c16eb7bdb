"""What tiling changes in a map: differences to the map of the scene seen as a whole, at seams and inside tiles.

TEFA and TERN take means over all that the network sees; tiles share the scene's, or in the rows named "own means" each
has its own. For each tile size and overlap: the pixels computed, as a multiple of the scene's; the greatest and the
mean difference of probability to the whole scene's, within 2 pixels of where the weights of two tiles are equal and
elsewhere; the greatest step that tiling adds between neighbouring pixels; and MCC against the label. Tiles are
reflected at the edges of the scene, the scene as a whole is not, so what lies within 16 pixels of them is left out of
the differences. All see the frames that are clear enough over the whole scene, but for the rows named "own frames", in
which they are chosen as `spinet predict` chooses them.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from spinet_tf.data.scene import clear_fraction, find_scenes, open_scene, select_bands
from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.inference.engine import Engine, as_engine
from spinet_tf.inference.grid import Grid
from spinet_tf.inference.recipe import make_tiling
from spinet_tf.inference.scene import predict_scene
from spinet_tf.matthews import matthews_corrcoef_from_counts
from spinet_tf.tiling import Axis, choose_frames

TILES = (32, 48, 64, 96, 128)
OVERLAPS = (0, 8, 16, 32)
# Pixels from a seam that are at the seam.
NEAR = 2
# Pixels from the edges of the scene that are left out.
EDGE = 16

EPILOG = """examples:
  python -m tests.benchmarks.seams tiny-simulated scenes/eopatch-001
  python -m tests.benchmarks.seams runs/demo/best.keras scenes --tiles 64 --overlaps 0 16 32 --picture seams.png
"""


@dataclass(frozen=True)
class Mode:
    """A way to map a scene."""

    name: str
    options: dict
    own_frames: bool = False


@dataclass
class Difference:
    """How a map differs from another, over all scenes.

    Attributes:
        at_seams: greatest and sum of the differences at seams, and how many pixels that are.
        inside: likewise elsewhere.
        step: the greatest difference between neighbouring pixels' differences.
        counts: true and false positives and negatives.
        computed: pixels that the network sees, as a multiple of the scene's.
        picture: the differences of the first scene.
    """

    at_seams: np.ndarray
    inside: np.ndarray
    step: float
    counts: np.ndarray
    computed: float
    picture: np.ndarray


def modes(tiles: tuple[int, ...], overlaps: tuple[int, ...]) -> Iterator[Mode]:
    """All ways that are compared."""
    for tile in tiles:
        for overlap in sorted({overlap for overlap in (*overlaps, tile // 2) if overlap <= tile // 2}):
            yield Mode(f"{tile} | {overlap}", {"tile": tile, "overlap": overlap})
    for tile in tiles:
        yield Mode(f"{tile} | {tile // 4}, own means", {"tile": tile, "means": "tile"})
    yield Mode("seam-free 32 | 16", {"seam_free": True})
    for tile in tiles:
        yield Mode(f"{tile} | {tile // 4}, own frames", {"tile": tile}, own_frames=True)
    yield Mode("seam-free 32 | 16, own frames", {"seam_free": True}, own_frames=True)


def prepared(path: Path, engine: Engine) -> tuple[xr.Dataset, xr.Dataset]:
    """A scene; and what every tile sees of it if all see the same: the frames that are clear enough, called clear."""
    scene = select_bands(open_scene(path), engine.band_names or ()).load()
    if "label" not in scene:
        raise SpinetError(f"Expected scenes with labels. {path} has none.")
    seen = scene.isel(time=choose_frames(clear_fraction(scene)))
    return scene, seen.assign(valid=xr.ones_like(seen["valid"]))


def near_seams(scene: xr.Dataset, engine: Engine, options: dict) -> np.ndarray:
    """True for the fine pixels near which one tile's weight passes another's."""
    tiling = make_tiling(
        Grid.of_scene(scene),
        engine.scale,
        options.get("tile", 0),
        options.get("overlap"),
        options.get("seam_free", False),
    )
    rows, columns = (_near(axis, engine.scale) for axis in (tiling.rows, tiling.columns))
    return rows[:, None] | columns


def _near(axis: Axis, scale: int) -> np.ndarray:
    weights = np.zeros((len(axis.starts), scale * axis.length))
    for number in range(len(axis.starts)):
        inside = axis.inside(number)
        weights[number, scale * inside.start : scale * inside.stop] = axis.weights(number, scale)
    owner = weights.argmax(axis=0)
    near = np.zeros(scale * axis.length, bool)
    for seam in np.flatnonzero(np.diff(owner)) + 1:
        near[max(seam - NEAR * scale, 0) : seam + NEAR * scale] = True
    return near


def whole_scene(engine: Engine, seen: xr.Dataset) -> np.ndarray:
    """The map of a scene that the network sees as a whole."""
    images = seen["bands"].transpose("time", "y", "x", "band").to_numpy()
    return engine.predict(images[None], np.array([len(images)], np.int32))[0, ..., 0]


def compare(
    probability: np.ndarray, whole: np.ndarray, label: np.ndarray, seams: np.ndarray, edge: int, computed: float
) -> Difference:
    """Compare one scene's map with the one of the scene as a whole, and with its label; `edge` pixels not at all."""
    inner = (slice(edge, -edge), slice(edge, -edge))
    difference, seams = (probability - whole)[inner], seams[inner]
    size = np.abs(difference)
    steps = [np.abs(np.diff(difference, axis=axis)).max() for axis in (0, 1)]
    parts = [np.array([size[part].max(initial=0), size[part].sum(), part.sum()]) for part in (seams, ~seams)]
    cultivated, known = probability > 0.5, label != 255
    counts = [np.sum(known & (label == truth) & (cultivated == said)) for said in (1, 0) for truth in (1, 0)]
    return Difference(parts[0], parts[1], float(max(steps)), np.array(counts), computed, size)


def run(engine: Engine, paths: list[Path], compared: list[Mode]) -> dict[str, Difference]:
    """Map all scenes in all ways."""
    found: dict[str, Difference] = {}
    for path in paths:
        scene, seen = prepared(path, engine)
        whole = whole_scene(engine, seen)
        label = scene["label"].to_numpy()
        nowhere, edge = np.zeros(whole.shape, bool), EDGE * engine.scale
        results = {"whole | -": compare(whole, whole, label, nowhere, edge, 1.0)}
        for mode in compared:
            result = predict_scene(engine, scene if mode.own_frames else seen, **mode.options)
            height, width = result.attrs["tile"]
            computed = result.attrs["tiles"] * height * width / (seen.sizes["y"] * seen.sizes["x"])
            seams = near_seams(scene, engine, mode.options)
            results[mode.name] = compare(result["probability"].to_numpy(), whole, label, seams, edge, computed)
        for name, new in results.items():
            found[name] = _together(found[name], new) if name in found else new
    return found


def _together(first: Difference, second: Difference) -> Difference:
    parts = [
        np.array([max(one[0], other[0]), *(one[1:] + other[1:])])
        for one, other in ((first.at_seams, second.at_seams), (first.inside, second.inside))
    ]
    step, counts = max(first.step, second.step), first.counts + second.counts
    return Difference(parts[0], parts[1], step, counts, first.computed, first.picture)


def table(found: dict[str, Difference]) -> str:
    """What was found, as Markdown."""
    lines = [
        "| tile | overlap | computed | max at seams | mean at seams | max inside | mean inside | largest step | MCC |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        mcc = float(matthews_corrcoef_from_counts(*one.counts))
        (seam_max, seam_sum, seam_count), (inside_max, inside_sum, inside_count) = one.at_seams, one.inside
        means = seam_sum / max(seam_count, 1), inside_sum / max(inside_count, 1)
        lines.append(
            f"| {name} | {one.computed:.2f} | {seam_max:.3f} | {means[0]:.4f} | {inside_max:.3f} | {means[1]:.4f} "
            f"| {one.step:.3f} | {mcc:.3f} |"
        )
    return "\n".join(lines)


def draw(found: dict[str, Difference], path: Path) -> None:
    """Draw the differences of the first scene."""
    from matplotlib.figure import Figure

    drawn = {name: one.picture for name, one in found.items() if one.step > 0}
    columns = 5
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(3 * columns, 3.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (name, picture) in zip(axes, drawn.items(), strict=False):
        image = axis.imshow(picture, vmin=0, vmax=0.1, cmap="magma")
        axis.set_title(name.replace(" | ", ", overlap "), fontsize=9)
    figure.colorbar(image, ax=axes, shrink=0.6, label="difference of probability to the scene seen as a whole")
    figure.savefig(path, dpi=110)


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.seams",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="a .keras file, or whatever else spinet predict takes")
    parser.add_argument("scenes", nargs="+", type=Path, help="scenes with labels, or folders of them")
    parser.add_argument("--tiles", type=int, nargs="+", default=TILES, help="sides (default: %(default)s)")
    parser.add_argument(
        "--overlaps", type=int, nargs="+", default=OVERLAPS, help="besides half a tile (default: %(default)s)"
    )
    parser.add_argument("--picture", type=Path, metavar="PNG", help="draw where the first scene's maps differ")
    arguments = parser.parse_args(argv)
    engine = as_engine(arguments.model)
    paths = [path for folder in arguments.scenes for path in find_scenes(folder)]
    found = run(engine, paths, list(modes(tuple(arguments.tiles), tuple(arguments.overlaps))))
    print(table(found))
    if arguments.picture:
        draw(found, arguments.picture)
        print(f"\nWrote {arguments.picture}")


if __name__ == "__main__":
    sys.exit(main())
