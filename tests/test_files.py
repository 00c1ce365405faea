"""Files: what is written comes back, is complete or absent, and is believed only after a check."""

import json
import os
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import save

from pyro_dwp.errors import CheckpointError, DataError, PyroDwpError
from pyro_dwp.files import check_finite, check_header, check_tensors, read_json, read_tensors, write_json, write_tensors
from tests.helpers.refusal import refuses


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "a.safetensors"


@pytest.mark.parametrize(
    "tensor", [torch.tensor(2.5), torch.ones(3, 2).T, torch.arange(4), torch.ones(2, dtype=torch.float64)]
)
def test_tensors_of_every_layout_come_back(path: Path, tensor: torch.Tensor) -> None:
    write_tensors(path, "thing", {"x": tensor, "same": tensor}, {"n": [1, None, "é", float("inf")]})
    tensors, header = read_tensors(path, "thing", "")
    assert all(torch.equal(tensors[name], tensor) and tensors[name].dtype == tensor.dtype for name in ("x", "same"))
    assert header == {"n": [1, None, "é", float("inf")]}
    assert read_tensors(path, "thing", "", header_only=True) == ({}, header)


def test_json_comes_back_and_nan_is_refused(path: Path) -> None:
    assert read_json(write_json(path, {"a": [1.5]}), "a thing", "") == {"a": [1.5]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert read_json(path, "a thing", "") == {"a": [1.5]}


@pytest.mark.parametrize("failure", [OSError("No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_no_other(path, failure, monkeypatch):
    write_tensors(path, "thing", {"x": torch.ones(1)}, {})

    def broken(target: Path, content: bytes) -> None:
        target.touch()
        raise failure

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises((DataError, KeyboardInterrupt)) as error:
        write_tensors(path, "thing", {"x": torch.zeros(1)}, {})
    assert isinstance(failure, KeyboardInterrupt) or {str(path), "device)."} <= set(str(error.value).split())
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert read_tensors(path, "thing", "")[0]["x"] == 1


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refuses("file/b.json", "written"):
        write_json(tmp_path / "file" / "b.json", {})


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_written_file_has_the_permissions_of_any_new_file(path: Path) -> None:
    write_tensors(path, "thing", {"x": torch.ones(1)}, {})
    path.with_name("plain").touch()
    assert path.stat().st_mode == path.with_name("plain").stat().st_mode


BROKEN = {
    "missing": (lambda path: None, "exist"),
    "folder": (lambda path: path.mkdir(), "folder"),
    "empty": (lambda path: path.touch(), "read"),
    "truncated": (lambda path: path.write_bytes(save({}, {"kind": "pear", "header": "b" * 99})[:60]), "read"),
    "text": (lambda path: path.write_text('{"weights": 1}'), "read"),
    "foreign": (lambda path: path.write_bytes(save({"x": torch.ones(1)})), "another program"),
    "kind": (lambda path: write_tensors(path, "apple", {}, {}), "apple"),
    "header": (lambda path: path.write_bytes(save({}, {"kind": "pear", "header": "[1]"})), "pear"),
    "header no JSON": (lambda path: path.write_bytes(save({}, {"kind": "pear", "header": "{"})), "read"),
}


@pytest.mark.parametrize("failure", [DataError, CheckpointError])
@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_such_file_is_refused_with_path_and_cure(path: Path, name: str, failure: type[PyroDwpError]) -> None:
    make, token = BROKEN[name]
    path.parent.mkdir()
    make(path)
    with refuses(str(path), "pear", token, "Grow one.", error=failure):
        read_tensors(path, "pear", "Grow one.", failure)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_json_that_is_no_object_is_refused_with_path_and_cure(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with refuses("a.json", "a thing", "Make one.", error=CheckpointError):
        read_json(tmp_path / "a.json", "a thing", "Make one.", CheckpointError)


@pytest.mark.parametrize(
    ("found", "name", "both"),
    [
        ({}, "w", ("(2, 3)", "absent")),
        ({"w": torch.zeros(3, 2)}, "w", ("(2, 3)", "(3, 2)")),
        ({"w": torch.zeros(2, 3).int()}, "w", ("floating-point", "integer")),
        ({"w": torch.zeros(2, 3).bool()}, "w", ("floating-point", "boolean")),
        ({"w": torch.zeros(2, 3, dtype=torch.complex64)}, "w", ("floating-point", "complex")),
        ({"w": torch.zeros(2, 3), "v": torch.zeros(1)}, "v", ("absent", "(1,)")),
    ],
)
def test_tensors_that_differ_from_their_template_are_named_with_both(found, name, both):
    template = {"w": torch.zeros(2, 3, device="meta", dtype=torch.float16)}
    check_tensors({"w": torch.zeros(2, 3)}, template, "here", "")
    with refuses("here", repr(name), *both, "Cure.", error=CheckpointError):
        check_tensors(found, template, "here", "Cure.")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_tensors_that_are_not_finite_are_named(value: float) -> None:
    check_finite({"a": torch.ones(2), "n": torch.arange(2)}, "here", "")
    with refuses("here: 'b'", "Cure."):
        check_finite({"a": torch.ones(1), "b": torch.tensor([1.0, value])}, "here", "Cure.", DataError)


@pytest.mark.parametrize("header", [{}, {"n": None}, {"n": "3"}, {"n": 1.5}, {"n": True}, {"n": [1]}])
def test_a_header_with_a_field_of_another_type_is_refused(header: dict) -> None:
    class Fields(BaseModel):
        n: int

    assert check_header(Fields, json.loads('{"n": 3, "more": 1}'), "here", "").n == 3
    with refuses("here: n", "Cure."):
        check_header(Fields, header, "here", "Cure.", DataError)
