"""The page in headless Chromium, opened from disk without a network."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyro_dwp.report import write_page
from tests.report.page.conftest import NAMES

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page_file(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(small_run, output=tmp_path_factory.mktemp("report") / "report.html")


def shown(page: Any, name: str = NAMES[0]) -> Any:
    """Wait until the viewer shows a case, and return the page."""
    page.wait_for_function("name => document.body.dataset.shown === name", arg=name)
    return page


@pytest.fixture(scope="module")
def opened(open_page: Callable[..., Any], page_file: Path) -> Any:
    return open_page(page_file, bypass_csp=True)  # whose policy forbids what Playwright waits with


@pytest.fixture
def viewer(opened: Any) -> Any:
    """The page with its first case in the viewer."""
    opened.click("button.case >> nth=0")
    return shown(opened)


def pixels(page: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("RGB")).astype(int)


def test_it_opens_without_an_error_or_a_request_under_its_own_security_policy(open_page, page_file):
    page = open_page(page_file)
    page.wait_for_selector("body[data-shown]")
    assert page.locator("#trouble").is_hidden()


def test_the_canvas_shows_three_planes_of_the_scan(viewer):
    seen = pixels(viewer)
    height, width, _ = seen.shape
    for third in range(3):
        assert seen[:, third * width // 3 : (third + 1) * width // 3].std() > 10
    assert height > 300


@pytest.mark.parametrize("overlay", ["truth", "mask", "doubt"])
def test_a_check_box_toggles_its_overlay_and_back(viewer, overlay):
    before = pixels(viewer)
    viewer.click(f"#show-{overlay}")
    assert np.abs(pixels(viewer) - before).max() > 20
    viewer.click(f"#show-{overlay}")
    assert (pixels(viewer) == before).all()


def test_opacity_0_hides_an_overlay_as_its_check_box_does(viewer):
    viewer.locator("#opacity-mask").fill("0")
    faded = pixels(viewer)
    viewer.click("#show-mask")
    assert (pixels(viewer) == faded).all()


@pytest.mark.parametrize(("axis", "edge"), [(0, 20), (1, 24), (2, 16)])
def test_a_slider_moves_its_slice(viewer, axis, edge):
    before = pixels(viewer)
    viewer.locator(f"#slice-{axis}").fill("2")
    assert viewer.locator(f"#number-{axis}").inner_text() == f"3 of {edge}"
    assert np.abs(pixels(viewer) - before).max() > 20


def test_a_click_into_a_plane_moves_the_sliders(viewer):
    values = [viewer.locator(f"#slice-{axis}").input_value() for axis in range(3)]
    height, width, _ = pixels(viewer).shape
    viewer.locator("#canvas").click(position={"x": width / 6 + 40, "y": height / 2 + 40})
    assert [viewer.locator(f"#slice-{axis}").input_value() for axis in range(3)] != values


def test_a_case_button_switches_the_volume(viewer):
    before = pixels(viewer)
    viewer.click(f"text={NAMES[2]}, Dice")
    assert np.abs(pixels(shown(viewer, NAMES[2])) - before).max() > 20


def test_a_slice_of_the_review_list_opens_its_case_at_that_slice(viewer):
    viewer.locator("button.jump").nth(2).click()
    shown(viewer, NAMES[2]).wait_for_function("() => document.getElementById('number-2').textContent === '13 of 16'")


def test_a_click_on_a_heading_sorts_the_cases_and_another_reverses_them(viewer):
    for expected in (["0.250", "0.500", "0.750"], ["0.750", "0.500", "0.250"]):
        viewer.click("#scores th button:has-text('Dice')")
        assert viewer.locator("#scores tbody td:nth-child(2)").all_inner_texts() == expected


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_on_a_narrow_screen(open_page, page_file, scheme):
    page = shown(open_page(page_file, width=390, color_scheme=scheme, bypass_csp=True))
    assert page.evaluate("document.documentElement.scrollWidth") == 390
