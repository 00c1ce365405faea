import pyro
import pytest
import torch
from torch.nn import functional as F

from pyro_dwp.errors import ConfigError
from pyro_dwp.likelihoods import Categorical, DiceCrossEntropy, VoxelCategorical, dice_cross_entropy

LOGITS = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABEL = torch.randint(0, 3, (2, 4, 5, 6), generator=torch.Generator().manual_seed(1))


def traced(likelihood: object) -> float:
    trace = pyro.poutine.trace(lambda: likelihood(LOGITS, LABEL)).get_trace()
    return trace.log_prob_sum().item()


def test_voxel_categorical_is_the_categorical_over_voxels() -> None:
    expected = torch.distributions.Categorical(logits=LOGITS.movedim(1, -1)).log_prob(LABEL).flatten(1).sum(1)
    torch.testing.assert_close(VoxelCategorical(LOGITS).log_prob(LABEL).double(), expected, rtol=1e-5, atol=0)


def test_voxel_categorical_samples_with_the_softmax_frequencies() -> None:
    logits = torch.log(torch.tensor([0.2, 0.5, 0.3])).reshape(1, 3, 1, 1, 1).expand(1, 3, 20, 50, 20)
    drawn = VoxelCategorical(logits).sample()
    assert drawn.shape == (1, 20, 50, 20)
    frequency = F.one_hot(drawn, 3).double().mean((0, 1, 2, 3))
    error = (torch.tensor([0.16, 0.25, 0.21]) / 20_000).sqrt()
    assert ((frequency - torch.tensor([0.2, 0.5, 0.3])).abs() < 4 * error).all()


def test_the_categorical_likelihood_is_a_sum_over_scans_to_the_power_of_its_strength() -> None:
    full = -F.cross_entropy(LOGITS, LABEL, reduction="sum").item()
    assert traced(Categorical()) == pytest.approx(full, rel=1e-5)
    assert traced(Categorical(strength=0.25)) == pytest.approx(full / 4, rel=1e-5)


def test_the_factor_is_the_loss_times_strength_and_voxels_summed_over_scans() -> None:
    expected = -0.1 * LABEL[0].numel() * dice_cross_entropy(LOGITS.float(), LABEL).sum().item()
    assert traced(DiceCrossEntropy(strength=0.1)) == pytest.approx(expected, rel=1e-5)


def test_the_papers_loss_is_its_formula_for_two_classes() -> None:
    logits, label = LOGITS[:, :2], (LABEL > 1).long()
    p, t = logits.softmax(1)[:, 1].flatten(1), label.flatten(1).double()
    dice = (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)
    cross_entropy = F.cross_entropy(logits, label, reduction="none").flatten(1).mean(1)
    torch.testing.assert_close(dice_cross_entropy(logits, label), 0.99 * (1 - dice) + 0.01 * cross_entropy)


def test_a_scan_without_foreground_has_a_finite_loss_and_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    dice_cross_entropy(logits, torch.zeros_like(LABEL)).sum().backward()
    assert logits.grad.isfinite().all()


def test_without_a_label_the_categorical_samples_one_and_the_factor_adds_nothing() -> None:
    trace = pyro.poutine.trace(lambda: Categorical()(LOGITS, None)).get_trace()
    assert trace.nodes["label"]["value"].shape == LABEL.shape
    assert "label" not in pyro.poutine.trace(lambda: DiceCrossEntropy()(LOGITS, None)).get_trace().nodes


def test_impossible_settings_are_refused() -> None:
    for wrong in (lambda: Categorical(0.0), lambda: DiceCrossEntropy(-1.0), lambda: DiceCrossEntropy(dice_weight=2.0)):
        with pytest.raises(ConfigError):
            wrong()
