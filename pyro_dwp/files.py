"""Files that are complete or absent: one way to write them, one to read tensors and JSON, one check of what was read.

Every file of the library is written beside its final place, flushed to disk and then renamed, so that a reader, or a process
killed while writing, finds the old file or the new one, never a part. Nothing is ever unpickled.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pyro_dwp.errors import CheckpointError, ConfigError, DataError, WriteError, suggest

Failure = type[DataError] | type[CheckpointError] | type[ConfigError]
Model = TypeVar("Model", bound=BaseModel)
DIGEST = "digest"


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path to write to; when the block ends without an error, that file replaces `path`.

    Args:
        path: the file to write; missing folders are made. The temporary file has the same folder and extension.

    Raises:
        WriteError: if the folder cannot be made or the file cannot be written.
    """
    partial = Path(path).with_name(f".{uuid.uuid4().hex[:8]}.{Path(path).name[-100:]}")
    with writing(path), ExitStack() as end:
        end.callback(partial.unlink, missing_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Name a file in the error if the system refuses to write it within the block.

    Args:
        path: of the file; missing folders are made.

    Raises:
        WriteError: in place of OSError.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise WriteError(
            f"{path} cannot be written ({_reason(error)}). Choose another folder, free some space, or change its permissions."
        ) from error


def write_text(path: Path | str, text: str) -> Path:
    """Write a text file atomically and return its path.

    Args:
        path: of the file; missing folders are made.
        text: its content, stored as UTF-8.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: Path | str, content: Any) -> Path:
    """Write an indented JSON file atomically and return its path.

    Args:
        path: of the file; missing folders are made.
        content: JSON-able.

    Raises:
        ValueError: if a number is NaN or infinite.
    """
    return write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_text(path: Path | str, most: int = 2**26) -> str:
    """Return the content of a text file, in UTF-8; a pipe or a device, which may have no end, is not read.

    Args:
        path: the file.
        most: bytes.

    Raises:
        OSError or ValueError: if it cannot be read, is no regular file, has too many bytes, or is not UTF-8.
    """
    path = Path(path)
    size = path.stat().st_size
    if not path.is_file():
        raise ValueError("it is a folder" if path.is_dir() else "it is not a file")
    if size > most:
        raise ValueError(f"it has {size} bytes, more than {most}")
    return path.read_text(encoding="utf-8")


def read_json(path: Path | str, what: str, cure: str, failure: Failure = DataError) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Args:
        path: the file.
        what: what it is, with its article, such as "the split of a run".
        cure: what to do if it is missing or broken, a sentence.
        failure: class of the error.

    Raises:
        DataError or CheckpointError, as asked for: if the file is missing, unreadable, not JSON, or does not hold an object.
    """
    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise failure(f"{path} cannot be read as {what} ({_reason(error)}). {cure}") from error
    if not isinstance(found, dict):
        raise failure(f"{path} should be {what}, a JSON object, but holds a {type(found).__name__}. {cure}")
    return found


def write_tensors(path: Path | str, kind: str, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> Path:
    """Write named tensors and a JSON header atomically as one safetensors file, and return its path.

    Args:
        path: of the file, ending in .safetensors; missing folders are made.
        kind: what the file is, such as "kernel bank"; `read_tensors` asks for it.
        tensors: name → tensor; copied to the CPU, contiguous, in their own precision.
        header: JSON-able facts about them.
    """
    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    text = json.dumps(dict(header))
    with replacing(path) as partial:
        partial.write_bytes(save(plain, metadata={"kind": kind, "header": text, DIGEST: digest(plain, text)}))
    return Path(path)


def digest(tensors: Mapping[str, Tensor], header: str) -> str:
    """Return a checksum of tensors on the CPU and of their header, which `write_tensors` stores and `read_tensors` compares.

    A file written before there was one, or by hand, has none, and is read without this check.
    """
    found = hashlib.blake2b(header.encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def read_tensors(
    path: Path | str, kind: str, cure: str, failure: Failure = CheckpointError, header_only: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Args:
        path: the file.
        kind: what it must be.
        cure: how to make such a file, a sentence.
        failure: class of the error.
        header_only: do not read the tensors.

    Returns:
        Tensors by name, in the file's precision and on the CPU, and the header.

    Raises:
        DataError or CheckpointError, as asked for: if the file is missing, unreadable, truncated, or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        inside = sorted(map(str, path.rglob("*.safetensors")))[:3]
        found = f"is a folder. {suggest(str(path), inside)}" if path.is_dir() else "does not exist."
        raise failure(f"A {kind} is one .safetensors file, but {path} {found} {cure}")
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {} if header_only else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(facts.get("header", "null"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise failure(f"{path} cannot be read as a {kind} ({_reason(error)}). {cure}") from error
    if facts.get("kind") != kind or not isinstance(header, dict):
        what = f"a {facts['kind']}" if "kind" in facts else "a safetensors file of another program"
        raise failure(f"{path} should be a {kind}, but is {what}. {cure}")
    if not header_only and facts.get(DIGEST, "") not in ("", digest(tensors, facts["header"])):
        raise failure(f"{path} has changed since it was written: it was damaged, or edited. Restore a copy. {cure}")
    return tensors, header


def check_header(
    model: type[Model], header: Mapping[str, Any], where: str, cure: str, failure: Failure = CheckpointError
) -> Model:
    """Return the header of a file as a pydantic model, so that what is used of it has the right types.

    Args:
        model: the fields that must be there, and their types.
        header: as read.
        where: what is checked, such as "The header of FILE"; the error begins with it.
        cure: a sentence.
        failure: class of the error.

    Raises:
        DataError or CheckpointError, as asked for: naming the first field that is missing or of another type.

    Example:
        >>> class Facts(BaseModel):
        ...     layers: list[str]
        >>> check_header(Facts, {"layers": 3}, "The header of a.safetensors", "Make it again.")
        Traceback (most recent call last):
        pyro_dwp.errors.CheckpointError: The header of a.safetensors: layers is 3. Input should be a valid list. Make it again.
    """
    try:
        return model.model_validate(dict(header), strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place, value = ".".join(map(str, problem["loc"])), repr(problem["input"])
        shown = "missing" if problem["type"] == "missing" else value if len(value) <= 80 else f"{value[:77]}..."
        raise failure(f"{where}: {place} is {shown}. {problem['msg']}. {cure}") from None


def check_tensors(
    found: Mapping[str, Tensor],
    template: Mapping[str, Tensor],
    where: str,
    cure: str,
    failure: Failure = CheckpointError,
) -> None:
    """Compare named tensors with those that will receive them: the same names, shapes and kinds of number.

    Args:
        found: what was read.
        template: what is needed, such as a module's state_dict; it may lie on the meta device.
        where: file and module, for the error, which begins with it.
        cure: a sentence.
        failure: class of the error.

    Raises:
        DataError or CheckpointError, as asked for: naming the first tensor that differs, what was expected and what was found.
    """
    for name in [*template, *sorted(found.keys() - template.keys())]:
        wanted, got = describe_tensor(template.get(name)), describe_tensor(found.get(name))
        if wanted != got:
            raise failure(f"{where}: {name!r} should be {wanted}, but is {got}. {cure}")


def check_finite(found: Mapping[str, Tensor], where: str, cure: str, failure: Failure = CheckpointError) -> None:
    """Refuse tensors that hold NaN or infinity.

    Args:
        found: name → tensor.
        where: file and module, for the error, which begins with it.
        cure: a sentence.
        failure: class of the error.

    Raises:
        DataError or CheckpointError, as asked for: naming the first such tensor.
    """
    for name, tensor in found.items():
        if not tensor.isfinite().all():
            raise failure(f"{where}: {name!r} holds values that are not finite. {cure}")


def describe_tensor(tensor: Tensor | None) -> str:
    """Return a tensor's kind of number and its shape in words.

    Example:
        >>> describe_tensor(torch.zeros(2, 3)), describe_tensor(torch.zeros(1).bool()), describe_tensor(None)
        ('floating-point of shape (2, 3)', 'boolean of shape (1,)', 'absent')
    """
    if tensor is None:
        return "absent"
    kinds = {"boolean": tensor.dtype == torch.bool, "floating-point": tensor.is_floating_point()}
    kinds |= {"complex": tensor.is_complex(), "integer": True}
    return f"{next(kind for kind, holds in kinds.items() if holds)} of shape {tuple(tensor.shape)}"


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
