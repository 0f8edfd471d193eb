// Where a hand is in a picture: handpose_lib/predict.py's HandPosePredictor, step by step.

import { cut } from "./cut.js";
import { apply, cropMap, handDirection, inverse, mean } from "./geometry.js";

/** Looks at pictures with the networks that `facts` describes.
 *
 * A look is one square through a network. Its answer is {keypoints, confidence, heatmaps, square, map, size}:
 * keypoints in px of the picture, heatmaps {values, side} and the square's pixels for whoever draws them.
 */
export class Predictor {
  /** @param facts what models/facts.json says. @param networks by role, {run(squares), decode(heatmaps)}. */
  constructor(facts, networks) {
    this.facts = facts;
    this.networks = networks;
  }

  /** The hand anywhere in a picture: the whole of it first, then closer. */
  async search(picture) {
    const { passes, closer: share, mirrored } = this.facts.search;
    let best = await this.firstLook(picture);
    for (let pass = 1; pass < passes; pass += 1) {
      const closer = await this.look("landmark", picture, this.around(best.keypoints), mirrored);
      // Where a closer look is much less sure than the one before, the one before stands.
      if (mean(closer.confidence) > share * mean(best.confidence)) best = closer;
    }
    return best;
  }

  /** One look around where the hand was a moment ago. */
  async follow(picture, keypoints) {
    return this.look("landmark", picture, this.around(keypoints), this.facts.tracking.mirrored);
  }

  /** The whole picture, turned as `turns` says what points up; the turn that looks surest stands. */
  async firstLook(picture) {
    const { turns, mirrored } = this.facts.search;
    const role = this.networks.finder ? "finder" : "landmark";
    const size = this.facts.networks[role].image_size;
    const corners = [[-0.5, -0.5], [picture.width - 0.5, picture.height - 0.5]];
    let best = null;
    for (const up of turns) {
      const seen = await this.look(role, picture, cropMap(corners, 1, size, up), mirrored);
      if (!best || mean(seen.confidence) > mean(best.confidence)) best = seen;
    }
    return best;
  }

  /** The map to a square around keypoints. */
  around(keypoints) {
    const { image_size: size, crop, upright } = this.facts.networks.landmark;
    return cropMap(keypoints, crop, size, upright ? handDirection(keypoints) : [0, -1], this.facts.search.smallest_box);
  }

  /** One look; with `mirrored`, at the square's mirror image too, and the mean of both heatmaps is decoded. */
  async look(role, picture, map, mirrored) {
    const { image_size: size } = this.facts.networks[role];
    const network = this.networks[role];
    const square = cut(picture, map, size);
    let answer = await network.run(mirrored ? [square, mirrorImage(square, size)] : [square]);
    if (mirrored) {
      const heatmaps = meanWithMirrored(answer.heatmaps);
      answer = { ...(await network.decode(heatmaps)), heatmaps };
    }
    const back = inverse(map);
    return {
      keypoints: answer.keypoints.map((point) => apply(back, point)),
      confidence: answer.confidence,
      heatmaps: answer.heatmaps,
      square,
      map,
      size,
    };
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
