import torch
from torch.nn.functional import interpolate

from kdcam.data.sources.digit_scenes import (
    BOX_INK,
    DIGIT_SIDE,
    STROKES,
    Squares,
    clutter,
    enlarging,
    lay_over,
    on_canvas,
    random_squares,
    squares_apart,
    strokes,
    tight_boxes,
)
from kdcam.runtime.seeding import seeded_generator


def test_enlarging_equals_bicubic_interpolation_away_from_the_border():
    digit = torch.rand(1, 1, 8, 8, generator=seeded_generator(0))
    weights = enlarging(torch.tensor(0.0), torch.tensor(24.0), size=24, cells=8)
    # torch's bicubic has a = -0.75; with antialias it takes Pillow's -0.5
    expected = interpolate(digit, (24, 24), mode="bicubic", antialias=True)
    mine = weights @ digit @ weights.T
    torch.testing.assert_close(mine[..., 6:-6, 6:-6], expected[..., 6:-6, 6:-6], atol=1e-5, rtol=0)


def test_a_digit_stands_where_its_square_says():
    ink = torch.ones(1, 1, 8, 8)
    cover = on_canvas(ink, Squares(*(torch.tensor([[v]]) for v in (10.0, 20.0, 16.0))), size=48)
    assert tight_boxes(cover).tolist() == [[[10, 20, 26, 36]]]
    assert float(cover[0, 0, 28, 18]) == 1.0
    assert float(cover.sum()) > 200
    assert float(cover[0, 0, :16].sum()) == 0


def test_tight_boxes_by_hand():
    cover = torch.zeros(3, 6, 8)[:, :, :6]
    cover[0, 2, 3] = BOX_INK
    cover[1, 1:4, 2:6] = 1
    cover[1, 0, 0] = BOX_INK / 2
    boxes = tight_boxes(cover)
    assert boxes[:2].tolist() == [[3, 2, 4, 3], [2, 1, 6, 4]]
    assert bool(boxes[2].isnan().all())


def test_squares_lie_whole_on_the_canvas():
    for squares in (
        random_squares(500, 3, size=48, generator=seeded_generator(0)),
        squares_apart(500, 3, size=48, generator=seeded_generator(0)),
    ):
        assert float(squares.side.min()) >= DIGIT_SIDE[0] * 48
        assert float(squares.side.max()) <= DIGIT_SIDE[1] * 48
        for begin in (squares.left, squares.top):
            assert float(begin.min()) >= 0
            assert float((begin + squares.side).max()) <= 48


def overlap(squares):
    shared = torch.ones(len(squares.left))
    for begin in (squares.left, squares.top):
        end = begin + squares.side
        shared *= (end.amin(1) - begin.amax(1)).clamp(min=0)
    return shared


def test_squares_apart_overlap_far_less_than_random_ones():
    apart = overlap(squares_apart(500, 2, size=48, generator=seeded_generator(1)))
    anywhere = overlap(random_squares(500, 2, size=48, generator=seeded_generator(1)))
    assert float(apart.mean()) < 0.05 * float(anywhere.mean())


def test_strokes_and_clutter_stay_in_range():
    cover, glow = strokes(50, size=32, generator=seeded_generator(0))
    assert cover.shape == glow.shape == (50, 32, 32)
    assert float(cover.min()) >= 0
    assert float(cover.max()) <= 1
    assert bool((glow <= cover).all())
    assert 0.02 < float(cover.mean()) < 0.4
    assert STROKES[0] > 0
    canvas = clutter(50, size=32, generator=seeded_generator(0))
    assert 0.1 < float(canvas.mean()) < 0.5
    # as rough and as bright at the edge as in the middle
    assert abs(float(canvas[:, 0].mean()) - float(canvas[:, 16].mean())) < 0.05


def test_lay_over_blends_by_cover_and_later_layers_lie_on_top():
    canvas = torch.full((1, 1, 3), 0.2)
    cover = torch.tensor([[[[0.0, 0.5, 1.0]], [[0.0, 0.0, 1.0]]]])
    result = lay_over(canvas, cover, torch.tensor([[0.8, 0.6]]))
    torch.testing.assert_close(result, torch.tensor([[[0.2, 0.5, 0.6]]]))
