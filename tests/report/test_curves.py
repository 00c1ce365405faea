"""Learning curves: what is drawn, and on which axis."""

import math

import pytest
from matplotlib.figure import Figure

from pyro_dwp.errors import ConfigError
from pyro_dwp.report import learning_curves


def history(**columns: list[float]) -> list[dict[str, float]]:
    """Return rows from columns whose names have __ for /; NaN marks an epoch that lacks the value."""
    names = [name.replace("__", "/") for name in columns]
    rows = zip(*columns.values(), strict=True)
    return [
        {"epoch": epoch, **{n: v for n, v in zip(names, row, strict=True) if not math.isnan(v)}}
        for epoch, row in enumerate(rows, 1)
    ]


def panels(figure: Figure) -> dict[str, dict[str, list[float]]]:
    """Return panel title → curve label → values."""
    return {
        axes.get_title(): {line.get_label(): line.get_ydata().tolist() for line in axes.get_lines()}
        for axes in figure.axes
        if axes.get_lines()
    }


def test_comparable_losses_share_an_axis() -> None:
    drawn = panels(learning_curves(history(train__loss=[1.0, 0.5], validation__loss=[1.2, 0.8])))
    assert drawn == {"Loss": {"training": [1.0, 0.5], "validation": [1.2, 0.8]}}


def test_losses_of_different_size_have_an_axis_each() -> None:
    drawn = panels(learning_curves(history(train__loss=[5e4, 3e4], validation__loss=[0.5, 0.4]), unit="nats"))
    assert drawn == {"Training loss (nats)": {"training": [5e4, 3e4]}, "Validation loss": {"validation": [0.5, 0.4]}}


def test_parts_scores_and_rates_have_their_own_panels() -> None:
    rows = history(train__loss=[1, 2], train__kl=[3, 4], validation__dice=[0.5, 0.6], rate__theta=[1e-3, 1e-4])
    drawn = panels(learning_curves(rows))
    assert drawn["Parts of the loss"] == {"kl": [3, 4]}
    assert drawn["Validation scores"] == {"dice": [0.5, 0.6]}
    assert drawn["Learning rate"] == {"theta": [1e-3, 1e-4]}


def test_an_epoch_without_validation_is_skipped_and_not_drawn_as_zero() -> None:
    figure = learning_curves(history(train__loss=[1, 2, 3], validation__dice=[math.nan, 0.6, math.nan]))
    line = figure.axes[1].get_lines()[0]
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([2], [0.6])


def test_parts_that_are_zero_and_weights_that_are_constant_are_left_out() -> None:
    rows = history(train__loss=[1, 2], train__kl=[3, 4], train__kl_explicit=[0, 0], train__kl_weight=[1, 1])
    assert "kl_explicit" not in panels(learning_curves(rows))["Parts of the loss"]
    assert "Weights in the loss" not in panels(learning_curves(rows))


def test_a_weight_that_warms_up_is_drawn_apart_from_the_nats() -> None:
    drawn = panels(learning_curves(history(train__loss=[1, 2], train__kl=[3, 4], train__kl_weight=[0.5, 1])))
    assert drawn["Parts of the loss"] == {"kl": [3, 4]}
    assert drawn["Weights in the loss"] == {"kl_weight": [0.5, 1]}


@pytest.mark.parametrize(
    ("values", "scale"), [([1.0, 2.0], "linear"), ([1.0, 1e-4], "log"), ([-1e5, 1.0], "symlog"), ([0.0, 1.0], "linear")]
)
def test_the_scale_follows_the_range(values: list[float], scale: str) -> None:
    assert learning_curves(history(train__loss=values)).axes[0].get_yscale() == scale


def test_a_score_that_stays_zero_is_drawn() -> None:
    drawn = panels(learning_curves(history(train__loss=[1, 2], validation__dice=[0.0, 0.0])))
    assert drawn["Validation scores"] == {"dice": [0.0, 0.0]}


@pytest.mark.parametrize("rows", [[], [{"epoch": 1, "seconds": 2.0}]])
def test_a_history_without_anything_to_draw_is_refused(rows: list[dict[str, float]]) -> None:
    with pytest.raises(ConfigError, match=f"{len(rows)} epoch"):
        learning_curves(rows)
