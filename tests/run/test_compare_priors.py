"""The comparison of priors, on kernels that were drawn, not trained."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pyro_dwp.kernels.bank import KernelBank
from pyro_dwp.nn import UNet

Call = Callable[..., Any]
COMPARISON = {
    "fixed": {"gaussian": {"class_path": "gaussian"}, "laplace": {"class_path": "laplace"}},
    "learned": {
        "empirical": "--prior empirical",
        "deep": "--prior deep_weight --prior.hidden 8 --prior.latent 2 --prior.samples 3 --schedule.epochs 1",
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    layers: dict[str, list[str]] = {}
    for name, group in UNet().kernel_groups().items():
        layers.setdefault(group, []).append(name)
    kernels = {group: 0.02 * torch.randn(4 * 60, 3, 3, 3) for group in layers}
    sources = {group: torch.arange(4).repeat_interleave(60) for group in layers}
    facts = {"snapshots": 4, "left_out": dict.fromkeys(layers, 0), "layers": layers}
    KernelBank(kernels, sources, facts).save(tmp_path / "bank.safetensors")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(COMPARISON, sort_keys=False))
    return tmp_path


def test_every_prior_gets_a_row_a_figure_and_is_kept_for_the_next_time(finished: Call, folder: Path) -> None:
    flags = ["--config", "small.yaml", "--bank", "bank.safetensors", "--name", "both"]
    flags += ["--grid", "[16,16,16]", "--batch", "1", "--steps", "1"]
    first = finished(folder, "compare_priors", *flags)
    titles = [line.split("|")[1].strip() for line in first.out.splitlines() if line.startswith("|")]
    assert titles == ["prior", "---", "gaussian", "laplace", "pretrained: around one network", "empirical", "deep"]
    rows = {row["name"]: row for row in json.loads((folder / "runs" / "both" / "metrics.json").read_text())}
    assert abs(rows["gaussian"]["gains"]["1"]["mean"]) < 1e-4
    assert [rows[name]["exact"] for name in ("empirical", "deep")] == [True, False]
    assert rows["pretrained: around one network"]["parameters"] == 7 * 60 * 27
    assert all(rows[name]["step_seconds"] > 0 for name in rows)
    assert (folder / "runs" / "both" / "figures" / "kernels.png").stat().st_size > 1000
    fitted = (folder / "runs" / "both" / "empirical" / "prior.safetensors").stat().st_mtime_ns
    finished(folder, "compare_priors", *flags, "--resume")
    assert (folder / "runs" / "both" / "empirical" / "prior.safetensors").stat().st_mtime_ns == fitted


def test_a_fit_that_fails_is_named(call: Call, folder: Path) -> None:
    learned = {"empirical": "--prior empirical", "few": "--prior mixture --prior.components 5000"}
    (folder / "small.yaml").write_text(yaml.safe_dump({**COMPARISON, "learned": learned}))
    flags = ["--config", "small.yaml", "--bank", "bank.safetensors", "--steps", "0", "--name", "both"]
    done = call(folder, "compare_priors", *flags)
    assert done.status != 0
    assert "train_prior.py" in done.err
    assert "--prior.components 5000" in done.err
    assert (folder / "runs" / "both" / "empirical" / "prior.safetensors").exists()


@pytest.mark.parametrize(
    ("section", "settings", "said"),
    [
        ("learned", "--prior nothing", r"learned\.odd: .*no PriorFit called 'nothing'"),
        ("learned", "--prior mixture --prior.componets 3", r"learned\.odd: FitMixture has no argument 'componets'"),
        ("learned", "--prior mixture --held_out 0.5 --seed=3", r"learned\.odd: --held_out, --seed is set for all"),
        ("fixed", {"class_path": "gausian"}, r"fixed\.odd: .*no PriorFamily called 'gausian'"),
        ("fixed", {"class_path": "mixture"}, r"(?s)fixed\.odd: .*take the argument scale"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_before_the_first_fit(
    call: Call, folder: Path, section: str, settings: Any, said: str
) -> None:
    config = {**COMPARISON, section: {**COMPARISON[section], "odd": settings}}
    (folder / "small.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    done = call(folder, "compare_priors", "--config", "small.yaml", "--bank", "bank.safetensors", "--name", "both")
    assert done.status == 2
    assert re.search(said, done.err)
    assert not (folder / "runs").exists()
