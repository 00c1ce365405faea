"""Classes as a user writes them: some work, some do not."""

from pyro.distributions import Normal

from guides import Guide, MeanField, Point
from pyro_dwp.priors import Gaussian, Prior


class Mine(Gaussian):
    def __init__(self, scale: float = 0.5, path: str = "") -> None:
        super().__init__(scale)


class Untyped(MeanField):
    def __init__(self, sites, relative_scale=0.1):
        super().__init__(sites, relative_scale)


def make_point(sites, extra: int = 1) -> Guide:
    return Point(sites)


class Sampled(Prior):
    def sample_distribution(self, site):
        return Normal(0.0, 1.0)


class Unset(Prior):
    def __init__(self, scale: float = 1.0) -> None:
        self.scale = Gaussian(scale)

    def distribution(self, site):
        return self.scale.distribution(site)


class Raises(Prior):
    def __init__(self) -> None:
        raise RuntimeError("out of luck")

    def distribution(self, site):
        return None


class Stranger:
    pass


def none():
    pass
