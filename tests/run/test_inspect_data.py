"""A folder of scans, two commands, no YAML."""

import pytest
import yaml
from PIL import Image

from tests.run.conftest import SMALL

TWO_STEPS = [*SMALL, "--schedule.steps", "2", "--samples", "1", "--prior", "gaussian", "--device", "cpu"]


def test_the_config_that_is_written_runs_by_the_command_in_the_last_line(finished, data, tmp_path, no_figures):
    done = finished(tmp_path, "inspect_data", "data")
    assert all(name in done.out for name in ("tumour_000", "No problems.", "Highest Dice that this grid permits"))
    command = done.out.splitlines()[-1].split()
    assert command[0] == "python"
    assert command[1].endswith("run/svi_target.py")
    with Image.open(tmp_path / "data.png") as sheet:
        assert min(sheet.size) > 300
    finished(tmp_path, "svi_target", *command[2:], *TWO_STEPS, "--name", "first")
    assert (tmp_path / "runs" / "first" / "metrics.json").exists()


def test_a_folder_alone_does_the_same_silently_and_flags_win(finished, data, tmp_path, no_figures):
    done = finished(tmp_path, "svi_target", "--data", "data", *TWO_STEPS, "--name", "a", "--seed", "3")
    assert "Highest Dice that this grid permits" in done.out
    silent = yaml.safe_load((tmp_path / "runs" / "a" / "config.yaml").read_text())
    finished(tmp_path, "inspect_data", "data", "--output", "b.yaml")
    finished(tmp_path, "svi_target", "--config", "b.yaml", *TWO_STEPS, "--name", "b", "--seed", "3")
    written = yaml.safe_load((tmp_path / "runs" / "b" / "config.yaml").read_text())
    for config in (silent, written):
        del config["provenance"], config["name"]
    assert silent == written
    assert silent["schedule"]["steps"] == 2
    assert silent["data"]["folder"] == str(data)
    resumed = finished(tmp_path, "svi_target", "--data", "data", "--name", "a", "--resume")
    assert "Highest Dice" not in resumed.out


@pytest.mark.parametrize("place", ["my_scan", "./my_scan/", "scans.csv", "/no where/scans"])
def test_a_path_that_is_not_there_is_named(refused, tmp_path, place):
    refused([f"no {place}.", "folder of scans", "Check the path", "folder_pairs"], "svi_target", "--data", place)


def test_a_method_stands_on_top_of_what_the_folder_proposes(finished, data, tmp_path, no_figures):
    flags = ["--data", "data", "--preprocess.spacing", "12,12,12", *SMALL, "--schedule.steps", "2"]
    finished(tmp_path, "svi_target", "--config", "methods/unet_ri", *flags, "--name", "a")
    config = yaml.safe_load((tmp_path / "runs" / "a" / "config.yaml").read_text())
    assert (config["kl_weight"], config["start"]) == (0, "random")
    assert (config["preprocess"]["spacing"], config["preprocess"]["grid"]) == ([12.0, 12.0, 12.0], None)


def test_a_torn_file_is_named_and_left_out(finished, data, tmp_path):
    path = data / "images" / "tumour_003.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])
    done = finished(tmp_path, "inspect_data", "data")
    assert "ERROR: tumour_003" in done.out
    assert yaml.safe_load((tmp_path / "data.yaml").read_text())["leave_out"] == ["tumour_003"]


def test_files_of_the_user_are_not_overwritten_unasked(refused, data, tmp_path):
    (tmp_path / "data.yaml").write_text("mine")
    refused(["data.yaml exists", "--overwrite"], "inspect_data", "data")
    refused(["nowhere"], "inspect_data", "nowhere")
