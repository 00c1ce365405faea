"""The posterior predictive distribution against closed forms."""

import gc
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyro_dwp.errors import ConfigError
from pyro_dwp.nn import UNet
from pyro_dwp.predict import Network, posterior_predictive
from tests.helpers.refusal import refuses

IMAGE = torch.zeros(1, 2, 3, 4, dtype=torch.float64)


def drawing(probabilities: Tensor) -> Callable[[], Network]:
    """Return a draw whose s-th network answers with row s of `probabilities` (S, C) at every voxel."""
    rows = (row.reshape(1, -1, 1, 1, 1) for row in probabilities.log())
    return lambda: partial(lambda row, x: row.expand(1, -1, *x.shape[2:]), next(rows))


def random_network() -> Network:
    """Draw a network with random weights from the global generator."""
    weights = torch.randn(3, dtype=torch.float64).reshape(1, 3, 1, 1, 1)
    return lambda x: weights * (1 + x)


@given(seed=st.integers(0, 10_000), samples=st.integers(1, 6), classes=st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_the_mean_of_probabilities_entropy_and_mutual_information_are_the_textbook_sums(seed, samples, classes):
    sampled = torch.rand(samples, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    sampled = sampled / sampled.sum(1, keepdim=True)
    prediction = posterior_predictive(drawing(sampled), IMAGE, samples=samples, seed=0)
    mean = [sum(column) / samples for column in zip(*sampled.tolist(), strict=True)]
    total = -sum(p * math.log(p) for p in mean)
    noise = -sum(p * math.log(p) for row in sampled.tolist() for p in row) / samples
    expected = torch.tensor([*mean, total, total - noise], dtype=torch.float64)[:, None, None, None].expand(-1, 2, 3, 4)
    found = torch.cat([prediction.probability, prediction.entropy[None], prediction.mutual_information[None]])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(prediction.volumes, IMAGE.numel() * sampled)


@pytest.mark.parametrize("classes", [2, 3])
def test_disagreement_is_all_mutual_information_and_shared_doubt_has_none(classes):
    sure = posterior_predictive(drawing(torch.eye(classes, dtype=torch.float64)), IMAGE, classes, seed=0)
    expected = torch.full_like(sure.entropy, math.log(classes))
    torch.testing.assert_close(sure.entropy, expected)
    torch.testing.assert_close(sure.mutual_information, expected)
    doubt = torch.full((7, classes), 1 / classes, dtype=torch.float64)
    unsure = posterior_predictive(drawing(doubt), IMAGE, 7, seed=0)
    torch.testing.assert_close(unsure.entropy, expected)
    assert unsure.mutual_information.max() < 1e-14


@pytest.mark.parametrize("window", [None, (4, 4, 4)])
def test_one_sample_has_no_mutual_information_to_the_last_bit(window):
    network = UNet(channels=(2, 4))
    image = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    prediction = posterior_predictive(lambda: network, image, samples=1, seed=0, window=window)
    assert prediction.entropy.max() > 0
    assert not prediction.probability.requires_grad
    assert torch.equal(prediction.mutual_information, torch.zeros(8, 8, 8))


def test_a_prediction_follows_its_seed_and_leaves_the_random_state_alone_even_after_an_error():
    before = torch.get_rng_state()
    first, other = (posterior_predictive(random_network, IMAGE, samples=4, seed=seed) for seed in (3, 4))
    with pytest.raises(ZeroDivisionError):
        posterior_predictive(lambda: torch.randn(1) / (1 // 0), IMAGE, samples=2, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    again = posterior_predictive(random_network, IMAGE, samples=4, seed=3)
    assert torch.equal(first.probability, again.probability)
    assert torch.equal(first.mutual_information, again.mutual_information)
    assert not torch.equal(first.probability, other.probability)


def test_all_windows_of_a_sample_see_the_same_network():
    image = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = posterior_predictive(random_network, image, samples=3, seed=0)
    windows = posterior_predictive(random_network, image, samples=3, seed=0, window=(4, 4, 4), batch=2)
    torch.testing.assert_close(windows.probability, whole.probability)
    torch.testing.assert_close(windows.mutual_information, whole.mutual_information)


def test_the_number_of_volumes_in_memory_does_not_grow_with_the_samples():
    image = torch.zeros(1, 10, 11, 12)
    alive: list[int] = []

    def draw() -> Network:
        alive.append(sum(issubclass(type(o), Tensor) and o.numel() >= image.numel() for o in gc.get_objects()))
        return random_network()

    posterior_predictive(draw, image, samples=6, seed=0)
    assert set(alive[2:]) == {alive[2]}


@pytest.mark.parametrize("samples", [0, -1, 10**8, 1.5])
def test_the_number_of_samples_has_bounds(samples):
    with refuses("samples", error=ConfigError):
        posterior_predictive(random_network, IMAGE, samples=samples, seed=0)


def test_a_diverged_network_is_reported():
    with refuses("NaN or infinity"):
        posterior_predictive(lambda: lambda x: torch.cat([x, x]).reshape(1, 2, 2, 3, 4) * math.nan, IMAGE, 1, seed=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_random_state_of_a_gpu_is_put_back_too():
    before, image = torch.cuda.get_rng_state(), torch.zeros(1, 2, 3, 4, device="cuda")

    def draw() -> Network:
        return partial(torch.mul, torch.randn(1, 3, 1, 1, 1, device="cuda"))

    first, second = (posterior_predictive(draw, image + 1, samples=3, seed=0).probability for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.cuda.get_rng_state(), before)
