"""A folder of any usual layout: every layout is built from tiny files, and what could pair wrong files is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from pyro_dwp.data import Folder
from pyro_dwp.errors import ConfigError
from tests.helpers.refusal import refuses

MHA = b"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
BRATS = ("flair", "t1", "t1ce", "t2")
DECATHLON = {"modality": {"0": "FLAIR", "1": "T1w"}, "labels": {"0": "background", "1": "edema", "2": "core"}}
NNUNET = {"channel_names": {"0": "FLAIR", "1": "T1w"}, "labels": {"background": 0, "whole": [1, 2], "core": 2}}


@pytest.fixture
def build(tmp_path, write):
    """Return a function that makes a folder of files, each with voxels of its own, and returns it as text."""

    def make(*paths: str, root: str = "data") -> str:
        for number, path in enumerate(paths):
            file = tmp_path / root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if path.endswith(".mha"):
                file.write_bytes(MHA + bytes([*range(7), number]))
            else:
                write(file, np.arange(8).reshape(2, 2, 2) % 3 + number * (np.arange(8).reshape(2, 2, 2) == 7))
        return str(tmp_path / root)

    return make


def files(source: Folder) -> dict[str, tuple[list[str], str | None]]:
    """Return case → paths of its images and of its label, relative to the folder."""
    root, listing = Path(source.folder), source.listing
    return {
        case: (
            [path.relative_to(root).as_posix() for path in listing.images[case]],
            listing.labels[case].relative_to(root).as_posix() if case in listing.labels else None,
        )
        for case in sorted(listing.images)
    }


# Each layout by its files, and what is found there: sequences, and images and label of each case.
TWO = "a", "b"
FLAT = {c: ([f"{c}_flair.nii.gz", f"{c}_t1.nii.gz"], f"{c}_mask.nii.gz") for c in ("p_1", "p_10")}
PLAIN = {c: ([f"{c}.nii.gz"], f"{c}_lesion_mask.nii.gz") for c in TWO}
CASES = {c: ([f"{c}/flair.nii.gz", f"{c}/t1.nii.gz"], f"{c}/mask.nii.gz") for c in TWO}
OLD = {
    c: (
        [f"HGG/{c}/VSD.Brain.XX.O.MR_{s}.{c}/VSD.Brain.XX.O.MR_{s}.{c}.mha" for s in ("Flair", "T1", "T1c", "T2")],
        f"HGG/{c}/VSD.Brain_3more.XX.O.OT.9{c}/VSD.Brain_3more.XX.O.OT.9{c}.mha",
    )
    for c in ("11", "22")
}  # fmt: skip


def brats(folder: str, case: str, words: tuple[str, ...], mark: str) -> tuple[list[str], str]:
    *images, label = (f"{folder}{case}/{case}{mark}{word}.nii.gz" for word in words)
    return images, label


NEW = {
    c: brats("", c, ("t1c", "t1n", "t2f", "t2w", "seg"), "-") for c in ("BraTS-GLI-00000-000", "BraTS-GLI-00002-000")
}
YEAR_18 = {
    c: brats(f"{grade}/", c, (*BRATS, "seg"), "_") for grade, c in (("HGG", "Brats18_A_1_1"), ("LGG", "Brats18_B_1_1"))
}
YEAR_21 = {c: brats("", c, (*BRATS, "seg"), "_") for c in ("BraTS2021_00000", "BraTS2021_00002")}
BIDS = {
    f"sub-{s}_ses-1": (
        [f"sub-{s}/ses-1/anat/sub-{s}_ses-1_{kind}.nii.gz" for kind in ("FLAIR", "T1w")],
        f"derivatives/lesions/sub-{s}/ses-1/anat/sub-{s}_ses-1_label-lesion_mask.nii.gz",
    )
    for s in ("01", "02")
}
STEMS = {c: ([f"scans/{c}.nii.gz"], f"segmentations/{c}.nii.gz") for c in TWO}
ENDED = {c: ([f"images/{c}.nii.gz"], f"masks/{c}_seg.nii.gz") for c in TWO}
NUMBERED = {c: ([f"imagesTr/{c}_000{n}.nii.gz" for n in (0, 1)], f"labelsTr/{c}.nii.gz") for c in TWO}
BY_KIND = {c: ([f"flair/{c}.nii.gz", f"t1/{c}.nii.gz"], f"gt/{c}.nii.gz") for c in TWO}
LAYOUTS = {
    "one folder": (FLAT, ["flair", "t1"]),
    "one folder, one sequence": (PLAIN, ["image"]),
    "a folder for each case": (CASES, ["flair", "t1"]),
    "BraTS 2015": (OLD, ["Flair", "T1", "T1c", "T2"]),
    "BraTS 2018": (YEAR_18, [*BRATS]),
    "BraTS 2021": (YEAR_21, [*BRATS]),
    "BraTS 2023": (NEW, ["t1c", "t1n", "t2f", "t2w"]),
    "BIDS": (BIDS, ["FLAIR", "T1w"]),
    "two folders, same names": (STEMS, ["0"]),
    "two folders, words in the names": (ENDED, ["image"]),
    "two folders, numbered": (NUMBERED, ["0000", "0001"]),
    "a folder for each kind": (BY_KIND, ["flair", "t1"]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_read_and_can_be_written_as_patterns(build, layout) -> None:
    found, sequences = LAYOUTS[layout]
    source = Folder(build(*(path for images, label in found.values() for path in (*images, label))))
    assert files(source) == found
    assert source.sequences() == sequences
    assert source.names() == sorted(found)
    assert source.unlabelled() == []
    assert source.layout
    settings = source.settings()
    assert all("{case}" in pattern for pattern in [*settings["images"], settings["label"]])
    assert files(Folder(**settings)) == found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_words_choose_sequences_in_the_order_given_and_a_case_without_label_is_set_apart(build, layout) -> None:
    found, sequences = LAYOUTS[layout]
    *_, last = found
    paths = [path for case, (images, label) in found.items() for path in (*images, *([label] if case != last else []))]
    words = [sequences[-1], sequences[0]] if len(sequences) > 1 else None
    source = Folder(build(*paths), images=words)
    assert source.unlabelled() == [last]
    assert source.names() == [case for case in sorted(found) if case != last]
    if words:
        assert source.sequences() == words
        assert {case: images for case, (images, _) in files(source).items()} == {
            case: [images[-1], images[0]] for case, (images, _) in found.items()
        }


REGIONS = {
    "BraTS 2015": ([1, 2, 3, 4], [1, 3, 4], [4], None),
    "BraTS 2018": ([1, 2, 4], [1, 4], [4], {1: 1, 2: 2, 4: 3}),
    "BraTS 2021": ([1, 2, 4], [1, 4], [4], {1: 1, 2: 2, 4: 3}),
    "BraTS 2023": ([1, 2, 3], [1, 3], [3], None),
    "one folder": None,
}


@pytest.mark.parametrize("layout", REGIONS)
def test_the_regions_of_brats_have_the_labels_of_their_year(build, layout) -> None:
    source = Folder(build(*(path for images, label in LAYOUTS[layout][0].values() for path in (*images, label))))
    if REGIONS[layout] is None:
        assert (source.structures(), source.label_map()) == (None, None)
    else:
        *regions, label_map = REGIONS[layout]
        assert [*source.structures().values()] == regions
        assert source.label_map() == label_map


def test_a_task_of_the_decathlon_and_nnunet_names_sequences_and_structures(build, tmp_path, write) -> None:
    entries = [{"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in TWO]
    old = build(*(path for images, label in NUMBERED.values() for path in (*images, label)), root="v1")
    new = build(*(path for images, label in NUMBERED.values() for path in (*images, label)), root="v2")
    Path(old, "dataset.json").write_text(json.dumps(DECATHLON | {"training": entries}))
    Path(new, "dataset.json").write_text(json.dumps(NNUNET | {"numTraining": 2, "file_ending": ".nii.gz"}))
    for folder in (old, new):
        assert files(Folder(folder)) == NUMBERED
        assert Folder(folder).sequences() == ["FLAIR", "T1w"]
        assert [path.name for path in Folder(folder, images="T1w").listing.images["b"]] == ["b_0001.nii.gz"]
    assert Folder(old).structures() == {"edema": [1], "core": [2]}
    assert Folder(new).structures() == {"whole": [1, 2], "core": [2]}
    with refuses(new, "'T2'", "FLAIR, T1w"):
        Folder(new, images="T2").names()
    four = build("labelsTr/a.nii.gz", "labelsTr/b.nii.gz", root="msd")
    for case in TWO:
        write(Path(four, "imagesTr", f"{case}.nii.gz"), np.random.rand(2, 2, 2, 2))
    Path(four, "dataset.json").write_text(json.dumps(DECATHLON | {"training": entries}))
    both, one = Folder(four).load("a").image, Folder(four, images=["T1w"]).load("a").image
    np.testing.assert_array_equal(one, both[1:])


def test_a_table_lists_paths_by_column(build, tmp_path) -> None:
    root = build("x/1.nii.gz", "x/2.nii.gz", "y/1.nii.gz", "y/2.nii.gz", "y/m.nii.gz")
    table = Path(root, "cases.csv")
    table.write_text(
        f"case,age,FLAIR,T1,label,patient\na,7,x/1.nii.gz,{root}/y/1.nii.gz,y/m.nii.gz,p\nb,8,x/2.nii.gz,y/2.nii.gz,,p\n"
    )
    source = Folder(str(table))
    assert (source.names(), source.unlabelled(), source.sequences()) == (["a"], ["b"], ["FLAIR", "T1"])
    assert source.load("a").image.shape == (2, 2, 2, 2)
    assert Folder(str(table), images="t1").listing.images["b"] == [Path(root, "y/2.nii.gz")]
    for text, tokens in {
        "case,FLAIR\na,x/3.nii.gz\n": ["line 2", "x/3.nii.gz", "does not exist"],
        "case,FLAIR,T1\na,x/1.nii.gz,\nb,x/1.nii.gz,x/2.nii.gz\n": ["'T1' in line 2", "is empty"],
        "case,FLAIR\na,x/1.nii.gz\na,x/2.nii.gz\n": ["line 3", "'a'"],
        "name,FLAIR\na,x/1.nii.gz\n": ["no column 'case'"],
        "case,age\na,7\n": ["no column with paths"],
        "case,FLAIR\n": ["no"],
    }.items():
        table.write_text(text)
        with refuses(str(table), *tokens):
            Folder(str(table)).names()


@pytest.mark.parametrize(
    ("paths", "settings", "tokens"),
    [
        (["a_flair.nii", "a_seg_1.nii", "a_roi.nii"], {}, ["2 kinds of file could be the label", "roi (1)", "--data.label"]),
        (["a_flair.nii", "a_t1.nii", "a_seg.nii", "b_flair.nii", "b_seg.nii"], {}, ["1 of 2 cases, such as b", "no t1"]),
        (["a/t1.nii", "a/t1_brain.nii", "a/seg.nii"], {"images": "t2"}, ["no kind of file is called 't2'", "t1_brain (1)"]),
        (["a/x_t1.nii", "a/y_t1.nii", "a/seg.nii"], {"images": "t1"}, ["'t1' could be a/x_t1.nii or a/y_t1.nii"]),
        (["x/a/t1.nii", "y/a/t1.nii"], {}, ["case a: x/a/t1.nii and y/a/t1.nii", "patterns"]),
        (["a_t1.nii", "a_t2.nii", "b_t1.nii", "b_t2.nii"], {}, ["could be sequences", "'{case}.nii.gz'"]),
        (["a.nii", "x/b.nii"], {}, ["a.nii beside x/b.nii"]),
        (["a_t1.nii", "b_mask.nii"], {}, ["no kind of file is an image", "mask (1)"]),
        (["images/a.nii", "labels/b.nii"], {}, ["no kind of file is an image"]),
        (["images/a.nii", "labels/a.nii", "gt/a.nii"], {}, ["2 kinds of file could be the label", "gt (1)"]),
        (["sub-1/anat/sub-1_FLAIR.nii", "derivatives/x/sub-2/sub-2_lesion.nii"], {}, ["no label belongs to an image"]),
        (["a/t1.nii", "a/seg.nii"], {"images": "{case}/t2.nii"}, ["no file of the form '{case}/t2.nii'", "a/seg.nii, a/t1.nii"]),
        (["a/t1.nii", "b/t1.nii"], {"images": "*/{case}.nii"}, ["two for the case t1"]),
    ],
)  # fmt: skip
def test_names_that_leave_a_choice_are_refused_with_what_was_seen_and_the_cure(build, paths, settings, tokens) -> None:
    folder = build(*paths)
    with refuses(*tokens):
        Folder(folder, **settings).names()


def test_a_brain_mask_is_neither_label_nor_image_and_the_user_has_the_last_word(build) -> None:
    folder = build(*(f"{c}/{kind}.nii.gz" for c in TWO for kind in ("t1", "brain_mask", "lesion_mask")))
    assert Folder(folder).sequences() == ["t1"]
    assert files(Folder(folder))["a"] == (["a/t1.nii.gz"], "a/lesion_mask.nii.gz")
    assert files(Folder(folder, images="t1", label="brain_mask"))["a"] == (["a/t1.nii.gz"], "a/brain_mask.nii.gz")
    with refuses("by words or both by patterns", error=ConfigError):
        Folder(folder, images="{case}/t1.nii.gz", label="lesion").names()


def test_images_alone_are_cases_without_a_label(build, tmp_path) -> None:
    flat = build("a.nii.gz", "b.mha")
    assert (Folder(flat).names(), Folder(flat).unlabelled()) == (["a", "b"], ["a", "b"])
    assert Folder(f"{flat}/b.mha").load("b").label is None
    two = build("a_t1.nii.gz", "a_t2.nii.gz", root="two")
    assert Folder(two, channels=1).names() == ["a_t1", "a_t2"]
    assert files(Folder(two, channels=2)) == {"a": (["a_t1.nii.gz", "a_t2.nii.gz"], None)}
    assert files(Folder(two, images="t2,t1")) == {"a": (["a_t2.nii.gz", "a_t1.nii.gz"], None)}
    with refuses(str(tmp_path / "none"), "does not exist"):
        Folder(str(tmp_path / "none")).names()
    (tmp_path / "empty").mkdir()
    with refuses(str(tmp_path / "empty"), "no scan", ".mha"):
        Folder(str(tmp_path / "empty")).names()


def test_a_fourth_axis_is_taken_as_sequences_where_a_case_has_one_file(tmp_path, write, truth) -> None:
    for case in TWO:
        write(tmp_path / f"{case}.nii.gz", np.random.rand(*truth.shape, 3))
        write(tmp_path / f"{case}_seg.nii.gz", truth)
    source = Folder(str(tmp_path))
    assert source.load("a").image.shape == (3, *truth.shape)
    assert source.sequences() == ["0", "1", "2"]


def test_new_scans_are_read_in_the_order_of_the_sequences_that_a_network_learned_from(build, tmp_path, write) -> None:
    folder = build(*(f"{c}/{c}_{kind}.nii.gz" for c in TWO for kind in ("flair", "t1", "t2")))
    assert Folder.like(folder, 2, ("t2", "flair")).sequences() == ["t2", "flair"]
    assert Folder.like(folder, 1, ("t1",)).load("a").image.shape == (1, 2, 2, 2)
    with refuses("no kind of file is called 'adc'", "t2 (2)"):
        Folder.like(folder, 3, ("t1", "t2", "adc")).names()
    flat = build("a_t2.nii.gz", "a_flair.nii.gz", root="flat")
    assert files(Folder.like(flat, 2, ("t2", "flair"))) == {"a": (["a_t2.nii.gz", "a_flair.nii.gz"], None)}
    assert files(Folder.like(flat, 1, ("flair",))) == {"a": (["a_flair.nii.gz"], None)}
    assert Folder.like(build("b_flair.nii.gz", "c.nii.gz", root="mixed"), 1, ("flair",)).names() == ["b_flair", "c"]
    write(tmp_path / "four" / "a.nii.gz", np.random.rand(2, 2, 2, 2))
    assert Folder.like(tmp_path / "four", 2, ("t2", "flair")).load("a").image.shape == (2, 2, 2, 2)
