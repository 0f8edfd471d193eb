"""Wrong answers to chapter 07's exercises, as a learner would write them; each must earn exactly its hint."""

PCK = """\
def my_pck(errors, target, visible, threshold):
    sides = target.amax(1) - target.amin(1)
    {body}
"""

EPE = """\
def my_epe(pred, target, visible):
    distance = (pred - target).norm(dim=-1)
    {body}
"""

AUC = """\
def my_auc(errors, max_error):
    {body}
"""

BOOTSTRAP = """\
def my_bootstrap(hits, hand, drawn):
    {body}
"""

WRONG = {
    "check_pck": {
        "an error equal to the bound is a miss: is your comparison strict?": PCK.format(
            body="hit = (errors <= threshold * sides.amax(1)[:, None]).float()\n"
            "    return (hit * visible).sum(0) / visible.sum(0)"
        ),
        "you count keypoints that are not visible: they are neither hits nor misses": PCK.format(
            body="return (errors < threshold * sides.amax(1)[:, None]).float().mean(dim=0)"
        ),
        "you count the hits among the visible, but divide by all hands": PCK.format(
            body="hit = (errors < threshold * sides.amax(1)[:, None]) & visible\n    return hit.sum(0) / len(errors)"
        ),
        "that is a mean over the keypoints of each hand: take it over the hands": PCK.format(
            body="hit = (errors < threshold * sides.amax(1)[:, None]) & visible\n    return hit.sum(1) / visible.sum(1)"
        ),
        "that is one number: a share for each of the 21 keypoints is wanted": PCK.format(
            body="hit = errors / sides.amax(1)[:, None] < threshold\n    return hit[visible].float().mean()"
        ),
        "that is PCK by the diagonal of the box, not by its longer side": PCK.format(
            body="length = (sides**2).sum(1).sqrt()[:, None]\n"
            "    hit = (errors < threshold * length) & visible\n"
            "    return hit.sum(0) / visible.sum(0)"
        ),
        "that is PCK by the shorter side of the box": PCK.format(
            body="hit = (errors < threshold * sides.min(dim=1, keepdim=True).values) & visible\n"
            "    return hit.sum(0) / visible.sum(0)"
        ),
        "that is PCK by the width of the box: many hands are taller than wide": PCK.format(
            body="hit = (errors < threshold * sides[:, 0, None]) & visible\n    return hit.sum(0) / visible.sum(0)"
        ),
        "that is PCK by the height of the box: some hands are wider than tall": PCK.format(
            body="hit = (errors < threshold * sides[:, 1:]) & visible\n    return hit.sum(0) / visible.sum(0)"
        ),
        "that is PCK by the whole image, however large the hand is": PCK.format(
            body="hit = (errors < threshold * 224) & visible\n    return hit.sum(0) / visible.sum(0)"
        ),
        "each hand has a length of its own: you divide the errors of all hands by one": PCK.format(
            body="hit = (errors < threshold * sides.max()) & visible\n    return hit.sum(0) / visible.sum(0)"
        ),
        "your box holds the visible keypoints only: the length is that of the box of all 21": """\
def my_pck(errors, target, visible, threshold):
    shares = torch.where(visible, 1.0, 0.0)
    length = []
    for points, seen in zip(target, visible):
        low, high = points[seen].min(0).values, points[seen].max(0).values
        length.append((high - low).max())
    hit = (errors < threshold * torch.stack(length)[:, None]) & visible
    return hit.sum(0) / shares.sum(0)
""",
    },
    "check_epe": {
        "that is the error at 224 px: a distance shrinks with the image": EPE.format(
            body="return (distance * visible).sum(0) / visible.sum(0)"
        ),
        "your error grew, though the image of 128 px is the smaller one": EPE.format(
            body="return (distance * visible).sum(0) / visible.sum(0) * 224 / 128"
        ),
        "the half pixel belongs to positions: in the difference of two it drops out": EPE.format(
            body="distance = (distance + 0.5) * 128 / 224 - 0.5\n"
            "    return (distance * visible).sum(0) / visible.sum(0)"
        ),
        "you count keypoints that are not visible: leave them out": EPE.format(
            body="return distance.mean(0) * 128 / 224"
        ),
        "what is not visible counts as an error of 0 with you: divide by the number of those that are": EPE.format(
            body="distance[~visible] = 0\n    return distance.mean(0) * 128 / 224"
        ),
        "that is a mean over the keypoints of each hand: take it over the hands": EPE.format(
            body="return (distance * visible).sum(1) / visible.sum(1) * 128 / 224"
        ),
        "that adds the errors in x and in y: a distance is shorter than the way around the corner": EPE.format(
            body="distance = (pred - target).abs().sum(-1) * 128 / 224\n"
            "    return (distance * visible).sum(0) / visible.sum(0)"
        ),
        "that is the root of the mean square, which a few large errors rule: average the distances themselves": (
            EPE.format(
                body="square = ((pred - target) ** 2).sum(-1)\n"
                "    return ((square * visible).sum(0) / visible.sum(0)).sqrt() * 128 / 224"
            )
        ),
        "that is the length of the mean error, in which left and right cancel": EPE.format(
            body="mean = ((pred - target) * visible[..., None]).sum(0) / visible.sum(0)[:, None]\n"
            "    return mean.norm(dim=-1) * 128 / 224"
        ),
    },
    "check_auc": {
        "an error equal to the threshold is a miss here: compare strictly": AUC.format(
            body="return sum((errors <= max_error * i / 20).double().mean() for i in range(20)) / 20"
        ),
        "your thresholds start at 1/20: the first is 0, below which nothing can be": AUC.format(
            body="return sum((errors < max_error * i / 20).double().mean() for i in range(1, 21)) / 20"
        ),
        "you have 21 thresholds: the last is 19/20 of max_error": AUC.format(
            body="thresholds = torch.linspace(0, max_error, 21, dtype=torch.float64)\n"
            "    return torch.stack([(errors < t).double().mean() for t in thresholds]).mean()"
        ),
        "your twenty thresholds reach max_error, 1/19 of it apart: they are 0/20 to 19/20 of it": AUC.format(
            body="thresholds = torch.linspace(0, max_error, 20)\n"
            "    return torch.stack([(errors < t).double().mean() for t in thresholds]).mean().item()"
        ),
        "that is the trapezoidal rule: in this convention a perfect model scores 0.95, not more": AUC.format(
            body="thresholds = torch.linspace(0, max_error, 21, dtype=torch.float64)\n"
            "    shares = torch.stack([(errors < t).double().mean() for t in thresholds])\n"
            "    return torch.trapezoid(shares, thresholds).item() / max_error"
        ),
        "your thresholds end near 30 px whatever max_error is": AUC.format(
            body="return sum((errors < 1.5 * i).double().mean() for i in range(20)) / 20"
        ),
        "that is an area in pixels: it must not depend on the unit of the errors": AUC.format(
            body="shares = [(errors < max_error * i / 20).double().mean() for i in range(20)]\n"
            "    return sum(shares) * max_error / 20"
        ),
        "that is the sum of the twenty shares: take their mean": AUC.format(
            body="return sum((errors < max_error * i / 20).double().mean() for i in range(20))"
        ),
    },
    "check_bootstrap": {
        "you draw images: `drawn` holds hands, and a hand brings all of its images": BOOTSTRAP.format(
            body="return hits[drawn].mean(dim=1)"
        ),
        "you average the hands' means: an image of a hand with many images then weighs too little": BOOTSTRAP.format(
            body="means = torch.stack([hits[hand == h].mean() for h in range(drawn.shape[1])])\n"
            "    return means[drawn].mean(1)"
        ),
        "a hand that was drawn twice must count twice": BOOTSTRAP.format(
            body="return torch.stack([hits[torch.isin(hand, row)].mean() for row in drawn])"
        ),
        "you go down the columns: each row of `drawn` is one draw": BOOTSTRAP.format(
            body="return torch.stack([torch.cat([hits[hand == h] for h in column]).mean() for column in drawn.T])"
        ),
        "that is one number: a mean for each row of `drawn` is wanted": BOOTSTRAP.format(
            body="return torch.stack([torch.cat([hits[hand == h] for h in row]).mean() for row in drawn]).mean()"
        ),
        "that is the sum of the hits: divide by the number of images in the draw": BOOTSTRAP.format(
            body="return torch.stack([torch.cat([hits[hand == h] for h in row]).sum() for row in drawn])"
        ),
        "you divide by the number of all images: each draw has a number of its own": BOOTSTRAP.format(
            body="return torch.stack([torch.cat([hits[hand == h] for h in row]).sum() for row in drawn]) / len(hits)"
        ),
    },
}
