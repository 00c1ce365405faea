"""Which labels a volume holds, found in bounded memory."""

import torch
from torch import Tensor

from pyro_dwp.errors import DataError

MOST_LABELS = 256
COUNTED = 2**16  # labels below this are counted, which is ten times as fast as sorting
CHUNK = 2**22  # voxels looked at in one step


def label_values(labels: Tensor, where: str = "A label volume") -> list[int]:
    """Return the values that occur in a label volume, in ascending order, the background (0) included.

    Args:
        labels: integers or booleans, any shape.
        where: what the volume is, such as its file; named in errors.

    Raises:
        DataError: if the values are not non-negative integers, or there are more than 256 different values.

    Example:
        >>> label_values(torch.tensor([[4, 0], [1, 4]]))
        [0, 1, 4]
    """
    if labels.is_floating_point() or labels.is_complex():
        raise DataError(f"Labels are integers, but those of {where} are {labels.dtype}. Convert them (.long()).")
    found: set[int] = set()
    for part in labels.flatten().split(CHUNK) if labels.numel() else ():
        chunk = part.long()
        low, high = (int(value) for value in chunk.aminmax())
        if low < 0:
            raise DataError(f"Labels are non-negative whole numbers, but {where} holds {low}. Correct the label file.")
        values = torch.bincount(chunk).nonzero() if high < COUNTED else chunk.unique()
        found.update(values.flatten().tolist())
        if len(found) > MOST_LABELS:
            raise DataError(
                f"{where} holds more than {MOST_LABELS} different values, up to {high}, so it looks like an image and not "
                "like labels. Name the label file instead."
            )
    return sorted(found)
