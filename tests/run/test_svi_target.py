"""run/svi_target.py: what it prints, and what it promises about seeds, splits, test scans, orientations and labels."""

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pyro_dwp.data import Phantoms

PAIRS = ["--data", "folder_pairs", "--data.images", "data/images", "--data.labels", "data/labels"]


def read(folder: Path, file: str = "metrics.json") -> dict[str, Any]:
    return json.loads((folder / file).read_text())


def test_the_last_line_names_the_scores_and_the_folder_and_the_others_grid_and_progress(chain, target):
    lines, mean = (chain / "svi_target.txt").read_text().splitlines(), read(target)["test"]["mean"]
    assert all(part in lines[-1] for part in (f"Dice {mean['dice']:.3f}", f"IoU {mean['iou']:.3f}", "runs/target"))
    (line,) = [line for line in lines if line.startswith("epoch 2/2")]
    assert all(word in line for word in ("loss ", "validation Dice ", "best "))
    assert "kl" not in line
    (grid,) = [line for line in lines if line.startswith("Grid: ")]
    assert all(part in grid for part in ("16 x 16 x 16 voxels", " mm "))


def test_the_same_seed_gives_the_same_run_and_another_one_another(infer):
    folders = infer(name="first"), infer(name="again"), infer("--seed", 1, name="other")
    first, again, other = (load_file(folder / "checkpoint" / "last.safetensors") for folder in folders)
    guide = [key for key in first if key.startswith("modules/guide/")]
    assert all(torch.equal(first[key], again[key]) for key in guide)
    assert not all(torch.equal(first[key], other[key]) for key in guide)
    assert all(read(folders[0])[key] == read(folders[1])[key] for key in ("test", "weight_scales"))


def test_another_split_keeps_the_test_scans_and_shares_none_with_them(infer, target):
    one, other = (read(folder, "split.json") for folder in (target, infer("--split_seed", 1)))
    assert one["test"] == other["test"]
    assert one["train"] != other["train"]
    assert all(len({*split["train"], *split["validation"], *split["test"]}) == 5 for split in (one, other))


def test_each_scan_is_checked_before_inference_and_no_training_scan_is_looked_at_after(infer, tmp_path, monkeypatch):
    looked, load = [], Phantoms.load
    begun = tmp_path / "runs" / "run" / "checkpoint"
    monkeypatch.setattr(Phantoms, "load", lambda self, name: looked.append((name, begun.exists())) or load(self, name))
    split = read(infer(), "split.json")
    every = split["train"] + split["validation"] + split["test"]
    after = split["validation"] + split["test"]
    assert looked == [*((name, False) for name in every), *((name, True) for name in after)]


def test_without_calibration_the_probabilities_are_those_of_the_posterior_and_with_it_the_masks_stay(infer):
    with_it, without = read(infer(name="with")), read(infer("--calibrate", "false", name="without"))
    assert without["temperature"] == 1 != with_it["temperature"]
    for name, scores in without["test"]["cases"].items():
        same = with_it["test"]["cases"][name]
        kept = ("dice", "predicted_volume_ml", "posterior_volume_low_ml")
        assert [same[key] for key in kept] == [scores[key] for key in kept]
        assert scores["volume_low_ml"] == scores["posterior_volume_low_ml"] > same["volume_low_ml"]


def test_a_run_says_where_to_look_first_and_whether_that_is_valid(chain, target):
    lines, found = (chain / "svi_target.txt").read_text().splitlines(), read(target)
    order = [case["case"] for case in found["review"]]
    first = next(number for number, line in enumerate(lines, start=1) if line.startswith("Look here first"))
    assert [line.split(":")[0].strip() for line in lines[first : first + 2]] == order
    assert [line.split(",")[0] for line in (target / "review.csv").read_text().splitlines()[1:]] == order
    assert "1 validation scan(s)" in lines[first + 2]
    assert "50%" in lines[first + 2]
    assert lines[-1].startswith("Dice ")
    assert found["validity"]["volume"]["nominal"] == 0.5
    assert found["validity"]["volume"]["cases"] == 2
    assert sum(found["calibration"]["1"]["voxels"]) == 2 * 16**3


def test_copies_of_the_scans_in_another_orientation_score_the_same(infer, data):
    first = infer(*PAIRS)
    for path in data.rglob("*.nii.gz"):
        image = nib.load(path)
        turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt("PIR"))
        nib.save(image.as_reoriented(turn), path)
    again = infer(*PAIRS, name="again")
    assert read(again)["test"]["cases"] == read(first)["test"]["cases"]
    for path in (again / "predictions").glob("*.nii.gz"):
        assert nib.aff2axcodes(nib.load(path).affine) == tuple("PIR")


def test_a_run_that_learned_from_patches_predicts_by_windows_of_their_size_wherever_it_is_used(
    infer, finished, data, tmp_path
):
    folder = infer(*PAIRS, "--patch", "[12,16,9]")
    finished(tmp_path, "predict", "--run", folder, "--images", data / "images", "--output", "maps")
    finished(tmp_path, "score", "--runs", f"[{folder}]", "--name", "again")
    for place in (tmp_path / "maps", tmp_path / "runs" / "again" / "predictions"):
        for path in (folder / "predictions").glob("*_probability.nii.gz"):
            ours, theirs = (np.asarray(nib.load(it).dataobj) for it in (path, place / path.name))
            assert np.array_equal(ours, theirs)
    assert read(tmp_path / "runs" / "again")["test"]["cases"] == read(folder)["test"]["cases"]


@pytest.mark.parametrize(
    ("label_map", "values"), [("{0: 0, 4: 1}", {0, 4}), ("{0: 0, 2: 1, 4: 1}", {0, 1})], ids=["inverted", "merged"]
)
def test_masks_are_in_the_labels_of_the_user_and_evaluated_as_the_run_scored_them(
    infer, finished, data, tmp_path, label_map, values
):
    for path in (data / "labels").glob("*.nii.gz"):
        label = nib.load(path)
        voxels = 4 * np.asarray(label.dataobj)
        voxels[:8] //= 2 if "2" in label_map else 1
        path.unlink()
        nib.save(nib.Nifti1Image(voxels.astype(np.uint8), label.affine), path)
    folder = infer(*PAIRS, "--preprocess.label_map", label_map)
    finished(tmp_path, "predict", "--run", folder, "--images", data / "images", "--output", "maps")
    expected = [scores["dice"] for scores in read(folder)["test"]["cases"].values()]
    for place in (folder / "predictions", tmp_path / "maps"):
        masks = [np.asarray(nib.load(path).dataobj) for path in place.glob("*_mask.nii.gz")]
        assert set(np.unique(masks)) == values
        finished(tmp_path, "evaluate", "--predictions", place, "--truths", data / "labels", "--allow_missing",
                 "--output", "scores")  # fmt: skip
        cases = read(tmp_path / "scores", "scores.json")["cases"]
        assert [cases[name]["dice"] for name in read(folder, "split.json")["test"]] == pytest.approx(expected)
        shutil.rmtree(tmp_path / "scores")


def test_verbose_shows_the_parts_of_the_elbo_and_changes_no_number(finished, infer, small, tmp_path):
    plain = infer(name="plain")
    shown = finished(tmp_path, "svi_target", *small["svi_target"], "--verbose", "--name", "verbose").out
    assert all(word in shown for word in ("  data ", "  kl ", "  entropy ", "  kl_weight "))
    assert read(plain)["test"] == read(tmp_path / "runs" / "verbose")["test"]


def test_tensorboard_has_the_scores_and_the_settings(target):
    events = EventAccumulator(str(target))
    events.Reload()
    (dice,) = events.Scalars("test/dice")
    assert (dice.step, dice.value) == (2, pytest.approx(read(target)["test"]["mean"]["dice"]))
    assert b"kl_weight" in events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0]
