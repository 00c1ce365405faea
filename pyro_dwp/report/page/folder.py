"""What the folder of a run says about it: settings, split, history and scores. Whatever is missing is noted, not an error."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pyro_dwp.data import CaseSource, Preprocess
from pyro_dwp.errors import DataError
from pyro_dwp.files import Model, check_header, read_json
from pyro_dwp.metrics.stored import FILE, Metrics
from pyro_dwp.safe_yaml import read_yaml
from pyro_dwp.settings import instantiate

CONFIG, PROVENANCE, RUNS = "config.yaml", "provenance", "runs"
PARTS = ("train", "validation", "test")
WORDS = ("worst", "median", "best", "doubtful")


class Split(BaseModel):
    """Part → cases."""

    train: list[str] = []
    validation: list[str] = []
    test: list[str] = []


class History(BaseModel, allow_inf_nan=False):
    """The history of a training."""

    rows: list[dict[str, float | None]] = []


@dataclass(frozen=True)
class RunFolder:
    """Files of a run, read.

    Args:
        path: of the folder.
        config: resolved settings.
        starts: provenance of each start of the script: command, time, revision, versions.
        split: part → cases.
        history: one row per epoch.
        metrics: of metrics.json.
        missing: what could not be read, in sentences.
    """

    path: Path
    config: dict[str, Any]
    starts: list[dict[str, Any]]
    split: dict[str, list[str]]
    history: list[dict[str, float]]
    metrics: dict[str, Any]
    missing: list[str] = field(default_factory=list)

    @property
    def part(self) -> str:
        """Part of the split that was scored: "test" or "validation"; "test" if none was."""
        return "validation" if "validation" in self.metrics and "test" not in self.metrics else "test"

    @property
    def table(self) -> dict[str, Any]:
        """Scores of that part, as `metrics.CaseTable.to_dict` gives them; empty without scores."""
        return dict(self.metrics.get(self.part) or {})

    @property
    def scores(self) -> dict[str, dict[str, float | None]]:
        """Case → score → value."""
        return dict(self.table.get("cases") or {})

    @cached_property
    def trained(self) -> dict[str, Any]:
        """Settings of the run that learned: this one or, where runs were only scored, the first of those."""
        if not self.config.get(RUNS):
            return self.config
        first = Path(self.config[RUNS][0])
        beside = self.path.parent.parent / first
        return _config(first if first.exists() else beside)[0]

    @property
    def classes(self) -> int:
        """Number C of the network's classes, background included."""
        return int((self.trained.get("network") or {}).get("classes", 2))

    def source(self) -> CaseSource:
        """Return where the run's cases come from.

        Raises:
            PyroDwpError: if its config does not say so any longer.
        """
        found: CaseSource = instantiate(CaseSource, self.config.get("data") or self.trained.get("data"), "data")
        return found

    def preprocess(self) -> Preprocess:
        """Return how a scan became the network's input."""
        stored = self.config.get("preprocess") or self.trained.get("preprocess") or {}
        found: Preprocess = instantiate(Preprocess, stored, "preprocess")
        return found

    def structures(self) -> list[str]:
        """Return the names of the structures that have scores of their own."""
        columns = next(iter(self.scores.values()), {})
        return [column.removeprefix("dice_") for column in columns if column.startswith("dice_")]

    def chosen(self, wanted: list[str]) -> dict[str, list[str]]:
        """Return cases → why each is shown, from their names or the words worst, median, best (by Dice) and doubtful.

        A word for which there is no score is left out.

        Raises:
            DataError: if there is no case of a name.
        """
        ranked = sorted((row["dice"], case) for case, row in self.scores.items() if row.get("dice") is not None)
        ranks = {"worst": 0, "median": len(ranked) // 2, "best": -1}
        words = {word: ranked[rank][1] for word, rank in ranks.items() if ranked}
        if review := self.metrics.get("review"):
            words["doubtful"] = review[0]["case"]
        found: dict[str, list[str]] = {}
        for name in wanted:
            if name in words:
                found.setdefault(words[name], []).append(name)
            elif name in self.scores or any(name in cases for cases in self.split.values()):
                found.setdefault(name, [])
            elif name not in WORDS:
                raise DataError(f"{self.path} has no case {name!r}. Name one of its cases, or {', '.join(WORDS)}.")
        return found


def read_run(path: Path) -> RunFolder:
    """Read what a run's folder holds.

    Raises:
        DataError: if it is not the folder of a run.
    """
    config, starts = _config(path)
    missing: list[str] = []
    split = _read(path / "split.json", "the split of a run", Split, missing)
    rows = _read(path / "history.json", "the history of a training", History, missing).rows
    history = [{name: value for name, value in row.items() if value is not None} for row in rows]
    metrics = _read(path / FILE, "the scores of a run", Metrics, missing).model_dump(exclude_unset=True)
    parts = {PARTS[2]: []} | split.model_dump(exclude_unset=True)
    return RunFolder(path, config, starts, parts, history, metrics, missing)


def _config(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if not (path / CONFIG).is_file():
        raise DataError(f"{path} is not the folder of a run: it has no {CONFIG}. Give a folder under runs/.")
    config = read_yaml(path / CONFIG)
    return config, config.pop(PROVENANCE, None) or []


def _read(path: Path, what: str, model: type[Model], missing: list[str]) -> Model:
    cure = "The report goes without it."
    try:
        return check_header(model, read_json(path, what, cure), str(path), cure, DataError)
    except DataError as error:
        missing.append(f"{path.name} is absent." if not path.exists() else str(error))
        return model()
