// Looks for hands off the page's own thread, so that the page stays responsive.
//
// In:  {type: "load", precision, threads}, {type: "picture", bitmap}, {type: "frame", bitmap, seconds}, {type: "reset"},
//      {type: "smooth", on}; those that are answered have an id
// Out: {type: "ready", facts, precision, threads}, {type: "answer", bitmap, seen, milliseconds}, {type: "error", message},
//      each with that id; an error has `kept`, the precision of the networks that stay, where others could not be loaded

import { fetched } from "./fetched.js";
import { mean } from "./geometry.js";
import { Predictor } from "./predictor.js";
import { Network, setThreads } from "./runtime.js";
import { OneEuro, Pace, Tracker } from "./tracker.js";

const HIDDEN = "This browser hides what pictures hold from web pages (protection against fingerprinting), so no hand can be seen: switch that off for this page and load it again, or use another browser.";
let facts;
let predictor;
let missing = "The network is not loaded: load the page again."; // why there is no predictor
let newest = 0; // id of the last load that was asked for
let precision = null; // "auto", "exact", "fast" or "fastest", of the networks that are loaded
let tracker;
let pace = null; // what decides on small squares where the choice is automatic; else null
let helped = null; // the predictor for which a network for small squares was asked for
let smooth = true;
let canvas;

/** Loads the networks; where that fails, those that were there before stay. */
async function load({ precision: wanted, threads, id }) {
  if (id !== newest) return; // others were asked for since
  const used = setThreads(threads);
  if (!pixelsCanBeRead()) throw new Error(HIDDEN);
  const found = await (await fetched(new URL("./models/facts.json", import.meta.url))).json();
  const networks = {};
  const { landmark, follower } = found.networks;
  const got = !landmark.fast ? "exact" : follower || wanted === "exact" ? wanted : "fast";
  try {
    for (const [role, each] of Object.entries(found.networks)) {
      if (role !== "follower" || got === "fastest") networks[role] = await Network.load(each, got === "exact");
    }
  } catch (error) {
    await release(networks);
    throw error;
  }
  const before = predictor?.networks ?? {};
  facts = found;
  predictor = new Predictor(facts, networks);
  predictor.small = got === "fastest";
  precision = got;
  // Not all of a look's time goes into its pixels, hence 1.5 and not 2.
  pace = got === "auto" ? new Pace((follower.image_size / landmark.image_size) ** 1.5) : null;
  tracker = new Tracker(predictor, facts.tracking.threshold, smooth ? new OneEuro(facts.smoothing) : null);
  await release(before);
  self.postMessage({ type: "ready", id, facts, precision, threads: used });
}

async function release(networks) {
  for (const network of Object.values(networks)) await network.release();
}

/** Goes over to small squares, or back, by how long looks at frames take. */
function keepPace(milliseconds, side) {
  const small = pace.next(milliseconds, side < facts.networks.landmark.image_size);
  if (small && helped !== predictor) bringFollower();
  predictor.small = small && "follower" in predictor.networks;
}

/** Loads the network for small squares; whole ones are looked at meanwhile, and for good where it does not come. */
async function bringFollower() {
  const mine = predictor;
  helped = mine;
  const follower = await Network.load(facts.networks.follower, false).catch(() => null);
  if (predictor !== mine) await follower?.release(); // other networks came first
  else if (follower) mine.networks.follower = follower;
}

/** Whether pixels are read as they were drawn: some browsers hand out noise, so that pages can't tell visitors apart. */
function pixelsCanBeRead() {
  const context = new OffscreenCanvas(16, 16).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "rgb(48 96 144)";
  context.fillRect(0, 0, 16, 16);
  const { data } = context.getImageData(0, 0, 16, 16);
  return data.every((value, at) => Math.abs(value - [48, 96, 144, 255][at % 4]) < 10); // a little noise does no harm
}

/** A picture whose pixels are read part by part: a look at a frame needs a small part of it. */
function readable(bitmap) {
  const { width, height } = bitmap;
  if (canvas?.width !== width || canvas?.height !== height) canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // transparent pictures lie on white
  const part = (...place) => {
    context.fillRect(...place);
    context.drawImage(bitmap, ...place, ...place);
    return context.getImageData(...place).data;
  };
  return { width, height, part };
}

async function answer({ type, bitmap, seconds, id }) {
  if (!predictor) throw new Error(missing);
  const start = performance.now();
  const picture = readable(bitmap);
  let seen;
  if (type === "picture") {
    seen = await predictor.search(picture);
    seen.found = mean(seen.confidence) >= facts.tracking.threshold;
    seen.searched = true;
  } else {
    seen = await tracker.next(picture, seconds);
  }
  const milliseconds = performance.now() - start;
  const given = [bitmap, seen.square.buffer, seen.heatmaps.values.buffer]; // not copied
  self.postMessage({ type: "answer", id, kind: type, bitmap, seen, seconds, milliseconds }, given);
  if (pace && type === "frame" && !seen.searched) keepPace(milliseconds, seen.size);
}

const handlers = {
  load: (wanted) => load(wanted).catch((error) => {
    const message = error.message ?? String(error);
    if (!predictor) missing = message;
    self.postMessage({ type: "error", id: wanted.id, message, kept: precision });
  }),
  picture: answer,
  frame: answer,
  reset: () => tracker?.reset(),
  smooth: ({ on }) => {
    smooth = on;
    if (tracker) tracker.smoothing = on ? new OneEuro(facts.smoothing) : null;
  },
};

// One message after the other: a look that waits for the network must not be overtaken by the next one.
let queue = Promise.resolve();
self.onmessage = ({ data }) => {
  if (data.type === "load") newest = data.id;
  queue = queue.then(() => handlers[data.type](data)).catch((error) => {
    data.bitmap?.close();
    self.postMessage({ type: "error", id: data.id, message: error.message ?? String(error) });
  });
};
