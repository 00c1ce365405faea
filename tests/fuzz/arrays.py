"""Kind `arrays`: cases from arrays in memory, some of which are no images, no labels or not as many as they should be."""

import math
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from pyro_dwp.data.arrays import Arrays
from tests.fuzz.trial import Input, Kind, Wrong

SHAPE = (4, 5, 6)
IMAGES: dict[str, Any] = {
    "of two sequences": np.ones((2, *SHAPE)),
    "of an empty axis": np.ones((4, 0, 6)),
    "flat": np.ones((4, 5)),
    "one number": np.float32(3),
    "of five axes": np.ones((1, 1, *SHAPE)),
    "NaN": np.full(SHAPE, np.nan),
    "infinite": np.full(SHAPE, -np.inf),
    "complex": np.full(SHAPE, 1 + 1j),
    "text": np.full(SHAPE, "a"),
    "objects": np.full(SHAPE, None),
    "a list": [[[1.0, 2.0]]],
    "ragged": [[1.0], [2.0, 3.0]],
    "nothing": None,
    "of 16 bits": np.full(SHAPE, 60000, np.uint16),
    "of 64 bits": np.full(SHAPE, 2**63, np.uint64),
    "of half precision": torch.ones(SHAPE, dtype=torch.bfloat16),
    "big-endian": np.ones(SHAPE, ">f4"),
    "beyond float32": np.full(SHAPE, 1e300),
    "needing gradients": torch.ones(SHAPE, requires_grad=True),
    "reversed": np.arange(120.0).reshape(SHAPE)[::-1],
    "read-only": np.broadcast_to(np.float32(1), SHAPE),
}
LABELS: dict[str, Any] = {
    **{name: IMAGES[name] for name in IMAGES if name not in ("of 16 bits", "of half precision")},
    "of fractions": np.full(SHAPE, 0.5),
    "negative": np.full(SHAPE, -1),
    "of many values": np.arange(np.prod(SHAPE)).reshape(SHAPE) * 7,
    "beyond int64": np.full(SHAPE, 1e19),
    "of truth values": np.ones(SHAPE, bool),
    "of another shape": np.zeros((5, 5, 6)),
}
SPACINGS: tuple[Any, ...] = (
    *((0, 1, 1), (-1, 1, 1), (math.nan, 1, 1), (math.inf, 1, 1), (1, 1), (1, 1, 1, 1), ("1", 1, 1), None, 1.0, ()),
    *((None, 1, 1), (1e-300, 1, 1), (1e300, 1, 1), np.ones(3), torch.ones(3), (True, 1, 1), "abc"),
)
NAMES: tuple[Any, ...] = (
    ["a", "a"],
    ["a"],
    ["a", ""],
    ["a", "b/c"],
    ["a", 3],
    [],
    "ab",
    ["a", None],
    ["a", "\n"],
    [["a"], "b"],
)


class ArrayCases(Kind):
    """Two cases in memory."""

    name, share = "arrays", 0.6

    def make(self, folder: Path, draw: Random, healthy: bool) -> Input:
        noise = np.random.default_rng(draw.randrange(2**32))
        images: list[Any] = [noise.uniform(1, 9, SHAPE) for _ in range(2)]
        labels: list[Any] = [noise.integers(0, 3, SHAPE), draw.choice((None, noise.integers(0, 3, SHAPE)))]
        more, damage = {}, "none"
        way = "none" if healthy else draw.choice(("image", "image", "label", "label", "spacing", "names", "count"))
        if way in ("image", "label"):
            pool = IMAGES if way == "image" else LABELS
            which = draw.choice(list(pool))
            (images if way == "image" else labels)[draw.randrange(2)] = pool[which]
            damage = f"{way} {which}"
        elif way in ("spacing", "names"):
            more[way] = draw.choice(SPACINGS if way == "spacing" else NAMES)
            damage = f"{way} {more[way]!r}"
        elif way == "count":
            del draw.choice((images, labels))[draw.randrange(2) :]
            damage = f"{len(images)} images, {len(labels)} labels"
        return Input(folder, ("Arrays", "case ", "spacing"), lambda: self.check(images, labels, more), damage)

    def check(self, images: list[Any], labels: list[Any], more: dict[str, Any]) -> None:
        source = Arrays(images, labels, **more)
        names = [*map(str, more.get("names") or [f"case_{number}" for number in range(len(images))])]
        if sorted(names) != sorted({*source.names(), *source.unlabelled()}):
            raise Wrong("other cases than were given")
        for name, image, label in zip(names, images, labels, strict=True):
            scan = source.load(name)
            self.compare(scan.image, image)
            if (scan.label is None) != (label is None):
                raise Wrong("a label more or less")
            if scan.label is not None:
                self.compare(scan.label, label)
            if not all(0 < edge < math.inf for edge in scan.spacing):
                raise Wrong(f"the spacing {scan.spacing}")

    def compare(self, found: torch.Tensor, given: Any) -> None:
        plain = given.detach().float().numpy() if isinstance(given, torch.Tensor) else np.asarray(given, np.float64)
        if not np.allclose(found.double().numpy().reshape(-1), plain.reshape(-1), rtol=1e-6):
            raise Wrong("other values than were given")
        if not found.isfinite().all():
            raise Wrong("values that are not finite")
