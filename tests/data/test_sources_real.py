"""Real scenes, written as every source and opened again: the same numbers, clear ground, dates and place."""

import numpy as np
import pytest
import xarray as xr

from spinet_tf.data import find_scenes, open_scene
from tests.data.products import metadata, write_product
from tests.data.rasters import IMAGE_SUFFIXES, RESOLUTIONS, coarse, stac_item, write_json, write_raster

FRAMES = slice(None, None, 12)


@pytest.fixture(scope="module")
def scene(scene_data):
    """Flanders, 64 x 64 pixels, ten bands; every twelfth of its 118 dates."""
    return open_scene(scene_data / "scenes" / "be_lpis_2018_A.nc").isel(time=FRAMES).drop_vars("label").load()


def place(scene):
    transform = scene.rio.transform()
    return {"west": transform.c, "north": transform.f, "crs": scene.rio.crs}


def day(scene, frame):
    return str(scene.time.values[frame])[:10]


def classes(scene, frame):
    """Vegetation where it was clear, cloud elsewhere; at 20 m, as `valid` is."""
    return np.where(coarse(scene.valid.values[frame], 2), 4, 9).astype("uint8")


def own_resolution(scene, frame, offset=0):
    """Digital numbers of each band and the scene classification at the resolutions of the satellite."""
    bands = {
        band: coarse(values, RESOLUTIONS[band] // 10) - np.uint16(offset & 0xFFFF)
        for band, values in zip(scene.band.values, scene.bands.values[frame], strict=True)
    }
    return {**bands, "SCL": classes(scene, frame)}


def check(opened, scene):
    # Dates of files are days, those of products moments.
    opened = opened.assign_coords(time=opened.time.values.astype("datetime64[D]").astype("datetime64[ns]"))
    xr.testing.assert_equal(opened.load(), scene)
    assert opened.rio.crs == scene.rio.crs
    assert opened.rio.transform() == scene.rio.transform()


def test_geotiffs_with_all_bands(scene, tmp_path):
    for frame in range(scene.sizes["time"]):
        values = np.concatenate([scene.bands[frame], scene.valid[frame : frame + 1].astype("uint16")])
        names = (*scene.band.values, "valid")
        write_raster(tmp_path / f"{day(scene, frame)}.tif", values, **place(scene), names=names)
    check(open_scene(tmp_path), scene)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_geotiff_for_each_band(scene, tmp_path, suffix):
    for frame in range(scene.sizes["time"]):
        for band, values in own_resolution(scene, frame).items():
            path = tmp_path / f"T31UES_{day(scene, frame).replace('-', '')}_{band}{suffix}"
            write_raster(path, values, float(RESOLUTIONS[band]), **place(scene))
    check(open_scene(tmp_path), scene)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_products(scene, tmp_path, suffix):
    """Of old and new baselines, so with and without an offset, whatever the date."""
    for frame in range(scene.sizes["time"]):
        offset = -1000 * (frame % 2)
        text = metadata(
            time=f"{day(scene, frame)}T10:50:31.024Z",
            baseline="05.00" if offset else "02.14",
            offsets=(offset,) * 13 if offset else None,
        )
        date = day(scene, frame).replace("-", "")
        bands = own_resolution(scene, frame, offset)
        write_product(tmp_path, bands, suffix, day=f"{date}T105031", text=text, **place(scene))
    check(open_scene(tmp_path), scene)


def test_stac_items(scene, tmp_path):
    corner = {key: value for key, value in place(scene).items() if key != "crs"}
    items = []
    for frame in range(scene.sizes["time"]):
        offset = -1000 * (frame % 2)
        hrefs = {}
        for band, values in own_resolution(scene, frame, offset).items():
            path = tmp_path / day(scene, frame) / f"{band}.tif"
            hrefs[band] = write_raster(path, values, float(RESOLUTIONS[band]), **place(scene))
        item = stac_item(
            day(scene, frame),
            f"{day(scene, frame)}T10:50:31Z",
            hrefs,
            {"s2:processing_baseline": "05.00" if offset else "02.14", "proj:epsg": scene.rio.crs.to_epsg()},
            **corner,
            size=64,
        )
        items.append(item)
    path = write_json(tmp_path / "items.json", {"type": "FeatureCollection", "features": items})
    check(open_scene(path), scene)


@pytest.mark.parametrize("form", ["dataset", "array", "file"])
def test_cubes(scene, tmp_path, form):
    cube = scene.bands.to_dataset("band").assign(SCL=xr.where(scene.valid, 4, 9).astype("uint8"))
    cube = cube.drop_attrs().rio.write_crs(scene.rio.crs)
    if form == "file":
        cube.to_netcdf(tmp_path / "cube.nc", engine="h5netcdf")
        cube = tmp_path / "cube.nc"
    elif form == "array":
        cube = cube.to_dataarray("band")
    check(open_scene(cube, offset=0), scene)


def test_every_real_scene_as_geotiffs(scene_data, tmp_path):
    """Other sizes, resolutions, numbers of bands and pixels that hold no data."""
    for path in find_scenes(scene_data / "scenes"):
        scene = open_scene(path).isel(time=slice(None, None, 5))
        scene = scene.drop_vars(["label", "y_label", "x_label"], errors="ignore").load()
        resolution = scene.rio.transform()
        if resolution.a != -resolution.e:
            continue
        for frame in range(scene.sizes["time"]):
            values = np.concatenate([scene.bands[frame], scene.valid[frame : frame + 1].astype("uint16")])
            target = tmp_path / path.stem / f"{day(scene, frame)}.tif"
            write_raster(target, values, resolution.a, **place(scene), names=(*scene.band.values, "valid"))
        check(open_scene(tmp_path / path.stem), scene)
