"""What the learned priors have in common: a file with one density for each group of layers, and what must fit it."""

from pathlib import Path

from pyro.distributions import TorchDistribution

from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.priors.base import PriorFamily
from pyro_dwp.priors.store import load_prior
from pyro_dwp.sites import WeightSite

ASSETS = Path(__file__).parents[1] / "assets"
REFIT = "Fit a prior on networks of this architecture with run/train_prior.py."


class LearnedPrior(PriorFamily):
    """A prior that was fitted to kernels of source networks; frozen.

    Args:
        path: a prior saved by `run/train_prior.py`; None takes the one that ships with the package.
        family: that the file must be of.
        asset: name of the file that ships.

    Raises:
        CheckpointError: if the file is missing, unreadable, incomplete, or of another family.
        ConfigError: if the family needs a package that is not installed.
    """

    def __init__(self, path: str | None, family: str, asset: str) -> None:
        super().__init__()
        self.path = path
        if path is None and not (ASSETS / asset).is_file():
            raise CheckpointError(
                f"No prior of family {family!r} ships with this package ({ASSETS / asset} does not exist). Fit one with "
                f"run/train_prior.py --prior {family} and name its file with --prior.path."
            )
        self.stored = load_prior(ASSETS / asset if path is None else path, family=family)
        self.densities = self.stored.densities.requires_grad_(False)

    def distribution(self, site: WeightSite) -> TorchDistribution:
        """Return the prior of one kernel of this site's group.

        Raises:
            ConfigError: if the prior was fitted to no such group, to kernels of another shape, or to networks of another
                depth.
        """
        self._refuse_misfit(site)
        return self.stored.density(site.group).distribution(site.group)

    def _refuse_misfit(self, site: WeightSite) -> None:
        """Raise ConfigError, naming site and cure, where what was fitted is not for this site."""
        groups, path = list(self.densities), self.stored.path
        if site.group not in groups and site.kernel_shape.numel() == 1:
            raise ConfigError(
                f"Site {site.name!r} has kernels of one weight, but a {self.stored.family} prior describes how the weights "
                f"of a kernel go together; {path} was fitted for groups {', '.join(groups)}. Give such sites a prior of "
                "their own, such as gaussian, by a rule of --prior assigned."
            )
        if site.group not in groups:
            raise ConfigError(
                f"Site {site.name!r} is in group {site.group!r} of kernels, but the prior {path} was fitted for "
                f"groups {', '.join(groups)}. {REFIT}"
            )
        fitted_shape = self.stored.density(site.group).kernel_shape
        if site.kernel_shape != fitted_shape:
            raise ConfigError(
                f"Site {site.name!r} has kernels of shape {tuple(site.kernel_shape)}, but the prior {path} was "
                f"fitted to kernels of shape {tuple(fitted_shape)}. Fit one to such kernels with run/train_prior.py."
            )
        layers: dict[str, list[str]] = self.stored.metadata.get("bank", {}).get("layers", {})
        fitted = next((group for group, names in layers.items() if site.name in names), site.group)
        if fitted != site.group:
            raise ConfigError(
                f"Site {site.name!r} is in group {site.group!r}, but in the networks that {path} was fitted "
                f"to it was in group {fitted!r}: they had another depth. {REFIT}"
            )
