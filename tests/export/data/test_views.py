"""Views of an image: crops that depend on the seed and the image alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from batchcap_export.data.views import WHOLE, make_views


def test_views_are_crops_of_the_image_and_repeat() -> None:
    chosen = make_views(5, 4, seed=9)
    assert chosen == make_views(5, 4, seed=9) != make_views(6, 4, seed=9)
    assert chosen[0] == WHOLE
    assert [view.mirrored for view in chosen] == [False, True, False, True]
    image = np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8)
    for view in chosen[1:]:
        assert 0 <= view.left < view.right <= 1
        assert 0 <= view.top < view.bottom <= 1
        assert (view.right - view.left) * (view.bottom - view.top) >= 0.3
        assert view.render(image, 16, 12).shape == (16, 12, 3)
    plain = replace(chosen[1], mirrored=False).render(image, 16, 12)
    np.testing.assert_array_equal(chosen[1].render(image, 16, 12), plain[:, ::-1])
