"""A guide of your own: one width for all the weights of a kernel."""

from pyro.distributions import Normal

from guides import Guide
from guides.initial import initial_scale


class PerKernel(Guide):
    """Gaussian with a mean for each weight and a standard deviation for each kernel.

    Args:
        sites: site name → site.
        start: site name → initial means.
        relative_scale: initial standard deviation as a fraction of the start's root mean square.
    """

    def __init__(self, sites, start, relative_scale: float = 0.1) -> None:
        super().__init__(sites, start)
        for name, site in sites.items():
            scale = initial_scale(self, name, start[name], relative_scale)
            self.add_parameter("mean", name, start[name])
            self.add_parameter("log_scale", name, scale.log().expand(site.batch_shape))

    def distribution(self, name):
        """Return q(w) of one site."""
        mean = self.parameter("mean", name)
        scale = self.parameter("log_scale", name).exp()
        widths = scale.reshape(*scale.shape, *(1 for _ in self.sites[name].kernel_shape))
        return Normal(mean, widths.expand_as(mean)).to_event(mean.dim())
