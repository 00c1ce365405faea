"""Mistakes in a prior or a guide of one's own, through the script: one line, status 2, and nothing left behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from pyro_dwp.nn import UNet
from pyro_dwp.priors import DeepWeightDensity
from pyro_dwp.priors.store import save_prior

Call = Callable[..., Any]
MINE = """
import pyro.distributions as dist
import torch

from guides import MeanField
from pyro_dwp.priors import PriorFamily


class Silent(PriorFamily):
    def distribution(self, site):
        dist.Normal(torch.zeros(site.kernel_shape), 0.1).to_event(len(site.kernel_shape))


class Negative(PriorFamily):
    def distribution(self, site):
        return dist.Normal(torch.zeros(site.kernel_shape), -0.1).to_event(len(site.kernel_shape))


class Endless(PriorFamily):
    def distribution(self, site):
        return dist.Normal(torch.zeros(site.kernel_shape), torch.inf).to_event(len(site.kernel_shape))


class Positive(PriorFamily):
    def distribution(self, site):
        return dist.HalfNormal(0.1 * torch.ones(site.kernel_shape)).to_event(len(site.kernel_shape))


class Misses(MeanField):
    def forward(self, *arguments, **settings):
        return {name: self.sample(name) for name in list(self.sites)[1:]}


class Misnames(MeanField):
    def distribution(self, name):
        return dist.Normal(self.parameter("means", name), 0.1).to_event(5)
"""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--prior", "mine.py:Silent"], "Silent.distribution(site 'init_conv.weight' (group '1')) returned nothing"),
        (["--prior", "mine.py:Negative"], "a scale is positive"),
        (["--prior", "mine.py:Endless"], "A draw of the prior Endless at site 'init_conv.weight' (group '1')"),
        (["--prior", "mine.py:Positive"], "where Positive has no density"),
        (["--prior", "gaussian", "--guide", "mine.py:Misses"], "but 'init_conv.weight' is missing"),
        (["--prior", "gaussian", "--guide", "mine.py:Misnames"], "Did you mean 'mean'?"),
        (["--prior", "assigned", "--prior.rules", "[{name: up*}, {kernel_size: 3, prior: gaussian}]"], "Rule 1 of 2"),
    ],
    ids=lambda value: value[-1].rpartition(":")[2] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_leaves_no_run(
    call: Call, tmp_path: Path, phantom_flags: list[str], target_flags: list[str], flags: list[str], said: str
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    done = call(tmp_path, "svi_target", *phantom_flags, *target_flags, *flags, "--name", "run")
    assert done.status == 2, done.err + done.out
    assert len(done.err.splitlines()) == 1
    assert said in done.err
    assert not (tmp_path / "runs").exists()


def test_a_latent_guide_says_its_decoder_and_refuses_to_take_another_than_the_priors_unasked(
    call: Call, no_figures: None, tmp_path: Path, phantom_flags: list[str]
) -> None:
    groups = set(UNet().kernel_groups().values())
    save_prior(
        tmp_path / "mine.safetensors", {group: DeepWeightDensity((3, 3, 3), latent=2, hidden=8) for group in groups}, {}
    )
    size = ["--preprocess.grid", "[16,16,16]", "--train", "1", "--validation", "1", "--test", "1", "--samples", "1"]
    prior = ["--prior", "deep_weight", "--prior.path", "mine.safetensors", "--guide", "latent"]
    flags = [*phantom_flags, *size, *prior, "--schedule.epochs", "1", "--name", "run", "--threads", "1"]
    refused = call(tmp_path, "svi_target", *flags)
    assert (refused.status, len(refused.err.splitlines())) == (2, 1)
    assert "Add --guide.path mine.safetensors" in refused.err
    assert not (tmp_path / "runs").exists()
    done = call(tmp_path, "svi_target", *flags, "--guide.path", "mine.safetensors")
    assert (done.status, done.err) == (0, "")
    assert "The latent guide decodes with mine.safetensors." in done.out


def test_members_of_an_ensemble_start_as_the_source_network(
    finished: Call, no_figures: None, chain: Path, tmp_path: Path, phantom_flags: list[str], target_flags: list[str]
) -> None:
    path = chain / "runs" / "source" / "networks" / "network-00-cycle-1.safetensors"
    rate = ["--schedule.learning_rate", "1.1e-6", "--schedule.stop_rate", "1e-6", "--schedule.epochs", "1"]
    guide = ["--guide", "ensemble", "--guide.guide", "point", "--guide.members", "2"]
    start = ["--start", "source", "--source", path]
    flags = [*phantom_flags, *target_flags, "--prior", "gaussian", *guide, *start, *rate, "--name", "run"]
    finished(tmp_path, "svi_target", *flags)
    source = load_file(path)
    stored = load_file(tmp_path / "runs" / "run" / "checkpoint" / "last.safetensors")
    found = {key: value for key, value in stored.items() if "/member_" in key}
    assert len(found) == 2 * len(UNet(channels=(4, 8)).kernel_groups())
    for key, value in found.items():
        expected = source[key.rpartition(":")[2].replace("/", ".")]
        assert (value - expected).abs().max() < 1e-5, key
