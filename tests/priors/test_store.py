import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pyro_dwp.errors import CheckpointError
from pyro_dwp.nn.kernel_coders import build_coders
from pyro_dwp.priors.store import load_prior, save_prior


def a_prior(path, variant="dense", shape=(3, 3, 3), groups=("1", "2")):
    coders = {group: build_coders(variant, shape, 3, kernel_scale=0.1 * int(group), hidden=8) for group in groups}
    settings = {"variant": variant, "kernel_shape": shape, "latent": 3, "hidden": 8}
    save_prior(path, coders, **settings, metadata={"licence": "CC BY-SA 4.0"})
    return coders


def rewrite(path, change):
    with safe_open(path, framework="pt") as file:
        tensors, facts = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    header = json.loads(facts["header"])
    change(tensors, header)
    save_file(tensors, path, metadata=facts | {"header": json.dumps(header)})


@pytest.mark.parametrize(
    ("variant", "shape"), [("dense", (3, 3, 3)), ("dense", (5, 5)), ("paper", (3, 3, 3)), ("paper", (3, 3))]
)
def test_a_saved_prior_comes_back_bit_for_bit(tmp_path, variant, shape):
    coders = a_prior(tmp_path / "prior.safetensors", variant, shape)
    stored = load_prior(tmp_path / "prior.safetensors")
    assert (stored.variant, stored.kernel_shape, stored.latent) == (variant, torch.Size(shape), 3)
    assert stored.metadata == {"licence": "CC BY-SA 4.0"}
    assert list(stored.coders) == ["1", "2"]
    for group, module in coders.items():
        for name, tensor in module.state_dict().items():
            assert torch.equal(stored.coders[group].state_dict()[name], tensor)


def test_a_prior_that_fits_the_network_is_accepted(tmp_path):
    a_prior(tmp_path / "prior.safetensors")
    stored = load_prior(tmp_path / "prior.safetensors", {"1": (3, 3, 3)})
    assert "1" in stored.coders
    assert stored.kernel_shape == (3, 3, 3)


def test_a_prior_for_other_kernel_sizes_names_file_both_shapes_and_cure(tmp_path):
    a_prior(tmp_path / "prior.safetensors", shape=(5, 5, 5))
    with pytest.raises(CheckpointError, match=r"\(3, 3, 3\).*prior\.safetensors.*\(5, 5, 5\).*train_prior"):
        load_prior(tmp_path / "prior.safetensors", {"1": (3, 3, 3)})


def test_a_missing_group_names_file_and_groups(tmp_path):
    a_prior(tmp_path / "prior.safetensors")
    with pytest.raises(CheckpointError, match=r"group\(s\) 3.*prior\.safetensors.*1, 2"):
        load_prior(tmp_path / "prior.safetensors", {"1": (3, 3, 3), "3": (3, 3, 3)})


def test_a_missing_file_names_the_cure(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.safetensors does not exist.*train_prior"):
        load_prior(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 7, 500, -4])
def test_a_truncated_file_is_one_clear_error(tmp_path, keep):
    path = tmp_path / "prior.safetensors"
    a_prior(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"prior\.safetensors cannot be read as a kernel prior"):
        load_prior(path)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(tmp_path):
    path = tmp_path / "prior.safetensors"
    a_prior(path)
    rewrite(path, lambda tensors, _: tensors.update({"2/decoder.layers.2.weight": torch.zeros(8, 9)}))
    with pytest.raises(CheckpointError, match=r"2/decoder\.layers\.2\.weight should be \(8, 8\).*\(8, 9\)"):
        load_prior(path)


def test_a_missing_tensor_is_named(tmp_path):
    path = tmp_path / "prior.safetensors"
    a_prior(path)
    rewrite(path, lambda tensors, _: tensors.pop("1/encoder.kernel_scale"))
    with pytest.raises(CheckpointError, match=r"1/encoder\.kernel_scale should be \(\).*absent"):
        load_prior(path)


def test_a_header_that_describes_no_prior_is_refused(tmp_path):
    path = tmp_path / "prior.safetensors"
    a_prior(path)
    rewrite(path, lambda _, header: header.update(variant="denser"))
    with pytest.raises(CheckpointError, match=r"header of .*prior\.safetensors"):
        load_prior(path)
