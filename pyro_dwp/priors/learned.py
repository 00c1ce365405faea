"""What the learned priors have in common: a file with one density for each group of layers, and which sites it fits."""

from abc import abstractmethod
from pathlib import Path

from pyro.distributions import TorchDistribution
from torch import nn

from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.priors.base import Prior
from pyro_dwp.priors.density import GroupDensity
from pyro_dwp.priors.store import load_prior
from pyro_dwp.sites import WeightSite

ASSETS = Path(__file__).parents[1] / "assets"
REFIT = "Fit a prior to networks of this architecture with run/train_prior.py."


class LearnedPrior(Prior):
    """A prior that was fitted to kernels of source networks; frozen.

    Args:
        path: a prior saved by `run/train_prior.py`; None takes the one that ships with the package.
        density: class of its densities; the file must be of that family.
        asset: name of the file that ships; None if none does.

    Raises:
        CheckpointError: if the file is missing, unreadable, incomplete, or of another family.
        ConfigError: if the family needs a package that is not installed.
    """

    @abstractmethod
    def __init__(self, path: Path | None, density: type[GroupDensity], asset: str | None = None) -> None:
        super().__init__()
        family = density.family
        shipped = ASSETS / asset if asset else None
        if path is None and (shipped is None or not shipped.is_file()):
            raise CheckpointError(
                f"No prior of family {family!r} ships with this package. Fit one with run/train_prior.py --family {family} "
                "and name its file with --prior.path."
            )
        self.path = path
        self.stored = load_prior(path or shipped or "", family=family)
        self.densities = self.stored.densities
        self.fitted = nn.ModuleList(self.densities.values()).requires_grad_(False)

    def distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the prior of one kernel of this site's group.

        Raises:
            ConfigError: if the prior has no such group, or was fitted to kernels of another shape or to networks of another
                depth.
        """
        self._refuse_misfit(site)
        return self.densities[site.group].distribution(site.group)

    def _refuse_misfit(self, site: WeightSite) -> None:
        """Raise ConfigError, naming site and cure, if the prior was not fitted to such sites."""
        where, path, groups = f"Site {site.name!r}", self.stored.path, ", ".join(self.densities)
        if site.group not in self.densities:
            if site.kernel_shape.numel() == 1:
                raise ConfigError(
                    f"{where} has kernels of one weight, but a {self.stored.family} prior describes how the weights of a kernel "
                    f"depend on each other; {path} was fitted for groups {groups}. Give such sites a prior of their own, such as "
                    "gaussian, by a rule of --prior assigned."
                )
            raise ConfigError(
                f"{where} is in kernel group {site.group!r}, but the prior {path} was fitted for groups {groups}. {REFIT}"
            )
        fitted_shape = self.densities[site.group].kernel_shape
        if site.kernel_shape != fitted_shape:
            raise ConfigError(
                f"{where} has kernels of shape {tuple(site.kernel_shape)}, but the prior {path} was fitted to kernels of shape "
                f"{tuple(fitted_shape)}. Fit one to such kernels with run/train_prior.py."
            )
        fitted_group = next((group for group, names in self.stored.layers.items() if site.name in names), site.group)
        if fitted_group != site.group:
            raise ConfigError(
                f"{where} is in group {site.group!r}, but in the networks that {path} was fitted to it was in group "
                f"{fitted_group!r}: they had another depth. {REFIT}"
            )
