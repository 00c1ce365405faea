"""A guide of your own: one width for all the weights of a kernel."""

from pyro.distributions import Normal

from guides import Guide


class PerKernel(Guide):
    """Gaussian with a mean for each weight and a standard deviation for each kernel.

    Args:
        relative_scale: initial standard deviation as a fraction of the start's root mean square.
    """

    def __init__(self, sites, relative_scale: float = 0.1) -> None:
        super().__init__(sites)
        self.relative_scale = relative_scale
        for name, site in sites.items():
            self.create("mean", name, site.shape)
            self.create("log_scale", name, (*site.batch_shape, *(1 for _ in site.kernel_shape)))

    def start_site(self, name, weight):
        """Fill the parameters of one site from its start weight."""
        self.fill("mean", name, weight)
        self.fill("log_scale", name, self.initial_scale(name, weight, self.relative_scale).log())

    def distribution(self, name):
        """Return q(w) of one site."""
        mean, scale = self.parameter("mean", name), self.parameter("log_scale", name).exp()
        return Normal(mean, scale.expand_as(mean)).to_event(mean.dim())
