"""`Ranks`: two processes, started once by torchrun, against one with twice the batch."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pyro_dwp.train import Ranks
from pyro_dwp.train.checkpoint import peek
from tests.helpers import shared_training as shared
from tests.helpers import tiny_run as tiny
from tests.helpers.monte_carlo import assert_mean
from tests.train.test_loop import assert_same_end, short

ROOT = Path(__file__).parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def folder(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """Folder of what two ranks did; in it `one_to_two` was begun by one."""

    def fill(folder: Path) -> None:
        tiny.run(folder / "one_to_two", resume=False, schedule=short(shared.STOP))
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *TORCHRUN, shared.__file__, str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "rank 0 speaks\n"

    return once("ranks", fill)


@pytest.fixture
def found(folder: Path) -> list[dict[str, Tensor]]:
    return [load_file(folder / f"{rank}.safetensors") for rank in (0, 1)]


@pytest.mark.parametrize("items", [5, 4, 3, 1])
def test_a_point_guides_gradient_is_that_of_one_process_with_all_the_items(found, items: int) -> None:
    """Also where the shares differ, and where rank 1 has no item at all."""
    one = shared.gradients(0.0, torch.arange(items), 1)
    for rank in found:
        torch.testing.assert_close(rank[f"point/{items}"], one, rtol=1e-12, atol=0.0)


def test_the_expected_gradient_is_exact_with_the_kl_once_and_its_noise_is_that_of_two_draws(found) -> None:
    """The gradient is linear in w, so that its mean is known, and its covariance with independent draws too."""
    x, y = (part[:3] for part in (vars(shared.LineTask(0.5))[name] for name in ("x", "y")))
    mean = torch.tensor(shared.START, dtype=torch.float64)
    expected = 5 / 3 * x.T @ (x @ mean - y) + mean
    assert torch.equal(found[0]["random"], found[1]["random"])
    assert_mean(found[0]["random"], expected, within=0.3)
    own = [5 / len(part) * part.T @ part + torch.eye(2) for part in (x[::2], x[1::2])]
    variance = sum((share * 0.5 * hessian).square().sum(1) for share, hessian in zip((2 / 3, 1 / 3), own, strict=True))
    assert found[0]["random"].var(0) == pytest.approx(variance, rel=5 * (2 / shared.DRAWS) ** 0.5)


def test_a_gradient_that_one_rank_lacks_counts_as_zero(found) -> None:
    for rank in found:
        assert rank["both"].tolist() == [1.5, 1.5]
        assert rank["one"].tolist() == [0.5, 0.5]


def test_a_whole_training_takes_the_steps_of_one_process_with_twice_the_batch(found, folder, tmp_path) -> None:
    """Five items make a last step in which rank 1 has none, and validation lowers the rate for both."""
    task = shared.LineTask(0.0)
    history = shared.train(tmp_path, task, batch=2)
    assert history.column("rate/posterior")[-1] < shared.SCHEDULE.learning_rate
    for rank in found:
        torch.testing.assert_close(rank["mean"], task.line.mean.detach(), rtol=1e-12, atol=0.0)
    for row, other in zip(history.rows, peek(folder / "line")["rows"], strict=True):
        assert row.keys() == other.keys()
        assert all(other[key] == pytest.approx(x, rel=1e-12) for key, x in row.items() if "seconds" not in key)


def test_two_ranks_resumed_end_bit_identical_to_two_that_were_not_and_draw_different_noise(found, folder) -> None:
    assert_same_end(folder / "resumed", folder / "whole")
    assert not torch.equal(found[0]["noise"], found[1]["noise"])


def test_a_run_goes_on_with_fewer_or_more_ranks(folder: Path) -> None:
    tiny.run(folder / "two_to_one", resume=True)
    ends = [peek(folder / name) for name in ("two_to_one", "one_to_two", "whole")]
    assert [end["epoch"] for end in ends] == [tiny.SCHEDULE.epochs] * 3
    assert ends[0]["rows"][: shared.STOP - 1] != ends[1]["rows"][: shared.STOP - 1]
    assert torch.tensor([row["train/loss"] for end in ends for row in end["rows"]]).isfinite().all()


def test_alone_nothing_is_shared_or_reseeded() -> None:
    state = torch.get_rng_state()
    with Ranks() as ranks:
        items = torch.arange(3)
        assert ranks.share(items) is items
        ranks.seed(0, 1)
        assert ranks.leave()
    assert torch.equal(state, torch.get_rng_state())
