"""The flow prior: exact, invertible, at its start the Student t; and zuko's side effects undone."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pyro_dwp.errors import ConfigError
from pyro_dwp.kernels.densities import fit_student_t
from pyro_dwp.priors import EmpiricalDensity, Flow, FlowDensity
from pyro_dwp.priors.store import save_prior

_spec = importlib.util.spec_from_file_location("fitted", Path(__file__).with_name("fitted.py"))
fitted = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fitted)

BINS = pytest.mark.parametrize("bins", [0, 4])
IMPORT = """
import sys
import pyro, torch
from torch.distributions import Distribution, Normal
from pyro_dwp.priors import FlowDensity

for validation in (True, False):
    for module in [name for name in sys.modules if name.partition(".")[0] == "zuko"]:
        del sys.modules[module]
    assert "zuko" not in sys.modules
    pyro.enable_validation(validation)
    FlowDensity((2, 2), hidden=4)
    assert "zuko" in sys.modules
    assert Distribution._validate_args is validation
    try:
        Normal(torch.zeros(1), -torch.ones(1))
        checked = False
    except ValueError:
        checked = True
    assert checked is validation
"""


def a_flow(shape: tuple[int, ...], bins: int, moved: float = 0.3) -> FlowDensity:
    """Return a flow in float64 whose networks are random, so that it is far from the identity."""
    torch.manual_seed(0)
    flow = FlowDensity(shape, transforms=2, hidden=16, bins=bins)
    flow.start_from(fit_student_t(fitted.synthetic_kernels(500, shape).flatten(1)))
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=moved)
    return flow.double().requires_grad_(False)


def test_importing_zuko_leaves_the_validation_of_distributions_as_it_was() -> None:
    """In a process of its own, because this one may have imported zuko before."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@BINS
def test_an_untrained_flow_is_the_student_t_that_it_starts_from(bins: int) -> None:
    kernels = fitted.synthetic_kernels(500, (3, 3))
    fit = fit_student_t(kernels.flatten(1))
    flow = FlowDensity((3, 3), bins=bins).start_from(fit).distribution().log_prob(kernels.float())
    student_t = EmpiricalDensity.of((3, 3), fit).distribution().log_prob(kernels.float())
    torch.testing.assert_close(flow, student_t, rtol=0, atol=1e-3)


@BINS
def test_the_density_is_that_of_the_change_of_variables(bins: int) -> None:
    """log p(w) = log t(u) + log |det ∂u/∂w|, with the Jacobian by automatic differentiation of u(w)."""
    flow = a_flow((1, 3), bins)
    distribution = flow.distribution().base

    def move(vector: torch.Tensor) -> torch.Tensor:
        standardised = torch.linalg.solve_triangular(flow.scale_tril, (vector - flow.mean)[:, None], upper=False)[:, 0]
        return flow.transform()(standardised)

    for vector in distribution.sample((5,)):
        jacobian = torch.autograd.functional.jacobian(move, vector)
        expected = distribution.base.log_prob(move(vector)) + torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(distribution.log_prob(vector), expected, rtol=1e-8, atol=1e-8)


@BINS
def test_a_sample_goes_back_to_the_draw_of_the_base_that_it_came_from(bins: int) -> None:
    distribution = a_flow((3, 3), bins).distribution().base
    torch.manual_seed(1)
    kernels = distribution.sample((200,))
    torch.manual_seed(1)
    drawn = distribution.base.rsample((200,))
    standardised = torch.linalg.solve_triangular(distribution.factor, (kernels - distribution.centre).T, upper=False).T
    torch.testing.assert_close(distribution.transform()(standardised), drawn, rtol=1e-5, atol=1e-6)


@BINS
def test_a_draw_far_out_stays_as_far_out_as_the_base_puts_it(bins: int) -> None:
    """Shifts and scales are bounded, so u → w keeps to a line: |w| ≤ a |u| + b, with a and b of the draws further in."""
    flow = a_flow((3, 3), bins, moved=0.5)
    direction = torch.randn(500, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    near, far = (flow.transform().inv(distance * direction) for distance in (1e3, 1e6))
    assert far.isfinite().all()
    assert float(far.norm(dim=1).max()) < 2e3 * float(near.norm(dim=1).max())


def test_a_spline_flow_integrates_to_one_by_importance_sampling() -> None:
    """E_t [p(w) / t(w)] = 1 under a wider Student t; five standard errors."""
    flow = a_flow((2, 2), bins=4, moved=0.1)
    fit = fit_student_t(fitted.synthetic_kernels(500, (2, 2)).flatten(1))
    proposal = EmpiricalDensity.of((2, 2), fit).double()
    proposal.scale_tril *= 1.5
    kernels = proposal.distribution().sample((50_000,))
    weights = (flow.distribution().log_prob(kernels) - proposal.distribution().log_prob(kernels)).exp()
    error = float(weights.std()) / len(weights) ** 0.5
    assert error < 0.02
    assert float(weights.mean()) == pytest.approx(1.0, abs=5 * error)


def test_a_draw_of_a_site_has_its_shape_and_a_gradient() -> None:
    distribution = a_flow((3, 3), 0).distribution().expand([4, 2]).to_event(2)
    assert distribution.has_rsample
    assert distribution.rsample().shape == (4, 2, 3, 3)
    kernel = distribution.sample((5,))
    assert distribution.log_prob(kernel).shape == (5,)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1,), ()])
def test_kernels_of_one_weight_are_refused_with_the_cure(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"one weight.*gaussian.*--prior assigned"):
        FlowDensity(shape)


@pytest.mark.parametrize("settings", [{"transforms": 0}, {"hidden": 0}, {"bins": 1}, {"bins": -1}])
def test_a_flow_that_cannot_be_built_is_refused(settings: dict) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(settings))}={next(iter(settings.values()))}"):
        FlowDensity((3, 3), **settings)


def test_without_zuko_the_error_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_prior(tmp_path / "flow.safetensors", {"1": FlowDensity((3, 3), hidden=4)}, {})
    for module in ("zuko", "zuko.flows"):
        monkeypatch.setitem(sys.modules, module, None)
    for fails in (lambda: FlowDensity((3, 3)), lambda: Flow(str(tmp_path / "flow.safetensors"))):
        with pytest.raises(ConfigError, match=r'pip install "pyro-dwp\[flows\]"'):
            fails()
