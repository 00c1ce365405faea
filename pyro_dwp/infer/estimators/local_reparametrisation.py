"""Local reparametrisation: sample a layer's output instead of its weights (Kingma, Salimans, Welling 2015).

For weights w_j ~ N(m_j, σ_j²), independent, and one output voxel of a layer, a = Σ_j w_j x_j,

    a ~ N( Σ_j m_j x_j, Σ_j σ_j² x_j² ),      drawn as      y = layer(x, m) + √layer(x², σ²) ∘ ε,      ε ~ N(0, 1)

with one ε for each example, channel and voxel of the output: twice the work of a layer. A random bias counts as the weight of a
constant input 1. Mean and variance, and so the law of each single output given the layer's input, are exact.

*Biased for convolutions.* Two voxels p, p′ of one channel of one example share the weights, so their true covariance is
Σ_j σ_j² x_pj x_p′j; here it is 0. The expected loss is that of another model, which draws its weights anew at each voxel of each
layer's output. Noise that a posterior would send coherently through a whole scan averages out over it. A weight used twice gets
independent noise at each use, and the two outputs miss their covariance likewise. What is exact, for weights used once:

    a linear layer on one vector for each example, (B, I)                 no two outputs share a weight
    a convolution with one output voxel, whose kernel spans the input     the same
    voxels that the rest of network and loss treats separately            a sum over voxels of functions of one voxel each, as
                                                                          a last layer under cross-entropy; not under Dice
    a loss affine in the layer's outputs                                  only their means matter

Output channels never share weights and are independent in truth, too. In all other cases, such as the hidden layers of a
segmentation network, take flipout, which is unbiased. Unbiased means, as there, for data terms that are sums over examples.

References:
    Kingma, Salimans, Welling 2015, Variational Dropout and the Local Reparameterization Trick.
"""

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Normal

from pyro_dwp.infer.estimators.per_example import Draw, Layer, PerExample
from pyro_dwp.sites import WeightSite


class LocalReparametrisation(PerExample):
    """A draw of each layer's output, not of its weights: exact for linear layers used once, biased for convolutions.

    For guides whose weights are independent Gaussians.

    Warning:
        Voxels of a convolution's output get independent noise, though they share weights, and so do two uses of a layer:
        the expected loss is that of another model. `Flipout` is unbiased.

    References:
        Kingma, Salimans, Welling 2015.

    Example:
        >>> from torch.nn import functional as F
        >>> m, s = torch.tensor([[2.0, 1.0]]), torch.tensor([[0.0, 0.0]])
        >>> layer = Layer(F.linear, torch.tensor([[1.0, 1.0]]), (), {})
        >>> LocalReparametrisation().output(layer, Draw(m, Normal(m, s, validate_args=False)), None)
        tensor([[3.]])
    """

    needs = "weights that are independent Gaussians"
    cure = "a guide such as mean_field."

    def admits(self, site: WeightSite, q: TorchDistribution) -> bool:
        """Tell whether q is one Gaussian for each weight."""
        return isinstance(q, Normal) and tuple(q.batch_shape) == tuple(site.shape)

    def output(self, layer: Layer, weight: Draw, bias: Draw | Tensor | None) -> Tensor:
        """Return layer(x, m) + √layer(x², σ²) ∘ ε."""
        mean = layer(layer.x, weight.q.loc, bias.q.loc if isinstance(bias, Draw) else bias)
        bias_variance = bias.q.scale.square() if isinstance(bias, Draw) else None
        variance = layer(layer.x.square(), weight.q.scale.square(), bias_variance)
        # Where the input is 0 the root has no derivative; rounding may also leave a variance just below 0.
        deviation = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()
        return mean + deviation * torch.randn_like(deviation)
