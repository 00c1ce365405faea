import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from pyro_dwp.errors import ConfigError
from pyro_dwp.report import learning_curves
from tests.helpers.refusal import refuses

LOSS, LARGE = {"train/loss": [1.0, 2.0]}, {"train/loss": [5e4, 3e4]}
VALIDATED = {"validation/loss": [1.2, 0.8]}


def curves(columns: dict[str, list[float]], unit: str = "") -> Figure:
    """Draw columns of a history; NaN marks an epoch that lacks the value."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    known = [{name: value for name, value in row.items() if not math.isnan(value)} for row in rows]
    return learning_curves([{"epoch": epoch, **row} for epoch, row in enumerate(known, 1)], unit=unit)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (LOSS | VALIDATED, {"Loss (nats)": ["training", "validation"]}),
        (LARGE | VALIDATED, {"Training loss (nats)": ["training"], "Validation loss": ["validation"]}),
        (LOSS | {"train/kl_latent": [3, 4], "train/kl_explicit": [0, 0]}, {"KL(r(z|w) ‖ p(z)) (nats)": ["kl_latent"]}),
        (LOSS | {"train/a": [3, 4], "train/b": [1, 0]}, {"a (nats)": ["a"], "b (nats)": ["b"]}),
        (LOSS | {"rate/a": [2, 1], "rate/b": [1, 2]}, {"Learning rate": ["a", "b"]}),
        (LOSS | {"train/kl_weight": [1, 1]}, {}),
        (LOSS | {"train/kl_weight": [0.5, 1]}, {"Weights in the loss": ["kl_weight"]}),
    ],
)
def test_each_panel_shows_what_belongs_together(columns: dict, expected: dict) -> None:
    drawn = {axes.get_title(): axes.get_lines() for axes in curves(columns, "nats").axes if axes.get_lines()}
    found = {title: [line.get_label() for line in lines] for title, lines in drawn.items()}
    assert found == ({} if VALIDATED.items() <= columns.items() else {"Loss (nats)": ["training"]}) | expected
    assert all(line.get_ydata().tolist() in columns.values() for lines in drawn.values() for line in lines)


def test_the_terms_of_an_elbo_add_up_to_its_loss_as_they_are_drawn() -> None:
    columns = {"train/data": [-4.0, -3.0], "train/kl": [100.0, 50.0], "train/kl_weight": [0.01, 0.02]}
    lines = curves({"train/loss": [5.0, 4.0], **columns}).axes[0].get_lines()
    loss, data, kl = (line.get_ydata() for line in lines)
    assert np.allclose(loss, data + kl)


def test_the_best_validation_dice_is_marked_at_its_epoch() -> None:
    axes = curves({"train/loss": [1, 2, 3], "validation/dice": [0.4, 0.6, 0.5]}).axes[1]
    mark = axes.get_lines()[-1]
    assert (set(mark.get_xdata()), mark.get_label()) == ({2}, "best Dice 0.600, epoch 2")


def test_an_epoch_without_validation_is_skipped_and_not_drawn_as_zero() -> None:
    line = curves({"train/loss": [1, 2, 3], "validation/dice": [math.nan, 0.6, math.nan]}).axes[1].get_lines()[0]
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([2], [0.6])


@pytest.mark.parametrize(
    ("values", "scale"), [([1.0, 2.0], "linear"), ([1.0, 1e-4], "log"), ([-1e5, 1.0], "symlog"), ([0.0, 1.0], "linear")]
)
def test_the_scale_follows_the_range(values: list[float], scale: str) -> None:
    assert curves({"train/loss": values}).axes[0].get_yscale() == scale


@pytest.mark.parametrize("rows", [[], [{"epoch": 1, "seconds": 2.0}]])
def test_a_history_without_anything_to_draw_is_refused(rows: list[dict[str, float]]) -> None:
    with refuses(f"{len(rows)} epoch", error=ConfigError):
        learning_curves(rows)
