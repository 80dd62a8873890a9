"""Do several points, and a box, say what one point cannot? And are contradictions refused?"""

from __future__ import annotations

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax.boundary.evidence import NOTHING
from aistat_jax.boundary.finders import find_targets
from aistat_jax.boundary.hints import BOX_OUT, SLIP, Hints, clicks_on, hints_of
from aistat_jax.data.balls import Ball, image_of_balls
from aistat_jax.space.grid import Grid

PAIR = Ball((39.0, 60.0, 30.0), 13.0, 6.0), Ball((67.0, 60.0, 30.0), 13.0, 6.0)
CENTRE, OTHER = PAIR[0].centre, PAIR[1].centre
NONE = np.zeros((0, 3))


@pytest.fixture(scope="module")
def pair() -> aj.Image:
    return image_of_balls(PAIR, seed=0)


def cube(low: int, high: int) -> np.ndarray:
    mask = np.zeros((1, 20, 20, 20), dtype=bool)
    mask[0, low:high, low:high, low:high] = True
    return mask


def test_a_region_is_weighed_by_what_it_holds_and_leaves_out():
    grid = Grid(np.diag([2.0, 2.0, 2.0, 1.0]), (20, 20, 20))
    masks = np.concatenate([cube(6, 14), cube(2, 18)])
    box = tuple(slice(0, 20) for _ in range(3))
    centre, far = np.array([[20.0, 20.0, 20.0]]), np.array([[6.0, 6.0, 6.0]])
    for hints, better in (
        (Hints(np.concatenate([centre, far]), NONE, NONE), 1),
        (Hints(centre, far, NONE), 0),
    ):
        log, obeys = hints.weigh(masks, box, grid)
        assert obeys.tolist() == [better == 0, better == 1]
        assert log[better] - log[1 - better] == pytest.approx(np.log((1 - SLIP) / SLIP))
    edge, _ = Hints(centre, NONE, np.array([[12.0, 20.0, 20.0]])).weigh(masks, box, grid)
    assert edge[0] - edge[1] > 1.0
    drawn = Hints(NONE, NONE, NONE, np.array([[11.0, 11.0, 11.0], [27.0, 27.0, 27.0]]))
    log, obeys = drawn.weigh(masks, box, grid)
    assert obeys.tolist() == [True, False]
    assert log[0] - log[1] > 5.0
    assert (masks[1].sum() - masks[0].sum()) / masks[1].sum() > BOX_OUT


def test_a_point_outside_parts_what_touches(pair):
    """The region is then the ball that was meant; one point (the control) takes both."""
    (one,) = find_targets(pair, point_mm=CENTRE, slices="point")
    (two,) = find_targets(pair, point_mm=[CENTRE], outside_mm=OTHER, slices="point")
    assert np.linalg.norm(one.centre - CENTRE[:2]) > 5.0
    assert np.linalg.norm(two.centre - CENTRE[:2]) < 4.0
    assert two.radius == pytest.approx(13.0, rel=0.15)


def test_a_box_parts_what_touches(pair):
    box = [(24.0, 45.0, 15.0), (54.0, 75.0, 45.0)]
    for point in (None, CENTRE):
        found = find_targets(pair, point_mm=point, box_mm=box, slices="all")
        middle = found["z008"] if "z008" in [t.id for t in found] else found[len(found) // 2]
        assert np.linalg.norm(middle.centre - CENTRE[:2]) < 4.0
        assert middle.radius == pytest.approx(13.0, rel=0.2)


def test_a_box_that_no_reading_keeps_to_is_filled():
    places = np.moveaxis(np.indices((60, 60, 1)), 0, -1)[..., :2]
    disc = np.linalg.norm(places - 30.0, axis=-1) < 8.0
    image = aj.Image.from_arrays(CT=np.where(disc, 9.0, 1.0), spacing_mm=None)
    (found,) = find_targets(image, box_mm=[(26, 25, 0), (34, 35, 0)])
    assert found.radius == pytest.approx(np.sqrt(4 * 5), rel=0.1)
    (whole,) = find_targets(image, point_mm=(30, 30, 0))
    assert whole.radius == pytest.approx(8.0, rel=0.05)


def test_points_are_evidence_of_the_slice_that_they_lie_in(pair):
    edge = (26.0, 60.0, 28.0)
    found = find_targets(pair, point_mm=CENTRE, outside_mm=OTHER, edge_mm=edge)
    kinds = {(name, kind) for name, kind, _ in found.clicks}
    assert ("z007", "edge") in kinds
    assert len({name for name, _ in kinds}) <= 2
    told = {target.id: clicks_on(found, target) is not NOTHING for target in found}
    assert told == {target.id: target.id in {name for name, _ in kinds} for target in found}
    assert set(told.values()) == {True, False}
    surface = find_targets(pair, point_mm=CENTRE, outside_mm=OTHER, edge_mm=edge, dims=3)
    assert {point for *_, point in surface.clicks} == {CENTRE, OTHER, edge}
    assert find_targets(pair, point_mm=CENTRE, slices="point").clicks == ()


@pytest.mark.slow
def test_an_edge_draws_the_contour(pair):
    """The boundary passes nearer to a point said to be on it than without (the control)."""
    edge = np.array([24.0, 60.0, 28.0])
    case = {}
    for name, more in (("with", {"edge_mm": edge}), ("without", {})):
        settings = aj.Settings(draws=200)
        case[name] = aj.contour(
            pair, point_mm=CENTRE, outside_mm=OTHER, slices=[7], settings=settings, **more
        )
    away = {}
    for name, one in case.items():
        curve = one[0].chart.surface(one[0].posterior.estimate)
        away[name] = float(curve.distance_to(edge[None, :2])[0])
    assert away["with"] < 0.5 * away["without"]


def test_points_far_apart_are_doubted(pair):
    """What holds both a lesion and its background is no lesion."""
    (found,) = find_targets(pair, point_mm=[CENTRE, (5.0, 5.0, 30.0)], slices="point")
    assert found.doubts


def horseshoe() -> aj.Image:
    """Two arms and a bow, in a PET of some depth."""
    points = Grid(np.diag([3.0, 3.0, 4.0, 1.0]), (30, 30, 12)).points()
    x, y = points[..., 0] - 43.0, points[..., 1] - 36.0
    ring = np.abs(np.hypot(x, y) - 22.0) < 7.0
    bent = ring & (y > 0) | ((np.abs(np.abs(x) - 22.0) < 7.0) & (y <= 0) & (y > -22.0))
    values = np.where(bent & (np.abs(points[..., 2] - 22.0) < 14.0), 8.0, 1.0)
    return aj.Image.from_arrays(PT=values, spacing_mm=(3.0, 3.0, 4.0))


def test_where_no_star_holds_all_points_offsets_do():
    image, arms = horseshoe(), [(21.0, 24.0, 24.0), (66.0, 24.0, 24.0)]
    with pytest.raises(InputError, match='no star holds all points.*chart="offset"'):
        find_targets(image, point_mm=arms, slices="point")
    found = find_targets(image, point_mm=arms, slices="point", chart="auto")
    assert [chart for _, chart, _ in found.charts] == ["offset"]
    assert found[0].link != "log"
    assert find_targets(image, point_mm=arms[:1], slices="point")  # the control: one point


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"point_mm": CENTRE, "outside_mm": CENTRE}, "said to be inside and outside"),
        ({"point_mm": CENTRE, "edge_mm": (39.2, 60.1, 30.5)}, "said to be inside and on the edge"),
        ({"point_mm": [(35.0, 60.0, 30.0), (46.0, 60.0, 30.0)], "outside_mm": (40.0, 60.0, 30.0)},
         "no reading of the image holds .* and leaves out"),
        ({"point_mm": CENTRE, "outside_mm": (500.0, 0.0, 0.0)}, "lies outside channel PT"),
        ({"point_mm": CENTRE, "edge_mm": (1.0, 2.0)}, "three finite coordinates"),
        ({"outside_mm": CENTRE}, "say more of what lies at `point_mm`"),
        ({"box_mm": [(24, 45, 15), (54, 45, 45)]}, "has no volume"),
        ({"box_mm": [(-24, 45, 15), (54, 75, 45)]}, "reaches out of channel PT"),
        ({"box_mm": [(0, 0, 0), (100, 110, 58)]}, "of the image; draw it closely"),
        ({"box_mm": [(24, 45, 15), (54, 75)]}, "two corners"),
        ({"box_mm": [(24, 45, 15), (54, 75, 45)], "radius_mm": 9.0}, "pass these two alone"),
        ({"point_mm": [CENTRE, OTHER], "radius_mm": 9.0}, "pass these two alone"),
        ({"point_mm": CENTRE, "edge_mm": (26.0, 60.0, 28.0), "threshold": 3.0}, "drop them"),
    ],
)  # fmt: skip
def test_contradictions_are_refused_in_a_sentence(pair, given, words):
    with pytest.raises(InputError, match=words) as refused:
        find_targets(pair, slices="point", **given)
    assert "\n" not in str(refused.value)
    assert "--" not in str(refused.value)


def test_in_a_picture_points_choose_the_level():
    """Of a slice without spacing too: two lesions that only a low level joins."""
    places = np.moveaxis(np.indices((60, 60, 1)), 0, -1)
    peaks = [np.exp(-np.square(places[..., :2] - c).sum(-1) / 72.0) for c in ((22, 30), (40, 30))]
    image = aj.Image.from_arrays(CT=10 * np.max(peaks, axis=0), spacing_mm=None)
    (one,) = find_targets(image, point_mm=(22, 30, 0), outside_mm=(40, 30, 0))
    (two,) = find_targets(image, point_mm=[(22, 30, 0), (40, 30, 0)])
    assert two.radius > 1.2 * one.radius
    assert abs(one.centre[0] - 22) < 3 < abs(two.centre[0] - 22)
    (drawn,) = find_targets(image, box_mm=[(12, 20, 0), (31, 40, 0)])
    assert abs(drawn.centre[0] - 22) < 3


def test_what_says_no_more_than_a_point_changes_nothing(pair):
    hints = hints_of(pair.primary, [CENTRE])
    assert hints is not None
    assert not hints.more
    one, same = (find_targets(pair, point_mm=p, slices="point")[0] for p in (CENTRE, [CENTRE]))
    assert np.array_equal(one.outline.points, same.outline.points)


@pytest.mark.parametrize("first", [0, 1])
def test_the_order_of_points_changes_nothing(first):
    """A ball whose hot core a cold wall parts from the rest, pointed at in core and rest."""
    side = np.arange(40) * 4.0
    middle = np.full(3, 80.0)
    places = np.stack(np.meshgrid(side, side, side, indexing="ij"), axis=-1)
    away = np.linalg.norm(places - middle, axis=-1)
    values = np.where(away < 40, 6.0, 0.5)
    values[(away > 14) & (away < 20)] = 3.0
    values[away <= 11] = 12.0
    image = aj.Image.from_arrays(spacing_mm=4.0, PT=values)
    points = np.array([middle, middle + np.array([0, 0, 33])])
    found = aj.find_targets(image, point_mm=points[[first, 1 - first]], dims=2)
    assert max(each.radius for each in found) > 30


def test_a_thin_box_is_refused_in_words():
    image = aj.Image.from_arrays(spacing_mm=4.0, PT=np.pad(np.full((10, 10, 10), 5.0), 15) + 0.1)
    box = np.array([[78.5, 78.5, 78.5], [79.5, 79.5, 79.5]])
    with pytest.raises(aj.InputError):
        aj.find_targets(image, box_mm=box, dims=3)


def ct_of(shape=(120, 120, 100), rod: bool = False) -> aj.Image:
    """A bright ball of radius 24 mm in a large CT; or a rod through the middle of all of it."""
    away = [(np.arange(n) - n / 2.0) for n in shape]
    along = away if not rod else [away[0], away[1], np.zeros(shape[2])]
    square = sum(np.square(a) for a in np.meshgrid(*along, indexing="ij", sparse=True))
    values = 20.0 + 60.0 / (1 + np.exp(np.sqrt(square) - 12.0))
    noise = np.random.default_rng(0).normal(0, 4, shape)
    return aj.Image.from_arrays(spacing_mm=2.0, CT=values + noise)


def found_with_peak(image: aj.Image, **asked) -> tuple[aj.Target, int]:
    """The target in the slice of the point, and the most bytes that were in use meanwhile."""
    import tracemalloc

    tracemalloc.start()
    try:
        (one,) = find_targets(image, slices="point", **asked)
        return one, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_of_a_large_image_what_lies_about_the_box_is_looked_at():
    image = ct_of()
    middle = image.primary.grid.to_world(np.array(image.primary.values.shape) / 2.0)
    one, drawn = found_with_peak(image, box_mm=np.stack([middle - 28.0, middle + 28.0]))
    assert np.linalg.norm(one.centre - middle[:2]) < 2
    assert one.radius == pytest.approx(24.0, rel=0.1)
    _, pointed = found_with_peak(image, point_mm=middle)
    assert pointed > 3 * image.primary.values.nbytes  # the control: all is looked at
    assert drawn < 0.75 * pointed


def test_what_goes_on_beyond_all_that_is_looked_at_has_left_the_box():
    image = ct_of((64, 64, 140), rod=True)
    middle = image.primary.grid.to_world(np.array(image.primary.values.shape) / 2.0)
    found = find_targets(image, box_mm=np.stack([middle - 28.0, middle + 28.0]))
    assert any("no reading of the image keeps to the box" in each for each in found[0].doubts)
    assert len(found) < 40
