"""Kinds `configs`, `splits`, `patients` and `label_maps`: what users write by hand."""

import csv
import importlib.util
import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import yaml

from pyro_dwp.data import Preprocess, Scan, SplitPlan, read_split
from pyro_dwp.data.patients import patients_of
from pyro_dwp.errors import PyroDwpError
from pyro_dwp.runs.script import check_placeholders, run_script, script_settings
from pyro_dwp.safe_yaml import read_yaml
from pyro_dwp.settings import instantiate
from tests.fuzz.damage import damage_file
from tests.fuzz.trees import damage_json, damage_yaml, places
from tests.fuzz.trial import Input, Kind, Wrong

RUN = Path(__file__).parents[2] / "run"
NAMES = [f"case_{letter}" for letter in "abcdefgh"]


@cache
def main_of(script: str) -> Callable[..., Any]:
    """Return the `main` of a script."""
    spec = importlib.util.spec_from_file_location(f"fuzzed_{script}", RUN / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[..., Any] = module.main
    return main


class Refused(PyroDwpError):  # noqa: N818 (not an error of the library)
    """A script refused its input, as it should: in one line and with status 2."""


def run(script: str, *words: object, default: str | None = None) -> None:
    """Run a script, and raise `Refused` if it refuses."""
    error = StringIO()
    with redirect_stderr(error), redirect_stdout(StringIO()):
        status = run_script(main_of(script), default, [str(word) for word in words])
    said = error.getvalue()
    if status == 2 and said.startswith("error: ") and said.count("\n") == 1:
        raise Refused(said.strip())
    if status:
        raise RuntimeError(f"{script} ended with status {status} and said {said!r}")


def finite(tree: Any) -> bool:
    """Tell whether no number of a tree is NaN or infinite."""
    if isinstance(tree, dict):
        return all(finite(key) and finite(value) for key, value in tree.items())
    if isinstance(tree, list):
        return all(map(finite, tree))
    return not isinstance(tree, float) or math.isfinite(tree)


class Configs(Kind):
    """A config of a script, one of those that ship."""

    name, share = "configs", 2.0
    scripts = ("svi_target", "train_source", "train_prior")

    def prepare(self) -> None:
        for path in sorted((RUN / "configs").rglob("*.yaml")):
            for script in self.scripts:
                try:
                    self.check(script, path)
                except PyroDwpError:  # another script's, or one that needs files
                    continue
                shutil.copyfile(path, self.corpus / f"{script}-{path.stem}.yaml")
                break

    def make(self, folder: Path, draw: Random, healthy: bool) -> Input:
        files = sorted(self.corpus.glob("*-*.yaml"))
        original, path = draw.choice(files), folder / "fuzzed.yaml"
        shutil.copyfile(original, path)
        damage = (
            "none" if healthy else damage_yaml(path, draw) if draw.random() < 0.85 else damage_file(path, draw, files)
        )
        script = original.name.partition("-")[0]
        keys = [key for place in places(yaml.safe_load(original.read_text())) for key in place if len(str(key)) > 3]
        legal = ("fuzzed.yaml", *main_of(script).__annotations__, *map(str, keys))
        return Input(folder, legal, lambda: self.check(script, path), f"{original.name}: {damage}")

    def check(self, script: str, path: Path) -> None:
        recipe, call = script_settings(main_of(script), ["--config", str(path)], None)
        check_placeholders(recipe)
        if not finite(recipe.plain()):
            raise Wrong("a setting that is not finite")
        again = Path("again.yaml")
        again.write_text(yaml.safe_dump(recipe.plain(), allow_unicode=True))
        if script_settings(main_of(script), ["--config", str(again)], None)[0].plain() != recipe.plain():
            raise Wrong("the settings do not survive being written")
        if read_yaml(path) != (yaml.safe_load(path.read_text("utf-8")) or {}) and not _differs_by_version(path):
            raise Wrong("other settings than PyYAML finds")
        arguments = recipe.arguments
        for name in ("schedule", "preprocess", "augment", "likelihood", "machine", "plan", "scoring", "prior"):
            if hasattr(arguments.get(name), "build"):
                arguments[name].build(call)


def _differs_by_version(path: Path) -> bool:
    """Tell whether a text has scalars that YAML 1.1 and 1.2 read differently, such as on and 1:1 and 1e-3."""
    plain = yaml.load(path.read_text("utf-8"), yaml.BaseLoader)
    found = read_yaml(path)

    def texts(tree: Any) -> Iterator[str]:
        items = [*tree.keys(), *tree.values()] if isinstance(tree, dict) else tree if isinstance(tree, list) else None
        if items is None:
            yield str(tree)
        else:
            for item in items:
                yield from texts(item)

    return len(list(texts(plain))) == len(list(texts(found)))


class Splits(Kind):
    """The file of a split, or of the patients."""

    name, share = "splits", 0.8

    def make(self, folder: Path, draw: Random, healthy: bool) -> Input:
        path = folder / "split.json"
        path.write_text(json.dumps({"train": NAMES[:3], "validation": NAMES[3:5], "test": NAMES[5:7]}))
        other = folder / "other.json"
        other.write_text(json.dumps({"dice": 0.5}))
        damage = (
            "none" if healthy else damage_json(path, draw) if draw.random() < 0.7 else damage_file(path, draw, [other])
        )
        return Input(folder, (path.name,), lambda: self.check(path), damage)

    def check(self, path: Path) -> None:
        split = SplitPlan(split=path).draw(NAMES)
        stored = json.loads(path.read_text("utf-8"))
        if {part: list(getattr(split, part)) for part in ("train", "validation", "test")} != stored:
            raise Wrong("other cases than the file lists")
        if len(set(split.names)) != len(split.names) or not set(split.names) <= set(NAMES) or not split.train:
            raise Wrong("a case twice, unknown, or none to train")
        if read_split(path, NAMES) != split:
            raise Wrong("two readers, two splits")


class Patients(Kind):
    """A table of patients."""

    name, share = "patients", 0.5

    def make(self, folder: Path, draw: Random, healthy: bool) -> Input:
        path = folder / "patients.csv"
        rows = [["case", "patient"], *([name, f"p{number // 2}"] for number, name in enumerate(NAMES))]
        damage = "none"
        if not healthy and draw.random() < 0.6:
            row, column = draw.randrange(len(rows)), draw.randrange(2)
            rows[row][column] = draw.choice(("", "case", "a,b", 'a"b', "x" * 200_000, "ü", "\0", "\n", "p0", NAMES[0]))
            damage = f"row {row}: {rows[row]}"[:100]
            if draw.random() < 0.3:
                del rows[draw.randrange(len(rows))]
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        if not healthy and damage == "none":
            damage = damage_file(path, draw, [])
        return Input(folder, (path.name,), lambda: self.check(path), damage)

    def check(self, path: Path) -> None:
        found = patients_of(NAMES, str(path))
        with path.open(newline="", encoding="utf-8") as file:
            listed = {row["case"].strip(): row["patient"].strip() for row in csv.DictReader(file, restval="")}
        if found != {name: listed[name] for name in NAMES}:
            raise Wrong("other patients than the table lists")


class LabelMaps(Kind):
    """Preprocessing with a label map and structures, applied to a scan."""

    name, share = "label_maps", 0.6

    def make(self, folder: Path, draw: Random, healthy: bool) -> Input:
        path = folder / "preprocess.yaml"
        tree = {"grid": [8, 8, 8], "label_map": {1: 1, 2: 1, 4: 2}, "structures": {"whole": [1, 2, 4], "core": [4]}}
        path.write_text(yaml.safe_dump(tree))
        damage = "none" if healthy else damage_yaml(path, draw)
        named = (path.name, "preprocess", "Preprocess", "label_map", "tructure", "case x")
        return Input(folder, named, lambda: self.check(path), damage)

    def check(self, path: Path) -> None:
        preprocess: Preprocess = instantiate(Preprocess, read_yaml(path), "preprocess")
        labels = torch.from_numpy(np.random.default_rng(0).choice([0, 1, 2, 4], (8, 7, 6)))
        scan = Scan("x", torch.rand(1, 8, 7, 6) + 1, labels, np.eye(4))
        prepared = preprocess.apply(scan, classes=3)
        known = {0: 0, **(preprocess.label_map or {value: value for value in range(3)})}
        wanted = np.vectorize(known.__getitem__)(labels.numpy())
        found = preprocess.mapped_label(scan, 3)
        if found is None or (found.numpy() != wanted).any() or not prepared.image.isfinite().all():
            raise Wrong("labels were not mapped as the map says")
        for name, members in preprocess.classes_of_structures(3).items():
            if not members or not set(members) <= {1, 2}:
                raise Wrong(f"structure {name} has the classes {members}")
