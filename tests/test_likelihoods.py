import math

import pyro
import pytest
import torch
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional as F

from pyro_dwp.errors import ConfigError
from pyro_dwp.likelihoods import Categorical, DiceCrossEntropy, Likelihood, VoxelCategorical, dice_cross_entropy
from tests.helpers.monte_carlo import assert_mean
from tests.helpers.refusal import refuses

LOGITS = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABEL = torch.randint(0, 3, (2, 4, 5, 6), generator=torch.Generator().manual_seed(1))


def traced(
    likelihood: Likelihood,
    total: int = 2,
    logits: Tensor = LOGITS,
    label: Tensor = LABEL,
    weight: Tensor | None = None,
    voxels: Tensor | None = None,
) -> float:
    """Return the log density of the labels of 2 of so many scans."""

    def model() -> None:
        with pyro.plate("scans", total, subsample=torch.arange(2), dim=-1):
            likelihood(logits, label, weight, voxels)

    return pyro.poutine.trace(model).get_trace().log_prob_sum().item()


def test_voxel_categorical_is_the_categorical_over_voxels() -> None:
    expected = torch.distributions.Categorical(logits=LOGITS.movedim(1, -1)).log_prob(LABEL).flatten(1).sum(1)
    torch.testing.assert_close(VoxelCategorical(LOGITS).log_prob(LABEL).double(), expected, rtol=1e-5, atol=0)


def test_voxel_categorical_samples_with_the_softmax_frequencies() -> None:
    logits = torch.log(torch.tensor([0.2, 0.5, 0.3])).reshape(1, 3, 1, 1, 1).expand(1, 3, 20, 50, 20)
    drawn = VoxelCategorical(logits).sample()
    assert drawn.shape == (1, 20, 50, 20)
    assert_mean(F.one_hot(drawn, 3).double().reshape(-1, 3), torch.tensor([0.2, 0.5, 0.3]), within=0.005)


@pytest.mark.parametrize("total", [2, 7])
@pytest.mark.parametrize("strength", [1.0, 0.25])
def test_a_likelihood_is_a_sum_over_scans_to_the_power_of_its_strength_scaled_to_the_data_set(strength, total):
    full = -F.cross_entropy(LOGITS, LABEL, reduction="sum").item()
    assert traced(Categorical(strength), total) == pytest.approx(full * strength * total / 2, rel=1e-5)
    loss = LABEL[0].numel() * dice_cross_entropy(LOGITS.float(), LABEL).sum().item()
    assert traced(DiceCrossEntropy(strength), total) == pytest.approx(-strength * loss * total / 2, rel=1e-5)


def test_the_papers_loss_is_its_formula_for_two_classes() -> None:
    logits, label = LOGITS[:, :2], (LABEL > 1).long()
    p, t = logits.softmax(1)[:, 1].flatten(1), label.flatten(1).double()
    dice = (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)
    cross_entropy = F.cross_entropy(logits, label, reduction="none").flatten(1).mean(1)
    torch.testing.assert_close(dice_cross_entropy(logits, label), 0.99 * (1 - dice) + 0.01 * cross_entropy)


def test_the_papers_loss_is_monais_dice_loss_for_three_classes() -> None:
    monai = DiceLoss(
        include_background=False, to_onehot_y=True, softmax=True, reduction="none", smooth_nr=1.0, smooth_dr=1.0
    )
    expected = monai(LOGITS, LABEL[:, None]).flatten(1).mean(1)
    torch.testing.assert_close(dice_cross_entropy(LOGITS, LABEL, dice_weight=1.0), expected)


@pytest.mark.parametrize("likelihood", [Categorical(0.3), DiceCrossEntropy(0.3)], ids=["categorical", "dice"])
def test_a_voxel_of_weight_two_counts_as_two_and_one_of_weight_zero_not_at_all(likelihood: Likelihood) -> None:
    weight = torch.tensor([1.0, 0.0, 2.0, 1.0, 1.0, 1.0]).expand(LABEL.shape)
    repeated = torch.tensor([0, 2, 2, 3, 4, 5])
    expected = traced(likelihood, logits=LOGITS[..., repeated], label=LABEL[..., repeated])
    assert traced(likelihood, weight=weight) == pytest.approx(expected, rel=1e-5)
    assert traced(likelihood, weight=torch.ones(LABEL.shape)) == pytest.approx(traced(likelihood), rel=1e-6)


def test_the_dice_of_a_patch_counts_for_the_voxels_of_its_scan_whatever_its_weights_add_up_to() -> None:
    likelihood, weight = DiceCrossEntropy(0.3, dice_weight=1.0), torch.rand(LABEL.shape) + 1
    loss = dice_cross_entropy(LOGITS.float(), LABEL, dice_weight=1.0, weight=weight).sum().item()
    assert traced(likelihood, weight=weight, voxels=torch.tensor([5e4, 5e4])) == pytest.approx(
        -0.3 * 5e4 * loss, rel=1e-5
    )


def test_a_scan_without_foreground_has_a_finite_loss_and_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    dice_cross_entropy(logits, torch.zeros_like(LABEL)).sum().backward()
    assert logits.grad.isfinite().all()


def test_without_a_label_the_categorical_samples_one_and_the_factor_adds_nothing() -> None:
    trace = pyro.poutine.trace(lambda: Categorical()(LOGITS, None)).get_trace()
    assert trace.nodes["label"]["value"].shape == LABEL.shape
    assert "label" not in pyro.poutine.trace(lambda: DiceCrossEntropy()(LOGITS, None)).get_trace().nodes


@pytest.mark.parametrize(
    ("setting", "values"), [("strength", [0.0, -1.0, math.nan, math.inf]), ("dice_weight", [-0.1, 1.1, math.nan])]
)
def test_impossible_settings_are_refused(setting: str, values: list[float]) -> None:
    for likelihood in (Categorical, DiceCrossEntropy) if setting == "strength" else (DiceCrossEntropy,):
        for value in values:
            with refuses(likelihood.__name__, f"{setting} is {value}", error=ConfigError):
                likelihood(**{setting: value})
