// The network's square, cut out of a picture: handpose_lib/framing.py's `cut`, which leaves both steps to OpenCV.

import { apply, clamp, inverse } from "./geometry.js";

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
  const wanted = [width, height].map((side) => (scale < 1 ? Math.max(roundHalfToEven(side * scale), 1) : side));
  const shrink = [wanted[0] / width, wanted[1] / height];
  // From the square to the part: through the picture, of which pixel u is (u - left + 1/2) * shrink - 1/2 in the part.
  const fromSquare = [
    back[0] * shrink[0], back[1] * shrink[0], (back[2] - left + 0.5) * shrink[0] - 0.5,
    back[3] * shrink[1], back[4] * shrink[1], (back[5] - top + 0.5) * shrink[1] - 0.5,
  ];
  if (scale < 1) {
    const last = size - 1;
    const outline = [[0, 0], [last, 0], [last, last], [0, last]].map((corner) => apply(fromSquare, corner));
    pixels = areaShrink(pixels, width, height, ...wanted, (row) => sampled(outline, row, wanted[0]));
    [width, height] = wanted;
    step = 3;
  }
  return sample(pixels, step, width, height, fromSquare, size);
}

/** The picture's first pixel, and one past the last, between the smallest and the largest value, with a margin. */
function span(values, limit) {
  const first = clamp(Math.floor(Math.min(...values)) - 2, 0, limit - 1);
  const end = clamp(Math.ceil(Math.max(...values)) + 3, first + 1, limit);
  return [first, end];
}

/** As numpy rounds. */
function roundHalfToEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

/** The columns of a row, the first and one past the last, that are read when all within four corners is sampled. */
function sampled(outline, row, width) {
  let [low, high] = [Infinity, -Infinity];
  outline.forEach(([x, y], index) => {
    const [toX, toY] = outline[(index + 1) % 4];
    if (Math.max(y, toY) < row - 1 || Math.min(y, toY) > row + 1) return;
    for (const end of [row - 1, row + 1]) { // between which the outline's side has to do with this row
      const way = y === toY ? Number(end > row) : clamp((end - y) / (toY - y), 0, 1);
      low = Math.min(low, x + way * (toX - x));
      high = Math.max(high, x + way * (toX - x));
    }
  });
  return [clamp(Math.floor(low), 0, width), clamp(Math.floor(high) + 2, 0, width)];
}

/** Which pixels of a side of `from` make up each pixel of a side of `to`: the first, how many, and how many 256ths. */
function shares(from, to) {
  const step = from / to;
  const most = Math.ceil(step) + 2;
  const [first, count, weights] = [new Int32Array(to), new Int32Array(to), new Int32Array(to * most)];
  for (let index = 0; index < to; index += 1) {
    const start = index * step;
    const end = Math.min(start + step, from);
    first[index] = Math.floor(start + 1e-9);
    count[index] = Math.min(Math.ceil(end - 1e-9), from) - first[index];
    let given = 0; // rounded so that all that was given so far is right: in the end, 256
    for (let i = 0; i < count[index]; i += 1) {
      const upTo = Math.round((256 * (Math.min(first[index] + i + 1, end) - start)) / (end - start));
      weights[index * most + i] = upTo - given;
      given = upTo;
    }
  }
  return { first, count, weights, most };
}

// The loops below run for every pixel of every frame: they make no arrays or objects on the way, which would double
// their time.

/** Mean over areas: (height, width, 4) -> (toHeight, toWidth, 3), first along columns and then along rows.
 *
 * The red and the blue of a pixel are added up in one number, each in 16 bits of its own.
 *
 * @param needed from a row to the columns of it that are wanted, the first and one past the last; others stay black.
 */
function areaShrink(pixels, width, height, toWidth, toHeight, needed) {
  const [columns, rows] = [shares(width, toWidth), shares(height, toHeight)];
  const words = new Uint32Array(pixels.buffer, pixels.byteOffset, width * height);
  const result = new Uint8Array(toWidth * toHeight * 3);
  const [redBlue, green] = [new Int32Array(width), new Int32Array(width)];
  for (let y = 0; y < toHeight; y += 1) {
    const [begin, end] = needed(y);
    if (begin >= end) continue;
    const from = columns.first[begin];
    const to = columns.first[end - 1] + columns.count[end - 1];
    redBlue.fill(0x800080, from, to); // a half, for rounding
    green.fill(0x80, from, to);
    for (let i = 0; i < rows.count[y]; i += 1) {
      const weight = rows.weights[y * rows.most + i];
      const start = (rows.first[y] + i) * width;
      for (let x = from; x < to; x += 1) {
        const word = words[start + x];
        redBlue[x] = (redBlue[x] + Math.imul(word & 0xff00ff, weight)) | 0;
        green[x] = (green[x] + Math.imul((word >>> 8) & 0xff, weight)) | 0;
      }
    }
    mixColumns(redBlue, green, columns, begin, end, result, y * toWidth);
  }
  return result;
}

/** Pixels from `begin` to `end` of a row of `result`, of which pixel `start` is the first, from what was added up. */
function mixColumns(redBlue, green, { first, count, weights, most }, begin, end, result, start) {
  for (let x = begin, at = (start + begin) * 3; x < end; x += 1, at += 3) {
    let [red, middle, blue] = [0, 0, 0];
    for (let i = 0, from = first[x]; i < count[x]; i += 1, from += 1) {
      const weight = weights[x * most + i];
      red = (red + Math.imul(redBlue[from] & 0xffff, weight)) | 0;
      middle = (middle + Math.imul(green[from], weight)) | 0;
      blue = (blue + Math.imul(redBlue[from] >>> 16, weight)) | 0;
    }
    result[at] = red >>> 16;
    result[at + 1] = middle >>> 16;
    result[at + 2] = blue >>> 16;
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
