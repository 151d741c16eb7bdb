"""Simulated scenes, written as EOPatches in the layout of the AI4EO challenge."""

import datetime
import gzip
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spinet_tf.bands import QUANTIFICATION
from spinet_tf.data import simulate_sky as sky
from spinet_tf.data.simulate_covers import CULTIVATED, DECLARED
from spinet_tf.data.simulate_parcels import draw_landscape, smooth_noise
from spinet_tf.data.simulate_region import draw_region
from spinet_tf.data.simulate_seasons import Reflectance, draw_reflectance
from spinet_tf.data.simulate_sensor import observe
from spinet_tf.errors import SpinetError
from spinet_tf.files import replacing
from spinet_tf.progress import track

SCALE = 4
PIXEL = 10  # metres
FIRST_DAY, LAST_DAY = datetime.date(2019, 3, 1), datetime.date(2019, 8, 31)
CRS = "EPSG:32633"
# Fields are not uniform: soil changes over some 80 m, stands over 25 m, and clods and plants are smaller than a pixel.
_TEXTURE = ((0.7, 32), (0.6, 10), (0.5, 2))
# Land simulated around the scene, so that blur, shifts and shadows have something to bring in; a multiple of 60 m.
_MARGIN = 6


def simulate_eopatch(
    path: str | os.PathLike,
    seed: int | Sequence[int],
    size: int | tuple[int, int] = 128,
    dates: int = 20,
    overwrite: bool = False,
) -> Path:
    """Simulate a Sentinel-2 scene of farmland and write it as an EOPatch.

    A region and a year are drawn: its climate, customs and shape of land. A map of parcels at 2.5 m (fields in strips,
    meadows, woods, orchards, settlements of houses and gardens, water, roads, hedges) is given a land cover for each
    parcel, whose materials come and go with the season; on each date it is blurred, shifted by a part of a pixel,
    averaged to 10, 20 and 60 m, and seen through haze and clouds with noise. Grass and woods are green when crops are,
    so a mean vegetation index cannot tell which land is cultivated; the course of the year and the shape of the fields
    can. How each step is done, and from which sources, is written in `simulate_region`, `simulate_covers`,
    `simulate_parcels`, `simulate_seasons`, `simulate_sensor` and `simulate_sky`. How far this agrees with real scenes
    is measured by tests/benchmarks/realism.py.

    The folder holds data/BANDS uint16 (time, rows, columns, 12), data/CLP, mask/CLM, IS_DATA and SCL,
    scalar/NORM_FACTORS, and, four times finer, mask_timeless/CULTIVATED, NOT_DECLARED and ALL_POLYS (the number of
    each declared parcel), all as .npy.gz; dates and place are timestamps.json and bbox.geojson, which eo-learn 1.x
    writes, since pickles are not safe.

    Args:
        path: the folder to write.
        seed: the same seed, size and dates give the same files.
        size: rows and columns, in pixels of 10 m; one number for both.
        dates: how many dates between March and August 2019.
        overwrite: whether an existing folder may be replaced.

    Returns:
        The folder.

    Raises:
        SpinetError: if a number is out of range, or the folder exists and `overwrite` is false.

    Example:
        >>> simulate_eopatch("scenes/eopatch-001", seed=1, size=64, dates=12)
        PosixPath('scenes/eopatch-001')
    """
    height, width = np.broadcast_to(size, 2).tolist()
    if min(height, width) < 1:
        raise SpinetError(f"Expected a size of at least 1 x 1 pixels. Received: {height} x {width}.")
    days = (LAST_DAY - FIRST_DAY).days + 1
    if not 1 <= dates <= days:
        raise SpinetError(f"Expected 1 to {days} dates. Received: {dates}.")
    rng = np.random.default_rng(seed)
    with replacing(path, overwrite=overwrite) as folder:
        times, days_of_year = _draw_dates(rng, dates)
        for name, array in simulate_arrays(rng, height, width, days_of_year).items():
            _write_array(folder / f"{name}.npy.gz", array)
        (folder / "timestamps.json").write_text(json.dumps([time.isoformat() for time in times], indent=2))
        (folder / "bbox.geojson").write_text(json.dumps(_draw_bbox(rng, height, width), indent=2))
    return Path(path)


def synthesize(
    folder: str | os.PathLike,
    count: int,
    size: int | tuple[int, int] = 128,
    dates: int = 20,
    seed: int = 0,
    overwrite: bool = False,
) -> list[Path]:
    """Simulate scenes eopatch-001, eopatch-002, ... in a folder, with a progress bar.

    Args:
        folder: where the EOPatches are written.
        count: how many.
        size: rows and columns of each, in pixels of 10 m.
        dates: how many dates each has.
        seed: scene n is the same whatever `count` is.
        overwrite: whether existing scenes may be replaced.

    Returns:
        The folders of the scenes.

    Raises:
        SpinetError: as `simulate_eopatch` does.

    Example:
        >>> synthesize("scenes", count=2, size=64)
        [PosixPath('scenes/eopatch-001'), PosixPath('scenes/eopatch-002')]
    """
    if count < 1:
        raise SpinetError(f"Expected at least 1 scene. Received: {count}.")
    return [
        simulate_eopatch(Path(folder) / f"eopatch-{number:03d}", [seed, number], size, dates, overwrite)
        for number in track(range(1, count + 1), "Simulating scenes")
    ]


def simulate_arrays(rng: np.random.Generator, height: int, width: int, days: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of an EOPatch by feature, such as "data/BANDS"; `days` are days of the year."""
    canvas = [6 * -(-length // 6) + 2 * _MARGIN for length in (height, width)]
    coarse = (slice(_MARGIN, _MARGIN + height), slice(_MARGIN, _MARGIN + width))
    fine = (slice(_MARGIN * SCALE, (_MARGIN + height) * SCALE), slice(_MARGIN * SCALE, (_MARGIN + width) * SCALE))
    fine_shape = (canvas[0] * SCALE, canvas[1] * SCALE)

    region = draw_region(rng)
    # A small scene has several fields too.
    region = region._replace(field_hectares=min(region.field_hectares, height * width * PIXEL**2 / 1e4 / 6))
    parcel, cover = draw_landscape(rng, fine_shape, PIXEL / SCALE, fine, region)
    reflectance = draw_reflectance(rng, cover, days, region)
    texture = np.sum([share * smooth_noise(rng, fine_shape, length) for share, length in _TEXTURE], axis=0)
    frames = [_draw_frame(rng, Reflectance(*date), parcel, texture, coarse) for date in zip(*reflectance, strict=True)]
    arrays = {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}
    arrays["scalar/NORM_FACTORS"] = np.full((len(days), 1), 1 / QUANTIFICATION, "float32")

    # A few fields are farmed but missing from the register: whether they are cultivated is not known.
    undeclared = CULTIVATED[cover] & (rng.random(len(cover)) < 0.03)
    number = np.where(DECLARED[cover] & ~undeclared, np.arange(len(cover)) % np.iinfo("uint16").max + 1, 0)
    visible = parcel[fine][..., None]
    arrays["mask_timeless/CULTIVATED"] = (CULTIVATED[cover] & ~undeclared)[visible]
    arrays["mask_timeless/NOT_DECLARED"] = undeclared[visible]
    arrays["mask_timeless/ALL_POLYS"] = number.astype("uint16")[visible]
    return arrays


def _draw_frame(
    rng: np.random.Generator,
    reflectance: Reflectance,
    parcel: np.ndarray,
    texture: np.ndarray,
    coarse: tuple[slice, slice],
) -> dict[str, np.ndarray]:
    """The features of one date, cut to the scene."""
    land = np.empty((len(reflectance.mean), *parcel.shape), "float32")
    for band, mean, varying in zip(land, *reflectance, strict=True):
        np.multiply(varying.take(parcel), texture, out=band)
        band += mean.take(parcel)
    bands = observe(rng, land, PIXEL / SCALE)
    clouds = sky.draw_clouds(rng, bands.shape[:2])
    bands = sky.add_atmosphere(rng, bands, clouds)
    probability, mask = sky.cloud_masks(rng, clouds)
    is_data = _draw_swath(rng, bands.shape[:2])
    frame = {
        "data/BANDS": np.rint(bands * QUANTIFICATION).astype("uint16") * is_data[..., None],
        "data/CLP": probability * is_data,
        "mask/CLM": mask * is_data,
        "mask/IS_DATA": is_data,
        "mask/SCL": sky.scene_classes(rng, bands, clouds) * is_data,
    }
    return {name: array[coarse].reshape(*array[coarse].shape[:2], -1) for name, array in frame.items()}


def _draw_swath(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Where the satellite looked: everywhere, or, on one date in twelve, on one side of the edge of its track."""
    if rng.random() > 1 / 12:
        return np.ones(shape, bool)
    y, x = np.indices(shape)
    side = rng.choice([-1, 1])
    return side * (x + 0.2 * y - rng.uniform(0.2, 0.8) * shape[1]) > 0


def _draw_dates(rng: np.random.Generator, count: int) -> tuple[list[datetime.datetime], np.ndarray]:
    """Times of acquisition in order, and their days of the year; overpasses are every two or three days, if enough."""
    every = np.arange((LAST_DAY - FIRST_DAY).days + 1)
    overpasses = every[np.isin((every + rng.integers(5)) % 5, (0, 2))]
    chosen = np.sort(rng.choice(overpasses if count <= len(overpasses) else every, count, replace=False))
    first = datetime.datetime.combine(FIRST_DAY, datetime.time(10, 0, 31))
    times = [first + datetime.timedelta(days=int(day)) for day in chosen]
    return times, chosen + FIRST_DAY.timetuple().tm_yday


def _draw_bbox(rng: np.random.Generator, height: int, width: int) -> dict:
    """A place in Slovenia, as eo-learn writes it."""
    left, bottom = float(rng.integers(45000, 60000) * PIXEL), float(rng.integers(506000, 515000) * PIXEL)
    right, top = left + width * PIXEL, bottom + height * PIXEL
    corners = [[left, bottom], [left, top], [right, top], [right, bottom], [left, bottom]]
    name = f"urn:ogc:def:crs:EPSG::{CRS.removeprefix('EPSG:')}"
    return {"crs": {"type": "name", "properties": {"name": name}}, "type": "Polygon", "coordinates": [corners]}


def _write_array(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Neither name nor time in the header: the same seed gives the same bytes.
    with path.open("wb") as file, gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as compressed:
        np.save(compressed, array, allow_pickle=False)
