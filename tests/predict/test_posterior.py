"""The posterior predictive distribution against closed forms."""

import gc
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyro_dwp.errors import ConfigError, DataError
from pyro_dwp.nn import UNet
from pyro_dwp.predict import Network, entropy, posterior_predictive

IMAGE = torch.zeros(1, 2, 3, 4, dtype=torch.float64)


def drawing(probabilities: Tensor) -> Callable[[], Network]:
    """Return a draw whose s-th network answers with row s of `probabilities` (S, C) at every voxel."""
    rows = iter(probabilities.log())

    def draw() -> Network:
        logits = next(rows)
        return lambda x: logits.reshape(1, -1, 1, 1, 1).expand(1, -1, *x.shape[2:])

    return draw


def random_network() -> Network:
    """Draw a network with random weights from the global generator."""
    weights = torch.randn(3, dtype=torch.float64).reshape(1, 3, 1, 1, 1)
    return lambda x: weights * (1 + x)


def test_the_prediction_is_the_mean_of_probabilities_and_not_of_logits() -> None:
    sampled = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.01, 0.99]], dtype=torch.float64)
    prediction = posterior_predictive(drawing(sampled), IMAGE, samples=3, seed=0)
    expected = sampled.mean(0).reshape(2, 1, 1, 1).expand(2, 2, 3, 4)
    torch.testing.assert_close(prediction.probability, expected, rtol=1e-12, atol=0)


@given(seed=st.integers(0, 10_000), samples=st.integers(1, 6), classes=st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_entropy_and_mutual_information_are_the_textbook_sums(seed: int, samples: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    sampled = torch.rand(samples, classes, generator=generator, dtype=torch.float64)
    sampled = sampled / sampled.sum(1, keepdim=True)
    prediction = posterior_predictive(drawing(sampled), IMAGE, samples=samples, seed=0)
    mean = [sum(column) / samples for column in zip(*sampled.tolist(), strict=True)]
    total = -sum(p * math.log(p) for p in mean)
    noise = -sum(p * math.log(p) for row in sampled.tolist() for p in row) / samples
    torch.testing.assert_close(prediction.entropy, torch.full_like(prediction.entropy, total))
    torch.testing.assert_close(prediction.mutual_information, torch.full_like(prediction.entropy, total - noise))


@pytest.mark.parametrize("classes", [2, 3])
def test_sure_networks_that_disagree_are_all_mutual_information(classes: int) -> None:
    prediction = posterior_predictive(drawing(torch.eye(classes, dtype=torch.float64)), IMAGE, classes, seed=0)
    expected = torch.full_like(prediction.entropy, math.log(classes))
    torch.testing.assert_close(prediction.entropy, expected)
    torch.testing.assert_close(prediction.mutual_information, expected)


def test_unsure_networks_that_agree_have_no_mutual_information() -> None:
    prediction = posterior_predictive(drawing(torch.full((7, 3), 1 / 3, dtype=torch.float64)), IMAGE, 7, seed=0)
    torch.testing.assert_close(prediction.entropy, torch.full_like(prediction.entropy, math.log(3)))
    assert prediction.mutual_information.max() < 1e-14


@pytest.mark.parametrize("window", [None, (4, 4, 4)])
def test_one_sample_has_no_mutual_information_to_the_last_bit(window: tuple[int, int, int] | None) -> None:
    network = UNet(channels=(2, 4))
    image = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    prediction = posterior_predictive(lambda: network, image, samples=1, seed=0, window=window)
    assert prediction.entropy.max() > 0
    assert torch.equal(prediction.mutual_information, torch.zeros(8, 8, 8))


def test_mutual_information_lies_between_zero_and_the_entropy() -> None:
    image = torch.randn(1, 6, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    prediction = posterior_predictive(random_network, image, samples=5, seed=0)
    assert (prediction.mutual_information >= 0).all()
    assert (prediction.mutual_information <= prediction.entropy).all()
    assert (prediction.entropy <= math.log(3) + 1e-12).all()


def test_the_entropy_of_certainty_is_zero_and_not_nan() -> None:
    assert entropy(torch.tensor([[1.0], [0.0]])).tolist() == [0.0]


def test_the_same_seed_gives_the_same_prediction_and_another_seed_another() -> None:
    predictions = [posterior_predictive(random_network, IMAGE, samples=4, seed=seed) for seed in (3, 3, 4)]
    assert torch.equal(predictions[0].probability, predictions[1].probability)
    assert torch.equal(predictions[0].mutual_information, predictions[1].mutual_information)
    assert not torch.equal(predictions[0].probability, predictions[2].probability)


def test_the_global_random_state_is_neither_used_nor_moved() -> None:
    torch.manual_seed(0)
    expected = posterior_predictive(random_network, IMAGE, samples=2, seed=5).probability
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(posterior_predictive(random_network, IMAGE, samples=2, seed=5).probability, expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_random_state_is_put_back_after_an_error() -> None:
    def fail() -> Network:
        torch.randn(1)
        raise RuntimeError("no network")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no network"):
        posterior_predictive(fail, IMAGE, samples=2, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_all_windows_of_a_sample_see_the_same_network() -> None:
    image = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = posterior_predictive(random_network, image, samples=3, seed=0)
    windows = posterior_predictive(random_network, image, samples=3, seed=0, window=(4, 4, 4), batch=2)
    torch.testing.assert_close(windows.probability, whole.probability)
    torch.testing.assert_close(windows.mutual_information, whole.mutual_information)


def test_the_number_of_volumes_in_memory_does_not_grow_with_the_samples() -> None:
    image = torch.zeros(1, 10, 11, 12)
    alive: list[int] = []

    def draw() -> Network:
        alive.append(sum(issubclass(type(o), Tensor) and o.numel() >= image.numel() for o in gc.get_objects()))
        return random_network()

    posterior_predictive(draw, image, samples=12, seed=0)
    assert set(alive[2:]) == {alive[2]}


def test_no_gradient_is_kept() -> None:
    network = UNet(channels=(2, 4))
    assert not posterior_predictive(lambda: network, torch.randn(1, 8, 8, 8), 2, seed=0).probability.requires_grad


def test_a_prediction_needs_a_sample() -> None:
    with pytest.raises(ConfigError, match="samples is 0"):
        posterior_predictive(random_network, IMAGE, samples=0, seed=0)


def test_a_diverged_network_is_reported() -> None:
    with pytest.raises(DataError, match="NaN or infinity"):
        posterior_predictive(lambda: lambda x: torch.cat([x, x]).reshape(1, 2, 2, 3, 4) * math.nan, IMAGE, 1, seed=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_random_state_of_a_gpu_is_put_back_too() -> None:
    def draw() -> Network:
        weights = torch.randn(1, 3, 1, 1, 1, device="cuda")
        return lambda x: weights * (1 + x)

    before = torch.cuda.get_rng_state()
    image = torch.zeros(1, 2, 3, 4, device="cuda")
    first, second = (posterior_predictive(draw, image, samples=3, seed=0).probability for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.cuda.get_rng_state(), before)
