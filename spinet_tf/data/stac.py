"""STAC items from files, folders, catalogues and APIs."""

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from spinet_tf.data.area import LONLAT, Area, Dates
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
        raise SpinetError(f"Searching {address} failed: {_said(error)}") from error
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
        if not os.path.isfile(address):  # a pipe or a device may have no end
            raise SpinetError(f"There is no file {address}.")
        with open(address, "rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        if len(data) > _LARGEST_FILE:
            raise SpinetError(f"Expected a STAC file of at most {_LARGEST_FILE >> 20} MiB: {address} is larger.")
        return json.loads(data)
    except SpinetError:
        raise
    except Exception as error:  # of the file, of the network, of what a server sends
        raise SpinetError(f"{address} cannot be read as STAC: {_said(error)}") from error


def _said(error: Exception) -> str:
    """What an error says, in a line; a server may answer with a page."""
    status = getattr(error, "status_code", None)
    return f"the server answers {status}." if status is not None else " ".join(str(error).split())[:300]
