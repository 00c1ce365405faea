import numpy as np
import torch

from pyro_dwp.data import Scan


def test_spacing_is_the_length_of_the_affine_columns_also_where_the_axes_are_turned() -> None:
    affine = np.array([[0.0, -2.0, 0.0, 5.0], [3.0, 0.0, 0.0, 6.0], [0.0, 0.0, 4.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
    assert Scan("a", torch.zeros(1, 2, 2, 2), None, affine).spacing == (3.0, 2.0, 4.0)
