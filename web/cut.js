// The network's square, cut out of a picture: handpose_lib/framing.py's `cut`, which leaves both steps to OpenCV.

import { apply, inverse } from "./geometry.js";

/** The square that a map brings to (size, size, 3), black where it reaches beyond the picture.
 *
 * Where the square is larger than `size`, its part of the picture is first shrunk by the mean over areas: to sample it
 * at a few points would turn fine texture into noise.
 *
 * @param picture {width, height, part(left, top, width, height) -> RGBA bytes of that part}
 * @param map from the picture to the square.
 * @returns Uint8Array of size * size * 3, RGB.
 */
export function cut(picture, map, size) {
  const scale = Math.hypot(map[0], map[3]);
  const back = inverse(map);
  const ends = [[-0.5, -0.5], [size - 0.5, -0.5], [-0.5, size - 0.5], [size - 0.5, size - 0.5]];
  const corners = ends.map((end) => apply(back, end)); // of the square, in the picture
  const [left, right] = span(corners.map(([x]) => x), picture.width);
  const [top, bottom] = span(corners.map(([, y]) => y), picture.height);
  let [width, height] = [right - left, bottom - top];
  let pixels = picture.part(left, top, width, height);
  let step = 4; // bytes from one pixel to the next
  const shrink = [1, 1];
  if (scale < 1) {
    const wanted = [width, height].map((side) => Math.max(roundHalfToEven(side * scale), 1));
    shrink[0] = wanted[0] / width;
    shrink[1] = wanted[1] / height;
    pixels = areaShrink(pixels, width, height, wanted[0], wanted[1]);
    [width, height] = wanted;
    step = 3;
  }
  // From the square to the part: through the picture, of which pixel u is (u - left + 1/2) * shrink - 1/2 in the part.
  const fromSquare = [
    back[0] * shrink[0], back[1] * shrink[0], (back[2] - left + 0.5) * shrink[0] - 0.5,
    back[3] * shrink[1], back[4] * shrink[1], (back[5] - top + 0.5) * shrink[1] - 0.5,
  ];
  return sample(pixels, step, width, height, fromSquare, size);
}

/** The picture's first pixel, and one past the last, between the smallest and the largest value, with a margin. */
function span(values, limit) {
  const first = Math.min(Math.max(Math.floor(Math.min(...values)) - 2, 0), limit - 1);
  const end = Math.min(Math.max(Math.ceil(Math.max(...values)) + 3, first + 1), limit);
  return [first, end];
}

/** As numpy rounds. */
function roundHalfToEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

/** Which pixels of a side of `from` make up each pixel of a side of `to`: the first, how many, and their weights. */
function shares(from, to) {
  const step = from / to;
  const most = Math.ceil(step) + 2;
  const [first, count, weights] = [new Int32Array(to), new Int32Array(to), new Float64Array(to * most)];
  for (let index = 0; index < to; index += 1) {
    const start = index * step;
    const end = Math.min(start + step, from);
    first[index] = Math.floor(start + 1e-9);
    count[index] = Math.min(Math.ceil(end - 1e-9), from) - first[index];
    for (let i = 0; i < count[index]; i += 1) {
      const pixel = first[index] + i;
      weights[index * most + i] = (Math.min(pixel + 1, end) - Math.max(pixel, start)) / (end - start);
    }
  }
  return { first, count, weights, most };
}

// The loops below run for every pixel of every frame: they make no arrays or objects on the way, which would double
// their time.

/** Mean over areas: (height, width, 4) -> (toHeight, toWidth, 3), first along rows and then along columns. */
function areaShrink(pixels, width, height, toWidth, toHeight) {
  const [columns, rows] = [shares(width, toWidth), shares(height, toHeight)];
  const result = new Uint8Array(toWidth * toHeight * 3);
  const row = new Float64Array(toWidth * 3);
  const sum = new Float64Array(toWidth * 3);
  let shrunk = -1; // the picture's row that `row` holds
  for (let y = 0; y < toHeight; y += 1) {
    sum.fill(0);
    for (let i = 0; i < rows.count[y]; i += 1) {
      const from = rows.first[y] + i;
      if (shrunk !== from) shrinkRow(pixels, from * width * 4, columns, row);
      shrunk = from;
      const weight = rows.weights[y * rows.most + i];
      for (let j = 0; j < sum.length; j += 1) sum[j] += weight * row[j];
    }
    for (let j = 0, at = y * sum.length; j < sum.length; j += 1, at += 1) result[at] = sum[j] + 0.5;
  }
  return result;
}

function shrinkRow(pixels, start, { first, count, weights, most }, row) {
  for (let x = 0, to = 0; x < first.length; x += 1, to += 3) {
    let red = 0;
    let green = 0;
    let blue = 0;
    for (let i = x * most, end = i + count[x], at = start + first[x] * 4; i < end; i += 1, at += 4) {
      const weight = weights[i];
      red += weight * pixels[at];
      green += weight * pixels[at + 1];
      blue += weight * pixels[at + 2];
    }
    row[to] = red;
    row[to + 1] = green;
    row[to + 2] = blue;
  }
}

/** Bilinear sampling at `map` of each pixel of the square; what lies beyond the pixels is black. */
function sample(pixels, step, width, height, [a, b, c, d, e, f], size) {
  const square = new Uint8Array(size * size * 3);
  for (let v = 0, at = 0; v < size; v += 1) {
    for (let u = 0; u < size; u += 1, at += 3) {
      const x = a * u + b * v + c;
      const y = d * u + e * v + f;
      const left = Math.floor(x);
      const top = Math.floor(y);
      if (left < -1 || top < -1 || left >= width || top >= height) continue;
      // A pixel that is not there has no weight, and another is read in its place.
      const west = left < 0 ? 0 : left + 1 - x;
      const east = left + 1 < width ? x - left : 0;
      const north = top < 0 ? 0 : top + 1 - y;
      const south = top + 1 < height ? y - top : 0;
      const nw = ((top < 0 ? 0 : top) * width + (left < 0 ? 0 : left)) * step;
      const ne = left < 0 || east === 0 ? nw : nw + step;
      const down = top < 0 || south === 0 ? 0 : width * step;
      for (let channel = 0; channel < 3; channel += 1) {
        const above = west * pixels[nw + channel] + east * pixels[ne + channel];
        const below = west * pixels[nw + down + channel] + east * pixels[ne + down + channel];
        square[at + channel] = north * above + south * below + 0.5;
      }
    }
  }
  return square;
}
