"""Sentinel-2 Level-2A products in the SAFE format."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np

from spinet_tf.data.band_names import PIXEL_SIZES, band_of
from spinet_tf.data.mosaic import Image
from spinet_tf.data.raster import SUFFIXES, Layer, open_raster, read_placement
from spinet_tf.errors import SpinetError

METADATA = "MTD_MSIL2A.xml"

# Product metadata have 60 kB; in memory, elements take hundreds of times the bytes of a short tag.
_LARGEST_METADATA = 1 << 21
# The numbers of the bands in metadata that do not list them.
_ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


def find_products(path: Path) -> list[Path]:
    """The folders of products at a path: itself, or those in it, by name; none if it holds none."""
    if (path / METADATA).is_file() or path.name.endswith(".SAFE"):
        return [path]
    return sorted(
        folder
        for folder in path.iterdir()
        if folder.is_dir() and (folder.suffix == ".SAFE" or (folder / METADATA).is_file())
    )


def read_product(folder: Path, offset: float | None = None) -> Image:
    """A product as an image: what its metadata say, and where its bands are.

    Reflectance is (DN + BOA_ADD_OFFSET) / BOA_QUANTIFICATION_VALUE, both from the product's own metadata; products
    before processing baseline 04.00 have no offset. Bands are taken at their own resolution, where the product has
    it; the scene classification tells where ground is clear.

    Args:
        folder: of the product, `S2A_MSIL2A_....SAFE`, with images in JPEG 2000 or converted to GeoTIFF.
        offset: instead of the metadata's.

    Returns:
        The image.

    Raises:
        SpinetError: if metadata or images are missing or cannot be read, or it is no Level-2A product.

    Example:
        read_product(Path("S2A_MSIL2A_20190301T100031_N0211_R122_T33TWM_20190301T133020.SAFE")).cloud

    Reference:
        https://sentiwiki.copernicus.eu/web/s2-products
    """
    metadata = folder / METADATA
    if not metadata.is_file():
        kind = "Level-1C" if (folder / "MTD_MSIL1C.xml").exists() else "not a whole product"
        raise SpinetError(f"Expected {METADATA} of a Sentinel-2 Level-2A product in {folder}. It is {kind}.")
    root = _parse(metadata)
    files = _image_files(folder)
    quantification = _number(root, "BOA_QUANTIFICATION_VALUE", metadata, 10000.0)
    if not quantification > 0:
        raise SpinetError(f"Expected a BOA_QUANTIFICATION_VALUE above 0 in {metadata}. Received: {quantification}.")
    shifts = _offsets(root, metadata, offset)
    gain = None if quantification == 10000 else 10000 / quantification
    bands = {
        name: Layer(str(path), 1, gain, shifts[name] * (gain or 1.0)) for name, path in files.items() if name in shifts
    }
    if not bands:
        raise SpinetError(f"Expected images of bands in {folder / 'GRANULE'}. There are none.")
    finest = min(bands, key=lambda name: (PIXEL_SIZES[name], name))
    with open_raster(bands[finest].href) as source:
        placement = read_placement(source, bands[finest].href)
    cloud = _number(root, "Cloud_Coverage_Assessment", metadata, None)
    return Image(
        name=folder.name,
        time=_time(root, metadata),
        placement=placement,
        bands=bands,
        masks={"SCL": Layer(str(files["SCL"]))} if "SCL" in files else {},
        cloud=None if cloud is None else cloud / 100,
    )


def _parse(path: Path) -> ElementTree.Element:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_METADATA + 1)
        # Product metadata declare no entities, with which a small file becomes a large one.
        if len(data) > _LARGEST_METADATA or b"<!DOCTYPE" in data or b"<!ENTITY" in data:
            raise SpinetError(f"{path} is no product metadata: it is too large, or declares a document type.")
        return ElementTree.fromstring(data)  # noqa: S314
    except SpinetError:
        raise
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise SpinetError(f"{path} cannot be read: {error}. Copy or download it again.") from error


def _text(root: ElementTree.Element, tag: str) -> str | None:
    """The text of the first element of that name, whose namespace differs by version."""
    element = root.find(f".//{{*}}{tag}")
    return None if element is None else (element.text or "").strip()


def _number(root: ElementTree.Element, tag: str, path: Path, default: Any) -> Any:
    text = _text(root, tag)
    return default if text is None else _float(text, tag, path)


def _float(text: str | None, tag: str, path: Path) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise SpinetError(f"Expected a number as {tag} in {path}. Received: {text!r}.")
    return value


def _time(root: ElementTree.Element, path: Path) -> np.datetime64:
    text = _text(root, "PRODUCT_START_TIME") or ""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?", text):
        raise SpinetError(f"Expected a moment as PRODUCT_START_TIME in {path}. Received: {text!r}.")
    try:
        return np.datetime64(text.removesuffix("Z"), "ms")
    except ValueError as error:
        raise SpinetError(f"PRODUCT_START_TIME in {path} is no date: {text!r}.") from error


def _offsets(root: ElementTree.Element, path: Path, given: float | None) -> dict[str, float]:
    """What is added to the digital numbers of each band."""
    if given is not None:
        return dict.fromkeys(_ORDER, given)
    names = dict(enumerate(_ORDER))
    for element in root.iterfind(".//{*}Spectral_Information"):
        if band := band_of(element.get("physicalBand", "")):
            names[int(_float(element.get("bandId"), "bandId", path))] = band
    elements = root.findall(".//{*}BOA_ADD_OFFSET")
    if not elements:
        baseline = _number(root, "PROCESSING_BASELINE", path, None)
        if baseline is None or baseline >= 4:
            raise SpinetError(
                f"Expected BOA_ADD_OFFSET in {path}, as products have it from processing baseline 04.00 on. Its "
                f"baseline is {baseline}. Give the offset: -1000, or 0 if it is applied already."
            )
        return dict.fromkeys(_ORDER, 0.0)
    offsets = {}
    for element in elements:
        number = int(_float(element.get("band_id"), "band_id", path))
        offsets[names.get(number, "")] = _float(element.text, "BOA_ADD_OFFSET", path)
    if missing := sorted(set(_ORDER) - {"B10"} - set(offsets)):
        raise SpinetError(f"Expected BOA_ADD_OFFSET of every band in {path}. {', '.join(missing)} have none.")
    return offsets


def _image_files(folder: Path) -> dict[str, Path]:
    """The file of each band and of the scene classification, at its own resolution where there is a choice."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in sorted(folder.glob("GRANULE/*/IMG_DATA/**/*")):
        parts = re.fullmatch(r".*_(B\d\d|B8A|SCL)(?:_(10|20|60)m)?", path.stem)
        if parts and path.suffix.lower() in SUFFIXES:
            found.setdefault(parts[1], []).append((int(parts[2] or 0), path))
    own = {**PIXEL_SIZES, "SCL": 20}
    return {
        name: min(files, key=lambda file: (abs(file[0] - own[name]), file[1]))[1]
        for name, files in found.items()
        if name in own
    }
