"""How simulated scenes compare with real ones: reflectance, seasons, correlations, labels and clouds.

Each statistic is computed per scene from its clear dates (at least 75 % clear) of March to August, of the year that has
most of them. The table shows its median and range (5 to 95 %) over the simulated scenes, its value in each real scene,
and in how many of these it lies within that range. Curves of crops, grass and other land come from labels; what a scene
does not have (a band, a label, land cover) is left out. Labels of real scenes serve these coarse statistics only, and
those of a scene on which models are scored should not be looked at: name it with --unlabelled.

The output folder receives realism.md and realism.png.
"""

import argparse
import gzip
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy import ndimage

from spinet_tf.bands import BANDS
from spinet_tf.data.scene import clear_fraction, find_scenes, open_scene
from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.files import replacing
from spinet_tf.progress import track

MONTHS = ("March", "April", "May", "June", "July", "August")
INDICES = {"NDVI": ("B08", "B04"), "red-edge NDVI": ("B8A", "B05"), "NDMI": ("B8A", "B11")}
KINDS = ("crops", "grass", "other land")
PAIRS = (("B02", "B04"), ("B04", "B08"), ("B05", "B8A"), ("B8A", "B11"), ("B11", "B12"))
LAGS = ((1, 10), (20, 40), (60, 90))  # days
# The value of grass in the land cover of the WorldCereal project's reference data.
GRASS = 13
PURE = 0.9

EPILOG = """examples:
  spinet synthesize scenes --count 40 --size 64 --dates 38 --seed 7
  python -m tests.benchmarks.realism scenes --real real/be_2018.nc real/be_2019.nc -o realism
  python -m tests.benchmarks.realism scenes --real real --unlabelled be_2018 -o realism --overwrite
"""


class Scene(NamedTuple):
    """One scene of a season.

    Attributes:
        name: its name.
        bands: reflectance by band, (time, rows, columns), NaN where not clear; the clear dates only.
        days: days of the year of these.
        clear: the clear fraction of every date of the season.
        kinds: True for the pixels that are wholly of a kind of land, where there is a label.
        label: 1 cultivated, 0 not, 255 unknown, or None.
        metres: the side of the label's pixels.
    """

    name: str
    bands: dict[str, np.ndarray]
    days: np.ndarray
    clear: np.ndarray
    kinds: dict[str, np.ndarray]
    label: np.ndarray | None
    metres: float


def read(path: Path, labelled: bool = True) -> Scene:
    """Read a scene's season.

    Raises:
        SpinetError: if none of its dates from March to August is clear.
    """
    scene = open_scene(path)
    season = scene.isel(time=scene["time"].dt.month.isin(range(3, 9)).to_numpy())
    years, counts = np.unique(season["time"].dt.year, return_counts=True)
    if len(years):
        season = season.isel(time=(season["time"].dt.year == years[counts.argmax()]).to_numpy())
    season = season.load()
    clear = clear_fraction(season)
    chosen = season.isel(time=clear >= 0.75)
    if not chosen.sizes["time"]:
        raise SpinetError(f"Expected scenes with clear dates from March to August. {path} has none.")
    valid = chosen["valid"].to_numpy()
    bands = {
        str(name): np.where(valid, chosen["bands"].sel(band=name).to_numpy() / 1e4, np.nan).astype("float32")
        for name in chosen["band"].to_numpy()
    }
    label = season["label"].to_numpy() if "label" in season and labelled else None
    kinds = {} if label is None else _kinds(path, label, valid.shape[1:])
    metres = abs(float(season["x"][1] - season["x"][0])) * season.sizes["x"] / (1 if label is None else label.shape[1])
    return Scene(path.stem, bands, chosen["time"].dt.dayofyear.to_numpy(), clear, kinds, label, metres)


def _kinds(path: Path, label: np.ndarray, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    grass = None
    if path.is_dir():
        file = path / "mask_timeless/ALL_POLYS.npy.gz"
        if file.is_file():
            with gzip.open(file) as stream:
                grass = (np.load(stream, allow_pickle=False)[..., 0] > 0) & (label == 0)
    else:
        with xr.open_dataset(path) as dataset:
            if "land_cover" in dataset:
                grass = dataset["land_cover"].to_numpy() == GRASS
    land = {"crops": label == 1}
    if grass is not None:
        land |= {"grass": grass, "other land": (label == 0) & ~grass}
    step = label.shape[0] // shape[0]
    return {name: mask.reshape(shape[0], step, shape[1], step).mean((1, 3)) >= PURE for name, mask in land.items()}


def index_of(scene: Scene, name: str) -> np.ndarray | None:
    """A normalised difference of two bands, (time, rows, columns), or None where one is missing."""
    if not set(INDICES[name]) <= set(scene.bands):
        return None
    high, low = (scene.bands[band] for band in INDICES[name])
    return (high - low) / (high + low + 1e-6)


def curve(scene: Scene, kind: str, index: str = "NDVI") -> np.ndarray:
    """The median of an index over a kind of land by month, NaN where it is not known."""
    values, pixels = index_of(scene, index), scene.kinds.get(kind)
    medians = np.full(len(MONTHS), np.nan)
    if values is None or pixels is None or pixels.sum() < 10:
        return medians
    month = _month(scene.days)
    for number in np.unique(month):
        medians[number] = np.nanmedian(values[month == number][:, pixels])
    return medians


def correlation_by_lag(scene: Scene) -> dict[tuple[int, int], float]:
    """The mean correlation over pixels of an index on two dates, by the days between them."""
    index = "NDVI" if index_of(scene, "NDVI") is not None else "red-edge NDVI"
    values = index_of(scene, index)
    if values is None:
        return {}
    flat = np.where(np.isfinite(values), values, np.nanmean(values, axis=(1, 2), keepdims=True))
    matrix = np.corrcoef(flat.reshape(len(flat), -1)) if len(flat) > 1 else np.ones((1, 1))
    lag = np.abs(scene.days[:, None] - scene.days)
    return {
        (low, high): float(np.mean(matrix[(lag >= low) & (lag <= high)]))
        for low, high in LAGS
        if ((lag >= low) & (lag <= high)).any()
    }


def spectral_correlation(scene: Scene) -> np.ndarray:
    """The correlation of bands over clear pixels and dates, (12, 12), NaN for bands that are missing."""
    matrix = np.full((len(BANDS), len(BANDS)), np.nan)
    present = [number for number, name in enumerate(BANDS) if name in scene.bands]
    stacked = np.stack([scene.bands[BANDS[number]].ravel() for number in present])
    stacked = stacked[:, np.isfinite(stacked).all(0)]
    matrix[np.ix_(present, present)] = np.corrcoef(stacked)
    return matrix


def describe(scene: Scene) -> dict[str, float]:
    """All statistics of a scene that are single numbers."""
    found: dict[str, float] = {}
    for name in BANDS:
        if name in scene.bands:
            for quantile in (10, 50, 90):
                found[f"{name}: {quantile} %"] = float(np.nanpercentile(scene.bands[name], quantile))
    for name in ("B04", "B8A", "B11"):
        if name in scene.bands and len(scene.days) > 2:
            found[f"{name}: deviation over time"] = float(np.nanmedian(_deviation(scene.bands[name])))
            level = np.nanmedian(scene.bands[name], axis=(1, 2))
            found[f"{name}: step between dates, part"] = float(np.median(np.abs(np.diff(level))) / level.mean())
    for index in INDICES:
        values = index_of(scene, index)
        if values is not None:
            for quantile in (10, 50, 90):
                found[f"{index}: {quantile} %"] = float(np.nanpercentile(values, quantile))
            for kind in KINDS:
                for month, value in zip(MONTHS, curve(scene, kind, index), strict=True):
                    if index != "NDMI" and np.isfinite(value):
                        found[f"{index} of {kind}, {month}"] = float(value)
    for (low, high), value in correlation_by_lag(scene).items():
        found[f"correlation of dates {low}-{high} days apart"] = value
    matrix = spectral_correlation(scene)
    for first, second in PAIRS:
        value = matrix[BANDS.index(first), BANDS.index(second)]
        if np.isfinite(value):
            found[f"correlation of {first} and {second}"] = float(value)
    found["dates at least 95 % clear, part"] = float((scene.clear >= 0.95).mean())
    found["dates 5 to 95 % clear, part"] = float(((scene.clear > 0.05) & (scene.clear < 0.95)).mean())
    if scene.label is not None:
        found |= _describe_label(scene.label == 1, scene.metres)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _describe_label(cultivated: np.ndarray, metres: float) -> dict[str, float]:
    parts, count = ndimage.label(cultivated, np.ones((3, 3)))
    sizes = np.sort(np.bincount(parts.ravel())[1:]) * metres**2 / 1e4
    found = {"cultivated, part": float(cultivated.mean())}
    if count:
        half = sizes[np.searchsorted(sizes.cumsum(), sizes.sum() / 2)]
        edges = (np.diff(cultivated, axis=0) != 0).sum() + (np.diff(cultivated, axis=1) != 0).sum()
        found["cultivated: half of it in pieces below, ha"] = float(half)
        found["border of cultivated land, m/ha of scene"] = float(edges * metres / (cultivated.size * metres**2 / 1e4))
    return found


def _deviation(values: np.ndarray) -> np.ndarray:
    seen = np.isfinite(values).sum(0)
    total = np.where(seen > 2, np.nansum(values, axis=0), np.nan) / np.maximum(seen, 1)
    return np.sqrt(np.nansum((values - total) ** 2, axis=0) / np.maximum(seen, 1)) + 0 * total


def _month(days: np.ndarray) -> np.ndarray:
    return (np.datetime64("2019-01-01") + days - 1).astype("datetime64[M]").astype(int) % 12 - 2


def table(simulated: list[dict[str, float]], real: dict[str, dict[str, float]]) -> str:
    """Compare the statistics, as Markdown."""
    lines = [
        f"| statistic | simulated ({len(simulated)}): median, range | {' | '.join(real)} | within |",
        "|---|---|" + "---:|" * len(real) + "---:|",
    ]
    inside_all = seen_all = 0
    for name in dict.fromkeys(name for one in (*simulated, *real.values()) for name in one):
        values = [one[name] for one in simulated if name in one]
        others = [one.get(name) for one in real.values()]
        if not values or all(value is None for value in others):
            continue
        low, middle, high = np.percentile(values, [5, 50, 95])
        seen = [value for value in others if value is not None]
        inside = sum(low <= value <= high for value in seen)
        inside_all, seen_all = inside_all + inside, seen_all + len(seen)
        shown = " | ".join("" if value is None else f"{value:.3g}" for value in others)
        lines.append(f"| {name} | {middle:.3g}, {low:.3g} to {high:.3g} | {shown} | {inside}/{len(seen)} |")
    lines.append(f"| **all** | | {' | '.join('' for _ in real)} | **{inside_all}/{seen_all}** |")
    return "\n".join(lines)


def draw(simulated: list[Scene], real: list[Scene], path: Path) -> None:
    """Draw quantiles of the bands, curves of the kinds of land, correlations, and a scene of each side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(20, 15), layout="constrained")
    axes = figure.subplots(3, 4)
    for axis, quantile in zip(axes[0], (10, 50, 90), strict=False):
        _draw_range(axis, np.arange(len(BANDS)), [_quantiles(scene, quantile) for scene in simulated])
        for scene in real:
            axis.plot(_quantiles(scene, quantile), "o-", ms=4, label=scene.name)
        axis.set(title=f"reflectance, {quantile} % quantile", xticks=range(len(BANDS)), xticklabels=BANDS)
    axes[0, 0].legend(fontsize=8)
    _draw_range(axes[0, 3], np.arange(len(LAGS)), [_lags(scene) for scene in simulated])
    for scene in real:
        axes[0, 3].plot(_lags(scene), "o-", ms=4)
    names = [f"{low}-{high}" for low, high in LAGS]
    axes[0, 3].set(title="correlation of NDVI maps, by days apart", xticks=range(len(LAGS)), xticklabels=names)
    for axis, kind in zip(axes[1], KINDS, strict=False):
        for index, colour, style in (("NDVI", "tab:green", "o-"), ("red-edge NDVI", "tab:purple", "s--")):
            _draw_range(axis, np.arange(len(MONTHS)), [curve(scene, kind, index) for scene in simulated], colour)
            for scene in real:
                axis.plot(curve(scene, kind, index), style, color=colour, ms=4)
        axis.set(title=f"{kind}: NDVI green, red-edge NDVI purple", xticks=range(len(MONTHS)), xticklabels=MONTHS)
        axis.set_ylim(0, 1)
    for axis, scenes, title in ((axes[1, 3], simulated, "simulated"), (axes[2, 3], real, "real")):
        matrix = np.ma.masked_invalid([spectral_correlation(scene) for scene in scenes]).mean(axis=0)
        axis.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r")
        axis.set(title=f"correlation of bands, {title}", xticks=range(len(BANDS)), yticks=range(len(BANDS)))
        axis.set(xticklabels=BANDS, yticklabels=BANDS)
    coloured = [scene for scene in real if {"B02", "B03", "B04"} <= set(scene.bands)][:1]
    for axis, scene in zip(axes[2], [*simulated[:2], *coloured], strict=False):
        date = np.argsort(np.nanmedian(scene.bands["B02"], axis=(1, 2)))[len(scene.days) // 4]  # little haze
        picture = np.stack([scene.bands[name][date] for name in ("B04", "B03", "B02")], axis=-1)
        axis.imshow(np.nan_to_num(picture / 0.2, nan=1).clip(0, 1))
        axis.set_title(f"{scene.name}, day {scene.days[date]}")
        axis.set_axis_off()
    figure.savefig(path, dpi=70)


def _draw_range(axis, x: np.ndarray, values: list[np.ndarray], colour: str = "tab:gray") -> None:
    known = np.ma.masked_invalid(values)
    low, middle, high = (
        np.array([np.percentile(column.compressed(), share) if column.count() else np.nan for column in known.T])
        for share in (5, 50, 95)
    )
    axis.fill_between(x, low, high, color=colour, alpha=0.2, lw=0, label="simulated, 5 to 95 %")
    axis.plot(x, middle, color=colour, lw=3, alpha=0.5)


def _quantiles(scene: Scene, quantile: float) -> np.ndarray:
    return np.array(
        [np.nanpercentile(scene.bands[name], quantile) if name in scene.bands else np.nan for name in BANDS]
    )


def _lags(scene: Scene) -> np.ndarray:
    found = correlation_by_lag(scene)
    return np.array([found.get(lag, np.nan) for lag in LAGS])


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.realism",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("simulated", nargs="+", type=Path, help="simulated scenes, or folders of them")
    parser.add_argument("--real", nargs="+", type=Path, required=True, help="real scenes, or folders of them")
    parser.add_argument("--unlabelled", nargs="+", default=[], metavar="NAME", help="scenes whose labels stay closed")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier outputs")
    arguments = parser.parse_args(argv)
    paths = [
        [path for folder in folders for path in find_scenes(folder)]
        for folders in (arguments.simulated, arguments.real)
    ]
    simulated = [read(path) for path in track(paths[0], "Reading simulated scenes")]
    real = [read(path, path.stem not in arguments.unlabelled) for path in paths[1]]
    compared = table([describe(scene) for scene in simulated], {scene.name: describe(scene) for scene in real})
    print(compared)
    for name, write in (
        ("realism.md", lambda path: path.write_text(compared + "\n")),
        ("realism.png", lambda path: draw(simulated, real, path)),
    ):
        with replacing(arguments.output / name, overwrite=arguments.overwrite) as part:
            write(part)
        print(f"Wrote {arguments.output / name}")


if __name__ == "__main__":
    sys.exit(main())
