"""Gaussian prior as wide as the source posterior: around the mean of a network's snapshots, with the spread that snapshots have.

A run of train_source.py leaves several snapshots of each network, one at the end of each cycle of the learning rate. They are
taken as draws of the posterior on the source data. With x_jt the weights of a layer in snapshot t (of T_j) of network j,

    mean            v = mean_t x_0t                                  of the first network
    own spread      S_i = Σ_t (x_0t,i − v_i)²                        of weight i, with T_0 − 1 degrees of freedom
    layer's spread  c² = Σ_j Σ_t mean_i (x_jt,i − mean_t x_jt,i)² / Σ_j (T_j − 1)
    prior           p(w_i) = N(w_i; v_i, ρ² s_i²),   s_i² = (S_i + ν c²) / (T_0 − 1 + ν)

*Which networks may be averaged.* The channels of a network's snapshots correspond to each other. Those of networks from
different starts do not, since any permutation of them is as good: their mean is no network, and the spread around it is that of
all kernels of the layer. So only the first network gives the mean, and the others contribute to c² alone, which no permutation
changes. `around: all` takes all snapshots as if they were of one network, which is right for networks from one start.

*Few snapshots.* With two of them S_i has one degree of freedom: by chance some weights would have almost no width, and the
divergence from the prior would be almost unbounded. So S_i is shrunk towards the layer's spread, which counts as ν more degrees
of freedom (Smyth 2004). A single snapshot of the first network is enough if others have more.

*The paper* adds a covariance of low rank to the diagonal. That couples all kernels of a layer, but a prior here is a distribution
over one kernel, so the diagonal is all that is taken. ρ² is the factor on the covariance that the paper tunes on validation data.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import MinLen
from pydantic import PositiveFloat
from torch import Tensor

from pyro_dwp.checks import checked
from pyro_dwp.errors import ConfigError
from pyro_dwp.files import check_tensors
from pyro_dwp.nn import read_network, snapshot_files
from pyro_dwp.priors.around import AroundSource
from pyro_dwp.sites import WeightSite, module_key

Snapshots = list[dict[str, Tensor]]


class SourcePosterior(AroundSource):
    """Gaussian around the snapshots of a source network, as wide as snapshots differ.

    *Warning*: snapshots that converged to different minima have a mean that segments worse than each of them.

    Args:
        networks: folder of a run of run/train_source.py, or a list of such folders and of network files; the first network is
            the one that the prior is around.
        rescale: factor ρ on the standard deviations; to be tuned, since a handful of snapshots does not fill the posterior,
            and another disease is another data set.
        around: "network" takes the mean from the first network, "all" from all snapshots of all networks.
        shrinkage: degrees of freedom ν that the layer's spread counts for.

    Raises:
        CheckpointError: if a file is damaged, not a network, not finite, or of another architecture than the first; at a site,
            if the networks lack it or have it in another shape.
        DataError: if a folder is not that of a source run.
        ConfigError: if no network has two snapshots; at a site, if all snapshots agree there.

    References:
        Shwartz-Ziv, Goldblum, Souri, Kapoor, Zhu, LeCun, Wilson 2022, Pre-Train Your Loss: Easy Bayesian Transfer Learning with
        Informative Priors.
        Smyth 2004, Linear Models and Empirical Bayes Methods for Assessing Differential Expression in Microarray Experiments.
    """

    @checked
    def __init__(
        self,
        networks: Annotated[list[Path], MinLen(1)] | Path,
        rescale: PositiveFloat = 1.0,
        around: Literal["network", "all"] = "network",
        shrinkage: PositiveFloat = 4.0,
    ) -> None:
        paths = networks if isinstance(networks, list) else [networks]
        where = ", ".join(map(str, paths))
        found = source_networks(paths)
        found = [[each for snapshots in found for each in snapshots]] if around == "all" else found
        if all(len(snapshots) == 1 for snapshots in found):
            raise ConfigError(
                "source_posterior takes the width of the prior from how snapshots of one network differ, but each network in "
                f"{where} has a single one. Train them with --cycles 2 or more, or use --prior pretrained."
            )
        moments = {
            name: spread([torch.stack([each[name] for each in snapshots]) for snapshots in found], shrinkage)
            for name, tensor in found[0][0].items()
            if tensor.is_floating_point()
        }
        super().__init__(where, {name: mean for name, (mean, _) in moments.items()})
        for name, (_, deviation) in moments.items():
            self.register_buffer(f"deviation:{module_key(name)}", rescale * deviation, persistent=False)

    def standard_deviation(self, site: WeightSite, mean: Tensor) -> Tensor:
        """Return ρ s of each weight of a site."""
        deviation: Tensor = getattr(self, f"deviation:{module_key(site.name)}")
        if not deviation.any():
            raise ConfigError(
                f"All snapshots in {self.where} agree at site {site.name!r}, which gives the prior no width. Train it in the "
                "source networks, or keep it as a point parameter by rules (--prior assigned)."
            )
        return deviation


def source_networks(paths: Sequence[Path]) -> list[Snapshots]:
    """Read networks and return the snapshots of each, in the order in which the networks are found.

    Args:
        paths: folders of source runs, and network files; files of one folder that name the same network are its snapshots.

    Raises:
        CheckpointError or DataError: as `SourcePosterior` does.
    """
    files = dict.fromkeys(file for path in paths for file in (snapshot_files(path) if path.is_dir() else [path]))
    found: dict[tuple[Path, str], Snapshots] = {}
    template: dict[str, Tensor] = {}
    for file in files:
        tensors, facts = read_network(file)
        template = template or tensors
        check_tensors(
            tensors, template, f"{file} does not fit {next(iter(files))}", "Give networks of one architecture."
        )
        found.setdefault((file.parent, str(facts.get("network", file.stem))), []).append(tensors)
    return list(found.values())


def spread(networks: Sequence[Tensor], shrinkage: float) -> tuple[Tensor, Tensor]:
    """Return mean v and standard deviation s of a layer's weights, computed in float64; see the head of this file.

    Args:
        networks: weights of each network's snapshots, (T_j, *shape); at least one of them has two.
        shrinkage: ν.

    Example:
        >>> spread([torch.tensor([[0.0, 1.0], [2.0, 1.0]])], shrinkage=1.0)
        (tensor([1., 1.]), tensor([1.2247, 0.7071]))
    """
    squares = [(x.double() - x.double().mean(0)).square().sum(0) for x in networks]
    layer = sum(square.mean() for square in squares) / sum(len(x) - 1 for x in networks)
    variance = (squares[0] + shrinkage * layer) / (len(networks[0]) - 1 + shrinkage)
    first = networks[0]
    return first.double().mean(0).to(first.dtype), variance.sqrt().to(first.dtype)
