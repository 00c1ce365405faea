"""One safetensors file with a JSON header: how kernel banks and fitted priors lie on disk.

A file appears under its name only when it is complete, and nothing in it is unpickled.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pyro_dwp.errors import CheckpointError, DataError


def write_tensor_file(path: Path | str, kind: str, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header as one file; whoever reads meanwhile sees the old file or the new one.

    Args:
        path: where to; missing folders are made.
        kind: what the file is, e.g. "kernel bank"; `read_tensor_file` asks for it.
        tensors: name → tensor; stored on the CPU, contiguous.
        header: JSON-able facts about them.
    """
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    replace_file(path, save(plain, metadata={"kind": kind, "header": json.dumps(header)}))


def replace_file(path: Path | str, content: bytes) -> None:
    """Write a file in one step; missing folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_tensor_file(
    path: Path | str, kind: str, error: type[DataError] | type[CheckpointError], cure: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensor_file` wrote.

    Args:
        path: the file.
        kind: what it must be.
        error: class of the error to raise.
        cure: a sentence that says how such a file is made.

    Returns:
        Tensors by name, and the header.

    Raises:
        DataError or CheckpointError, as asked for: if the file is missing, truncated, of another format or kind.
    """
    path = Path(path)
    if path.is_dir():
        inside = [str(file) for file in _files(path, kind)]
        there = f"In it: {', '.join(inside)}." if inside else f"No {kind} lies in it."
        raise error(f"A {kind} is one .safetensors file, but {path} is a folder. {there} {cure}")
    if not path.is_file():
        raise error(f"A {kind} is one .safetensors file, but {path} does not exist. {cure}")
    try:
        with safe_open(path, framework="pt") as file:
            found = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(found["header"]) if found.get("kind") == kind else None
    except (SafetensorError, OSError, ValueError, KeyError) as problem:
        raise error(f"{path} cannot be read as a {kind}: {problem}. It may be truncated. {cure}") from problem
    if header is None:
        raise error(f"{path} should be a {kind}, but says it is {found.get('kind', 'something else')!r}. {cure}")
    return tensors, header


def _files(folder: Path, kind: str, most: int = 3) -> list[Path]:
    """Return the first files of a kind that lie in a folder or in one below it."""

    def found() -> Iterator[Path]:
        for path in (*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*/*.safetensors"))):
            with suppress(SafetensorError, OSError), safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get("kind") == kind:
                    yield path

    return list(islice(found(), most))
