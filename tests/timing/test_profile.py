"""Where time goes and what memory is held, on work whose parts are known."""

import math

import pytest
import torch
from torch import Tensor, nn

from pyro_dwp.timing import Workload, profile
from pyro_dwp.timing.profile import OTHER, REST, named, shares

MIB = 2**20 // 4  # float32 numbers


class Steps(Workload):
    """A large linear layer that is called network, a smaller one that is called prior, and an optimiser."""

    def __init__(self, device: str = "cpu", width: int = 600) -> None:
        self.network, self.prior = nn.Linear(width, width, device=device), nn.Linear(width, width // 4, device=device)
        self.optimiser = torch.optim.SGD([*self.network.parameters(), *self.prior.parameters()], 1e-9)
        self.image = torch.randn(width, width, device=device)
        self.seams = {name: (getattr(self, name), "forward") for name in ("network", "prior")}
        self.seams |= {"optimiser": (self.optimiser, "step"), "inference": (self, "loss")}

    def loss(self) -> Tensor:
        loss = self.network(self.image).square().sum() + self.prior(self.image).square().sum()
        loss.backward()
        return loss

    def run(self) -> None:
        self.optimiser.zero_grad()
        self.loss()
        self.optimiser.step()


def test_the_parts_sum_to_the_whole_and_none_is_negative(device):
    parts = profile(lambda: Steps(str(device)), device).parts
    assert set(parts) <= {"network forward", "network backward", "prior", "inference", "optimiser", OTHER, REST}
    assert math.fsum(parts.values()) == pytest.approx(1)
    assert min(parts.values()) > -1e-6


def test_a_backward_operation_counts_with_the_part_that_it_is_the_gradient_of():
    """The gradient of a layer by its weight takes as many multiplications as the layer; the image needs none."""
    parts = profile(lambda: Steps(width=1500), torch.device("cpu")).parts
    assert 0.4 < parts["network backward"] / parts["network forward"] < 2.5
    assert 2 < (parts["network forward"] + parts["network backward"]) / parts["prior"] < 8


def test_only_the_quickest_time_is_looked_at():
    class Uneven(Steps):
        calls = 0

        def run(self) -> None:
            Uneven.calls += 1
            if Uneven.calls != 3:
                for _ in range(200):
                    self.image @ self.image
            super().run()

    assert profile(lambda: Uneven(width=300), torch.device("cpu")).parts[OTHER] < 0.3


def test_the_peak_is_that_of_all_tensors_that_the_work_holds_and_makes(device):
    class Holds(Workload):
        def __init__(self) -> None:
            self.kept = torch.zeros(8 * MIB, device=device)

        def run(self) -> None:
            _ = torch.zeros(3 * MIB, device=device)
            del _
            _ = torch.zeros(4 * MIB, device=device) + 1

    before = torch.zeros(5 * MIB, device=device)  # of others
    assert profile(Holds, device).peak_bytes / 2**20 == pytest.approx(16, abs=0.01)
    del before


def test_operations_are_those_of_the_products_forwards_and_backwards():
    """Each layer multiplies twice: for its output and for the gradient of its weight; the image needs none."""
    assert profile(lambda: Steps(width=40), torch.device("cpu")).flops == 2 * 2 * 40 * 40 * (40 + 10)


def test_the_methods_are_as_they_were_afterwards():
    work = Steps()
    owned = [dict(vars(owner)) for owner, _ in work.seams.values()]
    with named(work.seams):
        assert vars(work.network)["forward"] is not None
    assert [dict(vars(owner)) for owner, _ in work.seams.values()] == owned


def test_work_that_names_no_part_is_other_tensors_and_python():
    class Plain(Workload):
        def run(self) -> None:
            torch.zeros(MIB) + 1

    assert set(profile(Plain, torch.device("cpu")).parts) == {OTHER, REST}


def test_without_the_work_there_are_no_shares():
    with torch.profiler.profile() as found:
        torch.zeros(3)
    with pytest.raises(ValueError, match="empty"):
        shares(found.events())
