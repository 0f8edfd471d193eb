// Where a hand is in a picture: handpose_lib/predict.py's HandPosePredictor, step by step.

import { cut } from "./cut.js";
import { decode } from "./decode.js";
import { apply, cropMap, handDirection, inverse, mean } from "./geometry.js";

/** Looks at pictures with the networks that `facts` describes.
 *
 * A look is one square through a network. Its answer is {keypoints, confidence, heatmaps, square, map, size}:
 * keypoints in px of the picture, heatmaps {values, side} and the square's pixels for whoever draws them.
 */
export class Predictor {
  /** @param facts what models/facts.json says. @param networks by role, {run(squares) -> heatmaps}. */
  constructor(facts, networks) {
    this.facts = facts;
    this.networks = networks;
    this.small = false; // whether hands are followed in small squares, by the network "follower"
  }

  /** The hand anywhere in a picture: the finder says roughly where, then the large network looks closer.
   *
   * Where there is no finder, or what it found does not look like a hand, the large network looks at the whole first.
   */
  async search(picture) {
    const { passes, mirrored, lost } = this.facts.search;
    let best = null;
    if (this.networks.finder) {
      const rough = await this.whole("finder", picture);
      const first = await this.look("landmark", picture, this.around(rough.keypoints), mirrored && passes <= 2);
      best = await this.closer(picture, first, passes - 2);
      if (mean(best.confidence) >= lost) return best;
    }
    const again = await this.closer(picture, await this.firstLook(picture), passes - 1);
    return !best || mean(again.confidence) > mean(best.confidence) ? again : best;
  }

  /** Looks again, so many times, at squares around what was found; the last time at the mirror image too. */
  async closer(picture, found, looks) {
    const { closer: share, mirrored } = this.facts.search;
    let best = found;
    for (let number = 1; number <= looks; number += 1) {
      const closer = await this.look("landmark", picture, this.around(best.keypoints), mirrored && number === looks);
      // Where a closer look is much less sure than the one before, the one before stands.
      if (mean(closer.confidence) > share * mean(best.confidence)) best = closer;
    }
    return best;
  }

  /** One look around where the hand was a moment ago, closer than the others. */
  async follow(picture, keypoints) {
    const { networks: { follower }, tracking } = this.facts;
    if (this.small) return this.look("follower", picture, this.around(keypoints, follower.crop, "follower"));
    return this.look("landmark", picture, this.around(keypoints, tracking.crop));
  }

  /** The whole picture, turned as `turns` says what points up; the turn that looks surest stands. */
  async firstLook(picture) {
    const { turns, mirrored, passes } = this.facts.search;
    let best = null;
    for (const up of turns) {
      const seen = await this.whole("landmark", picture, up, mirrored && passes === 1);
      if (!best || mean(seen.confidence) > mean(best.confidence)) best = seen;
    }
    return best;
  }

  /** One look at the whole picture. */
  async whole(role, picture, up = [0, -1], mirrored = false) {
    const corners = [[-0.5, -0.5], [picture.width - 0.5, picture.height - 0.5]];
    return this.look(role, picture, cropMap(corners, 1, this.facts.networks[role].image_size, up), mirrored);
  }

  /** The map to a network's square around keypoints, which the hand fills to `share`. */
  around(keypoints, share = this.facts.networks.landmark.crop, role = "landmark") {
    const { image_size: size, upright } = this.facts.networks[role];
    return cropMap(keypoints, share, size, upright ? handDirection(keypoints) : [0, -1], this.facts.search.smallest_box);
  }

  /** One look; with `mirrored`, at the square's mirror image too, and the mean of both heatmaps is decoded. */
  async look(role, picture, map, mirrored = false) {
    const { image_size: size } = this.facts.networks[role];
    const square = cut(picture, map, size);
    let heatmaps = await this.networks[role].run(mirrored ? [square, mirrorImage(square, size)] : [square]);
    if (mirrored) heatmaps = meanWithMirrored(heatmaps);
    const { keypoints, confidence } = decode(heatmaps, this.facts.networks[role], this.facts);
    const back = inverse(map);
    return { keypoints: keypoints.map((point) => apply(back, point)), confidence, heatmaps, square, map, size };
  }
}

function mirrorImage(square, size) {
  const mirrored = new Uint8Array(square.length);
  for (let row = 0; row < size; row += 1) {
    for (let column = 0; column < size; column += 1) {
      const [from, to] = [(row * size + column) * 3, (row * size + size - 1 - column) * 3];
      mirrored[to] = square[from];
      mirrored[to + 1] = square[from + 1];
      mirrored[to + 2] = square[from + 2];
    }
  }
  return mirrored;
}

/** The mean of one square's heatmaps and those of its mirror image, which follow them. */
function meanWithMirrored({ values, side }) {
  const half = values.length / 2;
  const result = new Float32Array(half);
  for (let row = 0; row < half; row += side) {
    for (let column = 0; column < side; column += 1) {
      result[row + column] = (values[row + column] + values[half + row + side - 1 - column]) / 2;
    }
  }
  return { values: result, side };
}
