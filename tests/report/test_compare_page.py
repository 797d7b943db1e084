"""The page of a comparison: what is drawn, as values; then the page itself, in a browser."""

import json
import math

import pytest
from chromium import CHROMIUM, EACH_WINDOW, chromium, open_context

from hpsearch.analysis.importance import importances
from hpsearch.analysis.sampler_comparison import Comparison, Search
from hpsearch.config import Choice, FloatRange
from hpsearch.report.compare_figures import _curves_info, _finals_info, plot_curves
from hpsearch.report.compare_page import compare_page
from hpsearch.report.compare_plane import _planes_info, plot_plane
from hpsearch.space import draw_random, to_unit
from hpsearch.space.shifted_grid import draw_shifted_grid

PLANE = {"lr": FloatRange(1e-5, 1.0, log=True), "reg": FloatRange(1e-5, 1e5, log=True)}


def value(params):
    """High where lr is about 0.03; reg hardly matters, but explodes at its high end."""
    if params.get("reg", 0.0) > 1e3:
        return None
    return max(0.1, 0.95 - 4 * (to_unit(PLANE["lr"], params["lr"]) - 0.7) ** 2)


def compared(space=PLANE, num_repeats=3, name="compare", num_trials=9):
    draws = {"random": draw_random, "grid": draw_shifted_grid}
    searches = {}
    for sampler, draw in draws.items():
        drawn = [draw(space, num_trials, seed) for seed in range(num_repeats)]
        searches[sampler] = [
            Search(sampler, seed, tuple(points), tuple(value(point) for point in points))
            for seed, points in enumerate(drawn)
        ]
    pooled = [point for runs in searches.values() for search in runs for point in search.params]
    shares = importances(space, pooled, [value(point) or 0.1 for point in pooled])
    return Comparison(name, searches, space, num_trials, num_trials + 1, 3, 0.1, num_repeats, shares)


def test_curves_rise_from_a_guess_and_end_at_the_mean_of_the_finals():
    comparison = compared()
    info, finals = _curves_info(comparison), _finals_info(comparison)
    assert info.curves.keys() == {"random", "grid"}
    for column, curve in enumerate(info.curves.values()):
        means = [point.mean for point in curve]
        assert len(means) == 9
        assert means == sorted(means)
        assert means[0] >= 0.1
        assert means[-1] == pytest.approx(sum(row[column] for row in finals.rows) / 3)


def test_no_band_is_drawn_outside_what_an_accuracy_can_be_or_for_one_repeat():
    wide = plot_curves(_curves_info(compared(num_repeats=2)))
    bands = [trace for trace in wide.data if trace.fill == "toself"]
    assert len(bands) == 2
    assert all(0 <= y <= 1 for trace in bands for y in trace.y)
    single = plot_curves(_curves_info(compared(num_repeats=1)))
    assert [trace.fill for trace in single.data] == [None, None]


def test_the_important_parameter_lies_across_and_each_value_tried_has_a_line():
    random, grid = _planes_info(compared(), repeat=1)
    assert (random.x.param, random.y.param) == ("lr", "reg")
    assert random.search.repeat == grid.search.repeat == 1

    def lines(info, axis):
        stems = [trace for trace in plot_plane(info).data if trace.mode == "lines"]
        return sum(place is None for place in stems[axis].x)

    assert (lines(random, 0), lines(random, 1)) == (9, 9)
    assert (lines(grid, 0), lines(grid, 1)) == (3, 3)


def test_explosions_are_crosses_where_a_guess_stands():
    info = next(info for info in _planes_info(compared(), repeat=0) if None in info.search.values)
    assert any(value is not None for value in info.search.values)
    num_exploded = info.search.values.count(None)
    crosses = plot_plane(info).data[-1]
    assert crosses.marker.symbol == "x"
    assert len(crosses.x) == num_exploded
    assert info.value_range[0] < 0.1 < info.value_range[1] < 1.1


@pytest.mark.parametrize(
    "space",
    [
        {"lr": PLANE["lr"]},
        {"lr": PLANE["lr"], "model.activation": Choice(("relu", "tanh"))},
        {"lr": PLANE["lr"], "model.hidden": Choice(((50,), (100, 20))), "train.momentum": FloatRange(0.5, 0.9)},
    ],
)
def test_any_space_has_a_page(space):
    page = compare_page(compared(space, num_repeats=1))
    assert page.count('class="plot"') == 5 if len(space) > 1 else 4
    for param in space:
        assert f"values of {param}" in page


def test_a_hostile_name_stays_text():
    page = compare_page(compared(name="</script><img src=x onerror=alert(1)>"))
    assert "<img" not in page
    assert "&lt;img" in page


@pytest.mark.slow
def test_the_page_of_a_large_comparison_stays_small():
    page = compare_page(compared(num_repeats=12, num_trials=100))
    assert "first 10 of 12 repeats" in page
    assert len(page) < 8e6  # of which plotly.js 4.8 MB


def test_it_says_what_the_grid_cost_the_budget():
    page = compare_page(compared())
    assert "10 trials were asked for" in page
    assert "every sampler got 9" in page


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    with chromium() as browser:
        yield browser


@pytest.mark.slow
@pytest.mark.browser
@EACH_WINDOW
def test_it_opens_from_a_file_and_draws_every_figure(browser, tmp_path, scheme, width):
    file = tmp_path / "compare.html"
    file.write_text(compare_page(compared()), encoding="utf-8")
    context = open_context(browser, viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    for figure in page.locator("[data-figure]:visible").all():
        figure.scroll_into_view_if_needed()
        figure.locator(".main-svg").first.wait_for()
    page.get_by_role("button", name="repeat 2").click()
    shown = page.locator("#planes-2 [data-figure]")
    assert shown.count() == 2
    for figure in shown.all():
        figure.scroll_into_view_if_needed()
        figure.locator(".main-svg").first.wait_for()
        assert figure.locator(".point").count() > 9
    assert not page.locator("#planes-0").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(json.loads(background.replace("rgb(", "[").replace(")", "]"))) / 3
    assert (brightness > 128) == (scheme == "light")
    assert said == []
    assert asked == [file.as_uri()]
    context.close()


def test_the_value_of_this_file_has_one_important_parameter():
    assert math.isclose(value({"lr": 10**-1.5, "reg": 1.0}), 0.95)
    assert next(iter(compared(num_repeats=6).importances)) == "lr"
