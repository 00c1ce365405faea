import numpy as np
import pytest
import torch

from pyro_dwp.data import CaseSource, Phantoms, Prepared, Preprocess, Scan, prepare, stack
from pyro_dwp.errors import DataError


class Listed(CaseSource):
    """Scans that a test made."""

    def __init__(self, *scans: Scan) -> None:
        self.scans = {scan.name: scan for scan in scans}

    def names(self) -> list[str]:
        return sorted(self.scans)

    def load(self, name: str) -> Scan:
        return self.scans[name]


def scan(name="a", channels=1, label: int | None = 0, shape=(4, 5, 6)) -> Scan:
    truth = None if label is None else torch.full(shape, label)
    return Scan(name, torch.rand(channels, *shape) + 1, truth, np.eye(4))


def prepared(*args, **kwargs) -> Prepared:
    return Preprocess().apply(scan(*args, **kwargs))


def test_cases_are_prepared_in_the_order_asked_for() -> None:
    phantoms = Phantoms(cases=3, shape=(10, 10, 10))
    names = ["tumour_002", "tumour_000"]
    assert [case.name for case in prepare(phantoms, names, Preprocess(), classes=2)] == names


def test_a_case_without_label_is_not_prepared_for_training() -> None:
    with pytest.raises(DataError, match="Case a has no label"):
        prepare(Listed(scan(label=None)), ["a"], Preprocess(), classes=2)


def test_a_class_beyond_those_of_the_network_is_refused() -> None:
    with pytest.raises(DataError, match="2 classes"):
        prepare(Listed(scan(label=2)), ["a"], Preprocess(), classes=2)


def test_channels_that_differ_between_cases_are_refused() -> None:
    with pytest.raises(DataError, match="a has 1 and b has 2"):
        prepare(Listed(scan("a"), scan("b", channels=2)), ["a", "b"], Preprocess(), classes=2)


def test_a_batch_holds_the_cases_in_order() -> None:
    cases = [prepared("a"), prepared("b")]
    batch = stack(cases)
    assert batch.image.shape == (2, 1, 4, 5, 6)
    assert batch.label.shape == (2, 4, 5, 6)
    assert batch.names == ("a", "b")
    assert torch.equal(batch.image[1], cases[1].image)


def test_cases_of_different_grids_are_not_batched_and_the_cures_are_named() -> None:
    with pytest.raises(DataError, match=r"a has \(4, 5, 3\) voxels and b \(6, 4, 5\).*preprocess.grid.*batch_size"):
        stack([prepared("a", shape=(4, 5, 3)), prepared("b", shape=(6, 4, 5))])


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(DataError, match="at least one case"):
        stack([])


def test_a_case_without_label_is_not_batched() -> None:
    with pytest.raises(DataError, match="Case a has no label"):
        stack([prepared(label=None)])
