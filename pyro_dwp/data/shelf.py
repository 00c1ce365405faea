"""Large tensors in files instead of memory, of which only what is looked at is read.

The files have no name, lie where `tempfile` puts them ($TMPDIR, often /tmp), and go with the last tensor that uses them, however
the process ends. On a file system that is itself in memory (tmpfs) nothing is saved; set TMPDIR to a folder on a disk.
"""

import tempfile
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pyro_dwp.data.transforms import Prepared
from pyro_dwp.errors import DataError

LARGE = 2**26  # bytes from which on a tensor goes to a file


def shelve(case: Prepared) -> Prepared:
    """Return a case whose image and label lie in files if they are large; the label is then uint8 where that holds its classes.

    Args:
        case: to be kept for long, such as a training case.

    Raises:
        DataError: if there is no room for the files.
    """
    label = None if case.label is None else shelve_label(case.label)
    return replace(case, image=on_disk(case.image), label=label)


def shelve_label(label: Tensor) -> Tensor:
    """Return labels in a file if they are large, as uint8 if they are all below 256.

    Args:
        label: non-negative integers.
    """
    if size(label) < LARGE:
        return label
    return on_disk(label.to(torch.uint8) if label.max() < 256 else label)


def on_disk(values: Tensor) -> Tensor:
    """Return a copy in a file of a tensor of at least 64 MiB, or the tensor itself if it is smaller.

    The copy is written to once, here: a change of the tensor that is returned stays in memory.

    Args:
        values: on the CPU, any shape.

    Raises:
        DataError: if there is no room for the file.

    Example:
        >>> large = torch.arange(2**23)
        >>> bool((on_disk(large) == large).all()), on_disk(large).data_ptr() == large.data_ptr()
        (True, False)
    """
    if size(values) < LARGE:
        return values
    try:
        with tempfile.TemporaryFile() as file:
            for part in values.contiguous().flatten().split(LARGE // values.element_size()):
                file.write(memoryview(part.numpy()))
            file.flush()
            voxels = np.memmap(file, dtype=values.numpy().dtype, mode="c", shape=tuple(values.shape))
    except OSError as error:
        raise DataError(
            f"Large scans are kept in temporary files, but {tempfile.gettempdir()} cannot hold {size(values) / 2**20:.0f} MiB: "
            f"{error.strerror}. Free space there, or set TMPDIR to another folder."
        ) from error
    return torch.from_numpy(voxels)


def size(values: Tensor) -> int:
    """Return the bytes of a tensor's values."""
    return values.numel() * values.element_size()
