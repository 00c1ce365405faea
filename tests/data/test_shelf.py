"""Large tensors in files: the same values, a private copy, nothing left behind, and one sentence where there is no room."""

import errno
import tempfile
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from pyro_dwp.data import Patches, Phantoms, Prepared, Preprocess, draw_patch, shelf
from pyro_dwp.predict import Predictor, score_cases
from tests.helpers.refusal import refuses


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Take tensors of 64 bytes for large."""
    monkeypatch.setattr(shelf, "LARGE", 64)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def case() -> Prepared:
    image, label = torch.randn(2, 6, 5, 4), torch.randint(3, (6, 5, 4))
    return Prepared("a", image, label, np.eye(4), (6, 5, 4), ((0, 6), (0, 5), (0, 4)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8])
def test_a_file_holds_the_values_and_no_name(dtype, tmp_path):
    values = torch.randint(2, (3, 50, 7)).to(dtype)
    stored = shelf.on_disk(values.transpose(0, 1))
    assert torch.equal(stored, values.transpose(0, 1))
    assert stored.data_ptr() != values.data_ptr()
    assert not list(tmp_path.iterdir())
    stored += 1
    assert not torch.equal(stored, values.transpose(0, 1))


def test_small_tensors_stay_in_memory():
    values = torch.zeros(15)
    assert shelf.on_disk(values) is values
    assert shelf.shelve_label(values.long()[:7]).dtype == torch.int64


def test_a_shelved_case_gives_the_same_patches():
    plain, patches = case(), Patches((3, 3, 3))
    stored = shelf.shelve(plain)
    assert stored.label.dtype == torch.uint8
    for seed in range(5):
        torch.manual_seed(seed)
        ours = draw_patch(stored, patches)
        torch.manual_seed(seed)
        theirs = draw_patch(plain, patches)
        assert torch.equal(ours.image, theirs.image)
        assert torch.equal(ours.label, theirs.label)
        assert torch.equal(ours.weight, theirs.weight)


def test_labels_that_uint8_cannot_hold_are_kept_as_they_are():
    labels = torch.full((4, 4), 300)
    assert torch.equal(shelf.shelve_label(labels), labels)


def test_a_full_disk_is_told_with_the_cure(monkeypatch):
    full = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with refuses("No space left", "TMPDIR"):
        shelf.on_disk(torch.zeros(100))


def test_a_scored_case_in_files_is_the_one_in_memory(monkeypatch):
    source = Phantoms(cases=1, shape=(16, 16, 16))
    predictor = Predictor(lambda: lambda x: torch.cat([0 * x, x], 1), Preprocess(), samples=2)
    (stored,) = score_cases(predictor, source, source.names())
    monkeypatch.setattr(shelf, "LARGE", 2**26)
    (plain,) = score_cases(predictor, source, source.names())
    assert stored.truth.dtype == torch.uint8
    assert torch.equal(stored.truth.long(), plain.truth)
    assert torch.equal(stored.scan.image, plain.scan.image)
    assert torch.equal(stored.prediction.mask, plain.prediction.mask)
    assert torch.equal(stored.prediction.entropy, plain.prediction.entropy)
    assert stored.scores == plain.scores
