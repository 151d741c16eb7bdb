"""Pages in a headless Chromium."""

import io
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.support.ui import WebDriverWait


@contextmanager
def chromium(profile):
    """A browser that logs its console and its requests; the test is skipped where there is none."""
    program, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not program or not driver:
        pytest.skip("no chromium and chromedriver on the PATH")
    options = ChromeOptions()
    options.binary_location = program
    for argument in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "window-size=1000,700",
        "force-device-scale-factor=1",
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the driver's path, Selenium looks for nothing on the network.
    browser = Chrome(options, Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


class Page:
    """A page of a map as a user sees it. Places on the screen are counted from the middle of the map's canvas."""

    def __init__(self, browser, path):
        self.browser = browser
        browser.get(f"file://{path}")
        self.wait(lambda: self.text("value-position"))
        self.canvas = self.find("canvas")

    def wait(self, condition):
        return WebDriverWait(self.browser, 10, poll_frequency=0.02).until(lambda _: condition())

    def find(self, name):
        return self.browser.find_element("id", name)

    def text(self, name):
        return self.find(name).text

    def texts(self, *names):
        return [self.text(name) for name in names]

    def numbers(self, name):
        return np.array([float(number) for number in self.text(name).split(",")])

    def keys(self, *keys):
        ActionChains(self.browser, duration=0).send_keys(*keys).perform()

    def on_screen(self, place):
        """The pixel of the window at a place, and the exact place of that pixel's corner, which the mouse points at."""
        box = self.canvas.rect
        middle = np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
        pixel = np.floor(middle + place).astype(int)
        return pixel.tolist(), pixel - middle

    def point(self, right, down):
        """Move the mouse; return the place that it reached."""
        pixel, place = self.on_screen((right, down))
        actions = ActionChains(self.browser, duration=0)
        actions.w3c_actions.pointer_action.move_to_location(*pixel)
        actions.perform()
        return place

    def drag(self, right, down):
        ActionChains(self.browser, duration=0).click_and_hold().move_by_offset(right, down).release().perform()

    def turn_wheel(self, place, down):
        origin = ScrollOrigin.from_viewport(*self.on_screen(place)[0])
        ActionChains(self.browser, duration=0).scroll_from_origin(origin, 0, down).perform()

    def touch(self, kind, *fingers):
        """Send one event of the fingers at these places."""
        pixels = [self.on_screen(place)[0] for place in fingers]
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(pixels)]
        self.browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def set(self, name, value):
        """Move a slider by its keys."""
        self.find(name).send_keys(Keys.HOME + value * Keys.ARROW_RIGHT)

    def sees(self, expected, place):
        """Wait until the screen has that colour at a place: images are decoded, and pages drawn, a moment later."""
        pixel, _ = self.on_screen(place)

        def right():
            with Image.open(io.BytesIO(self.browser.get_screenshot_as_png())) as image:
                colour = np.array(image.convert("RGB").getpixel(tuple(pixel)))
            return np.abs(colour - expected).max() <= 5

        self.wait(right)
