// Points and the maps that move them, as in handpose_lib/framing.py.
//
// A keypoint is [x, y] in pixels; a pixel's centre has whole-number coordinates. A map is [a, b, c, d, e, f] and takes
// [x, y] to [a x + b y + c, d x + e y + f]. Numbers in JavaScript have 64 bits.

/** The map that brings the middle of the points' box to the square's centre and its longer side to `share` of it.
 *
 * @param points [[x, y], …] in px of the picture.
 * @param size side of the square, px.
 * @param up the direction that shall point up on the square.
 * @param smallest a box shorter than this many px is taken for one of that length.
 */
export function cropMap(points, share, size, up = [0, -1], smallest = 1) {
  const length = Math.hypot(up[0], up[1]);
  const [x, y] = length > 0 ? [up[0] / length, up[1] / length] : [0, -1];
  // The rotation that takes (x, y) to (0, -1).
  const turned = points.map(([u, v]) => [-y * u + x * v, -x * u - y * v]);
  const low = [0, 1].map((axis) => Math.min(...turned.map((point) => point[axis])));
  const high = [0, 1].map((axis) => Math.max(...turned.map((point) => point[axis])));
  const scale = (share * size) / Math.max(high[0] - low[0], high[1] - low[1], smallest);
  const centre = (size - 1) / 2;
  const offset = [0, 1].map((axis) => centre - (scale * (low[axis] + high[axis])) / 2);
  return [-y * scale, x * scale, offset[0], -x * scale, -y * scale, offset[1]];
}

/** The map back. */
export function inverse([a, b, c, d, e, f]) {
  const determinant = a * e - b * d;
  const [p, q, r, s] = [e / determinant, -b / determinant, -d / determinant, a / determinant];
  return [p, q, -(p * c + q * f), r, s, -(r * c + s * f)];
}

export function apply([a, b, c, d, e, f], [x, y]) {
  return [a * x + b * y + c, d * x + e * y + f];
}

/** Where a hand points: from the wrist to the middle of the four knuckles. */
export function handDirection(points) {
  const knuckles = [5, 9, 13, 17].map((index) => points[index]);
  return [0, 1].map((axis) => knuckles.reduce((sum, point) => sum + point[axis], 0) / 4 - points[0][axis]);
}

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Longer side of the points' box. */
export function handLength(points) {
  return Math.max(...[0, 1].map((axis) => {
    const along = points.map((point) => point[axis]);
    return Math.max(...along) - Math.min(...along);
  }));
}
