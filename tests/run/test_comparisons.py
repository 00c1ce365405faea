"""The scripts that compare: benchmark.py methods on phantoms, compare_priors.py priors on kernels that were drawn."""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pyro_dwp.kernels.bank import KernelBank
from pyro_dwp.nn import UNet

RUN = Path(__file__).parents[2] / "run"
TARGET = """{
  data: {class: phantoms, cases: 5, shape: [16, 16, 16]}, preprocess: {grid: [16, 16, 16]},
  network: {class: unet, channels: [4, 8]}, prior: gaussian, guide: mean_field, likelihood: dice_cross_entropy,
  train: 2, validation: 1, test: 2, samples: 1, schedule: {epochs: 1}}
"""
BENCHMARK = """{
  target: tiny.yaml, methods: {mean field: {}, point: {guide: point, kl_weight: 0}}, reference: point, name: small,
  common: {threads: 1}, splits: 1}
"""
DEEP = {"family": {"class": "deep_weight", "hidden": 8, "latent": 2}, "bound_draws": 3, "schedule": {"epochs": 1}}
COMPARISON = {
    "fixed": {"gaussian": "gaussian", "laplace": {"class": "laplace"}},
    "learned": {"empirical": {"family": "empirical"}, "deep": DEEP},
}
METHODS = ["benchmark", "--config", "benchmark.yaml"]
PRIORS = ["compare_priors", "--config", "priors.yaml", "--bank", "bank.safetensors"]


@pytest.fixture
def folder(tmp_path):
    """Working folder with the config of a benchmark."""
    (tmp_path / "tiny.yaml").write_text(TARGET)
    (tmp_path / "benchmark.yaml").write_text(BENCHMARK)
    return tmp_path


class Begun(list):
    """Arguments of the runs that a script began; `ends`, where it is set, stands in for each run and returns its status."""

    ends: Callable[[], int] | None = None


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
            ends = commands.ends or (lambda: call(Path.cwd(), script.stem, *command[2:]).status)
            return subprocess.CompletedProcess(command, ends())

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_finished_methods_are_compared_begun_ones_resumed_and_changed_ones_refused(finished, refused, begun, folder):
    runs, point = folder / "runs" / "small", "point-split-0"
    for _ in range(2):
        assert "| mean field |" in finished(folder, *METHODS).out
        for name, row in json.loads((runs / "summary.json").read_text()).items():
            metrics = json.loads((runs / f"{name}-split-0" / "metrics.json").read_text())
            assert row["dice"]["mean"] == metrics["test"]["mean"]["dice"]
        (runs / point / "metrics.json").unlink()
    given = ["--config", "tiny.yaml", "--config", f"runs/small/{point}.yaml"]
    assert begun[1:] == [given, [*given, "--resume"]]
    run = "runs/small/mean field-split-0"
    refused([run, "kl_weight was 1.0 and is now 0.5", "--name"], *METHODS, "--common", "{kl_weight: 0.5}")
    refused([run, "fewer epochs"], *METHODS, "--common", "{schedule: {epochs: 2}}")


def ctrl_c() -> int:
    signal.raise_signal(signal.SIGINT)
    return 130


@pytest.mark.parametrize("how", [lambda: 130, lambda: -signal.SIGINT, ctrl_c], ids=["stopped", "killed", "ctrl_c"])
def test_after_ctrl_c_no_further_run_is_begun_and_the_cure_is_named(call, begun, folder, how):
    begun.ends = how
    done = call(folder, *METHODS)
    assert (done.status, done.err.strip().count("\n"), len(begun)) == (130, 0, 1)
    assert "same command again" in done.err


@pytest.mark.parametrize(("parallel", "place"), [(1, "above"), (2, "in runs/small/mean field-split-0.log")])
def test_after_a_failure_no_run_is_begun_and_its_command_is_named(call, begun, folder, parallel, place):
    begun.ends = lambda: 2
    done = call(folder, *METHODS, "--splits", 2, "--parallel", parallel)
    assert done.status == 2
    assert any(shlex.join(command) in done.err for command in begun)  # of two at a time, either may fail first
    assert parallel == 2 or place in done.err
    assert len(begun) <= parallel


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--reference", "none"], ["reference", "'none'", "point"]),
        (["--splits", 0], ["splits is 0"]),
        (["--parallel", 0], ["parallel is 0"]),
        (["--target", "tinny"], ["tinny"]),
        (["--name", "../elsewhere"], ["--name"]),
        (["--methods", "{point: {prior: {class: gaussian, scal: 1}}}"], ["methods.point", "prior.scal", "'scale'"]),
        (["--methods", "{point: {seed: 3}}"], ["methods.point", "seed"]),
    ],
    ids=str,
)
def test_methods_that_make_no_comparison_are_refused_before_anything_is_written(refused, folder, flags, parts):
    refused(parts, *METHODS, *flags)


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
