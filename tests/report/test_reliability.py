"""The calibration curves that a figure shows."""

from pyro_dwp.report import reliability_diagram, save_figure


def test_each_structure_has_a_curve_through_its_points(tmp_path):
    curves = {
        "whole": {"probability": [0.1, 0.9], "frequency": [0.2, 0.7], "voxels": [1000, 10]},
        "core": {"probability": [0.3], "frequency": [0.3], "voxels": [5]},
    }
    figure = reliability_diagram(curves)
    above, below = figure.axes
    for name, line, counts in zip(curves, above.lines[1:], below.lines, strict=True):
        assert [list(line.get_xdata()), list(line.get_ydata())] == [*curves[name].values()][:2]
        assert list(counts.get_ydata()) == curves[name]["voxels"]
    assert [text.get_text() for text in above.get_legend().get_texts()] == ["whole", "core"]
    assert save_figure(figure, tmp_path / "a.png").stat().st_size > 0
