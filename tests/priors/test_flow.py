"""The flow prior: exact, invertible, at its start the Student t; and zuko's side effects undone."""

import sys

import pyro
import pytest
import torch
from torch.distributions import Distribution

from pyro_dwp.errors import ConfigError
from pyro_dwp.kernels.densities import fit_student_t
from pyro_dwp.priors import EmpiricalDensity, Flow, FlowDensity
from pyro_dwp.priors.store import save_prior
from tests.helpers import fitted
from tests.helpers.monte_carlo import assert_mean
from tests.helpers.refusal import refuses

BINS = pytest.mark.parametrize("bins", [0, 4])


def a_flow(shape: tuple[int, ...], bins: int, moved: float = 0.3) -> FlowDensity:
    """Return a flow in float64 whose networks are random, so that it is far from the identity."""
    torch.manual_seed(0)
    flow = FlowDensity(shape, transforms=2, hidden=16, bins=bins)
    flow.start_from(fit_student_t(fitted.synthetic_kernels(500, shape).flatten(1)))
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=moved)
    return flow.double().requires_grad_(False)


@pytest.mark.parametrize("validation", [True, False])
def test_importing_zuko_leaves_the_validation_of_distributions_as_it_was(validation, monkeypatch):
    for module in [name for name in sys.modules if name.partition(".")[0] == "zuko"]:
        monkeypatch.delitem(sys.modules, module)
    with pyro.validation_enabled(validation):
        FlowDensity((2, 2), hidden=4)
        assert "zuko" in sys.modules
        assert Distribution._validate_args is validation


@BINS
def test_an_untrained_flow_is_the_student_t_that_it_starts_from(bins: int) -> None:
    kernels = fitted.synthetic_kernels(500, (3, 3))
    fit = fit_student_t(kernels.flatten(1))
    flow = FlowDensity((3, 3), bins=bins).start_from(fit).distribution().log_prob(kernels.float())
    student_t = EmpiricalDensity.of((3, 3), fit).distribution().log_prob(kernels.float())
    torch.testing.assert_close(flow, student_t, rtol=0, atol=1e-3)


@BINS
def test_the_density_is_that_of_the_change_of_variables_and_samples_go_back_to_the_bases_draws(bins: int) -> None:
    """log p(w) = log t(u) + log |det ∂u/∂w|, with the Jacobian by automatic differentiation of u(w)."""
    flow = a_flow((1, 3), bins)
    distribution = flow.distribution().base

    def move(vectors: torch.Tensor) -> torch.Tensor:
        return flow.transform()(
            torch.linalg.solve_triangular(flow.scale_tril, (vectors - flow.mean).mT, upper=False).mT
        )

    torch.manual_seed(1)
    vectors = distribution.rsample((200,))
    torch.manual_seed(1)
    torch.testing.assert_close(move(vectors), distribution.base.rsample((200,)), rtol=1e-5, atol=1e-6)
    for vector in vectors[:5, None]:
        jacobian = torch.autograd.functional.jacobian(move, vector).reshape(3, 3)
        expected = distribution.base.log_prob(move(vector)) + torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(distribution.log_prob(vector), expected, rtol=1e-8, atol=1e-8)


@BINS
def test_a_draw_far_out_stays_as_far_out_as_the_base_puts_it(bins: int) -> None:
    """Shifts and scales are bounded, so u → w keeps to a line: |w| ≤ a |u| + b, with a and b of the draws further in."""
    flow = a_flow((3, 3), bins, moved=0.5)
    direction = torch.randn(500, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    near, far = (flow.transform().inv(distance * direction) for distance in (1e3, 1e6))
    assert far.isfinite().all()
    assert float(far.norm(dim=1).max()) < 2e3 * float(near.norm(dim=1).max())


def test_a_spline_flow_integrates_to_one_by_importance_sampling() -> None:
    """E_t [p(w) / t(w)] = 1 under a wider Student t."""
    flow = a_flow((2, 2), bins=4, moved=0.1)
    fit = fit_student_t(fitted.synthetic_kernels(500, (2, 2)).flatten(1))
    proposal = EmpiricalDensity.of((2, 2), fit).double()
    proposal.scale_tril *= 1.5
    kernels = proposal.distribution().sample((50_000,))
    weights = (flow.distribution().log_prob(kernels) - proposal.distribution().log_prob(kernels)).exp()
    assert_mean(weights, 1.0, within=0.02)


@pytest.mark.parametrize(
    ("shape", "settings", "token"),
    [
        *((shape, {}, "one weight") for shape in ((1, 1, 1), (1,), ())),
        *(((3, 3), {key: 0}, key) for key in ("transforms", "hidden")),
        *(((3, 3), {"bins": value}, "bins") for value in (1, -1, 10**6)),
        ((16, 16, 16), {"hidden": 4096}, "4096 entries"),
        ((17, 17, 17), {}, "4096"),
    ],
)
def test_a_flow_that_cannot_be_built_is_refused(shape: tuple[int, ...], settings: dict, token: str) -> None:
    with refuses(token, error=ConfigError):
        FlowDensity(shape, **settings)


def test_without_zuko_the_error_names_the_command_that_installs_it(tmp_path, monkeypatch):
    save_prior(tmp_path / "flow.safetensors", {"1": FlowDensity((3, 3), hidden=4)}, {})
    for module in ("zuko", "zuko.flows"):
        monkeypatch.setitem(sys.modules, module, None)
    for fails in (lambda: FlowDensity((3, 3)), lambda: Flow(tmp_path / "flow.safetensors")):
        with refuses('pip install "pyro-dwp[flows]"', error=ConfigError):
            fails()
