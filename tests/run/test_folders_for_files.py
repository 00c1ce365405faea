"""A folder given where a file of kernels, a prior or a network is asked for: the error names the files that would do."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pyro_dwp.errors import DataError
from pyro_dwp.kernels.tensor_file import read_tensor_file, write_tensor_file

CURE = "Make one."


def refused(path: Path) -> str:
    with pytest.raises(DataError) as raised:
        read_tensor_file(path, "kernel bank", DataError, CURE)
    return str(raised.value)


def test_a_folder_is_said_to_be_one_with_the_first_files_of_the_kind_in_it(tmp_path: Path) -> None:
    for name, kind in (
        ("b", "kernel bank"),
        ("c", "kernel bank"),
        ("d", "kernel bank"),
        ("e", "kernel bank"),
        ("a", "prior"),
    ):
        write_tensor_file(tmp_path / f"{name}.safetensors", kind, {"x": torch.zeros(1)}, {})
    (tmp_path / "aa.safetensors").write_text("damaged")
    error = refused(tmp_path)
    assert f"{tmp_path} is a folder" in error
    assert f"In it: {', '.join(str(tmp_path / f'{name}.safetensors') for name in 'bcd')}." in error
    assert "does not exist" not in error
    assert error.endswith(CURE)


def test_files_one_folder_below_are_found(tmp_path: Path) -> None:
    write_tensor_file(tmp_path / "networks" / "one.safetensors", "kernel bank", {"x": torch.zeros(1)}, {})
    assert str(tmp_path / "networks" / "one.safetensors") in refused(tmp_path)


def test_a_folder_without_such_files_and_no_folder_are_told_apart(tmp_path: Path) -> None:
    assert f"{tmp_path} is a folder. No kernel bank lies in it." in refused(tmp_path)
    assert "does not exist" in refused(tmp_path / "absent")


def test_the_scripts_name_the_file_in_a_folder(call: Callable, tmp_path: Path) -> None:
    write_tensor_file(tmp_path / "runs" / "a" / "networks" / "n.safetensors", "network", {"x": torch.zeros(1)}, {})
    write_tensor_file(tmp_path / "runs" / "b" / "bank.safetensors", "kernel bank", {"x": torch.zeros(1)}, {})
    given = {"svi_target": ["--prior", "pretrained", "--prior.path", "runs/a"], "train_prior": ["--bank", "runs/b"]}
    for (script, flags), file in zip(given.items(), ("networks/n.safetensors", "bank.safetensors"), strict=True):
        done = call(tmp_path, script, *flags)
        assert done.status == 2
        assert f"{flags[-1]} is a folder. In it: {flags[-1]}/{file}." in done.err
