#!/usr/bin/env python
"""Score finished runs on labelled cases: a run on another disease, or several runs as one ensemble.

Probabilities of an ensemble are averaged over its members with equal weights.

    python run/score.py --runs '[runs/a, runs/b, runs/c]'                                   # on the test scans of runs/a
    python run/score.py --runs '[runs/a]' --data decathlon --data.folder my_source --split runs/my_source/split.json
"""

import pyro_dwp.launch  # noqa: F401  # isort: skip  (first, so that Ctrl-C during the other imports ends quietly)

import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Annotated, Literal

from annotated_types import MinLen

from pyro_dwp import CaseSource, Preprocess, configure_pyro
from pyro_dwp.data import check_cases, read_split
from pyro_dwp.files import write_json
from pyro_dwp.predict import Maps, Postprocess, Precision, Samples, Scoring
from pyro_dwp.runs import Run, load_posterior, mixture, read_config, run_script
from pyro_dwp.settings import Flat, instantiate
from pyro_dwp.train import Machine


def main(
    runs: Annotated[list[Path], MinLen(1)],
    run: Annotated[Run, Flat()],
    machine: Annotated[Machine, Flat()],
    data: CaseSource | None = None,
    preprocess: Preprocess | None = None,
    split: Path | None = None,
    score: Literal["test", "validation"] = "test",
    samples: Samples | None = None,
    postprocess: Postprocess | None = None,
    maps: Maps = ("entropy",),
    map_precision: Precision = "uint8",
    calibrate: bool = True,
    seed: int = 0,
) -> None:
    """Predict cases with runs that have finished, and write their scores as run/svi_target.py does.

    Args:
        runs: folders of runs of run/svi_target.py or run/meta_tune.py; several are an ensemble.
        data: labelled cases; null takes those of the first run.
        preprocess: how a scan becomes the networks' input; null prepares it as in training.
        split: file that lists the test and validation cases; null takes that of the first run.
        score: cases that are scored.
        samples: networks drawn from each run; null takes the number that the first run predicted with.
        postprocess: what is done to masks after the network; null does what the first run did.
        maps: written beside the masks: any of probability, entropy, mutual_information and structure_entropy.
        map_precision: of these maps: 8 bits, 1/255 of the largest value a step, or exact values.
        calibrate: fit a temperature, and intervals of volumes, on the validation scans of the split.
        seed: seed of the draws; every case sees the same networks.
    """
    configure_pyro(validation=False)
    device = machine.use()
    members = [load_posterior(folder, device) for folder in runs]
    source = data or instantiate(CaseSource, read_config(runs[0])["data"], "data")
    members[0].check_sequences(source.sequences(members[0].channels), "the data")
    cure = "correct the file" if split else "score another run"
    divided = read_split(split or runs[0] / "split.json", source.names(), cure)
    names = divided.held_out(score)
    prepared = preprocess or members[0].preprocess
    checked = check_cases(source, names, prepared, members[0].classes, members[0].channels)
    drawn = len(members) * (samples or members[0].samples)
    folder = run.begin()
    print(f"{folder}: {len(members)} run(s), {drawn} networks", checked.describe(), sep="\n")
    start = perf_counter()
    after = postprocess or members[0].postprocess
    first = members[0].predictor(drawn, seed)
    predictor = replace(first, draw=mixture(members), preprocess=prepared, postprocess=after)
    result = Scoring(drawn, score, after, maps, map_precision, calibrate).evaluate(predictor, source, divided, folder)
    found = result.to_dict() | {"seconds": perf_counter() - start}
    write_json(folder / "metrics.json", found | machine.cost())
    print(result.describe(), f"{result.headline()}. Results: {folder}", sep="\n")


if __name__ == "__main__":
    sys.exit(run_script(main))
