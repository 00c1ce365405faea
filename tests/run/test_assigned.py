"""1x1x1 kernels made random by rules: the run, its prediction in another process, and what a wrong rule says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pyro_dwp.cli.trained import load_run

Call = Callable[..., Any]
RULES = "[{kernel_size: 3, prior: gaussian}, {kernel_size: 1, prior: {class_path: laplace, init_args: {scale: 0.1}}}]"


def test_random_1x1x1_kernels_are_inferred_and_predicted_with(
    finished: Call, no_figures: None, tmp_path: Path, phantom_flags: list[str], target_flags: list[str]
) -> None:
    flags = [*phantom_flags, *target_flags, "--schedule.epochs", "1", "--name", "run"]
    finished(tmp_path, "svi_target", *flags, "--prior", "assigned", "--prior.rules", RULES)
    folder = tmp_path / "runs" / "run"
    shapes = json.loads((folder / "sites.json").read_text())
    assert {shape[-1] for shape in shapes.values()} == {1, 3}
    run = load_run(folder)
    assert {name: list(site.shape) for name, site in run.network.sites.items()} == shapes
    image = torch.randn(1, 1, 16, 16, 16)
    assert not torch.equal(run.draw()(image), run.draw()(image))


def test_a_convolution_without_a_rule_is_refused_with_the_rules(
    call: Call, tmp_path: Path, phantom_flags: list[str], target_flags: list[str]
) -> None:
    only = "[{kernel_size: 1, prior: gaussian}]"
    done = call(tmp_path, "svi_target", *phantom_flags, *target_flags, "--prior", "assigned", "--prior.rules", only)
    assert done.status == 2
    assert "'init_conv.weight' (Conv3d, kernel size 3x3x3" in done.err
    assert "1. kernel_size 1: Gaussian" in done.err
