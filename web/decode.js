// From heatmaps to keypoints: handpose_lib/chains.py, heatmaps.py's `local_peak` and calibration.py, for one hand.
//
// The networks' files could decode by themselves, as those of `handpose export` do. But that is some hundreds of small
// operations, and ONNX Runtime needs longer to call them than all of decoding takes here.

import { clamp, mean } from "./geometry.js";

const ROUNDS = 6; // of Newton's method

/** What a network says of its square.
 *
 * @param heatmaps {values, side}: a map of side * side values per keypoint, one after the other.
 * @param network what facts.json says of it: {image_size, sigma, bones, calibration}.
 * @param facts {bones, fingers, chains}.
 * @returns {keypoints: [x, y] in px of the square, confidence: from 0 to 1}.
 */
export function decode({ values, side }, { image_size: size, sigma, bones, calibration }, facts) {
  const pixels = side * side;
  const maps = Array.from({ length: values.length / pixels }, (_, index) =>
    values.subarray(index * pixels, (index + 1) * pixels));
  const places = bones.length ? chainedPeaks(maps, side, bones, facts) : maps.map(highest);
  const peaks = maps.map((map, index) => clamp(map[places[index]] || 0, 0, 1)); // NaN is 0
  const toSquare = (value) => ((value + 0.5) * size) / side - 0.5;
  return {
    keypoints: maps.map((map, index) => localPeak(map, side, places[index], sigma).map(toSquare)),
    confidence: calibrated(peaks, calibration),
  };
}

/** The index of the highest value, of the first if there are several; what is no number does not count. */
function highest(map) {
  let top = 0;
  for (let at = 1; at < map.length; at += 1) if (map[at] > map[top] || Number.isNaN(map[top])) top = at;
  return top;
}

/** Where a map's highest peaks are, at most `candidates`, with the logarithms of their heights. */
function peaksOf(map, side, { candidates, lowest }) {
  const top = highest(map);
  const found = [{ at: top, height: map[top] }];
  for (let y = 0; y < side; y += 1) {
    for (let x = 0; x < side; x += 1) {
      const at = y * side + x;
      if (!(map[at] > lowest) || at === top || !isPeak(map, side, x, y)) continue;
      const place = found.findIndex(({ height }, index) => index > 0 && height < map[at]);
      found.splice(place < 0 ? found.length : place, 0, { at, height: map[at] });
      found.length = Math.min(found.length, candidates);
    }
  }
  return found.map(({ at, height }) => ({
    at, x: at % side, y: Math.floor(at / side), merit: Math.log(height > lowest ? height : lowest),
  }));
}

function isPeak(map, side, x, y) {
  const value = map[y * side + x];
  for (let row = Math.max(y - 1, 0); row <= Math.min(y + 1, side - 1); row += 1) {
    for (let column = Math.max(x - 1, 0); column <= Math.min(x + 1, side - 1); column += 1) {
      if (map[row * side + column] > value) return false;
    }
  }
  return true;
}

/** One peak per map, such that the bones between them are likely: its index in the map.
 *
 * Every finger takes the chain of peaks, from its knuckle to its tip, that has the highest sum of log heights and bones'
 * log likelihoods, which dynamic programming finds.
 */
function chainedPeaks(maps, side, likely, { bones, fingers, chains }) {
  const peaks = maps.map((map) => peaksOf(map, side, chains));
  const chosen = peaks.map(([first]) => first.at);
  for (const { keypoints } of fingers) {
    let ends = [{ ...peaks[0][0], total: 0 }]; // of the chains so far: the wrist
    for (const keypoint of keypoints) {
      const [along, acrossSpread, alongSpread] = likely[bones.findIndex(([, child]) => child === keypoint)];
      const total = (peak, end) => {
        const across = (peak.x - end.x) / side / acrossSpread;
        const off = ((peak.y - end.y) / side - along) / alongSpread;
        return end.total + peak.merit - (chains.likelihood / 2) * (across * across + off * off);
      };
      ends = peaks[keypoint].map((peak) => {
        const before = best(ends, (end) => total(peak, end));
        return { ...peak, total: total(peak, before), before };
      });
    }
    let end = best(ends, (each) => each.total);
    for (const keypoint of [...keypoints].reverse()) {
      chosen[keypoint] = end.at;
      end = end.before;
    }
  }
  return chosen;
}

/** The first of those that are worth most. */
function best(list, worth) {
  return list.reduce((first, each) => (worth(each) > worth(first) ? each : first));
}

/** The centre of a peak, [x, y] in px of its map: a Gaussian window, moved until it sits on a Gaussian's centre. */
function localPeak(map, side, place, sigma) {
  const radius = Math.ceil(3 * sigma);
  const width = 2 * radius + 1;
  const middle = [place % side, Math.floor(place / side)];
  const starts = middle.map((start) => start - radius);
  const window = windowOf(map, side, starts, width);
  const [across, down, shownAcross, shownDown] = Array.from({ length: 4 }, () => new Float64Array(width));
  const position = [...middle];
  let narrowness = 1 / sigma ** 2; // 1 / width^2 of the peak, fitted too
  for (let round = 0; round < ROUNDS; round += 1) {
    fillWeights(across, starts[0], position[0], side, sigma);
    fillWeights(down, starts[1], position[1], side, sigma);
    shownAcross.fill(0);
    for (let row = 0, at = 0; row < width; row += 1) {
      let total = 0;
      for (let column = 0; column < width; column += 1, at += 1) {
        shownAcross[column] += window[at] * down[row];
        total += window[at] * across[column];
      }
      shownDown[row] = total;
    }
    const axes = [
      compare(starts[0] - position[0], across, shownAcross, narrowness),
      compare(starts[1] - position[1], down, shownDown, narrowness),
    ];
    const sum = (each) => each(axes[0]) + each(axes[1]);
    const stiffness = Math.max(sum(({ tail, lean, skew }) => tail - lean * skew), 0.01);
    const wanted = narrowness - (2 * sum(({ wider, lean, shift }) => wider - lean * shift)) / stiffness;
    const narrower = clamp(wanted, 1 / (2 * sigma) ** 2, 1 / (sigma / 2) ** 2) - narrowness;
    axes.forEach(({ any, spread, skew, shift }, axis) => {
      const step = any ? (shift + (skew * narrower) / 2) / (narrowness * spread) : 0;
      const next = position[axis] + clamp(step, -1, 1);
      position[axis] = clamp(next, middle[axis] - radius, middle[axis] + radius);
    });
    narrowness += narrower;
  }
  return position.map((value) => clamp(value, -0.5, side - 0.5));
}

/** The square of pixels from `starts`, 0 where there are none and where a value is negative, infinite or no number. */
function windowOf(map, side, [left, top], width) {
  const window = new Float64Array(width * width);
  for (let row = Math.max(0, -top); row < Math.min(width, side - top); row += 1) {
    for (let column = Math.max(0, -left); column < Math.min(width, side - left); column += 1) {
      const value = map[(top + row) * side + left + column];
      if (value > 0 && value < Infinity) window[row * width + column] = value;
    }
  }
  return window;
}

/** Writes a Gaussian about `position` at the pixels from `start` on; beyond the map, zeros stay. */
function fillWeights(weights, start, position, side, sigma) {
  const end = Math.min(weights.length, side - start);
  for (let index = Math.max(0, -start); index < end; index += 1) {
    const offset = start + index - position;
    weights[index] = Math.exp((offset * offset) / (-2 * sigma * sigma));
  }
}

/** What the map shows along an axis, against what a Gaussian at the position would show in the very same pixels.
 *
 * @param first the first pixel's offset from the position.
 */
function compare(first, weights, shown, narrowness) {
  let [total, seen1, seen2] = [0, 0, 0]; // of the offset's powers
  let [all, mean1, mean2, mean3, mean4] = [0, 0, 0, 0, 0];
  for (let index = 0, offset = first; index < weights.length; index += 1, offset += 1) {
    const square = offset * offset;
    const seen = weights[index] * shown[index];
    total += seen;
    seen1 += seen * offset;
    seen2 += seen * square;
    const expected = weights[index] * Math.exp((square * narrowness) / -2);
    all += expected;
    mean1 += expected * offset;
    mean2 += expected * square;
    mean3 += expected * square * offset;
    mean4 += expected * square * square;
  }
  mean1 /= all;
  mean2 /= all;
  const spread = Math.max(mean2 - mean1 ** 2, 0.01); // variance of the offset,
  const skew = mean3 / all - mean1 * mean2; // its covariance with its square,
  const tail = mean4 / all - mean2 ** 2; // the variance of the square
  const any = total > 0;
  const [shift, wider] = any ? [seen1 / total - mean1, seen2 / total - mean2] : [-mean1, -mean2];
  return { any, spread, skew, tail, lean: skew / spread, shift, wider };
}

/** Chances that keypoints are right, by the heights of their peaks; without a calibration, these heights. */
function calibrated(peaks, calibration) {
  if (!calibration.length) return peaks;
  const [bias, own, hand] = calibration;
  const all = hand * mean(peaks);
  return peaks.map((peak) => 1 / (1 + Math.exp(-(bias + own * peak + all))));
}
