#!/usr/bin/env python
"""Draw the figures of an experiment: scores against the number of training scans, cases beside predictions, and kernels.

python run/figures.py --experiment runs/lgg_methods
python run/figures.py --experiment runs/lgg_methods --bank runs/kernels/bank.safetensors --prior deep_weight
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import sys
from pathlib import Path

from pydantic import PositiveInt

from pyro_dwp import CaseSource, Preprocess, Prior
from pyro_dwp.kernels.bank import KernelBank
from pyro_dwp.report import kernels, save_figure
from pyro_dwp.report.case_grid import case_grid, case_row, reference_run, shown_split, typical_cases
from pyro_dwp.report.comparison import draw_kernels
from pyro_dwp.report.results import read_experiment
from pyro_dwp.report.score_curves import score_curves
from pyro_dwp.runs import read_config, run_script
from pyro_dwp.settings import instantiate
from pyro_dwp.train import configure_pyro


def main(
    experiment: Path,
    scores: list[str] = ["dice", "iou"],  # noqa: B006
    cases: PositiveInt = 3,
    bank: Path | None = None,
    prior: Prior | None = None,
    output: Path | None = None,
) -> None:
    """Write a figure for each score, cases.png and sizes.png with scan, truth and predictions, and kernels.png.

    Args:
        experiment: folder of run/experiment.py, which holds experiment.json.
        scores: scores that are drawn against the number of training scans, each in SCORE.png.
        cases: number of test scans in cases.png, at evenly spaced ranks of the reference's Dice; sizes.png shows the median one.
        bank: kernels of source networks, for kernels.png; null draws none.
        prior: whose samples are drawn beside these kernels.
        output: folder for the figures; null takes figures/ in the experiment's folder.
    """
    configure_pyro(validation=False)
    results, folder = read_experiment(experiment), output or experiment / "figures"
    written = [save_figure(score_curves(results, score), folder / f"{score.replace('/', '_')}.png") for score in scores]
    config = read_config(reference_run(results))
    source = instantiate(CaseSource, config.get("data"), "data")
    preprocess = instantiate(Preprocess, config.get("preprocess") or {}, "preprocess")
    largest = results.sizes[-1]
    split, dice = shown_split(results, largest)
    shown = [case_row(results, case, largest, split, source, preprocess) for case in typical_cases(dice, cases)]
    written.append(save_figure(case_grid(shown), folder / "cases.png"))
    (median,) = typical_cases(dice, 1)
    shown = [case_row(results, median, size, split, source, preprocess) for size in results.sizes]
    written.append(save_figure(case_grid(shown), folder / "sizes.png"))
    if bank is not None and prior is not None:
        trained = KernelBank.load(bank)
        samples = draw_kernels(dict.fromkeys(trained.groups, prior), trained)
        written.append(save_figure(kernels(trained.kernels, samples), folder / "kernels.png"))
    print(f"{len(written)} figures written: {folder}")


if __name__ == "__main__":
    sys.exit(run_script(main))
