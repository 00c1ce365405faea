"""Kinds `images`, `labels` and `stacks`: one file of a case, in every format, alone or beside a healthy one."""

import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from pyro_dwp.data import read_label, read_scan
from pyro_dwp.data.reading import load_volume
from tests.fuzz.damage import damage_file
from tests.fuzz.formats import FORMATS, LABELS, SHAPE, Format, decode_png, png_format
from tests.fuzz.nifti import Damaged, Decoded
from tests.fuzz.trial import Input, Kind, Wrong

ROUNDING = 1.001e-3  # by which a label may differ from a whole number, and a little for float32


def intensities(draw: Random, dtype: str, sequences: int = 1) -> npt.NDArray[Any]:
    """Return an image (D, H, W[, N])."""
    voxels = np.random.default_rng(draw.randrange(2**32)).uniform(1, 99, (*SHAPE, sequences)).astype(dtype)
    return voxels[..., 0] if sequences == 1 else voxels


def classes(draw: Random, dtype: str) -> npt.NDArray[Any]:
    """Return labels (D, H, W)."""
    return np.random.default_rng(draw.randrange(2**32)).integers(0, 4, SHAPE).astype(dtype)


def check_voxels(found: npt.NDArray[Any], affine: npt.NDArray[Any], decoded: Decoded, exact: bool) -> None:
    """Compare voxels (N, D, H, W) that were turned to RAS with those stored, by their places in mm."""
    stored = decoded.voxels
    while stored.ndim > 4 or (stored.ndim == 4 and stored.shape[3] != len(found)):
        if stored.shape[-1] != 1:
            raise Wrong(f"{found.shape} from {stored.shape}")
        stored = stored[..., 0]
    if stored.ndim == 2:
        stored = stored[..., None]
    stored = stored.reshape(*stored.shape[:3], -1)
    wanted = stored if exact else stored.astype(np.float32).astype(np.float64)
    if found.size != wanted.size:
        raise Wrong(f"{found.shape} from {stored.shape}")
    if decoded.affine is None:
        if not np.allclose(np.sort(found.ravel()), np.sort(wanted.ravel()), rtol=1e-5):
            raise Wrong("other values than those stored")
        return
    turn = np.linalg.solve(decoded.affine, affine)
    indices = np.stack(np.meshgrid(*map(np.arange, found.shape[1:]), indexing="ij"), -1)
    places = indices @ turn[:3, :3].T + turn[:3, 3]
    whole = np.rint(places).astype(int)
    if abs(places - whole).max() > 0.05 or whole.min() < 0 or (whole.max((0, 1, 2)) >= wanted.shape[:3]).any():
        raise Wrong("the affine does not lead to the stored voxels")
    there = np.moveaxis(wanted[tuple(np.moveaxis(whole, -1, 0))], -1, 0)
    if not np.allclose(found, there, rtol=1e-5, atol=ROUNDING if exact else 1e-30):
        raise Wrong("other values than those stored at these places")


class OneFile(Kind, ABC):
    """A file of a case in one of the formats."""

    name = ""

    def make(self, folder: Path, draw: Random, healthy: bool) -> Input:
        title = draw.choice(list(self.formats()))
        form = self.formats()[title]
        path = folder / f"case{form.suffix}"
        content, kept = self.content(form, draw, healthy), folder / "kept"
        path.write_bytes(content)
        damage = "none"
        if not healthy and draw.random() < 0.8:
            changed, damage = form.damage(content, draw)
            path.write_bytes(changed)
        elif not healthy:
            (folder / "others").mkdir()
            others = [folder / "others" / f"other{other.suffix}" for other in FORMATS.values()]
            for other, file in zip(FORMATS.values(), others, strict=True):
                file.write_bytes(
                    other.encode(intensities(draw, other.dtypes[0], 1 if other.suffix == ".png" else other.sequences))
                )
            damage = damage_file(path, draw, others)
        if path.is_file():
            shutil.copyfile(path, kept)
        return Input(folder, (path.name,), lambda: self.check(form, path, kept, content), f"{title}: {damage}")

    def check(self, form: Format, path: Path, kept: Path, content: bytes) -> None:
        found, affine = self.load(form, path)
        if not np.isfinite(found).all():
            raise Wrong("values that are not finite")
        if not kept.exists():
            raise Wrong("there is no such file")
        data = kept.read_bytes()
        try:
            decoded = form.decode(data)
        except Damaged as problem:
            raise Wrong(f"accepted, though {problem}") from problem
        except NotImplementedError:
            return
        check_voxels(found, affine, decoded, exact=self.name == "labels")
        self.more(decoded)

    @abstractmethod
    def formats(self) -> dict[str, Format]: ...

    @abstractmethod
    def content(self, form: Format, draw: Random, healthy: bool) -> bytes: ...

    @abstractmethod
    def load(self, form: Format, path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]: ...

    def more(self, decoded: Decoded) -> None: ...


class Images(OneFile):
    """An image, of one sequence or several."""

    name, share = "images", 2.5

    def formats(self) -> dict[str, Format]:
        return FORMATS

    def content(self, form: Format, draw: Random, healthy: bool) -> bytes:
        return form.encode(intensities(draw, draw.choice(form.dtypes), form.stored))

    def load(self, form: Format, path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        scan = read_scan("case", [path], None, modalities=form.stored)
        return scan.image.double().numpy(), scan.affine


class Labels(OneFile):
    """A label, beside a healthy image on the same grid or alone."""

    name, share = "labels", 1.5

    def formats(self) -> dict[str, Format]:
        return LABELS

    def content(self, form: Format, draw: Random, healthy: bool) -> bytes:
        labels = classes(draw, draw.choice(form.dtypes))
        if not healthy and draw.random() < 0.15 and labels.dtype.kind == "f":
            labels[0, 0, 0] = draw.choice((0.5, 2e-3, np.nan, np.inf, -1, 1e300, 2.0**53))
        return form.encode(labels)

    def load(self, form: Format, path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        like = path.with_name("like.png" if form.suffix == ".png" else "like.nii")
        kind = FORMATS["png" if form.suffix == ".png" else "nifti"]
        like.write_bytes(kind.encode(intensities(Random(0), kind.dtypes[0])))
        first = load_volume(like)
        found = read_label(path, first)
        return found.double().numpy()[None], first.affine

    def more(self, decoded: Decoded) -> None:
        values = decoded.voxels
        if not np.isfinite(values).all() or abs(values - np.rint(values)).max() > ROUNDING or values.min() < -ROUNDING:
            raise Wrong("labels that are not whole numbers")


class Stacks(Kind):
    """A folder of PNG slices."""

    name, share = "stacks", 0.5

    def make(self, folder: Path, draw: Random, healthy: bool) -> Input:
        stack, form = folder / "stack", png_format("u1")
        stack.mkdir()
        voxels = intensities(draw, "u1")
        for number in range(SHAPE[2]):
            (stack / f"slice_{number + 8}.png").write_bytes(form.encode(voxels[:, :, number : number + 1]))
        damage, path = "none", stack / f"slice_{8 + draw.randrange(SHAPE[2])}.png"
        if not healthy and draw.random() < 0.5:
            changed, damage = form.damage(path.read_bytes(), draw)
            path.write_bytes(changed)
        elif not healthy:
            damage = damage_file(path, draw, [stack / "slice_8.png"] if path.name != "slice_8.png" else [])
        return Input(folder, ("stack",), lambda: self.check(stack), damage)

    def check(self, stack: Path) -> None:
        scan = read_scan("case", [stack])
        files = sorted(stack.iterdir(), key=lambda path: int(path.stem.removeprefix("slice_")))
        try:
            slices = [decode_png(file.read_bytes()).voxels for file in files]
        except Damaged as problem:
            raise Wrong(f"accepted, though {problem}") from problem
        except NotImplementedError:
            return
        decoded = Decoded(np.concatenate(slices, axis=2), np.eye(4))
        check_voxels(scan.image.double().numpy(), scan.affine, decoded, exact=False)
