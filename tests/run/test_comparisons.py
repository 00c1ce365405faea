"""compare_priors.py, on kernels that were drawn."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pyro_dwp.kernels.bank import KernelBank
from pyro_dwp.nn import UNet

RUN = Path(__file__).parents[2] / "run"
DEEP = {"family": {"class": "deep_weight", "hidden": 8, "latent": 2}, "bound_draws": 3, "schedule": {"epochs": 1}}
COMPARISON = {
    "fixed": {"gaussian": "gaussian", "laplace": {"class": "laplace"}},
    "learned": {"empirical": {"family": "empirical"}, "deep": DEEP},
}
PRIORS = ["compare_priors", "--config", "priors.yaml", "--bank", "bank.safetensors"]


class Begun(list):
    """Arguments of the runs that a script began."""


@pytest.fixture
def begun(call, monkeypatch) -> Begun:
    """Have the runs that a script begins take place in this process, without figures."""
    process, commands = subprocess.run, Begun()

    def run(command: list[str], **others: Any) -> subprocess.CompletedProcess[str]:
        if command[0] != sys.executable:
            return process(command, **others)
        script = Path(command[1])
        assert script.parent == RUN
        commands.append(command[2:])
        with pytest.MonkeyPatch.context() as spared:
            spared.setattr(signal, "signal", lambda *arguments: None)  # which is for the main thread only
            for name in ("run_figures.save_figure", "save_figure", "kernels"):
                spared.setattr(f"pyro_dwp.report.{name}", lambda *arguments: None)
            return subprocess.CompletedProcess(command, call(Path.cwd(), script.stem, *command[2:]).status)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def write_bank(folder: Path, networks: int = 4, **sections: dict[str, Any]) -> None:
    """Write a bank of drawn kernels, and a config in which these entries join those of the comparison."""
    found = UNet().kernel_groups()
    layers = {group: [name for name in found if found[name] == group] for group in found.values()}
    kernels = {group: 0.02 * torch.randn(networks * 60, 3, 3, 3) for group in layers}
    sources = dict.fromkeys(layers, torch.arange(networks).repeat_interleave(60))
    facts = {"snapshots": networks, "left_out": dict.fromkeys(layers, 0), "layers": layers}
    KernelBank(kernels, sources, facts).save(folder / "bank.safetensors")
    config = {name: entries | sections.get(name, {}) for name, entries in COMPARISON.items()}
    (folder / "priors.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def test_every_prior_gets_a_row_and_a_figure_and_is_kept_for_the_next_time(finished, begun, tmp_path):
    write_bank(tmp_path)
    flags = [*PRIORS, "--name", "both", "--grid", "[16,16,16]", "--steps", "1"]
    lines = finished(tmp_path, *flags).out.splitlines()
    titles = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert titles == ["prior", "---", "gaussian", "laplace", "pretrained: around one network", "empirical", "deep"]
    folder = tmp_path / "runs" / "both"
    rows = {row["name"]: row for row in json.loads((folder / "metrics.json").read_text())}
    assert abs(rows["gaussian"]["gains"]["1"]["mean"]) < 1e-4
    assert [rows[name]["exact"] for name in ("empirical", "deep")] == [True, False]
    assert rows["pretrained: around one network"]["parameters"] == 7 * 60 * 27
    assert all(row["step_seconds"] > 0 for row in rows.values())
    assert (folder / "figures" / "kernels.png").stat().st_size > 1000
    finished(tmp_path, *flags, "--resume")
    assert len(begun) == 2


def test_a_fit_that_fails_is_named_and_the_others_are_kept(call, begun, tmp_path):
    write_bank(tmp_path, learned={"deep": {"family": {"class": "mixture", "components": 900}}})
    done = call(tmp_path, *PRIORS, "--steps", "0", "--name", "both")
    assert done.status == 2
    assert "train_prior.py --config runs/both/deep.yaml" in done.err
    assert "--resume --name both" in done.err
    assert (tmp_path / "runs" / "both" / "empirical" / "prior.safetensors").exists()


@pytest.mark.parametrize(
    ("networks", "section", "settings", "parts"),
    [
        (2, "fixed", "gaussian", ["at least three networks", "has 2"]),
        (4, "learned", {"family": "nothing"}, ["learned.odd", "no Fit called 'nothing'"]),
        (4, "learned", {"family": {"class": "mixture", "componets": 3}}, ["learned.odd", "'components'"]),
        (4, "learned", {"family": "mixture", "held_out": 0.5, "seed": 3}, ["learned.odd", "held_out, seed"]),
        (4, "fixed", {"class": "gausian"}, ["fixed.odd", "no Prior called 'gausian'"]),
        (4, "fixed", "mixture", ["fixed.odd", "`scale`", "`learned`"]),
    ],
    ids=str,
)
def test_priors_that_cannot_be_compared_are_refused_first(refused, tmp_path, networks, section, settings, parts):
    write_bank(tmp_path, networks, **{section: {"odd": settings}})
    refused(parts, *PRIORS)
