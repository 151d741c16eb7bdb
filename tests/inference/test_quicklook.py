"""A quicklook shows the map's values at their place, and how long a kilometre is."""

from pathlib import Path

import matplotlib
import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from rasterio.crs import CRS
from scipy import ndimage

from spinet_tf.errors import SpinetError
from spinet_tf.inference import quicklook
from spinet_tf.inference.geotiff import Block, write_cogs
from spinet_tf.inference.grid import Grid
from spinet_tf.inference.quicklook import write_quicklook
from tests.inference.full_disk import largest_file
from tests.inference.scenes import make_scene

UTM = CRS.from_epsg(32633)
TRANSFORM = Affine(2.5, 0, 500000.5, 0, -2.5, 5100000.25)
NORTH_UP, SOUTH_UP = TRANSFORM, Affine(2.5, 0, 500000.5, 0, 2.5, 5100000.25)
DEGREES = Affine(2e-5, 0, 14.123, 0, -2e-5, 60.0)
# Of a map's rows and columns, as stored.
QUARTERS = np.array([[0.0, 0.4], [0.7, 1.0]], np.float32)


def write_map(path, probability, transform=TRANSFORM, crs=UTM, dtype="float32"):
    block = Block(0, 0, {"probability": probability})
    write_cogs([block], Grid(*probability.shape, transform, crs), {"probability": path}, dtype=dtype)
    return path


def quarters(height=40, width=60):
    return QUARTERS.repeat(height // 2, axis=0).repeat(width // 2, axis=1)


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def place_of(colour, picture):
    """The largest area of a colour: its bounds, top, left, bottom and right."""
    labels, count = ndimage.label((np.abs(picture - np.array(colour)[:3]) <= 2).all(axis=2))
    assert count
    rows, columns = ndimage.find_objects(labels)[np.argmax(np.bincount(labels.ravel())[1:])]
    return rows.start, columns.start, rows.stop, columns.stop


def viridis(value):
    return matplotlib.colormaps["viridis"](float(value), bytes=True)


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Write the quicklook of a map, and return its figure and its pixels."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(quicklook, "DPI", 60)  # what is slow about it

    def savefig(figure, *args, **options):
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)

    def run(*args):
        assert write_quicklook(args[0], tmp_path / "quicklook.png", *args[1:], overwrite=True) == (
            tmp_path / "quicklook.png"
        )
        return figures[-1], pixels(tmp_path / "quicklook.png")

    return run


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [axes.get_title("left"), *(text.get_text() for text in axes.texts)]
    return [text for text in found if text]


@pytest.mark.parametrize(
    ("transform", "crs", "aspect", "dtype"),
    [
        (NORTH_UP, UTM, 1.5, "float32"),
        (SOUTH_UP, UTM, 1.5, "uint8"),
        (DEGREES, CRS.from_epsg(4326), 0.75, "float32"),
        (Affine(-2.5, 0, 500000.5, 0, -2.5, 5100000.25), UTM, 1.5, "float32"),
    ],
)
def test_values_lie_at_their_place_north_up(transform, crs, aspect, dtype, tmp_path, draw):
    _, picture = draw(write_map(tmp_path / "map.tif", quarters(), transform, crs, dtype))
    shown = QUARTERS[:: -1 if transform.e > 0 else 1, :: -1 if transform.a < 0 else 1]
    top, left, middle, centre = place_of(viridis(shown[0, 0]), picture)
    bottom_right = place_of(viridis(shown[1, 1]), picture)
    np.testing.assert_allclose(bottom_right[:2], (middle, centre), atol=1)
    np.testing.assert_allclose(place_of(viridis(shown[0, 1]), picture)[:2], (top, centre), atol=1)
    np.testing.assert_allclose(place_of(viridis(shown[1, 0]), picture)[:2], (middle, left), atol=1)
    # 60 by 40 pixels, which in degrees at 60 degrees north are half as wide as high.
    assert (bottom_right[3] - left) / (bottom_right[2] - top) == pytest.approx(aspect, rel=0.02)


def test_no_data_is_hatched_and_explained(tmp_path, draw):
    probability = quarters()
    figure, complete = draw(write_map(tmp_path / "complete.tif", probability))
    assert "no data" not in texts(figure)
    probability[:20, 30:] = np.nan
    figure, picture = draw(write_map(tmp_path / "map.tif", probability))
    assert "no data" in texts(figure)
    top, left, bottom, right = place_of(viridis(0.4), complete)
    hole = picture[top + 3 : bottom - 3, left + 3 : right - 3]
    assert (hole.max(axis=2) - hole.min(axis=2) == 0).all()  # white and grey, no colour of the map
    assert 0.05 < (hole < 230).any(axis=2).mean() < 0.5


@pytest.mark.parametrize(
    ("crs", "transform", "width"),
    [
        (32633, TRANSFORM, 6),
        (32633, TRANSFORM, 3000),
        (4326, DEGREES, 600),
        (3857, Affine(5, 0, 1572163, 0, -5, 8399737), 600),
        (2263, Affine(8, 0, 980000, 0, -8, 200000), 600),
    ],
)
def test_the_scale_bar_is_as_long_as_it_says(crs, transform, width, tmp_path, draw):
    crs = CRS.from_epsg(crs)
    figure, _ = draw(write_map(tmp_path / "map.tif", np.zeros((40, width), np.float32), transform, crs))
    # The row in the middle, on the ground.
    ends = np.array([transform @ (column, 20) for column in (0, width)])
    to_degrees = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    (west, east), (south, north) = to_degrees.transform(*ends.T)
    metres = pyproj.Geod(ellps="WGS84").inv(west, south, east, north)[2]

    shown = figure.axes[0].get_window_extent().width
    halves = [patch.get_window_extent() for patch in figure.axes[-1].patches if isinstance(patch, Rectangle)][:2]
    bar = halves[1].x1 - halves[0].x0
    label = figure.axes[-1].texts[0].get_text()
    number, unit = label.split()
    assert float(number) in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
    length = float(number) * {"m": 1, "km": 1000}[unit]
    assert length / bar == pytest.approx(metres / shown, rel=2e-3)
    assert 0.1 * shown < bar < 0.4 * max(shown, 360)


def test_without_position_the_bar_counts_pixels(tmp_path, draw):
    with pytest.warns(UserWarning, match="no CRS"):
        path = write_map(tmp_path / "map.tif", quarters(), None, None)
    figure, _ = draw(path)
    assert "10 pixels" in texts(figure) or "20 pixels" in texts(figure)
    assert not any("N" in text and "▲" in text for text in texts(figure))
    assert not any("EPSG" in text for text in texts(figure))


def test_it_is_large_enough_to_be_read(tmp_path):
    path = write_quicklook(write_map(tmp_path / "map.tif", quarters()), tmp_path / "map.png")
    assert 1000 < pixels(path).shape[1] < 1200


def test_what_a_map_is_called_and_measured_in(tmp_path, draw):
    figure, _ = draw(write_map(tmp_path / "north field.tif", quarters()))
    found = texts(figure)
    assert {"north field", "▲ N", "Probability of cultivated land", "EPSG:32633, pixels of 2.5 m"} <= set(found)


def test_the_clearest_image_lies_beside_the_map(tmp_path, draw):
    scene = make_scene(time=3)
    scene["valid"][2, :5] = False
    scene["bands"][0] = np.where(np.arange(17) < 8, 500, 3000)  # dark in the west
    figure, picture = draw(write_map(tmp_path / "map.tif", np.zeros((84, 68), np.float32)), scene)
    assert "Image of 2019-03-01" in texts(figure)
    image, shown = (axes.get_window_extent().extents * quicklook.DPI / figure.dpi for axes in figure.axes[:2])
    assert image[2] < shown[0]
    np.testing.assert_allclose(image[[1, 3]], shown[[1, 3]])
    left, bottom, right, top = np.round(image + np.array([5, 5, -5, -5])).astype(int)
    colours = picture[len(picture) - top : len(picture) - bottom, left:right].mean(axis=(0, 2))
    np.testing.assert_array_equal(colours > 128, np.linspace(0, 17, len(colours)) > 8)


def test_a_large_map_is_drawn_from_its_overviews_alone(tmp_path, draw):
    path = write_map(tmp_path / "map.tif", quarters(2200, 3000))
    with rasterio.open(path) as file:
        assert file.overviews(1) == [2, 4, 8]
        start = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
        assert start > int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1, ovr=0))
    # The full resolution is the end of the file.
    path.write_bytes(path.read_bytes()[:start] + bytes(path.stat().st_size - start))
    _, picture = draw(path)
    assert place_of(viridis(0), picture)[0] < place_of(viridis(0.7), picture)[0]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 900), (900, 2)])
def test_every_shape_can_be_drawn(shape, tmp_path, draw):
    figure, picture = draw(write_map(tmp_path / "map.tif", np.full(shape, 0.4, np.float32)))
    # The bar begins below the map's left edge.
    assert figure.axes[0].get_window_extent().x0 == pytest.approx(figure.axes[-1].patches[0].get_window_extent().x0)
    assert 100 < min(picture.shape[:2]) <= max(picture.shape[:2]) < 500
    assert (np.abs(picture - viridis(0.4)[:3]) <= 2).all(axis=2).any()


# === What is refused ===


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(SpinetError, match=r"Expected a \.png .* Received: map\.jpg"):
        write_quicklook("map.tif", "map.jpg")


def test_without_a_map_there_is_no_picture(tmp_path):
    with pytest.raises(SpinetError, match="There is no file"):
        write_quicklook(tmp_path / "map.tif", tmp_path / "map.png")
    assert list(tmp_path.iterdir()) == []


def test_a_scene_of_another_place_is_refused(tmp_path):
    scene = make_scene()
    path = write_map(tmp_path / "map.tif", quarters(), TRANSFORM @ Affine.translation(10_000, 0))
    with pytest.raises(SpinetError, match="do not overlap"):
        write_quicklook(path, tmp_path / "map.png", scene)


def test_an_existing_picture_is_kept_and_a_full_disk_leaves_nothing(tmp_path):
    path = write_map(tmp_path / "map.tif", quarters())
    picture: Path = tmp_path / "map.png"
    picture.write_text("mine")
    with pytest.raises(SpinetError, match="exists already"):
        write_quicklook(path, picture)
    with largest_file(3000), pytest.raises(SpinetError, match=r"Cannot write .*map\.png"):
        write_quicklook(path, picture, overwrite=True)
    assert picture.read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2
