"""Places and dates that a user asks for."""

import datetime
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio.warp
import xarray as xr
from rasterio.crs import CRS

from spinet_tf.errors import SpinetError

AreaLike = str | os.PathLike | Mapping | Sequence[float]
DatesLike = str | Sequence[Any]

LONLAT = CRS.from_epsg(4326)

# A pixel is taken when more than this part of its side lies in the area: rounding alone takes none.
_TOLERANCE = 1e-3
# Country outlines have a few hundred thousand corners.
_LARGEST_FILE = 1 << 26


class Area(NamedTuple):
    """What a user asks for, as points whose bounding rectangle is meant.

    Attributes:
        x: longitudes, or eastings of `crs`, float64 (points,).
        y: latitudes or northings.
        crs: of the points.
        box: whether they are the corners of a rectangle with straight edges in `crs`, not of a polygon.
    """

    x: np.ndarray
    y: np.ndarray
    crs: CRS
    box: bool

    def bounds(self, crs: CRS) -> tuple[float, float, float, float]:
        """Left, bottom, right and top of the area in another CRS.

        Raises:
            SpinetError: if the CRS does not reach there.
        """
        extremes = float(self.x.min()), float(self.y.min()), float(self.x.max()), float(self.y.max())
        if self.box:
            return bounds_in(self.crs, extremes, crs)
        try:
            x, y = rasterio.warp.transform(self.crs, crs, self.x.tolist(), self.y.tolist())
        except Exception as error:  # GDAL's errors have no public base class
            raise SpinetError(f"The area {self} cannot be expressed in {crs.to_string()}: {error}") from error
        if not all(map(math.isfinite, (*x, *y))):
            raise SpinetError(f"The area {self} lies outside of what {crs.to_string()} can express.")
        return min(x), min(y), max(x), max(y)

    def __str__(self) -> str:
        return _listed((self.x.min(), self.y.min(), self.x.max(), self.y.max()))


def read_area(area: AreaLike) -> Area:
    """Understand an area.

    Args:
        area: (west, south, east, north) in degrees, also as text "west,south,east,north"; a GeoJSON geometry, feature
            or collection, or the path of a file with one. GeoJSON is in degrees, longitude first, unless it has the
            member `crs` of older versions.

    Raises:
        SpinetError: if it is none of these.

    Example:
        read_area((14.5, 46.0, 14.6, 46.1)).bounds(CRS.from_epsg(32633))

    Reference:
        https://www.rfc-editor.org/rfc/rfc7946
    """
    if isinstance(area, Mapping):
        return _of_geojson(area, "the area")
    if isinstance(area, str) and "," in area and not os.path.exists(area):
        numbers: Sequence = area.split(",")
    elif isinstance(area, str | os.PathLike):
        return _of_file(Path(area))
    else:
        numbers = area
    try:
        west, south, east, north = map(float, numbers)
    except (TypeError, ValueError):
        raise SpinetError(
            f"Expected an area as west, south, east, north in degrees, or GeoJSON. Received: {area!r}."
        ) from None
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise SpinetError(
            "Expected an area with west < east in -180 to 180 degrees and south < north in -90 to 90. Received: "
            f"{west:g}, {south:g}, {east:g}, {north:g}."
        )
    return Area(np.array([west, east]), np.array([south, north]), LONLAT, True)


def _of_file(path: Path) -> Area:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        if len(data) > _LARGEST_FILE:
            raise SpinetError(f"Expected a GeoJSON file of at most {_LARGEST_FILE >> 20} MiB: {path} is larger.")
        content = json.loads(data)
    except SpinetError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise SpinetError(
            f"Expected the area as west,south,east,north in degrees, or a GeoJSON file. {path} cannot be read: {error}"
        ) from error
    return _of_geojson(content, str(path))


def _of_geojson(content: Any, source: str) -> Area:
    try:
        points = np.array(list(_points(content, 0)), "float64").reshape(-1, 2)
        named = content.get("crs")
        crs = LONLAT if named is None else CRS.from_user_input(named["properties"]["name"])
    except Exception as error:  # whatever nonsense a file may hold; rasterio's CRS errors are no ValueErrors
        raise SpinetError(f"Expected GeoJSON with coordinates in {source}: {error!r}") from error
    if len(points) < 3 or not np.isfinite(points).all():
        raise SpinetError(f"Expected GeoJSON of a polygon in {source}. Received: {len(points)} points.")
    if crs == LONLAT and (abs(points) > (180, 90)).any():
        raise SpinetError(f"Expected degrees, longitude first, in {source}. Received: {points[0].tolist()}.")
    return Area(points[:, 0], points[:, 1], crs, False)


def _points(content: Any, depth: int):
    """Each position in GeoJSON, whatever it is wrapped in."""
    if depth > 32:
        raise ValueError("nested too deeply")
    if isinstance(content, Mapping):
        for name in ("features", "geometry", "geometries", "coordinates"):
            if content.get(name) is not None:
                yield from _points(content[name], depth + 1)
    elif content and not isinstance(content[0], Sequence | Mapping):
        yield content[:2]
    else:
        for part in content:
            yield from _points(part, depth + 1)


def bounds_in(crs: CRS, bounds: tuple[float, float, float, float], other: CRS) -> tuple[float, float, float, float]:
    """Left, bottom, right and top in another CRS of a rectangle in one.

    Raises:
        SpinetError: if the other CRS does not reach there.
    """
    if crs == other:
        return bounds
    try:
        found = rasterio.warp.transform_bounds(crs, other, *bounds)
    except Exception as error:  # GDAL's errors have no public base class
        raise SpinetError(
            f"{crs.to_string()} {_listed(bounds)} cannot be expressed in {other.to_string()}: {error}"
        ) from error
    if not all(map(math.isfinite, found)):
        raise SpinetError(f"{crs.to_string()} {_listed(bounds)} lies outside of what {other.to_string()} can express.")
    return found


def longitude_at(crs: CRS, x: float, y: float) -> float:
    """The longitude of a place in degrees.

    Raises:
        SpinetError: if the CRS does not reach there.
    """
    return bounds_in(crs, (x, y, x, y), LONLAT)[0]


def pixels_within(low: float, high: float, edge: float, size: float, count: int) -> slice:
    """The pixels of an axis that reach into an interval, as a slice; empty if none does.

    Args:
        low: the interval's start, in coordinates that grow along the axis.
        high: its end.
        edge: where pixel 0 begins.
        size: of a pixel.
        count: of pixels.
    """
    start = math.floor((low - edge) / size + _TOLERANCE)
    stop = math.ceil((high - edge) / size - _TOLERANCE)
    return slice(min(max(start, 0), count), max(min(stop, count), 0))


def require_even_spacing(centres: np.ndarray, axis: str, name: str) -> None:
    """Raise a SpinetError unless coordinates of pixels are finite and evenly spaced; a single one is."""
    steps = np.diff(centres)
    if not (np.isfinite(centres).all() and np.allclose(steps, steps[:1], rtol=1e-3, atol=0) and steps[:1].all()):
        raise SpinetError(f"Expected finite and evenly spaced coordinates `{axis}` in {name}.")


def crop_to_area(scene: xr.Dataset, area: Area) -> xr.Dataset:
    """The part of a scene that an area's bounding rectangle touches, in whole pixels; the label's part with it.

    Raises:
        SpinetError: if the scene has no CRS or coordinates, or lies elsewhere.
    """
    name = scene.attrs.get("name", "The scene")
    if scene.rio.crs is None or "y" not in scene.coords or "x" not in scene.coords:
        raise SpinetError(f"{name} has no coordinate reference system, so no area can be cut from it.")
    left, bottom, right, top = area.bounds(scene.rio.crs)
    windows = {"x": _along(scene["x"].values, left, right), "y": _along(scene["y"].values, bottom, top)}
    require_overlap(windows["y"], windows["x"], area, name, scene.rio.bounds(), scene.rio.crs)
    for axis, window in tuple(windows.items()):
        if f"{axis}_label" in scene.dims:
            scale = scene.sizes[f"{axis}_label"] // scene.sizes[axis]
            windows[f"{axis}_label"] = slice(scale * window.start, scale * window.stop)
    return scene.isel(windows)


def require_overlap(rows: slice, columns: slice, area: Area, name: str, bounds: tuple, crs: CRS) -> None:
    """Raise a SpinetError unless an area covers at least 2 x 2 pixels: fewer have no pixel size."""
    if rows.stop - rows.start >= 2 and columns.stop - columns.start >= 2:
        return
    inside = rows.stop > rows.start and columns.stop > columns.start
    raise SpinetError(
        f"{'Expected an area of at least 2 x 2 pixels of' if inside else 'The area lies outside of'} {name}. "
        f"Its bounds are {_listed(bounds)} in {crs.to_string()}, the area's {_listed(area.bounds(crs))}."
    )


def _listed(values: Sequence[float]) -> str:
    return " ".join(f"{value:.6g}" for value in values)


def _along(centres: np.ndarray, low: float, high: float) -> slice:
    """The pixels of a scene's axis, which may run either way, in an interval."""
    count = len(centres)
    if count < 2:
        return slice(0, count)
    size = (centres[-1] - centres[0]) / (count - 1)
    edge = centres[0] - size / 2
    ends = (low, high) if size > 0 else (-high, -low)
    return pixels_within(*ends, edge if size > 0 else -edge, abs(size), count)


class Dates(NamedTuple):
    """A span of time.

    Attributes:
        start: its first moment, None where it is open.
        stop: the first moment after it, None where it is open.
    """

    start: np.datetime64 | None
    stop: np.datetime64 | None

    def contain(self, times: np.ndarray) -> np.ndarray:
        """Which of the times (datetime64) lie in the span, bool."""
        inside = np.ones(len(times), bool)
        if self.start is not None:
            inside &= times >= self.start
        if self.stop is not None:
            inside &= times < self.stop
        return inside

    def __str__(self) -> str:
        last = None if self.stop is None else self.stop - np.timedelta64(1, "ms")
        return "/".join(".." if end is None else str(end)[:10] for end in (self.start, last))


def read_dates(dates: DatesLike) -> Dates:
    """Understand a span of dates, both ends included.

    Args:
        dates: "2019-03-01/2019-09-01", a pair of dates, or one date; a date may be a year, a month, a day or a moment,
            text or a date object, in UTC; ".." or None leaves an end open.

    Raises:
        SpinetError: if it is none of these, or ends before it starts.

    Example:
        >>> str(read_dates("2019-03/2019-04"))
        '2019-03-01/2019-04-30'
    """
    single = isinstance(dates, datetime.date | np.datetime64)
    ends = dates.split("/") if isinstance(dates, str) else [dates] if single else list(dates)
    if len(ends) == 1:
        ends = ends * 2
    if len(ends) != 2:
        raise SpinetError(f'Expected dates as "2019-03-01/2019-09-01" or a pair. Received: {dates!r}.')
    start, _ = _moments(ends[0])
    _, stop = _moments(ends[1])
    if start is not None and stop is not None and start >= stop:
        raise SpinetError(f"Expected dates that end after they start. Received: {dates!r}.")
    return Dates(start, stop)


def _moments(date: Any) -> tuple[np.datetime64 | None, np.datetime64 | None]:
    """The first moment of a date, and the first one after it."""
    if date is None or date in ("..", ""):
        return None, None
    try:
        if isinstance(date, str):
            if not re.fullmatch(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d){0,2}(\.\d+)?Z?)?)?)?", date.strip()):
                raise ValueError("not a date")
            date = date.strip().removesuffix("Z")
        elif isinstance(date, datetime.datetime) and date.tzinfo is not None:
            date = date.astimezone(datetime.UTC).replace(tzinfo=None)
        moment = np.datetime64(date)
        after = moment + 1
    except (TypeError, ValueError):
        raise SpinetError(f'Expected a date such as "2019-03-01". Received: {date!r}.') from None
    return moment.astype("datetime64[ms]"), after.astype("datetime64[ms]")


def choose_dates(scene: xr.Dataset, dates: Dates) -> xr.Dataset:
    """The frames of a scene in a span of dates.

    Raises:
        SpinetError: if the scene has no dates, or none of them is in the span.
    """
    name = scene.attrs.get("name", "The scene")
    if "time" not in scene.coords:
        raise SpinetError(f"{name} has no dates, so none can be chosen.")
    inside = dates.contain(scene["time"].values)
    require_some_dates(inside, scene["time"].values, dates, name)
    return scene.isel(time=np.flatnonzero(inside))


def require_some_dates(inside: np.ndarray, times: np.ndarray, dates: Dates, name: str) -> None:
    """Raise a SpinetError unless some time lies in the span."""
    if not inside.any():
        raise SpinetError(
            f"No date of {name} lies in {dates}. It has {len(times)}, {str(times.min())[:10]} to "
            f"{str(times.max())[:10]}."
        )
