"""Whether an offset is left to apply, by what catalogues say of it."""

import numpy as np
import pytest

from spinet_tf.data.stac_offset import announced, denies_offset, scaling, shows_applied_offset
from tests.data.rasters import write_raster

RASTER = {"raster:bands": [{"nodata": 0, "scale": 1e-4, "offset": -0.1}]}
PRODUCT = "S2A_MSIL2A_20220402T100031_N{}_R122_T33TWM_20220402T133020"


@pytest.mark.parametrize(
    ("properties", "asset", "name", "expected"),
    [
        # Earth Search, where the flag is right and the asset's offset has stayed
        ({"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "05.09"}, RASTER, "", (None, 0.0)),
        ({"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.09"}, RASTER, "", (None, -1000.0)),
        ({"s2:processing_baseline": "02.14"}, {"raster:bands": [{"scale": 1e-4, "offset": 0}]}, "", (None, 0.0)),
        # its version 0
        ({"sentinel:boa_offset_applied": True, "sentinel:processing_baseline": "04.00"}, {}, "", (None, 0.0)),
        ({"sentinel:boa_offset_applied": False, "sentinel:processing_baseline": "04.00"}, {}, "", (None, -1000.0)),
        # Copernicus Data Space
        ({"processing:version": "05.11"}, {"raster:scale": 1e-4, "raster:offset": -0.1}, "", (None, -1000.0)),
        ({"processing:version": "05.11"}, {}, "", (None, -1000.0)),
        ({"processing:version": "sen2cor 2.1"}, {}, PRODUCT.format("0301"), (None, 0.0)),
        # STAC 1.1
        ({}, {"bands": [{"name": "B04", "raster:scale": 1e-4, "raster:offset": -0.1}]}, "", (None, -1000.0)),
        # Planetary Computer
        ({"s2:processing_baseline": "04.00"}, {}, "", (None, -1000.0)),
        ({"s2:processing_baseline": "03.01"}, {}, "", (None, 0.0)),
        ({}, {}, PRODUCT.format("0400"), (None, -1000.0)),
        ({"s2:product_uri": PRODUCT.format("0214") + ".SAFE"}, {}, "S2A_33TWM", (None, 0.0)),
        # of other makers
        ({}, {"raster:bands": [{"scale": 2e-4, "offset": -0.2}]}, "", (2.0, -2000.0)),
        ({}, {"raster:bands": [{"scale": 2e-4}]}, "", (2.0, 0.0)),
        ({}, {"raster:bands": [{"scale": 1}]}, "", None),
        ({}, {}, "my-image", None),
    ],
)
def test_what_catalogues_say(properties, asset, name, expected):
    assert scaling(properties, asset, name) == (expected and (pytest.approx(expected[0]), expected[1]))


def test_never_by_date():
    for baseline, shift in (("02.14", 0.0), ("05.00", -1000.0)):
        for date in ("2016-07-01T10:00:00Z", "2024-07-01T10:00:00Z"):
            assert scaling({"datetime": date, "s2:processing_baseline": baseline}, {}, "")[1] == shift


def test_announced():
    assert announced(RASTER) == (1e-4, -0.1)
    assert announced({"raster:bands": None}) == (None, None)


@pytest.mark.parametrize(("value", "expected"), [(False, True), ("false", True), (True, False), (None, False)])
def test_denial(value, expected):
    assert denies_offset({"earthsearch:boa_offset_applied": value}) is expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(1050, 4000, False), (50, 4000, True), (950, 2500, False), (0, 1, False)],
)
def test_numbers_that_show_an_applied_offset(tmp_path, rng, low, high, expected):
    path = write_raster(tmp_path / "B03.tif", rng.integers(low, high, (400, 300), "uint16"))
    assert shows_applied_offset(str(path)) is expected


def test_no_data_shows_nothing(tmp_path):
    values = np.zeros((40, 40), "uint16")
    values[:20] = 1500
    assert shows_applied_offset(str(write_raster(tmp_path / "B03.tif", values))) is False
