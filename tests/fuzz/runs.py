"""Kind `runs` and `experiments`: folders of runs, read by load_posterior, predict, score, --resume and the tables."""

import json
import math
import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from pyro_dwp.files import read_tensors
from pyro_dwp.runs import load_posterior
from tests.fuzz import nifti
from tests.fuzz.damage import damage_file, displace
from tests.fuzz.settings import Refused, finite, main_of, run
from tests.fuzz.stored import damage_stored, decode
from tests.fuzz.trees import damage_json, damage_yaml
from tests.fuzz.trial import Input, Kind, Wrong
from tests.helpers.experiment import metrics, write_experiment

FLAGS = (
    *("--data", "phantoms", "--data.cases", "6", "--data.shape", "[12,12,12]", "--preprocess.grid", "[12,12,12]"),
    *("--network", "unet", "--network.channels", "[2,4]", "--train", "2", "--validation", "1", "--test", "1"),
    *("--schedule.epochs", "1", "--prior", "gaussian", "--samples", "2", "--threads", "1", "--name", "it"),
)
LAST = "checkpoint/last.safetensors"
FILES = (
    *(
        "config.yaml",
        "sites.json",
        "sequences.json",
        "calibration.json",
        "split.json",
        "history.json",
        "metrics.json",
        LAST,
    ),
)
READERS = ("load", "load", "load", "predict", "score", "resume", "overwrite")


class Runs(Kind):
    """The folder of a finished run."""

    name, share, warm = "runs", 1.2, 0

    def prepare(self) -> None:
        _no_figures()
        run("svi_target", *FLAGS, default="quick")
        voxels = np.random.default_rng(0).uniform(1, 9, (9, 8, 7)).astype("f4")
        (self.corpus / "scan.nii").write_bytes(nifti.encode(voxels, np.eye(4)))

    def make(self, folder: Path, draw: Random, healthy: bool) -> Input:
        shutil.copytree(self.corpus / "runs", folder / "runs")
        it, reader = folder / "runs" / "it", draw.choice(READERS)
        name = draw.choice((*FILES, "config.yaml", LAST))
        path, damage = it / name, "none"
        others = [it / other for other in FILES if other != name]
        if not healthy and draw.random() < 0.3:
            damage = damage_file(path, draw, others)
        elif not healthy and draw.random() < 0.05:
            damage = displace(path.parent, draw)
        elif not healthy and path.suffix == ".safetensors":
            damage, _ = damage_stored(path, "checkpoint", draw, others)
        elif not healthy:
            damage = (damage_yaml if path.suffix == ".yaml" else damage_json)(path, draw)
        named = (str(Path("runs") / "it"), "svi_target", "config", *self.settings())
        return Input(folder, named, lambda: self.check(reader, it), f"{reader}: {name}: {damage}")

    def settings(self) -> list[str]:
        return [
            *main_of("svi_target").__annotations__,
            "network",
            "preprocess",
            "label_map",
            "spacing",
            "classes",
            "grid",
        ]

    def check(self, reader: str, it: Path) -> None:
        torch.manual_seed(0)
        if reader == "load":
            self.load(it)
        elif reader == "predict":
            run(
                "predict",
                "--run",
                "runs/it",
                "--images",
                self.corpus / "scan.nii",
                "--output",
                "maps",
                "--threads",
                "1",
            )
            mask = nifti.decode(nifti.unpack(next(Path("maps").glob("*_mask.nii.gz")).read_bytes())).voxels
            if mask.shape != (9, 8, 7) or not np.isin(mask, [0, 1]).all():
                raise Wrong("a mask that is none")
        elif reader == "score":
            run("score", "--runs", "[runs/it]", "--name", "scored", "--threads", "1")
            self.scores(Path("runs/scored/metrics.json"))
        elif reader == "resume":
            _no_figures()
            run("svi_target", "--resume", "--name", "it", default="quick")
            self.scores(it / "metrics.json")
        else:
            self.begin_again(it)

    def begin_again(self, it: Path) -> None:
        """Begin a run of the same name, which must not replace a run that holds something."""
        _no_figures()
        held = it.is_dir() and any(it.iterdir())
        try:
            run("svi_target", *FLAGS, default="quick")
        except Refused as refusal:
            if "already holds a run" not in str(refusal):
                raise
        else:
            if held:
                raise Wrong("a run was replaced")

    def load(self, it: Path) -> None:
        found = load_posterior(it)
        draws = found.draw()(torch.rand(1, found.channels, 12, 12, 12))
        if not draws.isfinite().all() or draws.shape[1] != found.classes:
            raise Wrong("a network without finite outputs")
        if not isinstance(found.samples, int) or found.samples < 1:
            raise Wrong(f"{found.samples!r} networks")
        there = decode((it / LAST).read_bytes())
        for name, module in (("network", found.network), ("guide", found.guide)):
            for key, tensor in module.state_dict().items():
                if isinstance(tensor, torch.Tensor) and not np.array_equal(
                    tensor.numpy(), there[f"modules/{name}/{key}"]
                ):
                    raise Wrong(f"{key} is not what the checkpoint holds")
        kept, _ = read_tensors(self.corpus / "runs" / "it" / LAST, "checkpoint", "")
        if not all(np.isfinite(there[name]).all() for name in kept if name.startswith("modules/")):
            raise Wrong("weights that are not finite")

    def scores(self, path: Path) -> None:
        found = json.loads(path.read_text())
        if not finite(found):
            raise Wrong("scores that are not finite")


def _no_figures() -> None:
    for script in ("svi_target",):
        main_of(script).__globals__["draw_run"] = lambda *arguments: None


class Experiments(Kind):
    """The folder of an experiment, tabulated: experiment.json and the metrics of its runs."""

    name, share = "experiments", 1.0

    def make(self, folder: Path, draw: Random, healthy: bool) -> Input:
        more: dict[str, Any] = {
            "hd95": 3.0,
            "negative_log_likelihood": 0.2,
            "calibration_error": 0.1,
            "volume_covered": 1.0,
        }
        rows: dict[tuple[str, int, int, int], Any] = {
            (method, train, split, 0): metrics({"a": 0.5 + split / 10, "b": 0.6, "c": 0.7}, **more)
            for method in ("ours", "theirs")
            for train in (1, 2)
            for split in (0, 1)
        }
        root = write_experiment(folder / "experiment", rows)
        path = draw.choice(
            (root / "experiment.json", root / "ours-1-0-0" / "metrics.json", root / "theirs-2-1-0" / "metrics.json")
        )
        others, damage = [found for found in root.rglob("*.json") if found != path], "none"
        if not healthy:
            damage = damage_json(path, draw) if draw.random() < 0.75 else damage_file(path, draw, others)
        return Input(folder, (path.name, "--reference"), lambda: self.check(root), f"{path.parent.name}/{damage}")

    def check(self, root: Path) -> None:
        run("tables", "--experiment", root)
        for path in (root / "tables").glob("*.csv"):
            for cell in path.read_text().replace("\n", ",").split(","):
                if cell.strip().lower() in ("nan", "inf", "-inf"):
                    raise Wrong(f"{path.name} has the cell {cell}")
        for name in ("dice.csv", "iou.csv"):
            for number in _numbers((root / "tables" / name).read_text()):
                if not 0 <= number <= 1:
                    raise Wrong(f"{name} has the score {number}")


def _numbers(text: str) -> list[float]:
    found = []
    for line in text.splitlines()[1:]:
        for cell in line.split(",")[1:]:
            try:
                found.append(float(cell))
            except ValueError:
                continue
    return [number for number in found if not math.isnan(number)]
