"""Values that fit in a prior's tensors but make no distribution: the load names file, group, tensor, value and cure."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from pyro.distributions import Normal, TorchDistribution

from pyro_dwp.errors import CheckpointError
from pyro_dwp.priors import KernelDensity
from pyro_dwp.priors.store import load_prior, save_prior

_spec = importlib.util.spec_from_file_location("fitted", Path(__file__).with_name("fitted.py"))
fitted = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fitted)

Edit = Callable[[KernelDensity], object]
CHOLESKY = ["empirical", "student_t", "mixture", "flow"]
CURE = r".*Fit one with run/train_prior\.py"


class Wide(KernelDensity):
    """Independent Gaussians of one width, as a user writes them."""

    def __init__(self, kernel_shape: tuple[int, ...]) -> None:
        super().__init__(kernel_shape)
        self.register_buffer("width", torch.ones(()))

    def distribution(self, group: str = "") -> TorchDistribution:
        return Normal(torch.zeros(self.kernel_shape), self.width).to_event(len(self.kernel_shape))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "prior.safetensors"


@pytest.fixture
def own() -> Iterator[type[Wide]]:
    """A user's family, forgotten afterwards."""

    class Own(Wide):
        family = "own"

    yield Own
    KernelDensity.families.pop("own")


def save_edited(path: Path, name: str, edit: Edit) -> None:
    density = fitted.fitted_densities(fitted.synthetic_kernels(300, (2, 2)))[name].requires_grad_(False)
    edit(density)
    save_prior(path, {"7": density}, {})


def refused(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"prior\.safetensors: {message}{CURE}"):
        load_prior(path)


@pytest.mark.parametrize("name", CHOLESKY)
def test_a_negated_cholesky_factor_is_refused(path: Path, name: str) -> None:
    save_edited(path, name, lambda density: density.scale_tril.neg_())
    refused(path, r"in group '7', the diagonal of scale_tril should be positive, but holds -\d")


@pytest.mark.parametrize("name", CHOLESKY)
def test_a_cholesky_factor_with_a_zero_on_its_diagonal_is_refused(path: Path, name: str) -> None:
    save_edited(path, name, lambda density: density.scale_tril[..., 1, 1].zero_())
    refused(path, r"in group '7', the diagonal of scale_tril should be positive, but holds 0\.")


@pytest.mark.parametrize("name", CHOLESKY)
def test_a_cholesky_factor_that_is_not_triangular_is_refused(path: Path, name: str) -> None:
    save_edited(path, name, lambda density: density.scale_tril[..., 0, 3].fill_(0.25))
    refused(path, r"in group '7', scale_tril should be 0 above its diagonal, but holds 0\.25 there\.")


@pytest.mark.parametrize("degrees", [0.0, -3.0])
@pytest.mark.parametrize("name", ["student_t", "flow"])
def test_degrees_of_freedom_that_are_not_positive_are_refused(path: Path, name: str, degrees: float) -> None:
    save_edited(path, name, lambda density: density.degrees.fill_(degrees))
    refused(path, rf"in group '7', degrees should be positive, but holds {degrees:.4g}\.")


def test_a_student_t_without_a_variance_is_a_fit_like_others(path: Path) -> None:
    save_edited(path, "student_t", lambda density: density.degrees.fill_(1.5))
    prior = load_prior(path).density("7").distribution()
    assert prior.log_prob(prior.sample((50,))).isfinite().all()


def test_weights_of_a_mixture_that_do_not_sum_to_1_are_refused(path: Path) -> None:
    save_edited(path, "mixture", lambda density: density.log_weights.add_(torch.tensor(1.5).log()))
    refused(path, r"in group '7', log_weights .* sum to 1, but theirs sum to 1\.5\.")


@pytest.mark.parametrize("coder", ["encoder", "decoder"])
@pytest.mark.parametrize("scale", [0.0, -0.5])
def test_a_deep_weight_density_without_a_positive_scale_is_refused(path: Path, coder: str, scale: float) -> None:
    save_edited(path, "deep_weight", lambda density: density.get_buffer(f"{coder}.kernel_scale").fill_(scale))
    refused(path, rf"in group '7', {coder}\.kernel_scale should be positive, but holds {scale:.4g}\.")


@pytest.mark.parametrize(
    ("name", "tensor", "dtype", "kind"),
    [
        ("empirical", "mean", torch.int32, "floating-point"),
        ("empirical", "mean", torch.bool, "floating-point"),
        ("mixture", "scale_tril", torch.complex64, "floating-point"),
        ("flow", "transform.transforms.0.order", torch.float32, "whole"),
        ("flow", "transform.transforms.0.hyper.1.mask", torch.float32, "boolean"),
        ("flow", "transform.transforms.0.hyper.1.mask", torch.int64, "boolean"),
    ],
)
def test_a_tensor_of_another_kind_of_number_is_refused(
    path: Path, name: str, tensor: str, dtype: torch.dtype, kind: str
) -> None:
    owner, _, last = tensor.rpartition(".")

    def edit(density: KernelDensity) -> None:
        setattr(density.get_submodule(owner), last, density.get_buffer(tensor).to(dtype))

    save_edited(path, name, edit)
    refused(path, rf"tensor 7/{tensor} should hold {kind} numbers, .*, but is of {dtype}\.")


def test_a_number_of_another_precision_is_converted(path: Path) -> None:
    save_edited(path, "empirical", lambda density: None)
    exact = load_prior(path).density("7").mean
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.Tensor.float", lambda tensor: tensor.half())  # what save_prior stores in
        save_edited(path, "empirical", lambda density: None)
    found = load_prior(path).density("7").mean
    assert found.dtype == torch.float32
    assert torch.equal(found, exact.half().to(torch.float32))


def test_a_number_too_large_for_the_density_is_refused(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.Tensor.float", lambda tensor: tensor.double())
        save_edited(path, "empirical", lambda density: density.double().mean.fill_(1e300))
    refused(path, r"tensor 7/mean holds values that are not finite in torch\.float32\.")


def test_a_density_of_ones_own_needs_no_check(path: Path, own: type[Wide]) -> None:
    density = own((3, 3))
    density.width.fill_(-1.0)
    save_prior(path, {"1": density}, {})
    assert load_prior(path).density("1").width == -1


def test_a_density_of_ones_own_may_check_its_values(
    path: Path, own: type[Wide], monkeypatch: pytest.MonkeyPatch
) -> None:
    density = own((3, 3))
    save_prior(path, {"1": density}, {})
    monkeypatch.setattr(own, "check", lambda self: self.require_positive("width"), raising=False)
    load_prior(path)
    density.width.fill_(-1.0)
    save_prior(path, {"1": density}, {})
    refused(path, r"in group '1', width should be positive, but holds -1\.")
