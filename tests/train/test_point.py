"""Point training: steps, weight decay and validation."""

import numpy as np
import pytest
import torch

from pyro_dwp.data import Patches, Prepared
from pyro_dwp.errors import ConfigError
from pyro_dwp.likelihoods import dice_cross_entropy
from pyro_dwp.nn import UNet
from pyro_dwp.nn.windows import class_probabilities
from pyro_dwp.train import PointTask
from pyro_dwp.train.point import validation_scores
from tests.helpers.refusal import refuses


def cases(number: int, edge: int = 16) -> list[Prepared]:
    images = torch.randn(number, 1, edge, edge, edge)
    return [
        Prepared(str(i), image, (image[0] > 0.5).long(), np.eye(4), (edge,) * 3, ((0, edge),) * 3)
        for i, image in enumerate(images)
    ]


def test_steps_lower_the_loss() -> None:
    scans = cases(2, edge=8)
    task = PointTask(UNet(channels=(4, 8)), scans, scans, learning_rate=0.01)
    before = task.validate()["loss"]
    for _ in range(10):
        task.step(torch.tensor([0, 1]))
    assert task.validate()["loss"] < before - 0.1


def test_a_network_learns_from_patches_and_is_validated_by_windows_of_their_size() -> None:
    torch.manual_seed(0)
    scans, shapes = cases(2, edge=12), set()
    task = PointTask(UNet(channels=(4, 8)), scans, scans, learning_rate=0.01, patches=Patches((8, 8, 20)))
    task.network.register_forward_hook(lambda module, inputs, output: shapes.add(tuple(output.shape[2:])))
    before = task.validate()["loss"]
    for _ in range(30):
        task.step(torch.tensor([0, 1]))
    assert task.validate()["loss"] < before - 0.1
    assert shapes == {(8, 8, 12)}


def test_weight_decay_shrinks_weights_by_rate_times_decay_where_there_is_no_gradient() -> None:
    task = PointTask(UNet(channels=(4, 8)), cases(1), cases(1), learning_rate=0.01, weight_decay=2.0)
    weights = [p.detach().clone() for p in task.network.parameters()]
    for parameter in task.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    task.optimiser.step()
    for before, after in zip(weights, task.network.parameters(), strict=True):
        torch.testing.assert_close(after.detach(), 0.98 * before)


def test_validation_is_the_mean_over_cases_and_nothing_without_any() -> None:
    scans, network = cases(3), UNet(channels=(4, 8))
    single, together = [validation_scores([network], [one]) for one in scans], validation_scores([network], scans)
    assert validation_scores([network], []) == {}
    for key in ("loss", "dice"):
        assert together[key] == pytest.approx(sum(row[key] for row in single) / 3)


@pytest.mark.parametrize("window", [None, (8, 8, 8), (99, 99, 99)])
def test_cases_of_one_grid_share_passes_and_score_as_they_do_alone(window, monkeypatch) -> None:
    scans = [*cases(3), *cases(2, edge=12), *cases(1)]
    batches: list[int] = []
    network = UNet(channels=(4, 8))
    network.register_forward_pre_hook(lambda module, given: batches.append(len(given[0])))
    alone = [validation_scores([network, network], [one], window=window) for one in scans]
    batches.clear()
    monkeypatch.setattr("pyro_dwp.train.point.at_once", lambda grid, device: 2)
    together = validation_scores([network, network], scans, window=window)
    assert set(batches) == ({1, 2} if window != (8, 8, 8) else set(batches))
    for key in ("loss", "dice"):
        assert together[key] == pytest.approx(sum(row[key] for row in alone) / 6, rel=1e-5)


@pytest.mark.parametrize("window", [None, (8, 8, 8)])
def test_validation_slab_by_slab_is_that_of_the_whole_volume(window, monkeypatch) -> None:
    scans, networks = cases(2, edge=12), [UNet(channels=(4, 8)).eval() for _ in range(3)]
    expected = []
    for case in scans:
        probability = (
            torch.stack([class_probabilities(network, case.image, window) for network in networks]).mean(0).detach()
        )
        expected.append(dice_cross_entropy(probability.log()[None], case.label[None]).item())
    monkeypatch.setattr("pyro_dwp.train.point.SLAB", 5 * 12 * 12)
    found = validation_scores(networks, scans, window=window)
    assert found["loss"] == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_a_network_that_is_right_has_dice_one() -> None:
    def oracle(image: torch.Tensor) -> torch.Tensor:
        inside = (image[:, 0] > 0.5).float()
        return 50 * torch.stack([1 - inside, inside], dim=1)

    scores = validation_scores([oracle], cases(1))
    assert scores["dice"] == 1.0
    assert scores["loss"] < 1e-3


@pytest.mark.parametrize("value", [-1e-3, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["learning_rate", "weight_decay"])
def test_a_rate_that_is_negative_or_not_finite_is_refused(name: str, value: float) -> None:
    with refuses(name, error=ConfigError):
        PointTask(UNet(channels=(4, 8)), [], [], **{"learning_rate": 1e-3, name: value})
