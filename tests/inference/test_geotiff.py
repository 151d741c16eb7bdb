"""Maps come back from Cloud-Optimised GeoTIFFs value for value and place for place, or are not there at all."""

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioIOError
from rio_cogeo import cog_validate

from spinet_tf.errors import SpinetError
from spinet_tf.inference.geotiff import Block, _check, write_cog, write_cogs
from spinet_tf.inference.grid import Grid
from tests.inference.full_disk import largest_file

UTM = CRS.from_epsg(32633)
TRANSFORM = Affine(2.5, 0, 500000.5, 0, -2.5, 5100000.25)
SCALE = 4
LAYERS = ("probability", "class", "uncertainty", "frames")


class Map:
    """A map of every layer, larger than two tiles of 512 pixels, with a corner without data."""

    grid = Grid(1100, 780, TRANSFORM, UTM)

    def __init__(self):
        rng = np.random.default_rng(0)
        self.probability = rng.random((1100, 780), np.float32)
        self.probability[:101, :99] = np.nan
        self.probability[500, 500] = 0.4  # not above the threshold
        self.uncertainty = np.float32(1) - self.probability
        self.frames = rng.integers(0, 40, (275, 195), np.uint16)

    def blocks(self, side):
        """In no order, and not on the tiles of a file."""
        corners = [(y, x) for y in range(0, 1100, side) for x in range(0, 780, side)]
        for number in np.random.default_rng(1).permutation(len(corners)):
            y, x = corners[number]
            fine, coarse = np.s_[y : y + side, x : x + side], np.s_[y // 4 : (y + side) // 4, x // 4 : (x + side) // 4]
            layers = {"probability": self.probability[fine], "uncertainty": self.uncertainty[fine]}
            yield Block(y, x, {**layers, "frames": self.frames[coarse]})


@pytest.fixture(scope="module")
def made():
    return Map()


@pytest.fixture(scope="module", params=["float32", "uint8"])
def written(request, made, tmp_path_factory):
    """The type of the values, and the files."""
    folder = tmp_path_factory.mktemp("maps")
    paths = {layer: folder / f"{layer}.tif" for layer in LAYERS}
    options = {"scale": SCALE, "threshold": 0.4, "dtype": request.param, "tags": {"MODEL": "tiny"}}
    assert write_cogs(made.blocks(300), made.grid, paths, **options) == paths
    # Nothing in a sidecar file.
    assert sorted(folder.iterdir()) == sorted(paths.values())
    return request.param, paths


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def test_numbers_come_back(made, written):
    dtype, paths = written
    for layer, expected in (("probability", made.probability), ("uncertainty", made.uncertainty)):
        with rasterio.open(paths[layer]) as file:
            assert file.dtypes == (dtype,)
            assert file.tags()["MODEL"] == "tiny"
            values = file.read(1)
            if dtype == "float32":
                np.testing.assert_array_equal(values, expected)  # NaN included
                assert np.isnan(file.nodata)
                assert file.scales == (1,)
            else:
                np.testing.assert_array_equal(values == 255, np.isnan(expected))
                known = values != 255
                np.testing.assert_allclose(values[known] / 254, expected[known], rtol=0, atol=0.5001 / 254)
                assert file.nodata == 255
                assert file.scales == (1 / 254,)
    with rasterio.open(paths["probability"]) as file:
        assert file.descriptions == ("probability of cultivated land",)


def test_classes_come_back_with_colours_and_names(made, written):
    with rasterio.open(written[1]["class"]) as file:
        values = file.read(1)
        # Of the probability itself, not of what is left of it in a uint8; 0.4 is not above 0.4.
        expected = np.where(np.isnan(made.probability), 255, made.probability > np.float32(0.4))
        np.testing.assert_array_equal(values, expected)
        assert values[500, 500] == 0
        assert (file.dtypes, file.nodata, file.colorinterp) == (("uint8",), 255, (ColorInterp.palette,))
        colours = file.colormap(1)
        assert len({colours[0], colours[1], colours[255]}) == 3
        assert (colours[0][3], colours[1][3], colours[255][3]) == (255, 255, 0)
        assert file.tags()["THRESHOLD"] == "0.4"
        assert file.tags(1) == {"CLASS_0": "not cultivated", "CLASS_1": "cultivated"}


def test_frames_come_back_on_the_coarse_grid(made, written):
    with rasterio.open(written[1]["frames"]) as file:
        np.testing.assert_array_equal(file.read(1), made.frames)
        # 0 is a number of frames like others.
        assert (file.dtypes, file.nodata) == (("uint16",), None)
        assert file.transform == TRANSFORM @ Affine.scale(4)
        assert file.crs == UTM


@pytest.mark.parametrize("layer", LAYERS)
def test_layout_is_cloud_optimised(written, layer):
    assert cog_validate(written[1][layer], strict=True) == (True, [], [])
    assert written[1][layer].read_bytes()[:4] == b"II*\0"  # BigTIFF only where it is needed
    with rasterio.open(written[1][layer]) as file:
        structure = file.tags(ns="IMAGE_STRUCTURE")
        assert (structure["LAYOUT"], structure["COMPRESSION"]) == ("COG", "DEFLATE")
        assert file.block_shapes == [(512, 512)]
        assert file.overviews(1) == ([] if layer == "frames" else [2, 4])
        if layer != "frames":
            assert (file.transform, file.crs, file.shape) == (TRANSFORM, UTM, (1100, 780))


def fours(values):
    """The four pixels of each pixel of the first overview."""
    height, width = values.shape
    return values.reshape(height // 2, 2, width // 2, 2).transpose(0, 2, 1, 3).reshape(height // 2, width // 2, 4)


def overview(path):
    with rasterio.open(path, overview_level=0) as file:
        return file.read(1)


@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
def test_overviews_of_numbers_are_averages_of_what_holds_data(made, written):
    dtype, paths = written
    for layer, values in (("probability", made.probability), ("uncertainty", made.uncertainty)):
        half, expected = overview(paths[layer]), np.nanmean(fours(values), axis=2)
        if dtype == "float32":
            np.testing.assert_allclose(half, expected, rtol=1e-5)
        else:
            np.testing.assert_array_equal(half == 255, np.isnan(expected))
            np.testing.assert_allclose(half[half != 255] / 254, expected[half != 255], atol=1.01 / 254)


def test_overviews_of_classes_are_the_most_frequent_class(written):
    parts = fours(read(written[1]["class"]))
    half = overview(written[1]["class"])
    ones, zeros = (parts == 1).sum(axis=2), (parts == 0).sum(axis=2)
    assert (half[ones > zeros] == 1).all()
    assert (half[zeros > ones] == 0).all()
    assert np.isin(half[(ones == zeros) & (ones > 0)], (0, 1)).all()
    np.testing.assert_array_equal(half == 255, ones + zeros == 0)


def test_overviews_of_frames_are_numbers_that_were_there(tmp_path):
    frames = np.random.default_rng(0).choice(np.array([1, 1000], np.uint16), (700, 600))
    block = Block(0, 0, {"probability": np.zeros((700, 600), np.float32), "frames": frames})
    write_cogs([block], Grid(700, 600, TRANSFORM, UTM), {"frames": tmp_path / "frames.tif"})
    assert set(np.unique(overview(tmp_path / "frames.tif"))) == {1, 1000}


def test_blocks_change_nothing(made, written, tmp_path):
    dtype, paths = written
    again = {layer: tmp_path / f"{layer}.tif" for layer in LAYERS}
    write_cogs(made.blocks(1200), made.grid, again, scale=SCALE, threshold=0.4, dtype=dtype)
    for layer in LAYERS:
        np.testing.assert_array_equal(read(again[layer]), read(paths[layer]))


GRIDS = {
    "south up": Grid(33, 17, Affine(2.5, 0, 500000.5, 0, 2.5, 5100000.25), UTM),
    "degrees": Grid(30, 41, Affine(1e-4, 0, 14.123456789, 0, -1e-4, 55.987654321), CRS.from_epsg(4326)),
    "rotated": Grid(9, 8, Affine.translation(5e5, 5e6) @ Affine.rotation(30) @ Affine.scale(10, -10), UTM),
    "a CRS without a number": Grid(3, 4, TRANSFORM, CRS.from_proj4("+proj=laea +lat_0=52.3 +lon_0=10.1 +units=m")),
    "one pixel": Grid(1, 1, TRANSFORM, UTM),
}


@pytest.mark.parametrize("name", GRIDS)
def test_every_grid_comes_back(name, tmp_path):
    grid = GRIDS[name]
    values = np.random.default_rng(0).random((grid.height, grid.width), np.float32)
    write_cogs([Block(0, 0, {"probability": values})], grid, {"probability": tmp_path / "map.tif"})
    with rasterio.open(tmp_path / "map.tif") as file:
        np.testing.assert_array_equal(file.read(1), values)
        np.testing.assert_allclose(file.transform, grid.transform, rtol=1e-14)
        assert file.crs == grid.crs
    assert list(tmp_path.iterdir()) == [tmp_path / "map.tif"]


def test_a_map_without_any_data_is_written(tmp_path):
    paths = {"probability": tmp_path / "map.tif", "class": tmp_path / "class.tif"}
    nothing = np.full((600, 40), np.nan, np.float32)
    write_cogs([Block(0, 0, {"probability": nothing})], Grid(600, 40, TRANSFORM, UTM), paths)
    assert np.isnan(read(paths["probability"])).all()
    assert (read(paths["class"]) == 255).all()
    assert np.isnan(overview(paths["probability"])).all()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_map_without_georeference_is_written_with_one_warning(tmp_path):
    values = np.random.default_rng(0).random((30, 20), np.float32)
    image = xr.Dataset({"probability": (("y", "x"), values)})
    with pytest.warns(UserWarning, match="no CRS") as warned:
        write_cog(image, tmp_path / "map.tif")
    assert len(warned) == 1
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.crs is None
        assert file.transform.is_identity
        np.testing.assert_array_equal(file.read(1), values)


def test_a_map_in_memory_is_written_where_its_coordinates_say(tmp_path):
    grid = Grid(21, 17, TRANSFORM, UTM)
    image = grid.locate(xr.Dataset({"probability": (("y", "x"), np.ones((21, 17), np.float32))}))
    for source in (image, image["probability"]):
        assert write_cog(source, tmp_path / "new" / "map.tif", overwrite=True) == tmp_path / "new" / "map.tif"
        with rasterio.open(tmp_path / "new" / "map.tif") as file:
            assert (file.transform, file.crs) == (TRANSFORM, UTM)


# === What fails leaves things as they were ===


def blocks_of(values):
    return [Block(0, 0, {"probability": values})]


def test_an_existing_file_is_kept_unless_overwritten(tmp_path):
    paths = {"probability": tmp_path / "map.tif", "class": tmp_path / "class.tif"}
    paths["class"].write_text("mine")

    def blocks():
        raise AssertionError("computed although the output exists")
        yield

    with pytest.raises(SpinetError, match="exists already"):
        write_cogs(blocks(), GRIDS["one pixel"], paths)
    assert paths["class"].read_text() == "mine"
    assert list(tmp_path.iterdir()) == [paths["class"]]
    write_cogs(blocks_of(np.ones((1, 1), np.float32)), GRIDS["one pixel"], paths, overwrite=True)
    assert read(paths["class"]) == [[1]]
    assert sorted(tmp_path.iterdir()) == sorted(paths.values())


def test_what_stops_the_blocks_is_raised_as_it_is_and_leaves_nothing(made, tmp_path):
    def blocks():
        yield from list(made.blocks(300))[:3]
        raise ValueError("the network failed")

    with pytest.raises(ValueError, match=r"^the network failed$") as error:
        write_cogs(blocks(), made.grid, {layer: tmp_path / f"{layer}.tif" for layer in LAYERS}, scale=SCALE)
    assert type(error.value) is ValueError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("blocks", "match"),
    [
        ([Block(0, 0, {"probability": np.zeros((30, 19), np.float32)})], r"600 pixels in all\. Received: 570"),
        ([Block(1, 0, {"probability": np.zeros((30, 20), np.float32)})], r"on a map of 30 x 20 .* row 1, column 0"),
        ([Block(0, -1, {"probability": np.zeros((30, 20), np.float32)})], "column -1"),
        (
            [Block(0, 0, {"probability": np.zeros((30, 20), np.float32), "frames": np.ones((30, 20), np.uint16)})],
            r"frames \(30, 20\)",
        ),
    ],
)
def test_blocks_that_are_not_the_map_are_refused(blocks, match, tmp_path):
    paths = {layer: tmp_path / f"{layer}.tif" for layer in ("probability", *blocks[0].layers)}
    with pytest.raises(SpinetError, match=match):
        write_cogs(blocks, Grid(30, 20, TRANSFORM, UTM), paths, scale=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", [1, 1000, 60_000, 700_000, 1_500_000])
def test_a_full_disk_at_any_moment_leaves_nothing(tmp_path, missing):
    noise = np.random.default_rng(0).random((700, 600), np.float32)
    grid = Grid(700, 600, TRANSFORM, UTM)
    size = write_cogs(blocks_of(noise), grid, {"probability": tmp_path / "map.tif"})["probability"].stat().st_size
    before = (tmp_path / "map.tif").read_bytes()
    # The class is small, and complete when the probability fails.
    paths = {"class": tmp_path / "class.tif", "probability": tmp_path / "map.tif"}
    with (
        largest_file(size - missing),
        pytest.raises(SpinetError, match=r"Cannot write .*map\.tif, where .* GB are free"),
    ):
        write_cogs(blocks_of(noise), grid, paths, overwrite=True)
    assert list(tmp_path.iterdir()) == [tmp_path / "map.tif"]
    assert (tmp_path / "map.tif").read_bytes() == before


def test_a_damaged_overview_is_noticed(tmp_path):
    path = tmp_path / "map.tif"
    write_cogs(blocks_of(np.ones((700, 600), np.float32)), Grid(700, 600, TRANSFORM, UTM), {"probability": path})
    with rasterio.open(path) as file:
        start = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1, ovr=0))
    content = bytearray(path.read_bytes())
    content[start : start + 20] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(RasterioIOError):
        _check(path, [])


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpinetError, match=r"Choose a writable folder"):
        write_cogs(blocks_of(np.zeros((1, 1))), GRIDS["one pixel"], {"probability": tmp_path / "file" / "map.tif"})


def test_another_type_of_values_is_refused(tmp_path):
    with pytest.raises(SpinetError, match=r"float32 or uint8 .* Received: float64"):
        write_cogs(
            blocks_of(np.zeros((1, 1))), GRIDS["one pixel"], {"probability": tmp_path / "a.tif"}, dtype="float64"
        )
