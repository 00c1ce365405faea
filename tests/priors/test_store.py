"""A learned prior on disk: comes back bit for bit, and whatever does not fit is refused with the cure."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from pyro_dwp.errors import CheckpointError, ConfigError
from pyro_dwp.priors import DeepWeight, DeepWeightDensity, Empirical, EmpiricalDensity, KernelDensity, MixtureDensity
from pyro_dwp.priors.store import load_prior, save_prior

_spec = importlib.util.spec_from_file_location("fitted", Path(__file__).with_name("fitted.py"))
fitted = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fitted)

FAMILIES = ["deep_weight", "empirical", "student_t", "mixture", "flow"]


def a_prior(
    path: Path, shape: tuple[int, ...] = (3, 3, 3), groups: tuple[str, ...] = ("1", "2"), **settings: object
) -> dict[str, KernelDensity]:
    settings = {"latent": 3, "hidden": 8, **settings}
    densities = {group: DeepWeightDensity(shape, kernel_scale=0.1 * int(group), **settings) for group in groups}
    save_prior(path, densities, {"licence": "CC BY-SA 4.0"})
    return densities


def rewrite(path: Path, change: Callable[[dict, dict], None]) -> None:
    with safe_open(path, framework="pt") as file:
        tensors, facts = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    header = json.loads(facts["header"])
    change(tensors, header)
    save_file(tensors, path, metadata=facts | {"header": json.dumps(header)})


def as_version_0_1_0(_: dict, header: dict) -> None:
    """Bring a header into the form of the first version, which knew no family and one setting for all groups."""
    settings = next(iter(header["groups"].values()))
    groups, metadata = list(header["groups"]), header["metadata"]
    header.clear()
    header.update(**settings, groups=groups, metadata=metadata)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "prior.safetensors"


@pytest.mark.parametrize(
    ("variant", "shape"), [("dense", (3, 3, 3)), ("dense", (5, 5)), ("paper", (3, 3, 3)), ("paper", (3, 3))]
)
def test_a_saved_autoencoder_comes_back_bit_for_bit(path: Path, variant: str, shape: tuple[int, ...]) -> None:
    densities = a_prior(path, shape, variant=variant)
    stored = load_prior(path)
    assert (stored.family, stored.metadata) == ("deep_weight", {"licence": "CC BY-SA 4.0"})
    assert list(stored.densities) == ["1", "2"]
    for group, density in densities.items():
        assert stored.density(group).kernel_shape == shape
        assert stored.density(group).settings == density.settings == {"variant": variant, "latent": 3, "hidden": 8}
        for name, tensor in density.state_dict().items():
            assert torch.equal(stored.density(group).state_dict()[name], tensor)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_density_of_every_family_comes_back_bit_for_bit(path: Path, name: str) -> None:
    density = fitted.fitted_densities(fitted.synthetic_kernels(300, (3, 3)))[name]
    save_prior(path, {"1": density}, {})
    loaded = load_prior(path).density("1")
    assert type(loaded) is type(density)
    assert loaded.settings == density.settings
    torch.manual_seed(1)
    kernel = density.distribution("1").sample((5,))
    torch.manual_seed(1)
    assert torch.equal(loaded.distribution("1").sample((5,)), kernel)
    if name != "deep_weight":
        assert torch.equal(loaded.distribution().log_prob(kernel), density.distribution().log_prob(kernel))


def test_a_density_in_float64_is_stored_in_float32(path: Path) -> None:
    density = EmpiricalDensity((2, 2)).double()
    density.mean.fill_(0.1)
    save_prior(path, {"1": density}, {})
    assert load_prior(path).density("1").mean.dtype == torch.float32
    assert density.mean.dtype == torch.float64


def test_groups_may_have_kernels_of_different_shapes_and_settings(path: Path) -> None:
    save_prior(path, {"a": MixtureDensity((3, 3), 2), "b": MixtureDensity((5, 5), 4)}, {})
    loaded = load_prior(path)
    assert loaded.density("a").distribution().event_shape == (3, 3)
    assert loaded.density("b").distribution().event_shape == (5, 5)


def test_a_page_beside_the_file_says_what_it_is(path: Path) -> None:
    a_prior(path)
    page = yaml.safe_load(path.with_suffix(".yaml").read_text())
    assert (page["file"], page["family"]) == ("prior.safetensors", "deep_weight")
    assert page["groups"]["2"] == {"kernel_shape": [3, 3, 3], "variant": "dense", "latent": 3, "hidden": 8}
    assert page["metadata"] == {"licence": "CC BY-SA 4.0"}
    assert page["versions"]["torch"] == torch.__version__
    assert sorted(file.name for file in path.parent.iterdir()) == ["prior.safetensors", "prior.yaml"]


def test_the_file_is_enough_without_its_page(path: Path) -> None:
    a_prior(path)
    path.with_suffix(".yaml").unlink()
    assert list(load_prior(path).densities) == ["1", "2"]


def test_densities_of_two_families_or_none_are_no_prior(path: Path) -> None:
    with pytest.raises(ConfigError, match="'empirical', 'mixture'"):
        save_prior(path, {"1": EmpiricalDensity((2, 2)), "2": MixtureDensity((2, 2))}, {})
    with pytest.raises(ConfigError, match="none"):
        save_prior(path, {}, {})


def test_a_file_of_the_first_version_is_read_as_a_deep_weight_prior(path: Path) -> None:
    densities = a_prior(path)
    rewrite(path, as_version_0_1_0)
    stored = load_prior(path)
    assert stored.family == "deep_weight"
    assert stored.density("2").settings == {"variant": "dense", "latent": 3, "hidden": 8}
    for name, tensor in densities["2"].state_dict().items():
        assert torch.equal(stored.density("2").state_dict()[name], tensor)


def test_the_prior_that_ships_is_read() -> None:
    prior = DeepWeight()
    assert list(prior.densities) == [*"1234567"]
    assert prior.stored.density("1").settings == {"variant": "dense", "latent": 16, "hidden": 128}
    assert prior.stored.metadata["licence"] == "CC BY-SA 4.0"


def test_a_prior_that_fits_the_network_is_accepted(path: Path) -> None:
    a_prior(path)
    assert "1" in load_prior(path, {"1": (3, 3, 3)}).densities


def test_a_prior_for_other_kernel_sizes_names_file_both_shapes_and_cure(path: Path) -> None:
    a_prior(path, shape=(5, 5, 5))
    with pytest.raises(CheckpointError, match=r"\(3, 3, 3\).*prior\.safetensors.*\(5, 5, 5\).*train_prior"):
        load_prior(path, {"1": (3, 3, 3)})


def test_a_missing_group_names_file_and_groups(path: Path) -> None:
    a_prior(path)
    with pytest.raises(CheckpointError, match=r"group\(s\) 3.*prior\.safetensors.*1, 2"):
        load_prior(path, {"1": (3, 3, 3), "3": (3, 3, 3)})


def test_a_missing_file_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.safetensors does not exist.*train_prior"):
        load_prior(tmp_path / "none.safetensors")


def test_a_file_of_another_family_names_both_and_the_prior_that_fits(path: Path) -> None:
    a_prior(path)
    with pytest.raises(CheckpointError, match=r"'deep_weight'.*'empirical'.*--prior deep_weight"):
        Empirical(str(path))


@pytest.mark.parametrize("keep", [0, 7, 500, -4])
def test_a_truncated_file_is_one_clear_error(path: Path, keep: int) -> None:
    a_prior(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"prior\.safetensors cannot be read as a kernel prior"):
        load_prior(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tensors: tensors.update({"2/decoder.layers.2.weight": torch.zeros(8, 9)}),
            r"2/decoder\.layers\.2\.weight should be \(8, 8\).*\(8, 9\)",
        ),
        (lambda tensors: tensors.pop("1/encoder.kernel_scale"), r"1/encoder\.kernel_scale should be \(\).*absent"),
        (lambda tensors: tensors.update({"1/spare": torch.zeros(2)}), r"1/spare should be absent.*\(2,\)"),
        (lambda tensors: tensors.update({"9/spare": torch.zeros(2)}), "9/spare belongs to no group"),
        (
            lambda tensors: tensors["1/decoder.layers.0.bias"].fill_(torch.nan),
            r"1/decoder\.layers\.0\.bias.*not finite",
        ),
    ],
    ids=["shape", "missing", "added", "group", "nan"],
)
def test_an_edited_tensor_is_named(path: Path, change: Callable[[dict], None], message: str) -> None:
    a_prior(path)
    rewrite(path, lambda tensors, _: change(tensors))
    with pytest.raises(CheckpointError, match=message):
        load_prior(path)


@pytest.mark.parametrize(
    "change",
    [
        {"family": "deeper_weight"},
        {"family": None},
        {"groups": None},
        {"groups": {}},
        {"groups": ["1", "2"]},
        {"groups": {"1": {"kernel_shape": [3, 3, 3], "variant": "denser"}}},
        {"groups": {"1": {"kernel_shape": [3, 3, 3], "depth": 2}}},
        {"groups": {"1": {"latent": 2}}},
        {"metadata": 1},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
def test_a_header_that_describes_no_prior_is_refused(path: Path, change: dict) -> None:
    a_prior(path)
    rewrite(path, lambda _, header: header.update(change))
    with pytest.raises(CheckpointError, match=r"header of .*prior\.safetensors"):
        load_prior(path)


@pytest.mark.parametrize("version", ["this", "first"])
def test_a_file_without_groups_and_tensors_is_refused(path: Path, version: str) -> None:
    a_prior(path)
    if version == "first":
        rewrite(path, as_version_0_1_0)
    rewrite(path, lambda tensors, header: (tensors.clear(), header.update(groups={} if version == "this" else [])))
    with pytest.raises(CheckpointError, match=r"header of .*prior\.safetensors.*no group.*train_prior"):
        load_prior(path)


@pytest.mark.parametrize("key", ["family", "groups", "metadata"])
def test_a_header_without_a_part_is_refused(path: Path, key: str) -> None:
    a_prior(path)
    rewrite(path, lambda _, header: header.pop(key))
    with pytest.raises(CheckpointError, match=r"header of .*prior\.safetensors"):
        load_prior(path)


def test_an_old_header_of_an_unknown_variant_is_refused(path: Path) -> None:
    a_prior(path)
    rewrite(path, as_version_0_1_0)
    rewrite(path, lambda _, header: header.update(variant="denser"))
    with pytest.raises(CheckpointError, match=r"header of .*prior\.safetensors.*'denser'"):
        load_prior(path)
