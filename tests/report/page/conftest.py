"""The folder of a small run, written by hand: with names that HTML must not take for markup."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pyro_dwp.data import write_volume
from pyro_dwp.files import write_json
from pyro_dwp.metrics import CaseTable

SHAPE, SPACING = (20, 24, 16), (1.0, 1.0, 2.0)
NAMES = ["a<b>&\"c'", "<script>alert(1)</script>".replace("/", "_"), "third"]
DICE = [0.25, 0.5, 0.75]
CHROMIUM = [
    *(
        "--no-sandbox",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--ignore-gpu-blocklist",
        "--no-first-run",
    ),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of three cases, beside images/ and labels/; not to be changed."""
    folder = tmp_path_factory.mktemp("page")
    run = folder / "runs" / "mine"
    generator, affine = torch.Generator().manual_seed(0), np.diag([*SPACING, 1.0])
    for shift, name in enumerate(NAMES):
        truth, mask = torch.zeros(SHAPE), torch.zeros(SHAPE)
        truth[4:12, 6:14, 4:10] = 1
        mask[6 + shift : 14 + shift, 6:14, 4:10] = 1
        image = 100 + 50 * truth + 10 * torch.randn(SHAPE, generator=generator)
        entropy = 0.6 * (truth != mask)
        for place, volume in (("images", image), ("labels", truth)):
            write_volume(
                folder / place / f"{name}.nii.gz", volume, affine, np.float32 if place == "images" else np.uint8
            )
        write_volume(run / "predictions" / f"{name}_mask.nii.gz", mask, affine, np.uint8)
        write_volume(run / "predictions" / f"{name}_entropy.nii.gz", entropy, affine, np.float32)
    write_json(run / "predictions" / "labels.json", {"masks": "labels", "label_map": None})
    data = {"class": "pyro_dwp.FolderPairs", "images": str(folder / "images"), "labels": str(folder / "labels")}
    start = {"command": "svi_target.py --name <mine>", "started": "2026-01-01", "git_revision": None, "python": "3.11"}
    config = {"data": data, "network": {"class": "pyro_dwp.UNet", "classes": 2}, "score": "test", "provenance": [start]}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    write_json(run / "split.json", {"train": [], "validation": [], "test": NAMES})
    rows = [{"epoch": epoch, "train/loss": 3.0 - epoch, "validation/dice": 0.1 * epoch} for epoch in (1, 2)]
    write_json(run / "history.json", {"rows": rows, "stopped": "epochs"})
    scores = {name: {"dice": dice, "hd95": None} for name, dice in zip(NAMES, DICE, strict=True)}
    bins = {"probability": [0.2, 0.8], "frequency": [0.3, 0.6], "voxels": [100, 20]}
    slices = [{"axis": "foot-head", "index": 12, "wrong_ml": 0.3}]
    review = [{"case": name, "predicted_dice": 0.3, "slices": slices} for name in NAMES]
    order = {"rank_correlation": 0.5, "low": -0.1, "high": 0.9, "cases": 3}
    covered = {"coverage": 0.8, "low": 0.6, "high": 1.0, "nominal": 0.9, "cases": 3}
    validity = {"predicted_dice": order, "volume_core": covered}
    doubts = {"review": review, "temperature": 1.5, "validity": validity}
    extra = {"calibration": {"tumour <1>": bins}, "seconds": 9.0, **doubts}
    write_json(run / "metrics.json", {"test": CaseTable(scores).to_dict(), **extra})
    return run


@pytest.fixture
def run_copy(small_run: Path, tmp_path: Path) -> Path:
    """A copy of the run's folder, to be damaged; its scans stay where they are."""
    return shutil.copytree(small_run, tmp_path / "mine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium that draws without a graphics card, or skip; closed after its tests."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=CHROMIUM)
        yield started
        started.close()


@pytest.fixture(scope="module")
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a page in a window of a width; it must log no error and request nothing else."""
    contexts, noise = [], []

    def opened(path: Path, width: int = 1280, **settings: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, offline=True, **settings))
        page = contexts[-1].new_page()
        page.on("console", lambda message: noise.extend([message.text] * (message.type == "error")))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("request", lambda request: noise.append(request.url))
        page.goto(path.as_uri())
        assert noise.pop(0) == path.as_uri()
        return page

    yield opened
    assert noise == []
    for context in contexts:
        context.close()
