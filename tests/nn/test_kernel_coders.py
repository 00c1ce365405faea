import math
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_dwp.errors import ConfigError
from pyro_dwp.nn.kernel_coders import MINIMUM_LOG_SCALE, PaperDecoder, PaperEncoder, build_coders

SHAPES = [(3, 3), (3, 3, 3)]
VARIANTS = ["paper", "dense"]


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
def test_the_papers_encoder_computes_what_its_convolutions_compute(shape):
    torch.manual_seed(0)
    coder = PaperEncoder(shape).double()
    kernels = torch.randn(6, math.prod(shape), dtype=torch.float64)
    for fast, literal in zip(coder(kernels), literal_encoder(coder, kernels), strict=True):
        torch.testing.assert_close(fast, literal, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_papers_decoder_computes_what_its_convolutions_compute(shape):
    torch.manual_seed(0)
    coder = PaperDecoder(shape).double()
    z = torch.randn(6, 6, dtype=torch.float64)
    for fast, literal in zip(coder(z), literal_decoder(coder, z), strict=True):
        torch.testing.assert_close(fast, literal, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("coder", "literal", "entries"),
    [(PaperEncoder, literal_encoder, 27), (PaperDecoder, literal_decoder, 6)],
)
def test_the_papers_coders_have_the_gradients_of_their_convolutions(coder, literal, entries):
    torch.manual_seed(0)
    module = coder().double()
    x = torch.randn(4, entries, dtype=torch.float64)
    gradients = []
    for outputs in (module(x), literal(module, x)):
        loss = sum((output.square() * (1 + rank)).sum() for rank, output in enumerate(outputs))
        gradients.append(torch.autograd.grad(loss, list(module.parameters())))
    for fast, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, expected, rtol=1e-9, atol=1e-12)


def test_the_papers_coders_have_the_parameters_of_appendix_b():
    convolutions = [(1, 32, 27), (32, 64, 27), (64, 128, 1), (128, 6, 1), (128, 6, 1)]
    encoder = sum(i * o * taps + o for i, o, taps in convolutions)
    layers = [(6, 128, 1), (128, 128, 27), (128, 128, 27), (128, 64, 1), (64, 32, 1), (32, 1, 1), (32, 1, 1)]
    decoder = sum(i * o * taps + o for i, o, taps in layers)
    coders = build_coders("paper")
    assert sum(p.numel() for p in coders.encoder.parameters()) == encoder == 66_124
    assert sum(p.numel() for p in coders.decoder.parameters()) == decoder == 896_290


@pytest.mark.parametrize(("variant", "shape"), list(product(VARIANTS, SHAPES)))
def test_coders_keep_every_leading_axis(variant, shape):
    coders = build_coders(variant, shape, latent_dim=4)
    entries = math.prod(shape)
    for leading in ((), (5,), (2, 3), (2, 3, 4)):
        kernels = torch.randn(*leading, entries)
        assert [x.shape for x in coders.encoder(kernels)] == [(*leading, 4)] * 2
        assert [x.shape for x in coders.decoder(torch.randn(*leading, 4))] == [(*leading, entries)] * 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_leading_axes_do_not_change_what_a_coder_says_of_one_kernel(variant):
    torch.manual_seed(0)
    coders = build_coders(variant).double()
    kernels, z = torch.randn(2, 3, 27, dtype=torch.float64), torch.randn(2, 3, 6, dtype=torch.float64)
    torch.testing.assert_close(coders.encoder(kernels)[0][1, 2], coders.encoder(kernels[1, 2])[0])
    torch.testing.assert_close(coders.decoder(z)[1][1, 2], coders.decoder(z[1, 2])[1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_encoder_sees_kernels_in_units_of_the_scale(variant):
    coders = build_coders(variant, kernel_scale=1.0).double()
    kernels = torch.randn(4, 27, dtype=torch.float64)
    before = coders.encoder(kernels)
    coders.encoder.kernel_scale.fill_(0.05)
    for left, right in zip(coders.encoder(0.05 * kernels), before, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_decoder_gives_kernels_in_units_of_the_scale(variant):
    coders = build_coders(variant, kernel_scale=1.0).double()
    z = torch.randn(4, 6, dtype=torch.float64)
    mean, log_scale = coders.decoder(z)
    coders.decoder.kernel_scale.fill_(0.05)
    scaled_mean, scaled_log_scale = coders.decoder(z)
    torch.testing.assert_close(scaled_mean, 0.05 * mean)
    torch.testing.assert_close(scaled_log_scale, log_scale + math.log(0.05))


def test_the_papers_standardised_scale_never_falls_below_exp_of_minus_one_half():
    log_scale = PaperDecoder()(1e4 * torch.randn(100, 6))[1]
    assert log_scale.min() >= -0.5
    assert log_scale.max() <= 0.5


def test_the_dense_scale_has_a_soft_floor_and_no_ceiling():
    decoder = build_coders("dense").decoder
    nn.init.constant_(decoder.layers[-1].bias, -1000.0)
    assert torch.allclose(decoder(torch.zeros(1, 6))[1], torch.tensor(MINIMUM_LOG_SCALE))
    nn.init.constant_(decoder.layers[-1].bias, 1000.0)
    assert (decoder(torch.zeros(1, 6))[1] > 900).all()


def test_the_scale_is_saved_and_follows_the_dtype():
    coders = build_coders("paper", kernel_scale=0.25).double()
    assert coders.state_dict()["encoder.kernel_scale"] == 0.25
    assert coders.decoder.kernel_scale.dtype == torch.float64
    assert not [name for name in coders.state_dict() if "taps" in name]


def test_the_papers_coders_refuse_kernels_of_another_edge():
    with pytest.raises(ConfigError, match=r"\(5, 5, 5\).*dense"):
        build_coders("paper", (5, 5, 5))


def test_an_unknown_variant_is_answered_with_the_legal_ones():
    with pytest.raises(ConfigError, match=r"dense, paper.*Did you mean 'dense'"):
        build_coders("dence")


@pytest.mark.parametrize("wrong", [{"latent_dim": 0}, {"hidden": 0}, {"kernel_scale": 0.0}, {"kernel_scale": math.nan}])
def test_sizes_that_cannot_work_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        build_coders("dense", **wrong)
