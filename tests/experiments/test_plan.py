"""From a config to jobs: which there are, what they need, what identifies them, and what is refused before any of them starts."""

import json
from pathlib import Path

import pytest
import yaml

from pyro_dwp.errors import ConfigError
from pyro_dwp.experiments import Experiment, Local, run_jobs
from pyro_dwp.experiments.record import missing, record
from pyro_dwp.settings import instantiate
from tests.experiments.conftest import RUN, SMALL, count
from tests.helpers.refusal import refuses

BANK = {"shared": {"source": {"script": "train_source"}}, "common": {"bank": "@source/bank.safetensors"}}


def ignore(progress):
    pass


def test_methods_sizes_splits_and_seeds_make_a_grid_of_jobs(plan):
    made = plan(sizes=[2, 5], splits=3, seeds=2)
    cells = [(cell.method, cell.train, cell.split, cell.seed) for cell in made.cells]
    assert cells == [(m, n, i, j) for m in "ab" for n in (2, 5) for i in range(3) for j in range(2)]
    settings = [tuple(job.settings[key] for key in ("kind", "train", "split_seed", "seed")) for job in made.jobs]
    assert sorted(settings) == sorted(cells)


def test_methods_with_the_same_settings_share_a_job(plan):
    made = plan(methods={"a": {}, "the same": {"kind": ""}, "b": {"kind": "b"}})
    assert (len(made.jobs), made.cells[0].job) == (2, made.cells[1].job)


def test_a_job_keeps_its_folder_wherever_it_runs_and_whatever_its_method_is_called(plan):
    before = {job.folder.name[-8:] for job in plan().jobs}
    moved = plan(
        common={"threads": 3, "device": "cuda"}, methods={"c": {"kind": "a"}, "d": {"kind": "b"}}, reference="c"
    )
    assert {job.folder.name[-8:] for job in moved.jobs} == before
    assert not {job.folder.name[-8:] for job in plan(common={"steps": 7}).jobs} & before


def test_a_job_whose_folder_is_there_is_found_under_its_old_label(plan):
    old = plan().jobs[0].folder
    old.mkdir(parents=True)
    new = plan(methods={"renamed": {"kind": "a"}}, reference="renamed").jobs[0]
    assert new.folder == old


def test_shared_jobs_come_first_and_change_the_hash_of_those_that_need_them(plan):
    made, other = plan(**BANK), plan(**BANK | {"shared": {"source": {"script": "train_source", "kind": "other"}}})
    assert [job.script.stem for job in made.jobs] == ["train_source", "svi_target", "svi_target"]
    source = made.jobs[0]
    assert all(job.needs == (source,) for job in made.jobs[1:])
    assert made.jobs[1].settings["bank"] == str(Path.cwd() / source.folder / "bank.safetensors")
    assert made.jobs[1].folder != other.jobs[1].folder


def test_an_ensemble_needs_its_members_of_which_only_some_are_rows(plan):
    made = plan(methods={"a": {}, "five": {"script": "score", "members": {"method": "a", "seeds": 3}}}, seeds=2)
    ensembles = [cell.job for cell in made.cells if cell.method == "five"]
    members = [[need.settings["seed"] for need in job.needs] for job in ensembles]
    assert members == [[0, 1, 2], [3, 4, 5]]
    assert ensembles[0].settings["runs"] == [str(Path.cwd() / need.folder) for need in ensembles[0].needs]
    assert (len(made.cells), len(made.jobs)) == (4, 8)


def test_further_scores_are_given_the_run_or_the_members_of_an_ensemble(plan):
    methods = {"a": {}, "two": {"script": "score", "members": {"method": "a", "seeds": 2}}}
    made = plan(methods=methods, scores={"source": {"script": "score", "kind": "source"}})
    single, ensemble = made.cells
    assert single.scores["source"].needs == (single.job,)
    assert ensemble.scores["source"].needs == ensemble.job.needs


def test_a_method_is_a_config_of_its_name_or_changes_one(plan, scripts):
    (scripts / "configs" / "methods" / "slow.yaml").write_text("{kind: slow, steps: 9}")
    made = plan(methods={"slow": None, "less slow": {"base": "slow", "steps": 3}}, reference="slow")
    assert [(job.settings["kind"], job.settings["steps"]) for job in made.jobs] == [("slow", 9), ("slow", 3)]


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"reference": "c"}, ["reference", "'c'", "a, b"]),
        ({"methods": {"a": {"knd": "a"}}}, ["methods.a", "knd", "'kind'"]),
        ({"methods": {"a": {"seed": 3}}}, ["methods.a", "sets seed"]),
        ({"common": {"train": 3}}, ["common", "sets train"]),
        ({"methods": {"a": None}}, ["no config a"]),
        ({"methods": {"a": {"script": "scor"}}}, ["'scor'", "'score'"]),
        ({"methods": {"a": {"script": "score", "members": {"method": "z", "seeds": 2}}}}, ["members.method", "'z'"]),
        ({"methods": {"a": {"script": "score", "members": {"method": "a", "seeds": 2}}}}, ["has members itself"]),
        ({"methods": {"a": {"bank": "@prior/x"}}}, ["@prior", "There are none"]),
        ({"methods": {"a": {"bank": "@s"}}, "shared": {"s": {"script": "score", "bank": "@s/x"}}}, ["needs itself"]),
        ({"target": "nothin"}, ["nothin", "'nothing'"]),
        ({"name": "../x"}, ["--name", "'../x'"]),
        ({"sizes": []}, ["sizes is []"]),
    ],
    ids=str,
)
def test_an_experiment_that_cannot_run_is_refused_before_anything_is_written(plan, changed, parts):
    with refuses(*parts, error=ConfigError):
        plan(**changed)
    assert not list(Path().iterdir())


def test_more_scans_than_there_are_are_refused_with_the_data_and_without_them_only_in_earnest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few, none = {"class": "phantoms", "cases": 30}, {"class": "decathlon", "folder": "nowhere"}
    make = lambda data: instantiate(  # noqa: E731
        Experiment, SMALL | {"target": "quick", "methods": {"a": {}}, "common": {"data": data}, "sizes": [5, 16]}, ""
    )
    with refuses("a-16-split-0-seed-0", "16 cases to train", "there are 30"):
        make(few).plan(RUN, check_data=False)
    with refuses("nowhere"):
        make(none).plan(RUN)
    assert len(make(none).plan(RUN, check_data=False).jobs) == 2


@pytest.mark.parametrize("method", ["{start: source}", "{freeze: [down1.*]}", "{script: meta_tune, source: null}"])
def test_a_method_without_the_source_network_that_it_needs_is_refused_before_any_job_starts(method):
    changed = {"target": "quick", "methods": {"a": yaml.safe_load(method)}}
    with refuses("a-2-split-0-seed-0", "source", error=ConfigError):
        instantiate(Experiment, SMALL | changed, "").plan(RUN, check_data=False)


def test_the_record_says_of_each_training_what_became_of_it_and_why(plan):
    shared = {"good": {"script": "train_source"}, "bad": {"script": "train_source", "fails": True}}
    methods = {"a": {"bank": "@good/bank.safetensors"}, "b": {"bank": "@bad/bank.safetensors"}, "c": {"fails": True}}
    made = plan(methods=methods, shared=shared, scores={"again": {"script": "score"}})
    progress = run_jobs(made, Local(cores=2), ignore, ignore)
    rows = record(made, progress).rows
    assert [row.status for row in rows] == ["done", "failed", "failed"]
    assert json.loads(Path("runs/small", rows[0].folder, "metrics.json").read_text())["test"]["count"] == 1
    assert Path("runs/small", rows[0].scores["again"], "metrics.json").exists()
    assert rows[1].reason.startswith("needs bad-")
    assert rows[1].reason.endswith("failed, as it was told to")
    assert rows[2].reason == "failed, as it was told to"
    assert [line.partition(":")[0] for line in missing(made, progress)] == [
        f"{method}, 2 scans, split 0, seed 0{what}" for method in "bc" for what in ("", ", scores again")
    ]
    assert sum(count("end").values()) == 3
