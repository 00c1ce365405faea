"""The whole method in one file, for a lecture: learn what kernels look like, then segment with few labels.

    python -m pyro_dwp.mini

Needs torch, Pyro and one to two minutes. Toy images stand in for scans: in the source disease the lesion is a square, in the
target disease a disc. The four steps are those of Kuzina, Egorov, Burnaev 2019 (Front. Neurosci. 13:844):

1. train source networks and cut their convolutions into 3x3 kernels;
2. fit a variational autoencoder to the kernels of each layer: its decoder is a prior over kernels;
3. fit the target network by variational inference under that prior, from a handful of labelled images;
4. predict with many networks drawn from the posterior, and map where they are uncertain.

The library does the same in 3-D, with any prior and guide: `models/segmentation.py`, `guides/`, `pyro_dwp/priors/`,
`pyro_dwp/infer/elbo.py`. Axis letters: B images, O I channels, N = O·I kernels of a layer, L latent.
"""

from collections.abc import Callable, Iterable
from statistics import fmean, stdev

import pyro
import torch
from pyro.distributions import Categorical, Normal
from pyro.infer import Trace_ELBO
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, LATENT, EDGE = 8, 4, 24  # channels, latent dimension, pixels
SHAPES = [(WIDTH, 1, 3, 3), (WIDTH, WIDTH, 3, 3), (WIDTH, WIDTH, 3, 3)]  # of the Bayesian layers: (O, I, K, K)
elbo_loss = Trace_ELBO().differentiable_loss  # of a model and a guide, given their arguments


def images(count: int, lesion: str) -> tuple[Tensor, Tensor]:
    """Return noisy images (B, 1, 24, 24) with one bright lesion, a "square" or a "disc", and masks (B, 24, 24)."""
    grid = torch.arange(EDGE, dtype=torch.float32)
    centre, radius = 6 + 12 * torch.rand(count, 2, 1, 1), 2.5 + 3 * torch.rand(count, 1, 1)
    y, x = (grid[:, None] - centre[:, 0]).abs(), (grid - centre[:, 1]).abs()
    inside = torch.maximum(y, x) < radius if lesion == "square" else y.square() + x.square() < radius.square()
    texture = F.avg_pool2d(torch.randn(count, 1, EDGE, EDGE), 3, 1, 1)  # noise as coarse as a lesion's edge
    return inside[:, None] * 0.8 + texture + 0.5 * torch.randn(count, 1, EDGE, EDGE), inside.long()


def segment(image: Tensor, weights: list[Tensor], output: Tensor) -> Tensor:
    """Return logits (B, 2, 24, 24). `weights` are the 3x3 layers; `output` (2, WIDTH, 1, 1) is the last one."""
    features = F.relu(F.instance_norm(F.conv2d(image, weights[0], padding=1)))
    for weight in weights[1:]:
        features = features + F.relu(F.instance_norm(F.conv2d(features, weight, padding=1)))
    return F.conv2d(features, output)


def he(shape: tuple[int, ...], gain: float = 1.0) -> Tensor:
    """Return random weights to start from, N(0, gain² · 2 / (I·K²))."""
    return gain * torch.randn(shape) * (2 / (shape[1] * shape[2] * shape[3])) ** 0.5


def minimise(parameters: Iterable[Tensor], steps: int, size: int, batch: int, loss: Callable[[Tensor], Tensor]) -> None:
    """Take steps of Adam on minibatches: the loss is given the indices of up to `batch` of `size` items."""
    optimiser = torch.optim.Adam(parameters, lr=3e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(torch.randperm(size)[:batch]).backward()
        optimiser.step()


def train_point(image: Tensor, label: Tensor, steps: int) -> tuple[list[Tensor], Tensor]:
    """Step 1: train a network as usual; the small start lets what it learns stand out from the initial noise."""
    weights, output = [he(shape, 0.1).requires_grad_() for shape in SHAPES], he((2, WIDTH, 1, 1)).requires_grad_()
    parameters = [*weights, output]
    minimise(parameters, steps, len(image), 8, lambda i: F.cross_entropy(segment(image[i], weights, output), label[i]))
    return [weight.detach() for weight in weights], output.detach()


def source_kernels(networks: int, steps: int) -> list[Tensor]:
    """Return the kernels of trained source networks, for each layer (networks · N, 9)."""
    trained = [train_point(*images(64, "square"), steps)[0] for _ in range(networks)]
    return [torch.cat([kernels.reshape(-1, 9) for kernels in layer]) for layer in zip(*trained, strict=True)]


class KernelVAE(nn.Module):
    """Step 2: p(w) = ∫ N(w; μ(z), σ(z)²) N(z; 0, I) dz, with an encoder r(z|w); kernels are rows of 9 weights."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale  # root mean square of the kernels: the networks inside see numbers of order 1
        self.encoder = nn.Sequential(nn.Linear(9, 64), nn.ELU(), nn.Linear(64, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, 64), nn.ELU(), nn.Linear(64, 2 * 9))

    def encode(self, w: Tensor) -> Normal:
        """Return r(z|w)."""
        mean, log_scale = self.encoder(w / self.scale).chunk(2, -1)
        return Normal(mean, log_scale.exp())

    def decode(self, z: Tensor) -> Normal:
        """Return p(w|z)."""
        mean, log_scale = self.decoder(z).chunk(2, -1)
        return Normal(self.scale * mean, self.scale * log_scale.exp())

    def model(self, kernels: Tensor) -> None:
        """Generate kernels: z ~ p(z), w ~ p(w|z)."""
        with pyro.plate("kernels", len(kernels)):
            z = pyro.sample("z", Normal(torch.zeros(len(kernels), LATENT), 1.0).to_event(1))
            pyro.sample("w", self.decode(z).to_event(1), obs=kernels)

    def guide(self, kernels: Tensor) -> None:
        """Infer their latents: z ~ r(z|w)."""
        with pyro.plate("kernels", len(kernels)):
            pyro.sample("z", self.encode(kernels).to_event(1))


def fit_prior(kernels: Tensor, steps: int) -> KernelVAE:
    """Maximise the autoencoder's ELBO, on 128 kernels at a time."""
    vae = KernelVAE(kernels.square().mean().sqrt().item())
    minimise(vae.parameters(), steps, len(kernels), 128, lambda i: elbo_loss(vae.model, vae.guide, kernels[i]))
    return vae


class Target(nn.Module):
    """Step 3: model and guide of the target network; a `kl_weight` below 1 tempers the posterior.

    The prior p(w) has no density, but the pair (z, w) has one. So z joins the model, and the guide draws it from the encoder
    r(z|w), which goes on learning; the decoders stay fixed. The ELBO is the paper's bound, loose by KL(r(z|w) ‖ p(z|w)).
    """

    def __init__(self, priors: list[KernelVAE], kl_weight: float) -> None:
        super().__init__()
        self.priors, self.kl_weight = priors, kl_weight
        starts = [p.decode(torch.randn(o * i, LATENT)).sample() for p, (o, i, *_) in zip(priors, SHAPES, strict=True)]
        self.mean = nn.ParameterList(starts)  # q(w) = N(mean, exp(log_scale)²) starts at a draw of the prior
        self.log_scale = nn.ParameterList([(0.1 * w.square().mean().sqrt()).log().expand_as(w).clone() for w in starts])
        self.output = nn.Parameter(he((2, WIDTH, 1, 1)))  # a point parameter, as 1x1 layers are in the paper

    def model(self, image: Tensor, label: Tensor, total: int) -> None:
        """Draw z ~ p(z), w ~ p(w|z) and y given network(x; w); the plate scales the minibatch to all `total` images."""
        weights = []
        with pyro.poutine.scale(scale=self.kl_weight):
            for layer, (prior, shape) in enumerate(zip(self.priors, SHAPES, strict=True)):
                z = pyro.sample(f"z{layer}", Normal(torch.zeros(shape[0] * shape[1], LATENT), 1.0).to_event(2))
                weights.append(pyro.sample(f"w{layer}", prior.decode(z).to_event(2)).reshape(shape))
        logits = segment(image, weights, self.output).movedim(1, -1)
        with pyro.plate("images", total, subsample=torch.arange(len(image))):
            pyro.sample("y", Categorical(logits=logits).to_event(2), obs=label)

    def guide(self, *_: object) -> list[Tensor]:
        """Draw w ~ q(w), z ~ r(z|w); return the weights."""
        weights = []
        with pyro.poutine.scale(scale=self.kl_weight):
            for layer, prior in enumerate(self.priors):
                w = pyro.sample(f"w{layer}", Normal(self.mean[layer], self.log_scale[layer].exp()).to_event(2))
                pyro.sample(f"z{layer}", prior.encode(w).to_event(2))
                weights.append(w.reshape(SHAPES[layer]))
        return weights


def infer(target: Target, image: Tensor, label: Tensor, steps: int) -> None:
    """Maximise the ELBO over the posterior's means and widths, the encoders and the output layer, but not the decoders."""
    n, free = len(image), [*target.parameters(), *(p for vae in target.priors for p in vae.encoder.parameters())]
    minimise(free, steps, n, 4, lambda i: elbo_loss(target.model, target.guide, image[i], label[i], n))


@torch.no_grad()
def predict(target: Target, image: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Step 4: return the lesion's mean probability and its entropy in nats, (B, 24, 24). Average probabilities, not logits."""
    mean = torch.stack([segment(image, target.guide(), target.output).softmax(1) for _ in range(samples)]).mean(0)
    return mean[:, 1], torch.special.entr(mean).sum(1)


def dice(mask: Tensor, truth: Tensor) -> float:
    """Return 2 |A ∩ B| / (|A| + |B|) over all images."""
    return float(2 * (mask & truth.bool()).sum() / (mask.sum() + truth.sum()))


def run(seed: int, networks: int = 8, steps: int = 300, labelled: int = 5) -> dict[str, float]:
    """Run all four steps; return Dice on 100 new images, and the mean entropy where the prediction is right and wrong."""
    torch.manual_seed(seed)
    priors = [fit_prior(kernels, steps) for kernels in source_kernels(networks, steps // 2)]
    few, new = images(labelled, "disc"), images(100, "disc")
    target = Target(priors, kl_weight=0.03)
    infer(target, *few, steps)
    probability, entropy = predict(target, new[0], samples=20)
    weights, output = train_point(*few, steps)  # as many steps, from a small random start
    plain, mask = segment(new[0], weights, output).argmax(1).bool(), probability > 0.5
    scores, wrong = {"dice": dice(mask, new[1]), "dice_without_prior": dice(plain, new[1])}, mask != new[1].bool()
    return scores | {f"nats_where_{n}": entropy[w].mean().item() for n, w in (("right", ~wrong), ("wrong", wrong))}


def main(seeds: Iterable[int] = range(5)) -> None:
    """Print the scores of several seeds, each with its own source networks, images and starts, and what they show."""
    runs: list[dict[str, float]] = []
    for seed in seeds:
        runs.append(run(seed))
        print(f"seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in runs[-1].items()), flush=True)
    for name in runs[0]:
        print(f"{name}: mean {fmean(r[name] for r in runs):.3f}, standard deviation {stdev(r[name] for r in runs):.3f}")
    gaps = [scores["dice"] - scores["dice_without_prior"] for scores in runs]
    wins, mean, error = sum(gap > 0 for gap in gaps), fmean(gaps), stdev(gaps) / len(gaps) ** 0.5
    print(f"With the prior Dice is higher in {wins} of {len(gaps)} seeds, by {mean:.3f} (standard error {error:.3f}).")
    print("These are toy images, at one setting chosen by hand; docs/results.md says what was measured on scans.")


if __name__ == "__main__":
    main()
