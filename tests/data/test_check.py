"""All scans of a run are checked before it starts; batches."""

import numpy as np
import pytest
import torch

from pyro_dwp.data import CaseSource, FolderPairs, Phantoms, Preprocess, Scan, check_cases, stack
from tests.helpers.refusal import refuses


class Listed(CaseSource):
    """Scans that a test made."""

    def __init__(self, *scans: Scan) -> None:
        self.scans = {scan.name: scan for scan in scans}

    def names(self) -> list[str]:
        return [*self.scans]

    def load(self, name: str) -> Scan:
        return self.scans[name]


def scan(name="a", channels=1, label: int | None = 1, shape=(4, 5, 6), spacing=(1.0, 1.0, 1.0)) -> Scan:
    truth = None if label is None else torch.full(shape, label)
    return Scan(name, torch.rand(channels, *shape) + 1, truth, np.diag([*spacing, 1.0]))


def test_each_case_is_read_once_and_those_to_keep_are_prepared(monkeypatch) -> None:
    phantoms, read = Phantoms(cases=3, shape=(16, 16, 16)), []
    load = Phantoms.load
    monkeypatch.setattr(Phantoms, "load", lambda source, name: read.append(name) or load(source, name))
    names = ["tumour_002", "tumour_000"]
    report = check_cases(phantoms, phantoms.names(), Preprocess(grid=(8, 8, 8)), 2, keep=names)
    assert read == phantoms.names()
    assert {name: case.name for name, case in report.prepared.items()} == {name: name for name in names}
    assert set(report.grids.values()) == {(8, 8, 8)}
    assert len(report.notes) == 1  # the tumour of one head has no voxel left


AIR = Scan("a", torch.zeros(1, 4, 4, 4), torch.ones(4, 4, 4).long(), np.eye(4))


def test_where_none_is_needed_a_label_is_not_looked_at() -> None:
    source = Listed(scan("a", label=7), scan("b", label=None))
    assert check_cases(source, source.names(), Preprocess(), 2, labelled=False).grids.keys() == {"a", "b"}


@pytest.mark.parametrize("keep", [(), "abcd"])
@pytest.mark.parametrize(
    ("scans", "channels", "tokens"),
    [
        ([scan(label=None)], None, ["a has no label", "folder of labels"]),
        ([scan(label=2)], None, ["2 classes", "[2]", "label_map"]),
        ([scan("a"), scan("b", channels=2)], None, ["case b", "2 channel(s)"]),
        ([scan()], 4, ["case a", "1 channel(s)", "in_channels"]),
        ([scan("a"), *(scan(name, label=3) for name in "bcd")], None, ["case b", "2 more of 4", "c, d"]),
        ([AIR], None, ["case a", "no head to crop to"]),
    ],
)
def test_what_would_stop_a_run_later_is_refused_now(scans, channels, tokens, keep) -> None:
    source = Listed(*scans)
    with refuses(*tokens):
        check_cases(source, source.names(), Preprocess(), 2, channels, keep)
    if scans[0].label is None:
        assert check_cases(source, ["a"], Preprocess(), 2, labelled=False).grids == {"a": (4, 5, 6)}


IMAGE, LARGE = np.arange(60**3).reshape(60, 60, 60) % 2000, np.zeros((60, 60, 60))
LARGE[0] = 10**9
UNKNOWN = np.full((6, 7, 5), 255)
BAD = [(None, "truncated"), (UNKNOWN, "255"), (IMAGE, "looks like an image"), (LARGE, "1000000000")]


@pytest.mark.parametrize(("voxels", "token"), BAD)
def test_every_bad_file_of_a_test_scan_is_named_before_training(tmp_path, write, truth, voxels, token) -> None:
    for name in "abc":
        write(tmp_path / "image" / f"{name}.nii.gz", IMAGE if name == "c" and np.shape(voxels) == IMAGE.shape else None)
        path = write(tmp_path / "label" / f"{name}.nii.gz", truth)
    if voxels is None:
        path = tmp_path / "image" / "c.nii.gz"
        path.write_bytes(path.read_bytes()[:-9])
    else:
        write(path, voxels, dtype=np.int32)
    source = FolderPairs(str(tmp_path / "image"), str(tmp_path / "label"))
    with refuses(str(path), token):
        check_cases(source, source.names(), Preprocess(grid=(3, 3, 3)), 2, keep=["a", "b"])


def test_what_makes_scores_say_little_is_noted() -> None:
    rare = scan("rare", label=0, shape=(16, 16, 16))
    rare.label[0, 0, 0] = 1
    scans = [scan("empty", label=0, shape=(16, 16, 16)), scan("tiny", shape=(3, 3, 3)), rare]
    source = Listed(*scans, scan("long", shape=(16, 16, 4), spacing=(1.0, 1.0, 25.0)))
    report = check_cases(source, source.names(), Preprocess(grid=(8, 8, 8)), 2, keep=["rare"])
    named = ("empty", "1 of rare", "tiny (3 x 3 x 3)", "long (2 x 2 x 12.5 mm)")
    assert [case in note for note, case in zip(report.notes, named, strict=True)] == [True] * 4
    assert "8 x 8 x 8 voxels of 2 x 2 x 2 mm" in report.describe_grid()
    assert "median of 4" in report.describe_grid()
    own = check_cases(source, ["tiny", "rare"], Preprocess(), 2).describe_grid()
    assert "3-16 x 3-16 x 3-16 voxels of 1 x 1 x 1 mm" in own


@pytest.mark.parametrize("thickness", [0.01, 1.0, 100.0])
def test_a_single_slice_may_be_of_any_thickness(thickness) -> None:
    image = scan(shape=(16, 12, 1), spacing=(1.0, 1.0, thickness))
    assert check_cases(Listed(image), ["a"], Preprocess(grid=(8, 8, 1)), 2).notes == ()


def test_a_batch_holds_the_cases_in_order_if_they_have_one_grid_and_labels() -> None:
    scans = scan("a"), scan("b"), scan("b", shape=(6, 4, 5)), scan(label=None)
    one, two, other, unlabelled = map(Preprocess().apply, scans)
    batch = stack([one, two])
    assert (batch.image.shape, batch.label.shape, batch.names) == ((2, 1, 4, 5, 6), (2, 4, 5, 6), ("a", "b"))
    assert torch.equal(batch.image[1], two.image)
    for cases, tokens in (
        ([one, other], ["a has (4, 5, 6)", "b (6, 4, 5)", "preprocess.grid"]),
        ([], ["at least one case"]),
        ([unlabelled], ["a has no label"]),
    ):
        with refuses(*tokens):
            stack(cases)
