"""A learned prior on disk: it comes back bit for bit, and whatever does not fit is refused with file, group and cure."""

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from pyro.distributions import Normal, TorchDistribution
from safetensors import safe_open
from torch import Tensor

from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.files import read_tensors, write_tensors
from pyro_dwp.priors import DeepWeight, DeepWeightDensity, EmpiricalDensity, GroupDensity, MixtureDensity
from pyro_dwp.priors.density import density_class
from pyro_dwp.priors.store import KIND, load_prior, save_prior
from pyro_dwp.sites import WeightSite
from tests.helpers import fitted
from tests.helpers.refusal import refuses

SHALLOW = {"kernel_shape": [3, 3, 3], "variant": "shallow", "latent": 3, "hidden": 8}
CHOLESKY = ["empirical", "student_t", "mixture", "flow"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "prior.safetensors"


def density(name: str) -> GroupDensity:
    torch.manual_seed(0)
    return fitted.fitted_densities(fitted.synthetic_kernels(300, (3, 3)))[name]


def a_prior(path: Path) -> None:
    densities = {g: DeepWeightDensity((3, 3, 3), latent=3, hidden=8, kernel_scale=0.1 * int(g)) for g in ("1", "2")}
    save_prior(path, densities, {"licence": "CC BY-SA 4.0"})


def refused(path: Path, change: Callable[[dict, dict], object], *tokens: str) -> None:
    """Change the tensors and the header of the file; reading it must fail with these tokens."""
    tensors, header = read_tensors(path, KIND, "")
    change(tensors, header)
    write_tensors(path, KIND, tensors, header)
    with refuses(str(path), *tokens, "run/train_prior.py", error=CheckpointError):
        load_prior(path)


# Round trips.


VARIANTS = {
    f"{variant} {len(shape)}-D": DeepWeightDensity(shape, variant, 3, 8, 0.2)
    for variant, shape in (("dense", (3, 3, 3)), ("dense", (5, 5)), ("paper", (3, 3, 3)), ("paper", (3, 3)))
}


@pytest.mark.parametrize("name", ["deep_weight", *CHOLESKY, *VARIANTS])
def test_a_saved_density_comes_back_bit_for_bit(path: Path, name: str) -> None:
    original = VARIANTS[name] if name in VARIANTS else density(name)
    save_prior(path, {"1": original, "2": original}, {"licence": "CC BY-SA 4.0"})
    stored = load_prior(path)
    assert (stored.family, stored.metadata) == (original.family, {"licence": "CC BY-SA 4.0"})
    assert list(stored.densities) == ["1", "2"]
    loaded, drawn = stored.densities["2"], []
    assert (type(loaded), loaded.settings) == (type(original), original.settings)
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in original.state_dict().items())
    for each in (original, loaded):
        torch.manual_seed(1)
        drawn.append(each.distribution("1").sample((5,)))
    assert torch.equal(*drawn)
    if original.exact:
        assert torch.equal(loaded.distribution().log_prob(drawn[0]), original.distribution().log_prob(drawn[0]))
    else:
        assert torch.equal(loaded.encoder(drawn[0].flatten(1))[0], original.encoder(drawn[0].flatten(1))[0])


def test_loading_does_not_depend_on_the_random_numbers_and_draws_as_many_as_building(path: Path) -> None:
    a_prior(path)
    torch.manual_seed(3)
    load_prior(path)
    after = torch.randn(3)
    torch.manual_seed(3)
    for _ in range(2):
        DeepWeightDensity((3, 3, 3), latent=3, hidden=8)
    assert torch.equal(torch.randn(3), after)


@pytest.mark.parametrize("precision", [torch.float16, torch.float64])
def test_a_density_is_stored_and_loaded_in_float32(path: Path, precision: torch.dtype) -> None:
    original = EmpiricalDensity((2, 2)).to(precision)
    original.mean.fill_(0.1)
    save_prior(path, {"1": original}, {})
    tensors, header = read_tensors(path, KIND, "")
    for stored in (tensors["1/mean"], original.mean):
        write_tensors(path, KIND, {**tensors, "1/mean": stored}, header)
        found = load_prior(path).densities["1"].mean
        assert found.dtype == torch.float32
        assert torch.equal(found, original.mean.float())


NAMES = ["a", "up.conv", "a/b", "", "keys", "50%", "a%2Fb", "größe", "training"]


def test_groups_may_have_any_name_and_kernels_of_any_shape(path: Path) -> None:
    shapes = {name: (3,) * (1 + number % 3) for number, name in enumerate(NAMES)}
    save_prior(path, {name: DeepWeightDensity(shape, hidden=4) for name, shape in shapes.items()}, {})
    prior = DeepWeight(path)
    assert list(prior.densities) == list(prior.encoders()) == NAMES
    for name, shape in shapes.items():
        found = prior.distribution(WeightSite("w", torch.Size([2, 1, *shape]), name))
        assert (found.group, found.event_shape) == (name, shape)
        assert found.decoder is prior.densities[name].decoder


def test_a_page_beside_the_file_says_what_it_is_and_is_not_needed(path: Path) -> None:
    a_prior(path)
    page = yaml.safe_load(path.with_suffix(".yaml").read_text())
    assert page["groups"]["2"] == SHALLOW
    assert (page["metadata"], page["versions"]["torch"]) == (
        {"licence": "CC BY-SA 4.0"},
        importlib.metadata.version("torch"),
    )
    assert sorted(file.name for file in path.parent.iterdir()) == ["prior.safetensors", "prior.yaml"]
    path.with_suffix(".yaml").unlink()
    assert list(load_prior(path).densities) == ["1", "2"]


def test_the_prior_that_ships_is_read() -> None:
    prior = DeepWeight()
    assert list(prior.densities) == [*"1234567"]
    assert prior.densities["1"].settings == {"variant": "shallow", "latent": 16, "hidden": 128}
    assert prior.stored.metadata["licence"] == "CC BY-SA 4.0"
    page = yaml.safe_load(prior.stored.path.with_suffix(".yaml").read_text())
    with safe_open(prior.stored.path, framework="pt") as file:
        assert page == {"file": prior.stored.path.name, **json.loads(file.metadata()["header"])}


# Refusals.


def test_two_families_or_none_are_no_prior_and_an_unknown_one_lists_those_there_are(path: Path) -> None:
    for densities, token in (({"1": EmpiricalDensity((2, 2)), "2": MixtureDensity((2, 2))}, "mixture"), ({}, "none")):
        with refuses(token, error=ConfigError):
            save_prior(path, densities, {})
    with refuses("'mixtures'", "deep_weight, empirical, flow,", "'mixture'", error=ConfigError):
        density_class("mixtures")


HEADERS: list[dict] = [
    *({key: value} for key in ("family", "groups", "metadata") for value in (None, 1, "x", [1], ["1", "2"])),
    {"family": "deeper_weight"},
    {"groups": {}},
    *({"groups": {"1": value}} for value in (None, 3, "dense", [3, 3], {"latent": 2})),
    *(
        {"groups": {"1": {**SHALLOW, "kernel_shape": shape}}}
        for shape in (None, 3, "333", [3.5], [0, 3], [-3], [9**9] * 3)
    ),
    *({"groups": {"1": {**SHALLOW, "hidden": width}}} for width in (None, "8", 8.5, True, 0, -8, 10**9, 1e400)),
    *({"groups": {"1": {**SHALLOW, **wrong}}} for wrong in ({"variant": "denser"}, {"depth": 2})),
    *({"metadata": {"bank": bank}} for bank in (3, [1])),
    *({"metadata": {"bank": {"layers": layers}}} for layers in (3, {"1": "init_conv.weight"}, {"1": [3]})),
]


@pytest.mark.parametrize(
    ("change", "token"),
    [
        (lambda tensors, _: tensors.update({"2/decoder.layers.2.weight": torch.zeros(8, 9)}), "layers.2.weight"),
        (lambda tensors, _: tensors.pop("1/encoder.kernel_scale"), "encoder.kernel_scale"),
        (lambda tensors, _: tensors.update({"1/spare": torch.zeros(2)}), "spare"),
        (lambda tensors, _: tensors.update({"9/spare": torch.zeros(2)}), "9/spare"),
        (lambda tensors, _: tensors["1/decoder.layers.0.bias"].fill_(torch.nan), "layers.0.bias"),
        *((lambda _, header, part=part: header.pop(part), "header") for part in ("family", "groups", "metadata")),
        *((lambda _, header, change=change: header.update(change), "header") for change in HEADERS),
    ],
)
def test_an_edited_tensor_or_part_of_the_header_is_named(path: Path, change: Callable, token: str) -> None:
    a_prior(path)
    refused(path, change, token)


def test_a_header_that_claims_a_size_is_compared_with_the_tensors_before_memory_is_taken(path: Path) -> None:
    save_prior(path, {"1": MixtureDensity((3, 3), 1)}, {})
    huge = {"kernel_shape": [16, 16, 16], "components": 1000}  # 67 GB of covariances
    refused(path, lambda _, header: header["groups"].update({"1": huge}), "(1000,)", "(1,)")


MASK = "transform.transforms.0.hyper.1.mask"
VALUES = [
    *((name, "scale_tril", (..., 1, 1), value) for name in CHOLESKY for value in (0.0, -1.0)),
    *((name, "scale_tril", (..., 0, 2), 0.25) for name in CHOLESKY),
    *((name, "degrees", ..., value) for name in ("student_t", "flow") for value in (0.0, -2.0)),
    *(("deep_weight", f"{coder}.kernel_scale", ..., x) for coder in ("encoder", "decoder") for x in (0.0, -0.5)),
    ("mixture", "log_weights", ..., 0.5),
    *(("empirical", "mean", ..., value) for value in (torch.inf, torch.nan)),
]


@pytest.mark.parametrize(("name", "tensor", "where", "value"), VALUES)
def test_values_that_make_no_distribution_are_refused(path, name, tensor, where, value):
    save_prior(path, {"7": density(name)}, {})
    token = f"{value:.4g}" if tensor == "scale_tril" else tensor
    refused(path, lambda tensors, _: tensors[f"7/{tensor}"].__setitem__(where, value), "'7'", tensor, token)


@pytest.mark.parametrize(
    ("name", "tensor", "dtype", "token"),
    [
        ("empirical", "mean", torch.int32, "floating-point"),
        ("empirical", "mean", torch.bool, "floating-point"),
        ("mixture", "scale_tril", torch.complex64, "floating-point"),
        ("flow", "transform.transforms.0.order", torch.float32, "integer"),
        ("flow", MASK, torch.float32, "boolean"),
        ("flow", MASK, torch.int64, "boolean"),
        ("empirical", "mean", torch.float64, "finite"),
    ],
)
def test_a_tensor_of_another_kind_of_number_or_too_large_for_float32_is_refused(path, name, tensor, dtype, token):
    def change(tensors: dict[str, Tensor], _: dict) -> None:
        tensors[f"7/{tensor}"] = tensors[f"7/{tensor}"].to(dtype) * (1e300 if dtype == torch.float64 else 1)

    save_prior(path, {"7": density(name)}, {})
    refused(path, change, "'7'", tensor, token)


def test_a_density_of_ones_own_may_need_real_numbers_to_be_built_and_check_its_values(path, monkeypatch):
    monkeypatch.setattr(GroupDensity, "families", dict(GroupDensity.families))

    class Wide(GroupDensity):
        family = "wide"

        def __init__(self, kernel_shape: tuple[int, ...]) -> None:
            super().__init__(kernel_shape)
            self.register_buffer("width", torch.tensor(torch.ones(3).sum().item()))  # fails on no device

        def distribution(self, group: str = "") -> TorchDistribution:
            return Normal(torch.zeros(self.kernel_shape), self.width).to_event(len(self.kernel_shape))

    saved = Wide((3, 3))
    saved.width.fill_(-1.0)
    save_prior(path, {"1": saved}, {})
    refused(path, lambda *_: None, "'1'", "scale")  # no kernel can be drawn from it
    monkeypatch.setattr(Wide, "check", lambda self: self.require_positive("width"), raising=False)
    refused(path, lambda *_: None, "'1'", "width", "-1")
