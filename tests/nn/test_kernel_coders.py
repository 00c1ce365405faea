import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_dwp.errors import ConfigError
from pyro_dwp.nn.kernel_coders import MINIMUM_LOG_SCALE, build_coders
from pyro_dwp.nn.paper_coders import PaperDecoder, PaperEncoder
from tests.helpers.refusal import refuses

SHAPES = [(3, 3), (3, 3, 3)]
VARIANTS = ["paper", "dense", "shallow"]


def literal_encoder(coder: PaperEncoder, kernels: Tensor) -> tuple[Tensor, Tensor]:
    pool = F.max_pool3d if len(coder.kernel_shape) == 3 else F.max_pool2d
    x = F.elu(pool(coder.conv_1(kernels.reshape(-1, 1, *coder.kernel_shape)), 2, padding=1))
    x = F.elu(pool(coder.conv_2(x), 2))
    x = F.elu(coder.conv_3(x)).flatten(1)
    return coder.mean(x), 0.5 * coder.log_variance(x)


def literal_decoder(coder: PaperDecoder, z: Tensor) -> tuple[Tensor, Tensor]:
    x = coder.linear(z).reshape(-1, 128, *(1 for _ in coder.kernel_shape))
    x = F.elu(coder.up(F.elu(coder.conv_1(x))))
    x = F.elu(coder.conv_3(F.elu(coder.conv_2(x))))
    return coder.mean(x).tanh().flatten(1), 0.5 * coder.log_variance(x).tanh().flatten(1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("coder", "literal"), [(PaperEncoder, literal_encoder), (PaperDecoder, literal_decoder)])
def test_the_papers_coders_have_the_values_and_gradients_of_their_convolutions(coder, literal, shape):
    module = coder(shape).double()
    x = torch.randn(6, math.prod(shape) if coder is PaperEncoder else 6, dtype=torch.float64)
    found, expected = module(x), literal(module, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    losses = (sum((y.square() * (1 + rank)).sum() for rank, y in enumerate(outputs)) for outputs in (found, expected))
    ours, theirs = (torch.autograd.grad(loss, list(module.parameters())) for loss in losses)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_the_papers_coders_have_the_parameters_of_appendix_b():
    convolutions = [(1, 32, 27), (32, 64, 27), (64, 128, 1), (128, 6, 1), (128, 6, 1)]
    encoder = sum(i * o * taps + o for i, o, taps in convolutions)
    layers = [(6, 128, 1), (128, 128, 27), (128, 128, 27), (128, 64, 1), (64, 32, 1), (32, 1, 1), (32, 1, 1)]
    decoder = sum(i * o * taps + o for i, o, taps in layers)
    coders = build_coders("paper")
    assert sum(p.numel() for p in coders.encoder.parameters()) == encoder == 66_124
    assert sum(p.numel() for p in coders.decoder.parameters()) == decoder == 896_290


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_coders_keep_every_leading_axis_and_take_kernels_one_by_one(variant, shape):
    coders = build_coders(variant, shape, latent_dim=4).double()
    for coder, entries, outputs in ((coders.encoder, math.prod(shape), 4), (coders.decoder, 4, math.prod(shape))):
        for leading in ((), (5,), (2, 3), (2, 3, 4)):
            x = torch.randn(*leading, entries, dtype=torch.float64)
            last = (-1,) * len(leading)
            for whole, single in zip(coder(x), coder(x[last]), strict=True):
                assert whole.shape == (*leading, outputs)
                torch.testing.assert_close(whole[last], single)


@pytest.mark.parametrize("variant", VARIANTS)
def test_kernels_are_in_units_of_the_scale_which_is_saved_and_follows_the_dtype(variant):
    coders = build_coders(variant, kernel_scale=0.25).double()
    assert coders.state_dict()["encoder.kernel_scale"] == 0.25
    assert coders.decoder.kernel_scale.dtype == torch.float64
    assert not [name for name in coders.state_dict() if "taps" in name]
    kernels, z = torch.randn(4, 27, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    encoded, (mean, log_scale) = coders.encoder(kernels), coders.decoder(z)
    for coder in (coders.encoder, coders.decoder):
        coder.kernel_scale.mul_(0.05)
    torch.testing.assert_close(coders.encoder(0.05 * kernels), encoded)
    torch.testing.assert_close(coders.decoder(z), (0.05 * mean, log_scale + math.log(0.05)))


def test_the_papers_log_scale_lies_within_one_half_and_the_dense_one_has_a_soft_floor_and_no_ceiling():
    assert PaperDecoder()(1e4 * torch.randn(100, 6))[1].abs().max() <= 0.5
    decoder = build_coders("dense").decoder
    nn.init.constant_(decoder.layers[-1].bias, -1000.0)
    assert torch.allclose(decoder(torch.zeros(1, 6))[1], torch.tensor(MINIMUM_LOG_SCALE))
    nn.init.constant_(decoder.layers[-1].bias, 1000.0)
    assert (decoder(torch.zeros(1, 6))[1] > 900).all()


@pytest.mark.parametrize(
    ("variant", "settings", "token"),
    [
        ("paper", {"kernel_shape": (5, 5, 5)}, "(5, 5, 5)"),
        ("dence", {}, "'dense'"),
        *(("dense", {name: value}, name) for name in ("latent_dim", "hidden") for value in (0, 10**6, 2.5)),
        *(("dense", {"kernel_scale": value}, "kernel_scale") for value in (0.0, math.nan, math.inf)),
    ],
    ids=str,
)
def test_coders_that_cannot_be_built_are_refused(variant, settings, token):
    with refuses(token, error=ConfigError):
        build_coders(variant, **settings)


def test_the_shallow_coders_follow_a_kernels_size_however_small_and_take_a_kernel_of_zeros():
    coders = build_coders("shallow").double()
    kernels = torch.randn(4, 27, dtype=torch.float64)
    nn.init.zeros_(coders.encoder.layers[0].weight[:, -1])  # blind to the size, it sees the direction alone
    torch.testing.assert_close(coders.encoder(0.01 * kernels), coders.encoder(kernels), rtol=0, atol=1e-6)
    assert all(value.isfinite().all() for value in coders.encoder(torch.zeros(1, 27, dtype=torch.float64)))
    z = torch.randn(4, 6, dtype=torch.float64)
    mean, log_scale = coders.decoder(z)
    with torch.no_grad():
        coders.decoder.layers[-1].bias[-1] += math.log(3)
    torch.testing.assert_close(coders.decoder(z), (3 * mean, log_scale + math.log(3)))
