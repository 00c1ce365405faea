"""Kinds `priors`, `banks` and `networks`: safetensors files with a JSON header, decoded without the safetensors library."""

import json
import shutil
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_dwp.files import read_tensors, write_tensors
from pyro_dwp.kernels.bank import KernelBank
from pyro_dwp.nn import UNet
from pyro_dwp.nn.networks import load_network, save_network
from pyro_dwp.priors.store import load_prior
from tests.fuzz.damage import damage_file
from tests.fuzz.trees import mutate_tree, value
from tests.fuzz.trial import Input, Kind, Wrong
from tests.helpers.fitted import fitted_priors, synthetic_kernels

KINDS = {
    "F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip
DTYPES = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool, torch.complex64)
EXTREMES = (float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 0.0, -1.0, 1e-45, 1e30)
Arrays = dict[str, npt.NDArray[Any]]


def decode(data: bytes) -> Arrays:
    """Return the tensors of a safetensors file."""
    (length,) = struct.unpack_from("<Q", data)
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, stop = entry["data_offsets"]
            if entry["dtype"] == "BF16":  # the upper half of a float32
                wide = np.frombuffer(body[start:stop], "u2").astype("u4") << 16
                found[name] = wide.view("f4").reshape(entry["shape"])
            else:
                found[name] = np.frombuffer(body[start:stop], KINDS[entry["dtype"]]).reshape(entry["shape"])
    return found


def mutate_tensors(tensors: Mapping[str, Tensor], draw: Random) -> tuple[dict[str, Tensor], str]:
    """Return tensors of which one is damaged, missing, or one too many, and what was done."""
    changed, name = dict(tensors), draw.choice(list(tensors))
    tensor = changed[name]
    way = draw.choice(
        ("value", "value", "value", "all", "shape", "dtype", "drop", "add", "rename", "empty", "swap", "large")
    )
    if way in ("value", "all"):
        extreme, changed[name] = draw.choice(EXTREMES), tensor.clone()
        flat = changed[name].view(-1)
        if not tensor.is_floating_point() and not abs(extreme) < 1e18:
            extreme = draw.choice((-1, 10**9))
        if way == "value" and len(flat):
            flat[draw.randrange(len(flat))] = extreme
        else:
            changed[name].fill_(extreme)
        way = f"{way} {extreme}"
    elif way == "shape":
        changed[name] = draw.choice(
            (
                tensor[None],
                tensor.flatten(),
                tensor[..., :0] if tensor.ndim else tensor[None],
                tensor.mT if tensor.ndim > 1 else tensor[None, None],
            )
        )
    elif way == "dtype":
        changed[name] = tensor.to(draw.choice(DTYPES))
    elif way == "drop":
        del changed[name]
    elif way == "empty":
        changed = {}
    elif way == "swap":
        changed[name] = changed[draw.choice(list(changed))].clone()
    elif way == "large":
        changed[name] = torch.zeros(2**20)
    else:
        other = draw.choice((f"{name}_", f"x/{name}", "", "/", "x", name.upper(), "../" + name, "ü" * 50))
        changed[other] = changed.pop(name) if way == "rename" else tensor.clone()
    return changed, f"{way} {name}"


def mutate_layout(data: bytes, draw: Random) -> tuple[bytes, str]:
    """Return a file whose own description of its tensors lies."""
    (length,) = struct.unpack_from("<Q", data)
    if draw.random() < 0.15:
        claimed = draw.choice((0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1))
        return struct.pack("<Q", claimed) + data[8:], f"header of {claimed} bytes"
    header = json.loads(data[8 : 8 + length])
    name = draw.choice([name for name in header if name != "__metadata__"])
    field = draw.choice(("dtype", "shape", "data_offsets", "whole", "tree"))
    if field == "tree":
        header, done = mutate_tree(header, draw)
    elif field == "whole":
        header[name], done = value(draw), "entry"
    else:
        pool = {
            "dtype": ["F64", "F16", "I32", "BOOL", "F8_E4M3", "C64", "X", None, 3],
            "shape": [[], [0], [-1], [2**62], [2**32, 2**32], [1] * 70, [1.5], None, "3", [3, [3]]],
            "data_offsets": [[0, 0], [0, 10**12], [-4, 0], [8, 4], [0], [], None, [0, 2**64], [1, 5]],
        }[field]
        header[name][field] = draw.choice(pool)
        done = f"{field} = {header[name][field]}"
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :], f"layout: {done} of {name}"


def damage_stored(path: Path, kind: str, draw: Random, others: list[Path]) -> tuple[str, bool]:
    """Damage a file of tensors; return how, and whether its writer could have written it so."""
    way = draw.random()
    if way < 0.3:
        return damage_file(path, draw, others), False
    if way < 0.45:
        changed, done = mutate_layout(path.read_bytes(), draw)
        path.write_bytes(changed)
        return done, False
    tensors, header = read_tensors(path, kind, "")
    if way < 0.75:
        tensors, done = mutate_tensors(tensors, draw)
    else:
        header, done = mutate_tree(header, draw)
        done = f"header: {done}"
        if not isinstance(header, dict):
            header = {"a": header}
    write_tensors(path, draw.choice(("kernel", "", "Prior")) if way > 0.98 else kind, tensors, header)
    return done, True


class Stored(Kind, ABC):
    """A file of tensors."""

    name = ""
    stored: str  # kind in the file

    def make(self, folder: Path, draw: Random, healthy: bool) -> Input:
        files = sorted(self.corpus.glob("*.safetensors"))
        original = draw.choice(files)
        path = folder / "stored.safetensors"
        shutil.copyfile(original, path)
        damage, written = "none", True
        if not healthy:
            damage, written = damage_stored(path, self.stored, draw, [file for file in files if file != original])
        return Input(folder, (path.name,), lambda: self.check(path, original, written), f"{original.name}: {damage}")

    def check(self, path: Path, original: Path, written: bool) -> None:
        found = self.load(path, original)
        if not path.is_file():
            raise Wrong("there is no such file")
        there = decode(path.read_bytes())
        for name, tensor in found.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise Wrong(f"{name} is not finite")
            kept = there.get(name)
            known = kept is not None and np.array_equal(tensor, kept.astype("f4") if kept.dtype.kind == "f" else kept)
            if not known:
                raise Wrong(f"{name} is not what the file holds")
        if found.keys() != there.keys():
            raise Wrong(f"read {len(found)} of {len(there)} tensors")
        healthy = [decode(file.read_bytes()) for file in self.corpus.glob("*.safetensors")]
        if not written and not any(_same(there, other) for other in healthy):
            raise Wrong("bytes changed after it was written")

    @abstractmethod
    def load(self, path: Path, original: Path) -> dict[str, Tensor]: ...


def _same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


class Priors(Stored):
    """A learned prior of any family."""

    name, stored, share = "priors", "kernel prior", 1.5

    def prepare(self) -> None:
        for ndim in (2, 3):
            fitted_priors(self.corpus, ndim)

    def load(self, path: Path, original: Path) -> dict[str, Tensor]:
        found = load_prior(path)
        for group, density in found.densities.items():
            if density.exact:
                draws = density.distribution(group).sample((2,))
                if not draws.isfinite().all() or not density.distribution(group).log_prob(draws).isfinite().all():
                    raise Wrong(f"group {group} draws kernels without a density")
            elif not density.distribution(group).sample((2,)).isfinite().all():
                raise Wrong(f"group {group} draws kernels that are not finite")
            if tuple(density.distribution(group).event_shape) != tuple(density.kernel_shape):
                raise Wrong(f"group {group} has another shape")
        from pyro_dwp.sites import module_key

        return {
            f"{module_key(group)}/{name}": tensor
            for group, density in found.densities.items()
            for name, tensor in density.state_dict().items()
        }


class Banks(Stored):
    """A kernel bank."""

    name, stored, share = "banks", "kernel bank", 0.8

    def prepare(self) -> None:
        for ndim in (2, 3):
            kernels = {group: synthetic_kernels(40, (3,) * ndim, seed).float() for seed, group in enumerate(("0", "1"))}
            sources = {group: torch.arange(40) % 4 for group in kernels}
            facts = {
                "layers": {"0": ["a.weight"], "1": ["b.weight"]},
                "left_out": {"0": 1},
                "networks": ["x"],
                "snapshots": 2,
            }
            KernelBank(kernels, sources, facts).save(self.corpus / f"bank-{ndim}.safetensors")

    def load(self, path: Path, original: Path) -> dict[str, Tensor]:
        bank = KernelBank.load(path)
        for group in bank.groups:
            fitted, held_out = bank.split_kernels(group, 0.2)
            if len(fitted) + len(held_out) < len(bank.group(group)):
                raise Wrong(f"group {group} loses kernels")
        if min(bank.networks) < 0:
            raise Wrong("a network of negative number")
        found = {f"{group}/kernels": kernels for group, kernels in bank.kernels.items()}
        return found | {f"{group}/sources": sources for group, sources in bank.sources.items()}


class Networks(Stored):
    """A network of a source run."""

    name, stored, share = "networks", "network", 0.6

    def prepare(self) -> None:
        torch.manual_seed(0)
        for ndim in (2, 3):
            facts = {"epochs": 3, "dice": 0.7, "kernel": [3] * ndim}
            save_network(self.corpus / f"network-{ndim}.safetensors", UNet(channels=(2, 4), ndim=ndim), facts)

    def load(self, path: Path, original: Path) -> dict[str, Tensor]:
        network = UNet(channels=(2, 4), ndim=int(original.stem[-1]))
        load_network(path, network)
        return dict(network.state_dict())
