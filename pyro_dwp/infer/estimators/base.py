"""What a gradient estimator is, and the plain one.

The data term of the ELBO is D = E_q(w) Σ_n ℓ_n(w), a sum over the examples n of a minibatch. Its reparametrised gradient from
one draw of the weights is unbiased for any network, loss and guide, but the examples share the draw's noise: with a variance α
of one example's gradient and a covariance β > 0 between two of them,

    Var[ (1/B) Σ_n ∇ℓ_n(w) ] = α / B + β (1 − 1/B)

tends to β, not to 0, as the minibatch grows. Noise that is drawn for each example has β = 0 (Wen et al. 2018).

Axis letters: B examples, O I channels, K edge of a kernel.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pyro.distributions import TorchDistribution

from pyro_dwp.sites import WeightSite

Program = Callable[..., Any]


class SiteGuide(Protocol):
    """A guide that knows its distribution over a site's weights, as `guides.Guide` does."""

    sites: Mapping[str, WeightSite]

    def distribution(self, name: str) -> TorchDistribution:
        """Return q(w) of a site: batch shape (), event shape that of the site."""


class Estimator(ABC):
    """How the noise of the weights enters the data term of the ELBO.

    Example:
        >>> from pyro.infer import SVI
        >>> def fit(estimator, model, guide, optimiser, elbo):
        ...     return SVI(estimator(model, guide), guide, optimiser, elbo)
    """

    @abstractmethod
    def __call__(self, model: Program, guide: Any) -> Program:
        """Return a program that takes the model's place in `SVI`, with the same guide.

        Args:
            model: a Pyro program.
            guide: samples the model's weight sites.

        Raises:
            ConfigError: if the guide does not allow this estimator.
        """


class SharedSample(Estimator):
    """One draw of the weights for the whole minibatch: unbiased for every guide, network and loss."""

    def __call__(self, model: Program, guide: Any) -> Program:
        """Return the model as it is; the guide may be any."""
        return model
