"""Cases from arrays in memory, for notebooks."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_dwp.data.layouts import CaseSource, pick
from pyro_dwp.data.nifti import LARGEST, SMALLEST
from pyro_dwp.data.reading import whole_labels
from pyro_dwp.data.scan import Scan
from pyro_dwp.errors import ConfigError, DataError

Array = npt.NDArray[Any] | Tensor


@final
class Arrays(CaseSource):
    """Cases from arrays in memory, which no config can name: their axes run to right, anterior and superior.

    Args:
        images: of each case (D, H, W), or (C, D, H, W) with several sequences.
        labels: of each case, whole numbers (D, H, W), or None where it has none; None where none has.
        spacing: distance between voxels along each axis, in mm.
        names: of the cases; None numbers them.

    Raises:
        ConfigError: if numbers of cases differ, or a name comes twice.
        DataError: if an image or a label cannot be used: another shape, voxels that are not finite, labels that are not whole.

    Example:
        >>> cases = Arrays([np.random.rand(4, 5, 6)] * 2, [np.ones((4, 5, 6)), None], spacing=(1, 1, 3))
        >>> cases.names(), cases.unlabelled(), cases.load("case_0").spacing
        (['case_0'], ['case_1'], (1.0, 1.0, 3.0))
    """

    def __init__(
        self,
        images: Sequence[Array],
        labels: Sequence[Array | None] | None = None,
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        names: Sequence[str] | None = None,
    ) -> None:
        truths = [None] * len(images) if labels is None else list(labels)
        digits = len(str(len(images) - 1))
        called = [f"case_{number:0{digits}d}" for number in range(len(images))] if names is None else [*map(str, names)]
        if not len(images) == len(truths) == len(called) == len({*called}) or not called:
            raise ConfigError(
                f"Arrays needs one image, one label and one name for each case, but has {len(images)}, {len(truths)} and "
                f"{len({*called})} different ones. Pass lists of one length."
            )
        affine = np.diag([*_spacing(spacing), 1.0])
        self._scans = {
            name: Scan(name, _image(image, name), _label(label, name), affine)
            for name, image, label in zip(called, images, truths, strict=True)
        }
        for scan in self._scans.values():
            if scan.label is not None and scan.label.shape != scan.shape:
                raise DataError(
                    f"The label of case {scan.name} is {tuple(scan.label.shape)}, but its image is {scan.shape}. Crop one."
                )

    def names(self) -> list[str]:
        """Return the names of the cases that have a label, sorted; of all, if none has one."""
        return sorted(name for name, scan in self._scans.items() if scan.label is not None) or sorted(self._scans)

    def unlabelled(self) -> list[str]:
        """Return the names of the cases without a label, sorted."""
        return sorted(name for name, scan in self._scans.items() if scan.label is None)

    def load(self, name: str) -> Scan:
        """Return one case."""
        return pick(self._scans, name, "The set of arrays")

    @property
    def layout(self) -> str:
        """What the cases are, in a phrase."""
        return f"{len(self._scans)} arrays in memory"


def _spacing(given: Sequence[float]) -> list[float]:
    try:
        found = [float(step) for step in given]
    except (TypeError, ValueError):
        found = []
    if len(found) != 3 or not all(SMALLEST <= step <= LARGEST for step in found):
        raise ConfigError(
            f"A spacing is three distances in mm, {SMALLEST:g} to {LARGEST:g}, but Arrays was given {given!r}. Pass such as "
            "(1, 1, 3)."
        )
    return found


def _image(image: Array, name: str) -> Tensor:
    stored = _numbers(image, f"the image of case {name}")
    with np.errstate(over="ignore"):
        found = torch.from_numpy(stored.astype(np.float32))
    found = found[None] if found.dim() == 3 else found
    if found.dim() != 4 or not found.numel() or not found.isfinite().all():
        raise DataError(
            f"An image is finite and (D, H, W) or (C, D, H, W), but that of case {name} has the shape {stored.shape}"
            f"{'' if found.isfinite().all() else ' and voxels that are not'}. Correct it."
        )
    return found


def _label(label: Array | None, name: str) -> Tensor | None:
    if label is None:
        return None
    where = f"the label of case {name}"
    stored = _numbers(label, where)
    if stored.ndim != 3 or not stored.size:
        raise DataError(f"A label is (D, H, W), but {where} has the shape {stored.shape}. Reshape it.")
    return whole_labels(stored, where)


def _numbers(given: Array, where: str) -> npt.NDArray[Any]:
    """Return real numbers as an array.

    Raises:
        DataError: if they are not real numbers.
    """
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        given = given.float() if given.dtype == torch.bfloat16 else given  # which NumPy does not have
    try:
        found = np.asarray(given)
    except (TypeError, ValueError):  # rows of different lengths
        found = np.asarray(None)
    if found.dtype.kind not in "biuf":
        raise DataError(f"An image or a label is an array of real numbers, but {where} is not. Convert it.")
    return found
