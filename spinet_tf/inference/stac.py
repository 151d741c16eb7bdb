"""A STAC item that tells catalogues of a map: where, of when, and in which files."""

import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import shapely
from pystac import MediaType, RelType
from rasterio.warp import transform_geom
from shapely.geometry.base import BaseGeometry

from spinet_tf._version import __version__
from spinet_tf.errors import SpinetError
from spinet_tf.files import replacing
from spinet_tf.inference.geotiff import CLASSES, COLOURS, open_map, reported
from spinet_tf.inference.grid import Grid

EXTENSIONS = {
    "proj": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "raster": "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "classification": "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "processing": "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
}
MEDIA_TYPES = {
    ".tif": MediaType.COG,
    ".gpkg": MediaType.GEOPACKAGE,
    ".fgb": MediaType.FLATGEOBUF,
    ".parquet": MediaType.VND_APACHE_PARQUET,
    ".geoparquet": MediaType.VND_APACHE_PARQUET,
    ".png": MediaType.PNG,
    ".html": MediaType.HTML,
}
TITLES = {
    "probability": "Probability of cultivated land",
    "class": "Cultivated land",
    "uncertainty": "Uncertainty",
    "frames": "Number of frames with clear ground",
    "polygons": "Polygons of cultivated land",
    "quicklook": "Quicklook",
}
ROLES = {"quicklook": ["overview"]}


def write_item(
    paths: Mapping[str, str | os.PathLike],
    path: str | os.PathLike,
    *,
    dates: Iterable[Any] = (),
    derived_from: Mapping[str, str | os.PathLike] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a STAC item for a map: footprint, dates, projection, and an asset for every file.

    Files are named relative to the item, so that the folder can be moved or published as it is.

    Args:
        paths: from "probability" and, where they exist, "class", "uncertainty", "frames", "polygons" and "quicklook"
            to their files, which exist already.
        path: the item to write, a .json.
        dates: of the images that the map was made from, such as `scene["time"].values`, in UTC. The item spans them;
            without any it bears the time of its writing, because STAC items must have one.
        derived_from: what the map was made from, by titles, such as "model" and "scene". Paths and addresses become
            links (best for a model is the STAC item beside its SavedModel); other names, as of a preset, are only told.
        overwrite: whether an existing file may be replaced.

    Returns:
        The path written.

    Raises:
        SpinetError: if a file cannot be read, or the item exists or cannot be written.

    Example:
        write_item({"probability": "map.tif"}, "map.json", dates=scene["time"].values,
                   derived_from={"model": "models/spinet/1/stac-item.json"})

    Reference: https://github.com/radiantearth/stac-spec/blob/v1.1.0/item-spec/item-spec.md
    """
    with replacing(path, overwrite) as temporary:
        item = _item(paths, Path(path).parent, dates)
        sources = derived_from or {}
        if sources:
            item.properties["description"] = f"Made from {', '.join(f'{key} {sources[key]}' for key in sources)}."
        for title, target in sources.items():
            if "://" in str(target) or Path(target).exists():
                address = _address(target, Path(path).parent)
                media_type = MediaType.GEOJSON if address.endswith(".json") else None
                item.add_link(pystac.Link(RelType.DERIVED_FROM, address, media_type, title))
        with reported(path):
            temporary.write_text(json.dumps(item.to_dict(transform_hrefs=False), indent=2) + "\n", encoding="utf-8")
    return Path(path)


def _item(paths: Mapping[str, str | os.PathLike], folder: Path, dates: Iterable[Any]) -> pystac.Item:
    properties: dict[str, Any] = {
        "title": f"Cultivated land, {Path(paths['probability']).stem}",
        "created": _text(datetime.now(UTC)),
        "processing:software": {"spinet_tf": __version__},
    }
    assets = {name: _asset(name, file, folder) for name, file in paths.items()}
    # The grid of most files; that of the others stands in their assets.
    grid = {key: value for key, value in assets["probability"].extra_fields.items() if key.startswith("proj:")}
    for asset in assets.values():
        asset.extra_fields = {key: value for key, value in asset.extra_fields.items() if grid.get(key) != value}
    footprint = _footprint(paths["probability"])
    return pystac.Item(
        id=Path(paths["probability"]).stem,
        geometry=None if footprint is None else shapely.geometry.mapping(footprint),
        bbox=None if footprint is None else _bounds(footprint),
        properties={**properties, **grid},
        assets=assets,
        stac_extensions=list(EXTENSIONS.values()),
        **_span(dates),
    )


def _span(dates: Iterable[Any]) -> dict[str, Any]:
    times = np.sort(np.array([np.datetime64(date, "s") for date in dates], "datetime64[s]"))
    if not times.size:
        return {"datetime": datetime.now(UTC)}
    first, last = (time.item().replace(tzinfo=UTC) for time in times[[0, -1]])
    if first == last:
        return {"datetime": first}
    return {"datetime": None, "start_datetime": first, "end_datetime": last}


def _asset(name: str, file: str | os.PathLike, folder: Path) -> pystac.Asset:
    file = Path(file)
    if not file.is_file():
        raise SpinetError(f"Expected the file of the map's {name}. There is no {file}.")
    return pystac.Asset(
        href=_address(file, folder),
        title=TITLES[name],
        media_type=MEDIA_TYPES.get(file.suffix.lower()),
        roles=ROLES.get(name, ["data"]),
        extra_fields=_raster_fields(name, file) if file.suffix.lower() in (".tif", ".tiff") else {},
    )


def _raster_fields(name: str, path: Path) -> dict[str, Any]:
    with open_map(path) as file:
        grid = Grid.of_raster(file)
        band: dict[str, Any] = {"name": name, "description": file.descriptions[0], "data_type": file.dtypes[0]}
        if file.nodata is not None:
            # JSON has no number for it.
            band["nodata"] = "nan" if np.isnan(file.nodata) else int(file.nodata)
        if file.scales[0] != 1:
            band |= {"raster:scale": file.scales[0], "raster:offset": file.offsets[0]}
    fields: dict[str, Any] = {"bands": [band], "proj:shape": [grid.height, grid.width]}
    if grid.transform is not None:
        fields["proj:transform"] = list(grid.transform)[:6]
    if grid.crs is not None:
        code = grid.crs.to_epsg()
        # A code of null says that the CRS has none.
        fields |= {"proj:code": f"EPSG:{code}"} if code else {"proj:code": None, "proj:wkt2": grid.crs.to_wkt()}
    if name == "class":
        fields["classification:classes"] = [
            {
                "value": value,
                "name": CLASSES[value].replace(" ", "_"),
                "description": CLASSES[value],
                "color_hint": "".join(f"{part:02X}" for part in COLOURS[value][:3]),
            }
            for value in CLASSES
        ]
    return fields


def _footprint(path: str | os.PathLike) -> BaseGeometry | None:
    """The ground that a raster covers, in longitude and latitude; two parts where it lies across the antimeridian."""
    with open_map(path) as file:
        grid = Grid.of_raster(file)
    if grid.crs is None or grid.transform is None:
        return None
    outline = shapely.segmentize(shapely.box(0, 0, grid.width, grid.height), max(grid.width, grid.height) / 16)
    placed = shapely.transform(outline, grid.place)
    lonlat = transform_geom(grid.crs, "EPSG:4326", shapely.geometry.mapping(placed), precision=7)
    # Points that move the outline by less than a metre are left out again.
    return shapely.orient_polygons(shapely.geometry.shape(lonlat).simplify(1e-5))


def _bounds(footprint: BaseGeometry) -> list[float]:
    west, south, east, north = footprint.bounds
    if footprint.geom_type == "MultiPolygon":
        # Across the antimeridian boxes begin in the east, as GeoJSON has it.
        west, east = (
            min(part.bounds[0] for part in footprint.geoms if part.bounds[0] > 0),
            max(part.bounds[2] for part in footprint.geoms if part.bounds[2] < 0),
        )
    return [west, south, east, north]


def _address(target: str | os.PathLike, folder: Path) -> str:
    """An address as it is; a path relative to the item's folder."""
    if "://" in str(target):
        return str(target)
    relative = Path(os.path.relpath(target, folder)).as_posix()
    return relative if relative.startswith("..") else f"./{relative}"


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
