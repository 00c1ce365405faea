"""The two scripts between source networks and a prior, on networks that were drawn, not trained."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from pyro_dwp.cli import run_script
from pyro_dwp.kernels.bank import KernelBank
from pyro_dwp.nn.unet import UNet
from pyro_dwp.priors.store import load_prior
from pyro_dwp.transfer import save_network

RUN = Path(__file__).parents[2] / "run"
QUICK = ["--hidden", "8", "--latent", "2", "--samples", "3", "--schedule.epochs", "2", "--schedule.batch_size", "500"]


def script(name):
    spec = importlib.util.spec_from_file_location(name, RUN / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("runs") / "source"
    for index in range(2):
        for cycle in range(2):
            path = folder / "networks" / f"network-{index:02d}-cycle-{cycle}.safetensors"
            save_network(path, UNet(channels=(4, 8)), {"network": index, "cycle": cycle})
    (folder / "config.yaml").write_text("network: {class_path: pyro_dwp.nn.UNet, init_args: {channels: [4, 8]}}\n")
    return folder


@pytest.fixture
def bank(source):
    assert run_script(script("collect_kernels"), None, ["--sources", str(source), "--name", "kernels"]) == 0
    return Path("runs") / "kernels" / "bank.safetensors"


def test_collected_kernels_are_those_of_all_snapshots(bank):
    found = KernelBank.load(bank)
    assert {group: len(kernels) for group, kernels in found.kernels.items()} == {"1": 144, "2": 768, "3": 128}
    assert found.networks == [0, 1]
    assert [snapshot["cycle"] for snapshot in found.metadata["provenance"]["snapshots"]] == [0, 1, 0, 1]


def test_collecting_prints_a_line_for_each_group(source, capsys):
    run_script(script("collect_kernels"), None, ["--sources", f"[{source}, {source}]"])
    lines = capsys.readouterr().out.splitlines()
    assert "Gauss - iso" in lines[0]
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "3"]
    assert "8 snapshots of 2 networks" in lines[-1]


@pytest.mark.parametrize("variant", ["dense", "paper"])
def test_a_bank_becomes_a_prior_with_its_scores(bank, variant, capsys):
    command = ["--bank", str(bank), "--name", "prior", "--variant", variant, "--licence", "CC0", *QUICK]
    assert run_script(script("train_prior"), None, command) == 0
    stored = load_prior("runs/prior/prior.safetensors", {"1": (3, 3, 3)})
    assert (stored.variant, stored.latent, stored.metadata["licence"]) == (variant, 2, "CC0")
    scores = json.loads(Path("runs/prior/metrics.json").read_text())
    assert [row["group"] for row in scores["nats_per_kernel"]] == ["1", "2", "3"]
    assert all(row["deep"]["error"] > 0 for row in scores["nats_per_kernel"])
    assert Path("runs/prior/figures/kernels.png").stat().st_size > 1000
    assert "VAE - iso" in capsys.readouterr().out


def test_a_resumed_fit_ends_with_the_same_prior(bank):
    main = script("train_prior")
    run_script(main, None, ["--bank", str(bank), "--name", "whole", *QUICK])
    run_script(main, None, ["--bank", str(bank), "--name", "parts", *QUICK, "--schedule.epochs", "1"])
    run_script(main, None, ["--bank", str(bank), "--name", "parts", *QUICK, "--resume"])
    whole, parts = (load_prior(f"runs/{name}/prior.safetensors").coders.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_folder_that_is_no_source_run_is_one_clear_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_script(script("collect_kernels"), None, ["--sources", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_bank_is_one_clear_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_script(script("train_prior"), None, ["--bank", "nowhere.safetensors"]) == 2
    assert "nowhere.safetensors does not exist" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
