"""MC dropout: whole input channels of every layer are dropped at random, in training and in prediction.

    w[:, i] = b_i m[:, i] / (1 − p),     b_i ~ Bernoulli(1 − p),     one b_i for each input channel i of a site

All kernels that read a channel are dropped together; for a convolution this is dropout of whole input maps (spatial dropout).
The division keeps E_q w = m, so that m can start at the weights of any network. Gal and Ghahramani do not divide: their weights
are our m / (1 − p). The rate p is fixed. A draw holds for a whole minibatch, like that of every guide; a dropout layer would draw
for each scan.

*The ELBO.* q is discrete, with one value for each mask, so its divergence from a prior with a density is infinite. As with
`point`, what counts as its entropy is that of a discrete distribution: here that of the masks, which no parameter changes. So

    E_q log p(y | x, w) + β [ E_q log p(w) + H(masks) ]

is maximised. It is no bound on the evidence, cannot be compared with another guide's ELBO, and cannot choose p. With β = 0
(--kl_weight 0) it is plain training with dropout. With a Gaussian prior E_q log p(w) = −Σ m² / (2 s² (1 − p)) + constant: weight
decay, without noise. Gal and Ghahramani reach the same objective with narrow Gaussians in place of points. Other priors are
evaluated at the draw, in which the dropped kernels are 0.
"""

from collections.abc import Mapping
from typing import Annotated

import pyro.distributions as dist
from annotated_types import Ge, Lt
from pyro.distributions import TorchDistribution
from torch import Tensor

from guides.base import Guide
from pyro_dwp.checks import checked
from pyro_dwp.distributions import ChannelDropout
from pyro_dwp.sites import WeightSite


class Dropout(Guide):
    """A value m for each weight, and input channels that are dropped at random: MC dropout.

    A site with a single input channel, such as the first layer of a network for one sequence, is never dropped, since nothing
    would be left of it; nor is a bias. Several image channels are dropped like others. In a grouped convolution a draw drops the
    same channel of every group.

    *Warning*: under instance normalisation the size of a layer's output does not matter, but which channels it mixes does.
    With few channels a high rate drops all those of a site now and then.

    Args:
        sites: site name → site.
        rate: p, probability that a channel is dropped; 0 is the point guide.

    References:
        Gal, Ghahramani 2016, Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning.
        Gal, Ghahramani 2016, Bayesian Convolutional Neural Networks with Bernoulli Approximate Variational Inference.
        Tompson, Goroshin, Jain, LeCun, Bregler 2015, Efficient Object Localization Using Convolutional Networks (spatial
        dropout).
    """

    @checked
    def __init__(self, sites: Mapping[str, WeightSite], rate: Annotated[float, Ge(0), Lt(1)] = 0.1) -> None:
        super().__init__(sites)
        self.rate = rate
        for name, site in self.sites.items():
            self.create("value", name, site.shape)

    def start_site(self, name: str, weight: Tensor) -> None:
        """Set m to the start weight."""
        self.fill("value", name, weight)

    def distribution(self, name: str) -> TorchDistribution:
        """Return q(w) of a site; the point mass at m where no channel may be dropped."""
        value, axis = self.parameter("value", name), input_axis(self.sites[name])
        if axis is None:
            return dist.Delta(value, event_dim=value.dim())
        return ChannelDropout(value, self.rate, axis, event_dim=value.dim())


def input_axis(site: WeightSite) -> int | None:
    """Return the axis of a site's input channels; None for a bias, and where there is one channel only.

    Example:
        >>> from torch import Size
        >>> input_axis(WeightSite("a", Size([8, 4, 3, 3]), "1")), input_axis(WeightSite("b", Size([8, 1, 3, 3]), "1"))
        (1, None)
    """
    axis = 0 if "_ConvTransposeNd" in site.layer else 1
    return axis if len(site.shape) > 1 and site.shape[axis] > 1 else None
