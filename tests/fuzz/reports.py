"""Kind `reports`: what a finished run found out, read by run/report.py, run/validity.py and run/tables.py."""

import json
import re
import shutil
from pathlib import Path
from random import Random

from tests.fuzz.damage import damage_file, displace
from tests.fuzz.runs import FLAGS, _no_figures
from tests.fuzz.settings import finite, run
from tests.fuzz.trees import damage_json, damage_yaml
from tests.fuzz.trial import Input, Kind, Wrong

FILES = ("config.yaml", "split.json", "history.json", "calibration.json", "sequences.json", "metrics.json")
SAVED = ("--test", "3", "--data.cases", "7")


class Reports(Kind):
    """The folder of a finished run, and a second one beside it."""

    name, share, warm = "reports", 0.8, 3

    def prepare(self) -> None:
        _no_figures()
        run("svi_target", *FLAGS, *SAVED, default="quick")
        listed = [{"method": "it", "train": 2, "split": 0, "seed": 0, "folder": "it", "status": "done"}]
        (Path("runs") / "experiment.json").write_text(json.dumps({"name": "x", "reference": "it", "rows": listed}))

    def make(self, folder: Path, draw: Random, healthy: bool) -> Input:
        shutil.copytree(self.corpus / "runs", folder / "runs")
        it, reader = folder / "runs" / "it", draw.choice(("report", "report", "validity", "validity", "tables"))
        maps = sorted(path for path in (it / "predictions").rglob("*") if path.is_file())
        path = it / draw.choice((*FILES, "metrics.json", "metrics.json"))
        path = draw.choice(maps) if reader == "report" and maps and draw.random() < 0.15 else path
        damage = "none"
        if not healthy and draw.random() < 0.05:
            damage = displace(path, draw)
        elif not healthy and (path.suffix not in (".yaml", ".json") or draw.random() < 0.15):
            damage = damage_file(path, draw, [it / name for name in FILES if name != path.name])
        elif not healthy:
            damage = (damage_yaml if path.suffix == ".yaml" else damage_json)(path, draw)
        named = (str(Path("runs") / "it"), path.name)
        return Input(folder, named, lambda: self.check(reader, it), f"{reader}: {damage}")

    def check(self, reader: str, it: Path) -> None:
        if reader == "report":
            run("report", "--run", "runs/it")
            self.page((it / "report.html").read_text(encoding="utf-8"), it)
        elif reader == "validity":
            run("validity", "--runs", "[runs/it, runs/it]", "--output", "validity.json")
            self.validity(json.loads(Path("validity.json").read_text(encoding="utf-8")))
        else:
            run("tables", "--experiment", "runs")
            if re.search(r"\b(nan|inf)\b", "".join(path.read_text() for path in Path("runs/tables").glob("*.csv"))):
                raise Wrong("a cell that is not finite")

    def page(self, text: str, it: Path) -> None:
        """Check a page: what a reader sees is finite, and what cannot be read is said."""
        shown = re.sub(r"<(script|style|svg|details|pre)\b.*?</\1>", "", text, flags=re.DOTALL)
        if re.search(r">\s*-?(nan|inf)\b", shown, re.IGNORECASE):
            raise Wrong("a cell that is not finite")
        for name in ("split.json", "history.json", "metrics.json"):
            try:
                path = it / name
                legible = path.is_file() and isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
            except (OSError, ValueError, RecursionError):
                legible = False
            if not legible and name not in shown:
                raise Wrong(f"{name} cannot be read, but the page does not say so")

    def validity(self, found: dict) -> None:
        if not finite(found):
            raise Wrong("numbers that are not finite")
        for name, entry in found.items():
            for key, value in entry.items():
                low = -1 if name == "predicted_dice" else 0
                if key != "cases" and value is not None and not low - 1e-9 <= value <= 1 + 1e-9:
                    raise Wrong(f"{name}.{key} is {value}")
