"""Command lines: what a script receives, and what a user reads after a mistake."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from guides import MeanField, Point
from pyro_dwp.cli import run_script
from pyro_dwp.cli.names import legal_names, load_class
from pyro_dwp.data import FolderPairs, Phantoms
from pyro_dwp.nn import UNet
from pyro_dwp.priors import Gaussian, PriorFamily
from pyro_dwp.train import Schedule

MY_PRIOR = '''
from pyro_dwp.priors import Gaussian

class MyPrior(Gaussian):
    """Mine.

    Args:
        gain: factor.
    """

    def __init__(self, gain: float = 5.0) -> None:
        super().__init__(gain=gain)
'''


def test_without_a_config_the_default_one_is_read(received: Callable) -> None:
    arguments = received()
    assert arguments["schedule"] == Schedule(epochs=3)
    assert arguments["prior"].gain == 0.1
    assert arguments["network"]().channels == (4, 8)
    assert isinstance(arguments["data"], Phantoms)


def test_a_config_replaces_the_default_one_and_holds_differences_only(received: Callable) -> None:
    arguments = received("--config", "configs/other.yaml")
    assert (arguments["seed"], arguments["schedule"]) == (7, Schedule(epochs=4))


def test_a_config_can_be_named_without_its_folder(received: Callable) -> None:
    assert received("--config", "other")["seed"] == 7


def test_flags_win_over_configs_wherever_they_stand(received: Callable) -> None:
    assert received("--seed", 3, "--config", "other")["seed"] == 3


def test_later_configs_win_over_earlier_ones(received: Callable, tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("seed: 8\n")
    arguments = received("--config", "quick", "--config", "more.yaml")
    assert (arguments["seed"], arguments["schedule"].epochs) == (8, 3)


def test_dotted_overrides_reach_dataclasses_and_classes(received: Callable) -> None:
    arguments = received("--schedule.batch_size=5", "--prior.gain", "3", "--network.channels", "[2, 4, 8]")
    assert arguments["schedule"] == Schedule(epochs=3, batch_size=5)
    assert arguments["prior"].gain == 3
    assert arguments["network"]().channels == (2, 4, 8)


def test_a_guide_arrives_as_a_class_with_its_settings_bound(received: Callable) -> None:
    guide = received("--guide", "mean_field", "--guide.relative_scale", "0.5")["guide"]
    assert isinstance(guide({}, {}), MeanField)
    assert guide.keywords == {"relative_scale": 0.5}


@pytest.mark.parametrize(
    ("flags", "key", "kind"),
    [
        (["--prior", "gaussian"], "prior", Gaussian),
        (["--prior=pyro_dwp.priors.Gaussian"], "prior", Gaussian),
        (["--prior", "Gaussian"], "prior", Gaussian),
        (["--prior", "{class_path: gaussian, init_args: {gain: 4}}"], "prior", Gaussian),
        (["--data", "folder_pairs", "--data.images", "scans"], "data", FolderPairs),
    ],
)
def test_a_class_goes_by_short_name_dotted_path_or_class_name(
    received: Callable, flags: list[str], key: str, kind: type
) -> None:
    assert isinstance(received(*flags)[key], kind)


@pytest.mark.parametrize("text", ["guide: point", "guide: {class_path: point}", "guide: guides.Point"])
def test_short_names_work_in_configs(received: Callable, tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    assert isinstance(received("--config", "mine.yaml")["guide"]({}, {}), Point)


def test_a_class_may_come_from_a_file_of_the_users(received: Callable, tmp_path: Path) -> None:
    (tmp_path / "my_prior.py").write_text(MY_PRIOR)
    (tmp_path / "mine.yaml").write_text("prior: my_prior.py:MyPrior\n")
    assert type(received("--config", "mine.yaml")["prior"]).__name__ == "MyPrior"
    assert received("--config", "mine.yaml", "--prior.gain", 9)["prior"].gain == 9
    assert type(received("--prior", "my_prior.py:MyPrior")["prior"]).__name__ == "MyPrior"


def test_a_class_does_not_inherit_the_arguments_of_the_one_that_it_replaces(received: Callable, tmp_path: Path) -> None:
    (tmp_path / "my_prior.py").write_text(MY_PRIOR)
    (tmp_path / "mine.yaml").write_text("prior: my_prior.py:MyPrior\n")
    assert received("--prior", "my_prior.py:MyPrior")["prior"].gain == 5  # the default config's Gaussian has 0.1
    assert received("--config", "mine.yaml")["prior"].gain == 5  # the Gaussian of main has 2
    assert received("--config", "quick", "--config", "mine.yaml")["prior"].gain == 5
    assert received("--prior", "my_prior.py:MyPrior", "--prior.gain", 6)["prior"].gain == 6
    assert received("--prior", "pyro_dwp.priors.gaussian.Gaussian")["prior"].gain == 0.1


@pytest.mark.parametrize(
    ("flags", "expected"),
    [(["--resume"], True), (["--resume", "true"], True), (["--resume=false"], False), ([], False)],
)
def test_a_switch_stands_alone_or_takes_a_value(received: Callable, flags: list[str], expected: bool) -> None:
    received("--name", "run")
    assert received("--name", "run" if expected else "new", *flags)["resume"] is expected


def test_numbers_in_exponent_notation_are_numbers(received: Callable) -> None:
    assert received("--schedule.learning_rate", "1e-2")["schedule"].learning_rate == 0.01


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sede: 1", ["'sede'", "'seed'"]),
        ("schedule: {epoch: 1}", ["'schedule.epoch'", "'epochs'"]),
        ("prior: {class_path: gaussian, init_args: {gian: 1}}", ["'prior.gian'", "'gain'", "priors.Gaussian"]),
        (
            "guide: {class_path: mean_field, init_args: {relativ_scale: 1}}",
            ["'guide.relativ_scale'", "'relative_scale'"],
        ),
        ("prior: gausian", ["'gausian'", "'gaussian'"]),
        ("prior: {class_path: gausian}", ["'gausian'", "'gaussian'"]),
        ("prior: absent.py:Mine", ["absent.py"]),
        ("prior: no_package.Mine", ["no_package"]),
        ("network: gaussian", ["'gaussian'", "unet"]),
        ("schedule: {epochs: many}", ["schedule.epochs", "int", "many"]),
        ("schedule: {epochs: 0}", ["schedule.epochs", "at least 1"]),
        ("seed: [1", ["YAML"]),
        ("just words", ["key: value"]),
    ],
)
def test_a_mistake_in_a_config_is_one_error_that_names_it_and_the_cure(
    refused: Callable, tmp_path: Path, text: str, found: list[str]
) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    error = refused("--config", "wrong.yaml")
    assert all(part in error for part in found), error
    assert "wrong.yaml" in error or "at least" in error, error


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--sede", "1"], ["--sede", "--seed"]),
        (["--schedule.epoch", "1"], ["--schedule.epochs"]),
        (["--prior.gian", "1"], ["'gian'", "'gain'"]),
        (["--prior", "gausian"], ["--prior", "'gaussian'"]),
        (["--seed", "x"], ["seed", "int", "x"]),
        (["--config", "othr"], ["othr", "'other'"]),
        (["--config"], ["--config needs"]),
        (["--missing", "scan.nii.gz"], ["scan.nii.gz"]),
    ],
)
def test_a_mistake_on_the_command_line_is_one_error_that_names_it_and_the_cure(
    refused: Callable, flags: list[str], found: list[str]
) -> None:
    error = refused(*flags)
    assert all(part in error for part in found), error


def test_an_abbreviated_flag_is_not_guessed(refused: Callable) -> None:
    assert "--overwrite" in refused("--overwrit")


def test_a_mistake_leaves_no_output(refused: Callable, tmp_path: Path) -> None:
    refused("--missing", "scan.nii.gz")
    assert not (tmp_path / "runs").exists()


def test_a_bug_keeps_its_traceback(call: Callable, sample: ModuleType) -> None:
    sample.fit = lambda *_, **__: 1 / 0
    with pytest.raises(ZeroDivisionError):
        call()


def test_ctrl_c_leaves_a_checkpoint_says_how_to_resume_and_resumes(
    call: Callable, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call("--interrupted", 3, "--name", "stopped") == 130
    message = capsys.readouterr().err
    assert "--resume" in message
    assert "Traceback" not in message
    assert (tmp_path / "runs" / "stopped" / "checkpoint").is_dir()
    (tmp_path / "runs" / "stopped" / "config.yaml").write_text(
        (tmp_path / "runs" / "stopped" / "config.yaml").read_text().replace("interrupted: 3", "interrupted: 0")
    )
    assert call("--name", "stopped", "--resume") == 0
    assert "3 epochs" in capsys.readouterr().out


def test_help_explains_every_flag_with_type_and_the_default_of_the_config(
    call: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--help") == 0
    text = capsys.readouterr().out
    words = " ".join(text.split())
    assert (
        "--schedule.epochs EPOCHS longest training, in passes over the training items. (type: int, default: 3)" in words
    )
    assert "--seed SEED of everything. (type: int, default: 0)" in words
    for name, path in legal_names(PriorFamily).items():
        assert f" {name}: {inspect.getdoc(load_class(path)).splitlines()[0]} " in words
    assert "--prior gaussian" in text
    assert "--guide.relative_scale" in text
    assert "torch.nn.Identity" not in text
    assert "<class" not in text
    assert "python sample_script.py --config other" in text


def test_the_help_of_one_class_goes_by_its_short_name(call: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--prior.help", "gaussian") == 0
    assert "--prior.gain" in capsys.readouterr().out


def test_a_script_runs_from_any_folder_as_a_process_of_its_own(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import sample_script; "
        "from pyro_dwp.cli import run_script; sys.exit(run_script(sample_script.main))"
    )
    command = [sys.executable, "-c", code, "--schedule.epochs", "2", "--network", "unet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2 epochs in runs/sample_script-001"
    assert done.stderr == ""


def test_the_network_arrives_as_a_class(received: Callable) -> None:
    assert isinstance(received()["network"](), UNet)


LONE = '''"""A script."""


def main(number: int = 1) -> None:
    """Print.

    Args:
        number: any.
    """
    print(number)
'''


def test_a_script_without_a_default_config_finds_names_in_the_folder_configs_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.yaml").write_text("number: 7\n")
    (tmp_path / "lone.py").write_text(LONE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import lone

    assert run_script(lone.main, None, ["--config", "mine"]) == 0
    assert capsys.readouterr().out == "7\n"


def test_a_misspelt_argument_of_a_guide_is_named_with_the_legal_ones(
    call: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--guide", "mean_field", "--guide.relativ_scale", "0.1") == 2
    assert "MeanField has no argument 'relativ_scale'" in (said := capsys.readouterr().err)
    assert "Did you mean 'relative_scale'?" in said


def test_an_argument_that_a_class_cannot_do_without_is_named_as_a_flag(
    call: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--prior", "pretrained") == 2
    assert "Pretrained cannot do without path. Give --prior.path ..." in capsys.readouterr().err


def test_a_file_without_a_class_is_refused_with_the_form_to_use(
    call: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--prior", "my_prior.py") == 2
    assert "my_prior.py:MyClass" in capsys.readouterr().err
