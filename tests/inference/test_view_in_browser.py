"""The page of a map in a browser: values at the cursor, colours on the screen, movements, and no network."""

import json
import shutil

import numpy as np
import pytest
import rasterio
import rasterio.warp
from affine import Affine
from matplotlib import colormaps
from selenium.webdriver import Keys

from spinet_tf.inference.geotiff import COLOURS
from spinet_tf.inference.grid import Grid
from spinet_tf.inference.view import layers, write_view
from tests.inference.browser import Page, chromium
from tests.inference.scenes import CRS, TRANSFORM
from tests.inference.view_maps import DATES, TINTS, make_tinted_scene, write_maps, write_page

pytestmark = pytest.mark.slow

HOSTILE = '</script><script>owned = 1</script><img src="http://localhost/x" onerror="owned = 1">&amp;'
VALUES = ("value-probability", "value-class", "value-uncertainty")
HEIGHT, WIDTH = 84, 68  # of the map
METRES = np.array([2.5, -2.5])  # a pixel to the right, and one down
MIDDLE = np.array(TRANSFORM @ Affine.scale(1 / 4) @ (WIDTH / 2, HEIGHT / 2))


@pytest.fixture(scope="module")
def scene():
    return make_tinted_scene()


@pytest.fixture(scope="module")
def folder(scene, tmp_path_factory):
    return write_page(scene, tmp_path_factory.mktemp("view"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def page(browser, folder):
    browser.get_log("browser")
    yield Page(browser, folder / "page.html")
    # No test may leave an error or a warning in the console.
    assert browser.get_log("browser") == []


def band(path):
    with rasterio.open(path) as file:
        return file.read(1)


def colour(name, value):
    """What a page shows of a value: one of 255 colours."""
    return 255 * np.array(colormaps[name](float(np.rint(254 * value) / 254))[:3])


def fitting_scale(page):
    """Pixels of the screen by those of the map where all of it is shown."""
    box = page.canvas.rect
    return min(box["width"] / WIDTH, box["height"] / HEIGHT)


def centre(page, row, column):
    """Where the middle of a pixel lies on the screen where all of the map is shown; .3 more is beside the middle."""
    return fitting_scale(page) * np.array([column + 0.5 - WIDTH / 2, row + 0.5 - HEIGHT / 2])


def assert_position(page, expected):
    """The page gives a tenth of a metre."""
    np.testing.assert_allclose(page.numbers("value-position"), expected, rtol=0, atol=0.0501)


def test_the_cursor_reads_the_files_values_and_coordinates(page, folder):
    probability, classes, uncertainty = (band(folder / f"map{end}.tif") for end in ("", "_class", "_uncertainty"))
    for row, column in ((0, 0), (83, 67), (0, 67), (40, 30), (61, 3), (83, 0), (17, 50)):
        place = page.point(*centre(page, row + 0.3, column + 0.3))
        read = page.texts(*VALUES)
        # Half a level of 254, and half of the last digit.
        assert float(read[0]) == pytest.approx(probability[row, column], abs=0.5 / 254 + 0.0005)
        assert read[1] == ("not cultivated", "cultivated")[classes[row, column]]
        assert float(read[2]) == pytest.approx(uncertainty[row, column], abs=0.5 / 254 + 0.0005)
        expected = MIDDLE + place / fitting_scale(page) * METRES
        assert_position(page, expected)
        lonlat = np.ravel(rasterio.warp.transform(CRS, "EPSG:4326", *expected[:, None]))
        np.testing.assert_allclose(page.numbers("value-lonlat"), lonlat, rtol=0, atol=0.502e-6)
    page.point(*centre(page, 5, 10))
    assert page.texts(*VALUES) == ["no data"] * 3
    for row, column in ((40, -2), (40, 69)):
        page.point(*centre(page, row, column))
        assert page.texts(*VALUES) == ["outside"] * 3


def test_pixels_that_are_not_square_and_longitudes_of_both_signs(browser, tmp_path):
    transform = Affine(2.5, 0, 166021.4 - 85, 0, -5, 1e7)
    write_maps(tmp_path / "map.tif", Grid(HEIGHT, WIDTH, transform, rasterio.CRS.from_epsg(32701)), names=())
    write_view(tmp_path / "map.tif", tmp_path / "page.html")
    page = Page(browser, tmp_path / "page.html")
    box = page.canvas.rect
    scale = min(box["width"] / WIDTH, box["height"] / (2 * HEIGHT))
    for column, down in ((3, -60), (64, 80)):
        place = page.point((column - WIDTH / 2) * scale, down)
        position = transform @ tuple(place / (scale, 2 * scale) + (WIDTH / 2, HEIGHT / 2))
        np.testing.assert_allclose(page.numbers("value-position"), position, rtol=0, atol=0.0501)
        lonlat = np.ravel(rasterio.warp.transform("EPSG:32701", "EPSG:4326", *np.array(position)[:, None]))
        assert np.sign(lonlat[0]) == (1 if column == 3 else -1)
        np.testing.assert_allclose(page.numbers("value-lonlat"), lonlat, rtol=0, atol=0.502e-6)


def test_layers_are_blended_by_their_opacity(page, folder):
    place, hole = centre(page, 40, 30), centre(page, 5, 10)
    probability, uncertainty = band(folder / "map.tif")[40, 30], band(folder / "map_uncertainty.tif")[40, 30]
    page.sees(0.5 * colour("viridis", probability) + 0.5 * TINTS[2], place)
    page.set("opacity-probability", 20)
    page.sees(0.2 * colour("viridis", probability) + 0.8 * TINTS[2], place)
    page.find("show-image").click()
    page.set("opacity-probability", 100)
    page.sees(colour("viridis", probability), place)
    page.find("show-probability").click()
    page.find("show-class").click()
    page.sees(COLOURS[int(probability > 0.3)][:3], place)
    # Whoever moves the slider of a hidden layer wants to see it.
    page.set("opacity-uncertainty", 100)
    page.sees(colour("magma", uncertainty), place)
    # Without data a layer covers nothing.
    page.find("show-image").click()
    page.sees(TINTS[2], hole)


def test_the_slider_of_time_changes_the_image(page):
    # Of the two clearest dates the later is shown first.
    assert page.text("date") == f"{DATES[2]}, 100 % clear"
    for place, clear in enumerate((95, 100, 100)):
        page.set("frame", place)
        assert page.text("date") == f"{DATES[place]}, {clear} % clear"
        page.sees(TINTS[place], centre(page, 5, 10))


def test_the_map_moves_under_mouse_and_buttons(page):
    scale = fitting_scale(page)

    def assert_view(scale, shift):
        """The middle of the map lies `shift` from the middle of the screen."""
        place = page.point(100, -70)
        assert_position(page, MIDDLE + (place - shift) / scale * METRES)

    assert_view(scale, (0, 0))
    page.find("zoom-in").click()
    assert_view(2 * scale, (0, 0))
    page.point(0, 0)
    page.drag(40, 30)
    assert_view(2 * scale, (40, 30))
    page.find("zoom-fit").click()
    assert_view(scale, (0, 0))
    # The place under the wheel stays.
    place = page.point(60, 50)
    page.turn_wheel((60, 50), -200)
    page.wait(lambda: page.find("scale-bar").text == "20 m")
    assert_view(2 * scale, -place)
    page.turn_wheel((60, 50), 200)
    page.wait(lambda: page.find("scale-bar").text == "50 m")
    assert_view(scale, (0, 0))
    page.find("zoom-out").click()
    assert_view(scale / 2, (0, 0))


def test_the_map_moves_by_keys(page):
    scale = fitting_scale(page)
    page.find("canvas").send_keys("0")
    assert page.find("cross").is_displayed()
    assert_position(page, MIDDLE)  # what lies under the cross
    for keys, right, down in (
        (Keys.ARROW_RIGHT, 60, 0),
        (Keys.ARROW_DOWN, 60, 60),
        (Keys.ARROW_LEFT * 2, -60, 60),
        (Keys.ARROW_UP * 2, -60, -60),
        ("0+" + Keys.ARROW_RIGHT, 30, 0),
        ("0-" + Keys.ARROW_DOWN, 0, 120),
    ):
        page.keys(keys)
        assert_position(page, MIDDLE + np.array([right, down]) / scale * METRES)
    # However far the keys go, the map stays in sight.
    page.keys("0" + 12 * Keys.ARROW_LEFT)
    assert_position(page, MIDDLE - (WIDTH / 2 * METRES[0], 0))
    page.point(0, 0)
    assert not page.find("cross").is_displayed()


def test_keys_of_the_browser_itself_are_left_alone(page):
    def taken(**event):
        event |= {"bubbles": True, "cancelable": True}
        return not page.browser.execute_script(
            "return canvas.dispatchEvent(new KeyboardEvent('keydown', arguments[0]))", event
        )

    assert taken(key="ArrowDown")
    assert taken(key="+")
    assert not taken(key="Tab")
    assert not taken(key="+", ctrlKey=True)


def test_two_fingers_zoom(page):
    scale = fitting_scale(page)
    page.touch("touchStart", (-50, 0), (50, 0))
    page.touch("touchMove", (-75, 0), (75, 0))
    page.touch("touchMove", (-100, 20), (100, 20))
    page.touch("touchEnd")
    place = page.point(-30, -30)
    # The map is twice as large, and followed the fingers down.
    expected = MIDDLE + (place - (0, 20)) / (2 * scale) * METRES
    np.testing.assert_allclose(page.numbers("value-position"), expected, rtol=0, atol=0.5)


def test_everything_is_reached_by_the_keyboard(page):
    names = ("image", "probability", "class", "uncertainty")
    expected = ["canvas", "zoom-in", "zoom-out", "zoom-fit", "frame"]
    expected += [f"{kind}-{name}" for name in names for kind in ("show", "opacity")]
    reached = []
    for _ in expected:
        page.keys(Keys.TAB)
        reached.append(page.browser.switch_to.active_element.get_attribute("id"))
    assert reached == expected
    assert all(page.find(name).accessible_name for name in expected)


def test_the_scale_bar_measures_the_map(page):
    scale = fitting_scale(page)
    for factor in (1, 1 / 2):
        bar = page.find("scale-bar")
        length, unit = bar.text.split()
        assert unit == "m"
        assert 50 < bar.rect["width"] < 150
        assert float(length) / bar.rect["width"] == pytest.approx(2.5 / scale / factor, rel=0.01)
        page.find("zoom-out").click()


def test_a_resized_window_shows_all_of_the_map_again(page, folder):
    probability = band(folder / "map.tif")
    size = page.browser.get_window_size()
    try:
        for width, height in ((1300, 500), (600, 800)):
            page.browser.set_window_size(width, height)
            page.wait(lambda: page.browser.execute_script("return canvas.width == canvas.clientWidth"))
            place = page.point(*centre(page, 70, 60))
            assert_position(page, MIDDLE + place / fitting_scale(page) * METRES)
            assert float(page.text("value-probability")) == pytest.approx(probability[70, 60], abs=0.0025)
        # On a narrow screen the map lies above the panel.
        assert page.canvas.rect["width"] == page.browser.execute_script("return document.body.clientWidth")
    finally:
        page.browser.set_window_size(size["width"], size["height"])


def test_names_are_shown_and_never_run(browser, folder, scene, tmp_path, monkeypatch):
    # What would make the rest of the page part of the data, and is a file's name on Linux.
    source = tmp_path / '"><!--<script>.tif'
    shutil.copy(folder / "map.tif", source)
    # The note about overviews carries the name too.
    monkeypatch.setattr(layers, "LONGEST_SIDE", 50)
    write_view(source, tmp_path / "page.html", scene.assign_attrs(name=HOSTILE))
    page = Page(browser, tmp_path / "page.html")
    assert browser.title == f"{source.name}, {HOSTILE}"
    assert browser.find_element("tag name", "h1").text == f"{source.name}, {HOSTILE}"
    assert f"{source.name} has 68 x 84 pixels" in page.text("notes")
    assert not page.browser.find_elements("css selector", "img")
    assert browser.execute_script("return typeof owned") == "undefined"
    assert browser.get_log("browser") == []


def test_nothing_is_asked_from_the_network_and_nothing_could_be(browser, folder):
    browser.get_log("performance")
    page = Page(browser, folder / "page.html")
    page.set("frame", 1)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert {url.split(":")[0] for url in requests} == {"file", "data"}
    refused = browser.execute_async_script("""
        const done = arguments[arguments.length - 1];
        const address = "http://localhost:9/";
        const refused = [];
        document.addEventListener("securitypolicyviolation", (event) => {
          refused.push(event.effectiveDirective);
          if (refused.length == 4) done(refused.sort());
        });
        const add = (tag, properties) => document.head.append(Object.assign(document.createElement(tag), properties));
        fetch(address).catch(() => {});
        add("img", { src: address });
        add("script", { src: address });
        add("link", { rel: "stylesheet", href: address });
    """)
    assert refused == ["connect-src", "img-src", "script-src-elem", "style-src-elem"]
    browser.get_log("browser")
