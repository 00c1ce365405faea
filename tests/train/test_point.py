import numpy as np
import pytest
import torch

from pyro_dwp.data import Prepared
from pyro_dwp.errors import ConfigError
from pyro_dwp.nn import UNet
from pyro_dwp.train import PointTask
from pyro_dwp.train.point import validate_network


def case(name: str, seed: int, edge: int = 16) -> Prepared:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(1, edge, edge, edge, generator=generator)
    label = (image[0] > 0.5).long()
    return Prepared(name, image, label, np.eye(4), (edge,) * 3, ((0, edge),) * 3)


def test_steps_lower_the_loss() -> None:
    cases = [case(str(i), i) for i in range(2)]
    task = PointTask(UNet(channels=(4, 8)), cases, cases, learning_rate=0.01)
    before = task.validate()["loss"]
    for _ in range(10):
        task.step(torch.tensor([0, 1]))
    assert task.validate()["loss"] < before - 0.1


def test_weight_decay_shrinks_weights_by_rate_times_decay_where_there_is_no_gradient() -> None:
    cases = [case("a", 0)]
    task = PointTask(UNet(channels=(4, 8)), cases, cases, learning_rate=0.01, weight_decay=2.0)
    weights = [p.detach().clone() for p in task.network.parameters()]
    for parameter in task.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    task.optimiser.step()
    for before, after in zip(weights, task.network.parameters(), strict=True):
        torch.testing.assert_close(after.detach(), 0.98 * before)


def test_validation_is_the_mean_over_cases_and_changes_nothing() -> None:
    cases = [case(str(i), i) for i in range(3)]
    network = UNet(channels=(4, 8))
    single = [validate_network(network, [one]) for one in cases]
    together = validate_network(network, cases)
    for key in ("loss", "dice"):
        assert together[key] == pytest.approx(sum(row[key] for row in single) / 3)


def test_a_network_that_is_right_has_dice_one() -> None:
    cases = [case("a", 0)]

    def oracle(image: torch.Tensor) -> torch.Tensor:
        inside = (image[:, 0] > 0.5).float()
        return 50 * torch.stack([1 - inside, inside], dim=1)

    scores = validate_network(oracle, cases)
    assert scores["dice"] == 1.0
    assert scores["loss"] < 1e-3


@pytest.mark.parametrize("wrong", [{"learning_rate": -1e-3}, {"learning_rate": 1e-3, "weight_decay": -1.0}])
def test_a_negative_rate_is_refused(wrong: dict[str, float]) -> None:
    cases = [case("a", 0)]
    with pytest.raises(ConfigError, match=r"numbers from 0 on.*-"):
        PointTask(UNet(channels=(4, 8)), cases, cases, **wrong)
