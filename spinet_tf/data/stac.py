"""STAC items, collections, catalogues and APIs as images."""

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from spinet_tf.data.area import LONLAT, Area, Dates
from spinet_tf.data.band_names import MASKS, PIXEL_SIZES, band_of
from spinet_tf.data.mosaic import Image
from spinet_tf.data.raster import Layer, Placement, checked_placement, open_raster, read_placement
from spinet_tf.data.stac_offset import scaling
from spinet_tf.errors import SpinetError

# More than any sensible scene has; a catalogue whose links run in circles has no end.
_MOST_ITEMS = 10_000
_LARGEST_FILE = 1 << 28
# Seconds for one answer of a server.
_TIMEOUT = 60


def is_stac_folder(path: Path) -> bool:
    """Whether a folder has a catalogue, a collection, or JSON files that are STAC items."""
    return next(_stac_files(path), None) is not None


def read_items(path: Path) -> list:
    """The STAC items of a file (item, item collection, collection or catalogue) or a folder of such files.

    Raises:
        SpinetError: if a file or a link in it cannot be read, or there is no item.

    Example:
        read_items(Path("items.json"))
    """
    if path.is_dir():
        files = list(_stac_files(path))
        return [item for file in files for item in _items_at(str(file))]
    return _items_at(str(path))


def _stac_files(folder: Path) -> Iterator[Path]:
    for name in ("catalog.json", "collection.json"):
        if (folder / name).is_file():
            yield folder / name
            return
    for path in sorted(folder.glob("*.json")) + sorted(folder.glob("*/*.json")):
        with path.open("rb") as file:
            if b'"stac_version"' in file.read(1 << 16):
                yield path


def search_items(
    address: str, collection: str | None, area: Area | None, dates: Dates | None, max_cloud: float | None
) -> list:
    """The items that a STAC API finds, or those of a static catalogue at an address.

    Args:
        address: such as "https://earth-search.aws.element84.com/v1", or of a file of a static catalogue.
        collection: the collection to search in, such as "sentinel-2-l2a"; an API needs it, and the area.
        area: the search is for its bounding box.
        dates: what times to search.
        max_cloud: the largest cloudy fraction; left to the server where it can tell.

    Raises:
        SpinetError: if the server does not answer, or finds nothing.

    Example:
        search_items("https://earth-search.aws.element84.com/v1", "sentinel-2-l2a", area, dates, 0.4)
    """
    from pystac_client import Client, ConformanceClasses

    landing = _read_json(address)
    if not (isinstance(landing, dict) and landing.get("type") == "Catalog" and "conformsTo" in landing):
        return _items_at(address)
    if collection is None or area is None:
        raise SpinetError(
            f"Expected an area and a collection, such as sentinel-2-l2a, to search {address} for. Received: "
            f"{'no area' if area is None else f'the collection {collection}'}."
        )
    try:
        client = Client.open(address, timeout=_TIMEOUT)
        clouds = max_cloud is not None and client.conforms_to(ConformanceClasses.QUERY)
        search = client.search(
            collections=[collection],
            bbox=area.bounds(LONLAT),
            datetime=None if dates is None else str(dates),
            query={"eo:cloud_cover": {"lte": 100 * max_cloud}} if max_cloud is not None and clouds else None,
            max_items=_MOST_ITEMS,
        )
        items = list(search.items())
    except SpinetError:
        raise
    except Exception as error:  # of the network, of the server, of what it sends
        raise SpinetError(f"Searching {address} failed: {error}") from error
    if not items:
        raise SpinetError(
            f"{address} finds nothing in the collection {collection} for the area {area}"
            f"{'' if dates is None else f' in {dates}'}{f' with at most {max_cloud:.0%} cloud' if clouds else ''}."
        )
    if len(items) == _MOST_ITEMS:
        raise SpinetError(f"{address} finds {_MOST_ITEMS} items or more. Choose fewer dates or a smaller area.")
    return items


def as_items(source: Any) -> list | None:
    """The items of an object of pystac or pystac-client, or of a list of items; None if it is something else."""
    if hasattr(source, "assets") and hasattr(source, "properties"):
        return [source]
    if (
        callable(getattr(source, "items", None))
        and not isinstance(source, Mapping)
        and not hasattr(source, "data_vars")
    ):
        return list(source.items())
    if isinstance(source, Iterable) and not isinstance(source, str | Mapping):
        items = list(source)
        if items and all(hasattr(item, "assets") and hasattr(item, "properties") for item in items):
            return items
    return None


def images_of(items: Iterable, offset: float | None = None) -> list[Image]:
    """Items as images: bands by the names of their assets, the scene classification as mask.

    The assets of Earth Search, Planetary Computer and Copernicus Data Space are known; of several resolutions of one
    band its own is taken. What the digital numbers are is found by `spinet_tf.data.stac_offset.scaling`.

    Args:
        items: of pystac, with one asset for each band.
        offset: instead of the metadata's.

    Raises:
        SpinetError: if an item has no bands of Sentinel-2, or its metadata are damaged.
    """
    images = []
    unknown: list[str] = []
    for item in items:
        try:
            images.append(_image(item, offset, unknown))
        except SpinetError:
            raise
        except Exception as error:  # whatever nonsense a damaged item may hold
            raise SpinetError(f"The STAC item {getattr(item, 'id', item)} cannot be used: {error!r}") from error
    if unknown:
        warnings.warn(
            f"{unknown[0]}{f' and {len(unknown) - 1} others' if len(unknown) > 1 else ''}: nothing says whether an "
            "offset is left to apply; the numbers are taken as they are. Give the offset: 0, or -1000.",
            stacklevel=3,
        )
    return images


def _image(item: Any, offset: float | None, unknown: list[str]) -> Image:
    """The image of an item, whose name joins the list where nothing says what its digital numbers are."""
    assets: dict[str, Any] = {}
    for key, asset in item.assets.items():
        name = _band_name(key, asset)
        if name is not None and (name not in assets or (_own(name, key) and not _own(name, assets[name][0]))):
            assets[name] = key, asset
    bands = [name for name in assets if name not in MASKS]
    if not bands:
        raise SpinetError(
            f"The STAC item {item.id} has no bands of Sentinel-2. Its assets: {', '.join(item.assets) or 'none'}."
        )
    layers = {}
    for name in bands:
        asset = assets[name][1]
        found = (None, offset) if offset is not None else scaling(item.properties, asset.to_dict(), item.id)
        if found is None and item.id not in unknown:
            unknown.append(item.id)
        gain, shift = found or (None, 0.0)
        layers[name] = Layer(_href(asset, item.id), 1, gain, shift)
    finest = min(bands, key=lambda name: (PIXEL_SIZES[name], name))
    time = item.datetime or item.common_metadata.start_datetime
    if time is None:
        raise SpinetError(f"The STAC item {item.id} has no date.")
    cloud = item.properties.get("eo:cloud_cover")
    return Image(
        name=item.id,
        time=np.datetime64(time.replace(tzinfo=None), "ms"),
        placement=_placement(item, assets[finest][1], layers[finest].href),
        bands=layers,
        masks={name: Layer(_href(assets[name][1], item.id)) for name in MASKS if name in assets},
        cloud=None if cloud is None else float(cloud) / 100,
    )


def _band_name(key: str, asset: Any) -> str | None:
    """The band of an asset, by its key, else by the name of its only band."""
    if name := band_of(key):
        return name
    bands: list[dict] = asset.extra_fields.get("eo:bands") or asset.extra_fields.get("bands") or []
    if len(bands) != 1 or key.endswith("-jp2"):  # Earth Search has each band twice
        return None
    return band_of(str(bands[0].get("name", "")))


def _own(name: str, key: str) -> bool:
    """Whether a key such as B05_20m says that the asset has the band's own resolution."""
    return key.endswith(f"{PIXEL_SIZES.get(name, 20)}m")


def _href(asset: Any, name: str) -> str:
    """Path or address of an asset."""
    href = asset.get_absolute_href() or asset.href
    if urlsplit(href).scheme == "file":
        return url2pathname(urlsplit(href).path)
    if not href:
        raise SpinetError(f"An asset of the STAC item {name} has no address.")
    return href


def _placement(item: Any, asset: Any, href: str) -> Placement:
    """By the projection extension where the item has it, else by the file's head."""
    fields = {**item.properties, **asset.extra_fields}
    code = fields.get("proj:code") or (f"EPSG:{fields['proj:epsg']}" if fields.get("proj:epsg") else None)
    shape, transform = fields.get("proj:shape"), fields.get("proj:transform")
    if not (code and shape and transform):
        with open_raster(href) as source:
            return read_placement(source, href)
    height, width = map(int, shape)
    crs = CRS.from_user_input(code)
    return checked_placement(Placement(crs, Affine(*map(float, transform[:6])), width, height), href)


def _items_at(address: str) -> list:
    """All items that a file or address holds or links to."""
    import pystac

    items = []
    seen = set()
    waiting = [address]
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        content = _read_json(address)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about versions of STAC, which pystac brings up to date
                if isinstance(content, dict) and content.get("type") == "FeatureCollection":
                    items += _collection(content, address)
                    # A server gives a collection by pages.
                    waiting += [link["href"] for link in content.get("links", ()) if link["rel"] == "next"]
                    continue
                found = pystac.read_dict(content, href=address)
            if isinstance(found, pystac.Item):
                items.append(found)
            else:
                links = [link for kind in ("child", "item", "items") for link in found.get_links(kind)]
                waiting += [href for link in reversed(links) if (href := link.get_absolute_href())]
        except Exception as error:  # pystac has no common class for what damaged content raises
            raise SpinetError(
                f"Expected a STAC item, item collection, collection or catalogue at {address}. It cannot be used: "
                f"{error!r}"
            ) from error
        if len(items) > _MOST_ITEMS or len(seen) > _MOST_ITEMS:
            raise SpinetError(f"{address} leads to more than {_MOST_ITEMS} items. Choose a part of the catalogue.")
    if not items:
        raise SpinetError(f"There are no STAC items at {address}.")
    return items


def _collection(content: dict, address: str) -> list:
    """The items of an item collection; their addresses are relative to it, where they have no own."""
    import pystac

    items = list(pystac.ItemCollection.from_dict(content))
    for item in items:
        if item.get_self_href() is None:
            item.set_self_href(address)
    return items


def _read_json(address: str) -> Any:
    """The content of a JSON file or of what a server answers."""
    try:
        if urlsplit(address).scheme in ("http", "https"):
            from pystac_client.stac_api_io import StacApiIO

            return json.loads(StacApiIO(timeout=_TIMEOUT).read_text(address))
        with open(address, "rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        if len(data) > _LARGEST_FILE:
            raise SpinetError(f"Expected a STAC file of at most {_LARGEST_FILE >> 20} MiB: {address} is larger.")
        return json.loads(data)
    except SpinetError:
        raise
    except Exception as error:  # of the file, of the network, of what a server sends
        raise SpinetError(f"{address} cannot be read as STAC: {error}") from error
