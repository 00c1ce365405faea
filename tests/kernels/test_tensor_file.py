import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pyro_dwp.errors import CheckpointError, DataError
from pyro_dwp.kernels.tensor_file import read_tensor_file, write_tensor_file


@pytest.mark.parametrize(
    "tensor", [torch.tensor(2.5), torch.ones(3, 2).T, torch.arange(4), torch.ones(2, dtype=torch.float64)]
)
def test_tensors_of_every_layout_come_back(tmp_path, tensor):
    write_tensor_file(tmp_path / "a.safetensors", "thing", {"x": tensor, "same": tensor}, {"n": [1, None, "é"]})
    tensors, header = read_tensor_file(tmp_path / "a.safetensors", "thing", DataError, "")
    assert torch.equal(tensors["x"], tensor)
    assert torch.equal(tensors["same"], tensor)
    assert header == {"n": [1, None, "é"]}


def test_a_failed_write_leaves_the_former_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_tensor_file(path, "thing", {"x": torch.ones(1)}, {})

    def full_disk(target, content):
        with target.open("wb") as file:
            file.write(content[:9])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_tensor_file(path, "thing", {"x": torch.zeros(1)}, {})
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    assert read_tensor_file(path, "thing", DataError, "")[0]["x"] == 1


@pytest.mark.parametrize("error", [DataError, CheckpointError])
def test_a_file_of_another_kind_is_refused_with_both_kinds(tmp_path, error):
    write_tensor_file(tmp_path / "a.safetensors", "apple", {"x": torch.ones(1)}, {})
    with pytest.raises(error, match=r"a\.safetensors should be a pear, but says it is 'apple'\. Grow one"):
        read_tensor_file(tmp_path / "a.safetensors", "pear", error, "Grow one.")


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    save_file({"x": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(DataError, match="says it is 'something else'"):
        read_tensor_file(tmp_path / "a.safetensors", "pear", DataError, "")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        read_tensor_file(tmp_path, "pear", DataError, "")


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_whoever_may_read_other_new_files_may_read_this_one(tmp_path):
    (tmp_path / "plain").touch()
    write_tensor_file(tmp_path / "a.safetensors", "thing", {"x": torch.ones(1)}, {})
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
