"""Satellite images of many dates and tiles as one scene, read when needed."""

import itertools
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  adds .rio to datasets
import xarray as xr
from affine import Affine

from spinet_tf.bands import BANDS
from spinet_tf.data.area import Area, Dates, bounds_in, longitude_at, pixels_within, require_overlap, require_some_dates
from spinet_tf.data.lazy import CHUNK, LazyArray
from spinet_tf.data.masks import clear_ground
from spinet_tf.data.raster import Layer, Placement, read_classes, read_numbers
from spinet_tf.errors import SpinetError

# 2,600 km of 10 m; a damaged position would make a grid around the globe.
_LARGEST_SIDE = 1 << 18
# Edges of images less than this part of a pixel apart are the same.
_ALIGNED = 1e-3


@dataclass(frozen=True)
class Image:
    """One image of the satellite: a product, a STAC item, or a file.

    Attributes:
        name: for messages.
        time: when it was taken, UTC; None where nobody knows.
        placement: of its finest bands.
        bands: name of a band, such as "B02" -> where it is.
        masks: kind of a mask, of `spinet_tf.data.band_names.MASKS` -> where it is.
        cloud: the cloudy fraction by its own metadata, 0 to 1; None where they do not say.
        whole_day: the time is a date: nobody knows the hour.
    """

    name: str
    time: np.datetime64 | None
    placement: Placement
    bands: dict[str, Layer]
    masks: dict[str, Layer]
    cloud: float | None = None
    whole_day: bool = False

    @property
    def solar_day(self) -> np.datetime64 | None:
        """The date where the image is, by the sun."""
        if self.time is None or self.whole_day:
            return self.time
        left, bottom, right, top = self.placement.bounds
        longitude = longitude_at(self.placement.crs, (left + right) / 2, (bottom + top) / 2)
        return (self.time + np.timedelta64(round(longitude / 15 * 3600), "s")).astype("datetime64[D]")


def open_images(
    images: Sequence[Image],
    name: str,
    area: Area | None = None,
    dates: Dates | None = None,
    max_cloud: float | None = None,
    resolution: float | None = None,
) -> xr.Dataset:
    """Lay images over each other as a scene, one date for each solar day.

    All are brought to one grid by nearest neighbour: that of the most common CRS, with the pixels of its first image.
    Where images of one day overlap, the first that shows clear ground counts, else the first that holds data.

    Args:
        images: at least one.
        name: of the scene.
        area: the scene covers its bounding rectangle; by default all images.
        dates: images of other dates are left out.
        max_cloud: images with more cloud, by their own metadata, are left out.
        resolution: side of the pixels in units of the CRS; by default that of the finest image.

    Returns:
        A scene as `spinet_tf.data.open_scene` describes it.

    Raises:
        SpinetError: if no image is left.
    """
    images = _chosen(images, name, dates, max_cloud)
    bands, images = _of_equal_bands(images)
    grid = _common_grid(images, name, area, resolution)
    images = [image for image in images if _overlap(image, grid)]
    if not images:
        raise SpinetError(f"The area lies outside of the images of {name}.")
    order = sorted(images, key=lambda image: (str(image.solar_day), str(image.time), image.name))
    days = [tuple(day) for _, day in itertools.groupby(order, lambda image: image.solar_day)]
    return _Mosaic(days, bands, grid).scene(name)


def _chosen(images: Sequence[Image], name: str, dates: Dates | None, max_cloud: float | None) -> list[Image]:
    """The images of those dates that are clear enough."""
    if len(images) > 1 and (undated := [image.name for image in images if image.time is None]):
        raise SpinetError(f"{undated[0]} has no date. Expected one for each image of {name}.")
    if dates is not None:
        if images[0].time is None:
            raise SpinetError(f"{name} has no dates, so none can be chosen.")
        times = np.array([image.time for image in images])
        inside = dates.contain(times)
        require_some_dates(inside, times, dates, name)
        images = list(itertools.compress(images, inside))
    if max_cloud is None:
        return list(images)
    unknown = [image.name for image in images if image.cloud is None]
    if unknown:
        raise SpinetError(f"{unknown[0]} does not say how cloudy it is. Leave the limit of clouds away.")
    clear = [image for image in images if image.cloud is not None and image.cloud <= max_cloud]
    if not clear:
        least = min(image.cloud for image in images if image.cloud is not None)
        raise SpinetError(
            f"No image of {name} has at most {max_cloud:.0%} cloud: the least is {least:.0%}. Allow more, or add dates."
        )
    return clear


def _of_equal_bands(images: Sequence[Image]) -> tuple[tuple[str, ...], list[Image]]:
    """The bands that most images have, in Sentinel-2's order, and the images that have them."""
    has = [frozenset((*image.bands, *image.masks)) for image in images]
    sets = Counter(has)
    # Of two that as many have, the one that more others have too.
    wanted = max(sets, key=lambda names: (sets[names], sum(names <= other for other in has)))
    complete = []
    for image, names in zip(images, has, strict=True):
        if missing := wanted - names:
            warnings.warn(f"{image.name} is left out: it lacks {', '.join(sorted(missing))}.", stacklevel=2)
        else:
            complete.append(image)
    order = (*BANDS[:10], "B10", *BANDS[10:])
    return tuple(band for band in order if band in wanted), complete


def _common_grid(images: Sequence[Image], name: str, area: Area | None, resolution: float | None) -> Placement:
    """The grid on which the scene is laid."""
    crs = Counter(image.placement.crs for image in images).most_common(1)[0][0]
    own = [image.placement for image in images if image.placement.crs == crs]
    width, height = min((placement.transform.a, -placement.transform.e) for placement in own)
    anchor = next(place.transform for place in own if (place.transform.a, -place.transform.e) == (width, height))
    if resolution is not None:
        width = height = resolution
    bounds = [bounds_in(image.placement.crs, image.placement.bounds, crs) for image in images]
    left, bottom = np.min(bounds, axis=0)[:2]
    right, top = np.max(bounds, axis=0)[2:]
    # Where the scene's first pixel begins, on the anchor's lines.
    left = anchor.c + np.floor((left - anchor.c) / width + _ALIGNED) * width
    top = anchor.f - np.floor((anchor.f - top) / height + _ALIGNED) * height
    columns, rows = ((right - left) / width, (top - bottom) / height)
    if max(columns, rows) > _LARGEST_SIDE:
        raise SpinetError(
            f"{name} would have {rows:.4g} x {columns:.4g} pixels: its images lie too far apart. Give an area."
            if area is None
            else f"The images of {name} lie too far apart: {rows:.4g} x {columns:.4g} pixels."
        )
    grid = Placement(
        crs,
        Affine(width, 0, left, 0, -height, top),
        int(np.ceil(columns - _ALIGNED)),
        int(np.ceil(rows - _ALIGNED)),
    )
    if area is None:
        return grid
    west, south, east, north = area.bounds(crs)
    window = (
        pixels_within(-north, -south, -top, height, grid.height),
        pixels_within(west, east, left, width, grid.width),
    )
    require_overlap(*window, area, name, grid.bounds, crs)
    return grid.window(*window)


def _overlap(image: Image, grid: Placement) -> bool:
    left, bottom, right, top = bounds_in(image.placement.crs, image.placement.bounds, grid.crs)
    west, south, east, north = grid.bounds
    return left < east and west < right and bottom < north and south < top


class _Mosaic:
    """Images laid over each other.

    Args:
        days: for each date its images, the first one on top.
        bands: the names of the bands to read.
        grid: of the scene.
    """

    def __init__(self, days: Sequence[tuple[Image, ...]], bands: tuple[str, ...], grid: Placement):
        self.days = days
        self.bands = bands
        self.grid = grid

    def scene(self, name: str) -> xr.Dataset:
        grid = self.grid
        frames, rows, columns = len(self.days), grid.height, grid.width
        # Files with one band each are read one by one; those with all of them at once.
        files = {layer.href for layer in self.days[0][0].bands.values()}
        some_bands = 1 if len(files) == len(self.bands) else len(self.bands)
        pixels = self._chunks()
        bands = LazyArray(self._numbers, (frames, len(self.bands), rows, columns), "uint16", name)
        valid = LazyArray(self._valid, (frames, rows, columns), "bool", name)
        coordinates: dict[str, Any] = {
            "band": list(self.bands),
            "y": grid.transform.f + (np.arange(rows) + 0.5) * grid.transform.e,
            "x": grid.transform.c + (np.arange(columns) + 0.5) * grid.transform.a,
        }
        times = [day[0].time for day in self.days]
        if times[0] is not None:
            coordinates["time"] = np.array(times, "datetime64[ns]")
        scene = xr.Dataset(
            {
                "bands": (("time", "band", "y", "x"), bands.chunked((1, some_bands, *pixels))),
                "valid": (("time", "y", "x"), valid.chunked((1, *pixels))),
            },
            coordinates,
            {"name": name},
        )
        return scene.rio.write_crs(grid.crs)

    def _chunks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Rows and columns of the chunks: cut where the tiles of the first image's files are."""
        anchor = self.days[0][0].placement.transform
        chunks = []
        for count, offset in (
            (self.grid.height, (self.grid.transform.f - anchor.f) / self.grid.transform.e),
            (self.grid.width, (self.grid.transform.c - anchor.c) / self.grid.transform.a),
        ):
            first = CHUNK - round(offset) % CHUNK
            edges = [0, *range(first, count, CHUNK), count]
            chunks.append(tuple(np.diff(edges).tolist()))
        return chunks[0], chunks[1]

    def _valid(self, time: slice, y: slice, x: slice) -> np.ndarray:
        window = self.grid.window(y, x)
        frames = [self._read_day(day, window, ())[1] for day in self.days[time]]
        return np.stack(frames)

    def _numbers(self, time: slice, band: slice, y: slice, x: slice) -> np.ndarray:
        window = self.grid.window(y, x)
        frames = [self._read_day(day, window, self.bands[band])[0] for day in self.days[time]]
        return np.stack(frames)

    def _read_day(
        self, images: tuple[Image, ...], window: Placement, bands: tuple[str, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Numbers uint16 (band, y, x) and clear ground bool (y, x) of a date on a window."""
        images = tuple(image for image in images if _overlap(image, window))
        shape = window.height, window.width
        if not images:
            return np.zeros((len(bands), *shape), "uint16"), np.zeros(shape, bool)
        if len(images) == 1 and bands:
            # Nothing to choose from, so the masks need not be read.
            return read_numbers([images[0].bands[band] for band in bands], window), np.zeros(shape, bool)
        seen = [self._look(image, window) for image in images]
        clear = np.any([look["clear"] for look in seen], axis=0)
        # The number of the image that each pixel is taken from.
        choice = np.zeros(shape, int)
        free = np.ones(shape, bool)
        for kind in ("clear", "data"):
            for number, look in enumerate(seen):
                take = free & look[kind]
                choice[take] = number
                free &= ~take
        numbers = np.zeros((len(bands), *shape), "uint16")
        for number in np.unique(choice) if bands else ():
            taken = choice == number
            numbers[:, taken] = read_numbers([images[number].bands[band] for band in bands], window)[:, taken]
        return numbers, clear

    def _look(self, image: Image, window: Placement) -> dict[str, np.ndarray]:
        """Where an image shows clear ground and where it holds data, bool (y, x) each."""
        masks = {kind: read_classes(layer, window) for kind, layer in image.masks.items()}
        if "SCL" in masks:
            data = masks["SCL"] != 0
        else:
            data = (read_numbers(list(image.bands.values()), window) != 0).any(axis=0)
        return {"clear": clear_ground(data, masks), "data": data}
