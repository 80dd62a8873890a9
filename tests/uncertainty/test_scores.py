"""Are label maps scored as by hand, and do intervals hold the truth as often as they say?"""

from __future__ import annotations

import math

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax.uncertainty import scores
from aistat_jax.uncertainty.scores import bootstrap_mean, score_case, summarise
from aistat_jax.uncertainty.surface_distance import surface_distances

LABELS = ("tumour", "node")


def boxes(first: int, second: int, shape=(20, 12, 12)) -> np.ndarray:
    """Label 1 in a box of 6 x 6 x 6 from `first` on along the first axis, label 2 from `second`."""
    labels = np.zeros(shape, np.int32)
    labels[first : first + 6, 3:9, 3:9] = 1
    if second >= 0:
        labels[second : second + 2, 0:2, 0:2] = 2
    return labels


def test_shifted_boxes_have_the_scores_of_hand():
    """One voxel of 3 mm apart: 5 of 6 layers in common, and both far faces are 3 mm away."""
    tumour, _ = score_case(
        boxes(5, -1), boxes(6, 0), (3.0, 1.0, 2.0), LABELS, tolerance=2.0, case="a", patient="p"
    )
    assert tumour.dice == pytest.approx(2 * 5 / 12)
    assert (tumour.predicted_volume, tumour.volume_error) == (216 * 6.0, 0.0)
    assert tumour.hd95 == pytest.approx(3.0)
    assert 0 < tumour.assd < 1.5
    assert 0.5 < tumour.surface_dice < 1
    close = score_case(boxes(5, 0), boxes(6, 0), (3.0, 1.0, 2.0), LABELS, tolerance=3.0)
    assert close[0].surface_dice == 1.0
    # negative control: another spacing is another distance
    wrong = score_case(boxes(5, 0), boxes(6, 0), (1.0, 1.0, 2.0), LABELS, tolerance=2.0)
    assert wrong[0].hd95 == pytest.approx(1.0)
    assert (tumour.case, tumour.patient, tumour.label) == ("a", "p", "tumour")


def test_one_rule_for_labels_that_are_not_there():
    empty = np.zeros((20, 12, 12), np.int32)
    (_, missed), (_, invented) = (
        score_case(a, b, (1.0, 1.0, 1.0), LABELS, tolerance=1.0, case=name)
        for a, b, name in ((boxes(5, -1), boxes(5, 0), "m"), (boxes(5, 0), boxes(5, -1), "i"))
    )
    for score in (missed, invented):
        assert (score.dice, score.surface_dice) == (0.0, 0.0)
        assert math.isnan(score.hd95)
        assert math.isnan(score.assd)
    assert missed.volume_error == -1.0
    assert math.isnan(invented.volume_error)
    absent = score_case(empty, empty, (1.0, 1.0, 1.0), LABELS, tolerance=1.0, case="e")
    assert all(math.isnan(getattr(s, name)) for s in absent for name in ("dice", "surface_dice"))
    (found,) = summarise([missed, invented, absent[1]])
    assert (found.cases, found.absent, found.missed, found.invented) == (3, 1, 1, 1)
    assert (found.means["dice"].value, found.means["dice"].count) == (0.0, 2)
    assert found.means["hd95"].count == 0
    assert math.isnan(found.means["hd95"].value)


def test_a_slice_alone_is_compared_by_its_outline():
    """Two squares of 10 x 10, 3 pixels apart: the far sides of each are 3 away."""
    a, b = np.zeros((2, 20, 20, 1), bool)
    a[3:13, 4:14], b[6:16, 4:14] = True, True
    flat = surface_distances(a[..., 0], b[..., 0], (1.0, 1.0), unit="px")
    assert (flat.unit, flat.hausdorff) == ("px", 3.0)
    # corners cut off: a corner stands for half the diagonal of a pixel instead of one side
    assert flat.a_weight.sum() == pytest.approx(40 - 4 * (1 - math.sqrt(0.5)))
    # as a volume, the faces above and below are near each other and flatter the comparison
    assert surface_distances(a, b, (1.0, 1.0, 1.0)).assd < flat.assd
    (score,) = score_case(a * 1, b * 1, (1.0, 1.0, 1.0), ["disc"], tolerance=1.0, unit="px")
    assert (score.assd, score.hd95) == (flat.assd, flat.hd95)
    with pytest.raises(InputError, match="use hd95, or give"):
        _ = flat.hd95_mm
    volume = surface_distances(np.tile(a, 4), np.tile(b, 4), (1.0, 1.0, 2.0))
    assert volume.hausdorff_mm == 3.0


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="case x: label maps of shape .* differ; resample"):
        score_case(boxes(5, 0), boxes(5, 0)[1:], (1.0, 1.0, 1.0), LABELS, tolerance=1.0, case="x")
    for tolerance in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="must be a positive length"):
            score_case(boxes(5, 0), boxes(5, 0), (1.0,) * 3, LABELS, tolerance=tolerance)
    with pytest.raises(InputError, match="level"):
        bootstrap_mean([1.0], ["a"], level=1.0)


# ---- the scores of challenges


def test_the_aggregated_dice_is_that_of_hand():
    """HECKTOR: 2 (5 + 0 + 0) layers over (6 + 6) + (0 + 6) + (0 + 0), not a mean of Dices."""
    empty = np.zeros((20, 12, 12), np.int32)
    pairs = (boxes(5, -1), boxes(6, -1)), (empty, boxes(5, -1)), (empty, empty)
    scores = [
        score_case(a, b, (3.0, 1.0, 2.0), LABELS, tolerance=1.0, case=str(n))[0]
        for n, (a, b) in enumerate(pairs)
    ]
    (found,) = summarise(scores)
    assert found.aggregated_dice.value == pytest.approx(2 * 5 / 18)
    assert found.means["dice"].value == pytest.approx((10 / 12 + 0) / 2)  # negative control
    # volumes count, not voxels: a case of voxels twice as large weighs twice as much
    (large,) = score_case(empty, boxes(5, -1), (6.0, 1.0, 2.0), LABELS[:1], tolerance=1.0, case="1")
    (found,) = summarise([scores[0], large])
    assert found.aggregated_dice.value == pytest.approx(2 * 5 / (12 + 12))
    (nothing,) = summarise([scores[2]])
    assert math.isnan(nothing.aggregated_dice.value)


def test_false_volumes_are_of_whole_pieces():
    """autoPET: a piece that the other map touches anywhere counts for nothing."""
    predicted, reference = np.zeros((2, 12, 12, 12), np.int32)
    reference[1:4, 1:4, 1:4] = 1  # 27 voxels, touched by a prediction that is mostly beside it
    predicted[3:6, 3:6, 3:6] = 1
    predicted[8, 8, 8] = predicted[9, 9, 8] = 1  # over an edge: one piece of two, that is invented
    reference[8:10, 1, 1] = 1  # a piece of two that is missed
    (score,) = score_case(predicted, reference, (2.0, 1.0, 0.5), ["lesion"], tolerance=1.0)
    assert (score.false_positive_volume, score.false_negative_volume) == (2.0, 2.0)
    # negative controls: over a corner pieces are apart, over an edge they are not
    predicted[:] = 0
    predicted[3, 3, 3] = predicted[4, 4, 4] = predicted[5, 5, 4] = 1
    (score,) = score_case(predicted, reference, (2.0, 1.0, 0.5), ["lesion"], tolerance=1.0)
    assert (score.false_positive_volume, score.false_negative_volume) == (2.0, 2.0)
    predicted[4, 3, 4] = 1  # which joins them by faces and edges
    (score,) = score_case(predicted, reference, (2.0, 1.0, 0.5), ["lesion"], tolerance=1.0)
    assert (score.false_positive_volume, score.false_negative_volume) == (0.0, 2.0)


def test_false_volumes_without_a_lesion():
    """autoPET: of a case without lesions only the false positives count."""
    empty = np.zeros((20, 12, 12), np.int32)
    missed, invented, absent = (
        score_case(a, b, (1.0, 1.0, 1.0), LABELS[:1], tolerance=1.0, case=name)[0]
        for a, b, name in (
            (empty, boxes(5, -1), "m"), (boxes(5, -1), empty, "i"), (empty, empty, "a"),
        )
    )  # fmt: skip
    assert (missed.false_positive_volume, missed.false_negative_volume) == (0.0, 216.0)
    assert invented.false_positive_volume == 216.0
    assert absent.false_positive_volume == 0.0
    assert math.isnan(invented.false_negative_volume)
    assert math.isnan(absent.false_negative_volume)
    (found,) = summarise([missed, invented, absent])
    means = found.means["false_positive_volume"], found.means["false_negative_volume"]
    assert [(mean.value, mean.count) for mean in means] == [(72.0, 3), (216.0, 1)]


# ---- intervals


def test_an_interval_is_that_of_the_resampled_mean():
    """Two patients: the mean is that of both, of one alone or of the other, 1/2, 1/4, 1/4."""
    found = bootstrap_mean([0.2, 0.8], ["a", "b"])
    assert (found.value, found.low, found.high, found.count) == (0.5, 0.2, 0.8, 2)
    assert bootstrap_mean([0.2, 0.8], ["a", "b"], level=0.4).low == 0.5
    assert bootstrap_mean([0.2, 0.8], ["a", "b"], seed=3) == found
    alone = bootstrap_mean([0.2, 0.8], ["a", "a"])
    assert alone.value == 0.5
    assert math.isnan(alone.low)


def coverage(rng: np.random.Generator, by_patient: bool) -> float:
    """Of 200 studies with 25 patients of 3 cases each, the share whose interval holds the truth.

    Patients differ with sd 0.1, the cases of one with sd 0.02, about a mean of 0.7.
    """
    held = 0
    for _ in range(200):
        patients = np.repeat(np.arange(25), 3)
        values = 0.7 + 0.1 * rng.standard_normal(25)[patients] + 0.02 * rng.standard_normal(75)
        names = patients if by_patient else np.arange(75)
        found = bootstrap_mean(values.tolist(), [str(n) for n in names])
        held += found.low <= 0.7 <= found.high
    return held / 200


def test_intervals_over_patients_cover_and_over_cases_do_not(rng, monkeypatch):
    """True coverage is about 0.93; 0.88 is over 2.3 sd below: under one alarm in 100 is false."""
    monkeypatch.setattr(scores, "RESAMPLES", 1000)  # of 400 intervals, none of which is reported
    assert coverage(rng, by_patient=True) > 0.88
    # negative control: taking every case for a patient of its own is too sure of itself
    assert coverage(rng, by_patient=False) < 0.88
