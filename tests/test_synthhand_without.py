"""What can be left out of a rendering."""

import cv2
import numpy as np
import pytest

from handpose_lib.synthhand import render_hand
from handpose_lib.synthhand.asset import FOREARM, FOREARM_DISTAL, UPPER_ARM, load_asset


def test_without_the_forearm_the_labels_stay_and_the_arm_goes():
    whole, cut = (render_hand(5, 1, versions=["gs"], without=without) for without in ((), ("forearm",)))
    np.testing.assert_array_equal(whole.scene.uv, cut.scene.uv)
    asset = load_asset()
    arm = np.isin(asset.face_bone, (FOREARM, FOREARM_DISTAL, UPPER_ARM)).sum()
    assert arm > 100 and cut.mask.sum() < 0.9 * whole.mask.sum()
    x, y = np.rint(cut.scene.uv).astype(int).T
    assert (cut.mask[y, x] > 0).mean() > 0.9


def test_without_lighting_the_skin_is_even():
    ratios = []
    for index in range(12):
        spread = []
        for without in (("forearm",), ("forearm", "lighting")):
            hand = render_hand(index, 1, image_size=112, versions=["gs"], without=without)
            skin = cv2.GaussianBlur(hand.images["gs"], (0, 0), 1.5)[hand.mask > 250].astype(float)
            spread.append((skin.std(0) / skin.mean(0)).mean())
        if not hand.scene.props:  # a thing in the hand may have any colours
            ratios.append(spread[1] / spread[0])
    assert len(ratios) >= 4 and np.median(ratios) < 0.8 and max(ratios) < 0.9


def test_without_photographs_no_photograph_is_opened(monkeypatch):
    from handpose_lib.synthhand import backdrop

    opened = []
    photographs = backdrop._photographs
    monkeypatch.setattr(backdrop, "_photographs", lambda: (opened.append(1), photographs())[1])
    for index in range(6):
        render_hand(index, 1, image_size=64, versions=["hom", "auto"], without=["photographs"])
    assert not opened
    for index in range(6):
        render_hand(index, 1, image_size=64, versions=["hom", "auto"])
    assert opened


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="without thumb: choose from forearm, lighting, photographs"):
        render_hand(0, without=["thumb"])
