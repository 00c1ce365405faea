"""run/train_source.py: what it keeps, and that an interruption changes nothing."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pyro_dwp.nn import UNet
from pyro_dwp.train import PointTask
from pyro_dwp.transfer import load_network

Call = Callable[..., Any]
STEPS = 8  # two networks, two cycles, two epochs of one step


@pytest.fixture
def flags(phantom_flags: list[str], source_flags: list[str]) -> list[str]:
    """Flags of the run that `source` holds."""
    return [*phantom_flags, "--data.disease", "plaques", *source_flags]


@pytest.fixture
def run(finished: Call, flags: list[str], tmp_path: Path) -> Call:
    """Return a function that runs the script with these flags and returns its folder."""

    def train(*more: object, name: str = "run") -> Path:
        finished(tmp_path, "train_source", *flags, "--name", name, *more)
        return tmp_path / "runs" / name

    return train


def snapshots(folder: Path) -> dict[str, tuple[dict[str, Tensor], dict[str, Any]]]:
    """Name → weights and facts of each network that a run has kept."""
    loaded = {}
    for path in sorted((folder / "networks").iterdir()):
        network = UNet(channels=(4, 8))
        facts = load_network(path, network)
        loaded[path.stem] = network.state_dict(), facts
    return loaded


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def size(weights: dict[str, Tensor]) -> float:
    return torch.cat([value.flatten() for value in weights.values()]).norm().item()


def test_every_network_leaves_one_snapshot_per_cycle(source: Path) -> None:
    kept = snapshots(source / "runs" / "source")
    assert list(kept) == [f"network-{network:02d}-cycle-{cycle}" for network in range(2) for cycle in range(2)]
    assert [(facts["network"], facts["cycle"], facts["seed"]) for _, facts in kept.values()] == [
        (0, 0, 0), (0, 1, 0), (1, 0, 1), (1, 1, 1),
    ]  # fmt: skip


def test_networks_and_cycles_differ(source: Path) -> None:
    weights = [weights for weights, _ in snapshots(source / "runs" / "source").values()]
    assert not any(equal(weights[i], weights[j]) for i in range(4) for j in range(i))


def test_metrics_name_loss_dice_length_and_time_of_each_snapshot(source: Path) -> None:
    folder = source / "runs" / "source"
    stored = json.loads((folder / "metrics.json").read_text())["snapshots"]
    assert stored == [facts for _, facts in snapshots(folder).values()]
    for facts in stored:
        assert facts["epochs"] == 2
        assert facts["stopped"] == "epochs"
        assert facts["seconds"] > 0
        assert 0 <= facts["dice"] <= 1
        assert facts["loss"] > 0


def test_training_and_validation_share_no_case(source: Path) -> None:
    split = json.loads((source / "runs" / "source" / "split.json").read_text())
    assert {part: len(cases) for part, cases in split.items()} == {"train": 2, "validation": 1, "test": 0}
    assert len(set(split["train"] + split["validation"])) == 3


def test_the_same_seed_gives_the_same_networks_whatever_their_number(run: Call, source: Path) -> None:
    first = snapshots(source / "runs" / "source")
    (weights, facts) = snapshots(run("--networks", 1, "--cycles", 1, "--seed", 1))["network-00-cycle-0"]
    assert facts["seed"] == 1
    assert equal(weights, first["network-01-cycle-0"][0])


def test_initial_scale_and_weight_decay_shrink_the_kernels(run: Call) -> None:
    one = ["--networks", 1, "--cycles", 1]
    sizes = [
        size(snapshots(run(*one, "--initial_scale", scale, "--weight_decay", decay, name=f"{scale}-{decay}"))[
            "network-00-cycle-0"
        ][0])
        for scale, decay in ((1, 0), (1, 100), (0.05, 0))
    ]  # fmt: skip
    assert sizes[2] < 0.5 * sizes[0]
    assert sizes[1] < 0.95 * sizes[0]


@pytest.mark.parametrize("step", [2, 4, 7])
def test_a_run_stopped_by_ctrl_c_and_resumed_keeps_the_same_networks(
    run: Call,
    call: Call,
    source: Path,
    flags: list[str],
    step: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken, step_of = [], PointTask.step

    def interrupted(task: PointTask, indices: Tensor) -> dict[str, float]:
        taken.append(indices)
        if len(taken) == step:
            signal.raise_signal(signal.SIGINT)
        return step_of(task, indices)

    monkeypatch.setattr(PointTask, "step", interrupted)
    stopped = call(tmp_path, "train_source", *flags, "--name", "run")
    assert stopped.status == 130
    assert "--resume" in stopped.err
    assert "Traceback" not in stopped.err
    whole, resumed = snapshots(source / "runs" / "source"), snapshots(run("--resume"))
    assert len(taken) == STEPS + 1
    assert list(whole) == list(resumed)
    assert all(equal(whole[name][0], resumed[name][0]) for name in whole)


def test_without_a_config_phantoms_with_plaques_are_the_source(call: Call, tmp_path: Path) -> None:
    shown = " ".join(call(tmp_path, "train_source", "--help").out.split())
    assert "--networks NETWORKS number of networks, each from its own initialisation. (type: int, default: 2)" in shown
    assert "plaques" in shown
