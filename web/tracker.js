// A hand through a video, searched for once and then followed: handpose_lib/track.py and handpose_lib/smoothing.py.

import { handLength, mean } from "./geometry.js";

const FARTHEST = 0.5; // hand lengths by which a look is moved on at most
const SLOW = 22; // ms that a look may take: a camera sends a frame every 33 ms, and drawing needs some of them
const SPARE = 0.8; // whole squares come back where a look at one would take less than this share of SLOW
const LOOKS = 24; // looks whose median decides: the first ones after the start are slow on any computer

export class Tracker {
  /** @param predictor {search(picture), follow(picture, keypoints)}. @param threshold mean confidence of a hand. */
  constructor(predictor, threshold, smoothing = null) {
    Object.assign(this, { predictor, threshold, smoothing });
    this.reset();
  }

  reset() {
    this.last = null; // {keypoints, middle, motion in px per second, seconds}
    this.smoothing?.reset();
  }

  /** What the next frame shows; `found` says whether there is a hand, `searched` whether the whole frame was looked at.
   *
   * The next look follows the unfiltered keypoints, which do not trail behind.
   */
  async next(picture, seconds) {
    let seen = this.last && (await this.predictor.follow(picture, this.expected(seconds)));
    const searched = !seen || mean(seen.confidence) < this.threshold;
    if (searched) {
      seen = await this.predictor.search(picture);
      this.smoothing?.reset();
    }
    const found = mean(seen.confidence) >= this.threshold;
    let { keypoints } = seen;
    const middle = [0, 1].map((axis) => mean(keypoints.map((point) => point[axis])));
    const known = this.last && !searched && seconds > this.last.seconds;
    const motion = [0, 1].map((axis) =>
      known ? (middle[axis] - this.last.middle[axis]) / (seconds - this.last.seconds) : 0,
    );
    this.last = found ? { keypoints, middle, motion, seconds } : null;
    if (found && this.smoothing) keypoints = this.smoothing.next(keypoints, seconds, handLength(keypoints));
    return { ...seen, keypoints, found, searched };
  }

  /** Where the hand should be by now, had it gone on as before. */
  expected(seconds) {
    const { keypoints, motion } = this.last;
    const way = motion.map((speed) => speed * Math.max(0, seconds - this.last.seconds));
    const length = Math.hypot(...way);
    const part = Math.min(1, (FARTHEST * handLength(keypoints)) / Math.max(length, 1e-9));
    return keypoints.map(([x, y]) => [x + part * way[0], y + part * way[1]]);
  }
}

/** Whether hands are to be followed in small squares, because looks at whole ones take too long for a camera. */
export class Pace {
  /** @param share of a look at a whole square that one at a small square takes. */
  constructor(share) {
    Object.assign(this, { share, small: false, times: [] });
  }

  /** What holds from now on, after a look at a square, small or whole, that took so many milliseconds. */
  next(milliseconds, small) {
    this.times.push(small ? milliseconds / this.share : milliseconds); // as if it had been whole
    if (this.times.length === LOOKS) {
      const median = this.times.sort((a, b) => a - b)[LOOKS / 2];
      this.small = median > (this.small ? SPARE * SLOW : SLOW);
      this.times = [];
    }
    return this.small;
  }
}

/** The One-Euro filter (Casiez, Roussel and Vogel, CHI 2012), with speeds in hand lengths per second. */
export class OneEuro {
  constructor({ min_cutoff: minCutoff, beta, speed_cutoff: speedCutoff }) {
    Object.assign(this, { minCutoff, beta, speedCutoff });
    this.reset();
  }

  reset() {
    this.last = null;
  }

  next(keypoints, seconds, length) {
    if (!this.last || !(seconds > this.last.seconds)) {
      this.last = { keypoints, speed: keypoints.map(() => 0), seconds };
      return keypoints;
    }
    const step = seconds - this.last.seconds;
    const before = this.last;
    const speed = keypoints.map(([x, y], index) => {
      const [u, v] = before.keypoints[index];
      const moved = Math.hypot(x - u, y - v) / Math.max(length, 1e-6) / step;
      return before.speed[index] + share(this.speedCutoff, step) * (moved - before.speed[index]);
    });
    const filtered = keypoints.map((point, index) => {
      const part = share(this.minCutoff + this.beta * speed[index], step);
      return point.map((value, axis) => before.keypoints[index][axis] + part * (value - before.keypoints[index][axis]));
    });
    this.last = { keypoints: filtered, speed, seconds };
    return filtered;
  }
}

/** How far an exponential filter with this cutoff in Hz goes towards the new value in a step of so many seconds. */
const share = (cutoff, step) => 1 - 1 / (1 + 2 * Math.PI * cutoff * step);
