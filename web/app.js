// The page: takes a picture, a video or the camera, hands frames to the worker, and draws what it answers.

import { drawFrame, drawView, fit, makeConfidenceTable } from "./draw.js";
import { ServerError, fetched } from "./fetched.js";
import { mean } from "./geometry.js";
import { limited, nextFrame, openCamera, readPicture, start } from "./media.js";

const LONGEST_PICTURE = 4096; // px; a phone's photograph fits
const BESIDE = 200; // ms between two changes of what stands beside a video: nobody reads numbers faster
const LONGEST_FRAME = 1280; // px; the network sees a small square of it anyway
const LOADING = "Loading the network …"; // which the page says from the beginning
const HOLD = "Hold one hand up to the camera.";
const $ = (id) => document.getElementById(id);
const canvas = $("canvas");
const video = $("player-video");
const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
const shown = { bitmap: null, seen: null, still: false, heatmaps: false, from: "file" };
const mirrors = { camera: true, file: false }; // until somebody chooses: people expect to see themselves as in a mirror
let facts = null;
let showConfidence = () => {};
let source = null; // {kind: "picture" | "video" | "camera", seen, stream, broken: what to do when it breaks off}
let chosen = 0; // how often something was chosen: a slow picture must not replace what was chosen after it
let asked = 0; // number of the last frame that went to the worker
let waiting = null; // {id, resolve} of the frame that the worker has
let loads = 0; // how often networks were asked for
let failure = ""; // why they did not come, while that is what the page says
let dead = ""; // why there will never be any
let beside = 0; // when that changed last
let answered = []; // when, for the frames per second

// --- the worker ------------------------------------------------------------------------------------------------------

function ask(message, bitmap) {
  if (dead) {
    bitmap.close();
    say(dead, true);
    return Promise.resolve(null);
  }
  asked += 1;
  const id = asked;
  worker.postMessage({ ...message, bitmap, id }, [bitmap]);
  return new Promise((resolve) => { waiting = { id, resolve }; });
}

worker.onmessage = ({ data }) => {
  if (data.type === "ready") ready(data);
  if (data.type === "answer") {
    if (waiting?.id === data.id) settle(data);
    else data.bitmap.close();
  }
  if (data.type === "error" && "kept" in data) keep(data);
  else if (data.type === "error" && waiting?.id === data.id) {
    say(data.message, true);
    settle(null);
  }
};

function settle(data) {
  waiting?.resolve(data);
  waiting = null;
}

/** Other networks could not be loaded, so those before are used, of which `kept` is the precision, or null for none. */
function keep({ id, message, kept }) {
  if (id !== loads) return; // others were asked for since
  failure = message;
  say(message, true);
  if (kept) $("precision").value = document.body.dataset.ready = kept;
}

worker.onerror = ({ message }) => {
  const said = `The network could not be started: ${message || "a file is missing (make web builds the page), or this browser is too old."}`;
  if (!facts) dead = said;
  say(said, true);
  settle(null);
};

function load() {
  const threads = Number(new URLSearchParams(location.search).get("threads")) || 0;
  loads += 1;
  worker.postMessage({ type: "load", id: loads, precision: $("precision").value, threads });
}

function ready(data) {
  facts = data.facts;
  showConfidence = makeConfidenceTable($("fingers"), facts);
  $("threshold").textContent = Math.round(100 * facts.tracking.threshold);
  $("threads").textContent = data.threads > 1
    ? `${data.threads} threads of the processor.`
    : `One thread of the processor.${crossOriginIsolated ? "" : " Served by handpose web, the page may use several."}`;
  const { landmark, follower } = facts.networks;
  const there = { auto: follower, exact: true, fast: landmark.fast, fastest: follower };
  for (const option of $("precision").options) option.disabled = !there[option.value];
  if (data.id !== loads) return; // others were asked for since
  $("precision").value = document.body.dataset.ready = data.precision;
  const said = $("message").textContent;
  if (said === LOADING || (failure && said === failure)) say(source?.kind === "camera" ? HOLD : "Ready.");
  failure = "";
  if (shown.seen) showConfidence(shown.seen.confidence);
  if (source?.seen && !waiting) lookAgain();
  if (source?.kind === "video" && video.paused) video.currentTime = video.currentTime; // so that its frame comes again
}

// --- what is shown ---------------------------------------------------------------------------------------------------

function say(text, bad = false) {
  $("message").textContent = text;
  $("message").classList.toggle("bad", bad);
}

/** Writes a text where it has changed: each change costs the page a layout. */
function write(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function show({ bitmap, seen, milliseconds, seconds, kind }) {
  if (shown.bitmap !== bitmap) shown.bitmap?.close();
  Object.assign(shown, { bitmap, seen, still: kind === "picture" });
  canvas.hidden = false;
  const focused = $("welcome").contains(document.activeElement); // an example's button, which vanishes now
  $("welcome").hidden = true;
  redraw();
  if (focused) canvas.focus({ preventScroll: true });
  answered = [...answered.filter((then) => performance.now() - then < 1000), performance.now()];
  if (kind === "picture" || video.paused || performance.now() - beside > BESIDE) {
    beside = performance.now();
    $("speed").hidden = kind === "picture";
    write("speed", `${answered.length} frames/s`);
    drawView($("view"), seen, facts);
    showConfidence(seen.confidence);
    write("confidence-mean", `${Math.round(100 * mean(seen.confidence))} %`);
    write("milliseconds", `${milliseconds.toFixed(0)} ms`);
    write("side", `${seen.size} px`);
  }
  $("verdict").hidden = false;
  $("verdict").dataset.found = seen.found;
  write("verdict", seen.found ? "Hand found" : "No hand found");
  document.dispatchEvent(new CustomEvent("handpose", { detail: { bitmap, milliseconds, seconds, kind, ...seen } }));
}

function redraw() {
  const { bitmap, seen, heatmaps, from } = shown;
  if (!bitmap) return;
  const room = Math.max(240, Math.min(window.innerHeight * 0.72, 720));
  const place = fit(canvas, bitmap.width, bitmap.height, $("stage").clientWidth, room, shown.still);
  drawFrame(canvas.getContext("2d", { alpha: false }), bitmap, seen, facts, { ...place, heatmaps, mirror: mirrors[from] });
}

// --- sources ---------------------------------------------------------------------------------------------------------

/** Ends what runs; a picture that is still with the worker is no longer waited for. */
function stop() {
  source?.stream?.getTracks().forEach((track) => track.stop());
  if (video.src) URL.revokeObjectURL(video.src);
  video.pause();
  video.removeAttribute("src");
  video.srcObject = null;
  source = null;
  waiting?.resolve(null);
  waiting = null;
  worker.postMessage({ type: "reset" });
  $("player").hidden = true;
  press("camera", false);
  $("speed").hidden = true;
  answered = [];
}

/** Ends a source that failed, and says why. */
function fail(mine, message) {
  if (source !== mine) return;
  stop();
  say(message, true);
}

async function openFile(file) {
  if (!file) return;
  chosen += 1;
  if (file.type.startsWith("image/")) await openPicture(file, file.name);
  else if (file.type.startsWith("video/")) await openVideo(file);
  else say(`${file.name} is neither a picture nor a video: drop a JPEG, PNG or WebP picture, or an MP4 or WebM video.`, true);
}

async function openPicture(blob, name) {
  const mine = chosen;
  let bitmap;
  try {
    bitmap = await readPicture(await blob, LONGEST_PICTURE);
  } catch (error) {
    const damaged = `${name} can't be read as a picture: it is damaged, or of a kind that this browser doesn't know. JPEG, PNG and WebP can be read.`;
    if (mine === chosen) say(error instanceof ServerError ? error.message : damaged, true);
    return;
  }
  if (mine !== chosen) return bitmap.close();
  stop();
  source = { kind: "picture" };
  setMirror("file");
  await lookAtPicture(bitmap, name);
}

async function lookAtPicture(bitmap, name = "") {
  say(`Looking at ${name || "the picture"} …`);
  write("verdict", ""); // so that the next one is noticed, also where it is the same
  const mine = source;
  const answer = await ask({ type: "picture" }, bitmap);
  if (!answer || source !== mine) return;
  mine.seen = true;
  show(answer);
  say(answer.seen.found ? "" : "No hand was found: try a picture that shows one hand, larger and in better light.");
}

/** With other networks than before. */
async function lookAgain() {
  const mine = source;
  const bitmap = await createImageBitmap(shown.bitmap);
  if (source === mine && !waiting) await lookAtPicture(bitmap);
  else bitmap.close();
}

async function openVideo(file) {
  stop();
  const mine = { kind: "video" };
  mine.broken = () => fail(mine, `${file.name} can't be played any further: it is damaged from here on.`);
  source = mine;
  video.src = URL.createObjectURL(file);
  try {
    await start(video, file.name);
  } catch (error) {
    fail(mine, error.message);
    return;
  }
  if (source !== mine) return;
  video.onerror = mine.broken;
  setMirror("file");
  $("player").hidden = false;
  say("");
  await run(mine);
}

async function toggleCamera() {
  chosen += 1;
  const wasOn = source?.kind === "camera";
  stop();
  say(wasOn ? "Camera off." : "Waiting for the camera …");
  if (wasOn) return;
  const mine = { kind: "camera" };
  mine.broken = () => fail(mine, "The camera is gone: connect it, then press Camera again.");
  source = mine;
  try {
    const stream = await openCamera();
    if (source !== mine) {
      stream.getTracks().forEach((track) => track.stop());
      return;
    }
    mine.stream = stream;
    const [track] = stream.getVideoTracks();
    track.onended = mine.broken;
    track.onmute = () => say("The camera sends no picture for now: is it switched off or covered by the system?", true);
    track.onunmute = () => say(HOLD);
    video.srcObject = stream;
    await start(video, "The camera's picture");
  } catch (error) {
    fail(mine, error.message);
    return;
  }
  if (source !== mine) return;
  video.onerror = mine.broken;
  press("camera", true);
  setMirror("camera");
  say(facts ? HOLD : LOADING);
  await run(mine);
}

/** Hands frame after frame to the worker, always the newest one, until another source is chosen. */
async function run(mine) {
  let last = -1;
  let place = null; // in the video, of the frame that was looked at last
  const missed = () => mine.kind === "video" && video.paused && !video.seeking && video.readyState >= 2 && video.currentTime !== place;
  while (source === mine) {
    // Where the video stands still at a frame that came while the one before was looked at, none will follow.
    const seconds = missed() ? video.currentTime : await nextFrame(video, mine.kind === "camera");
    if (source !== mine) return;
    place = video.currentTime;
    if (seconds < last) worker.postMessage({ type: "reset" });
    last = seconds;
    let bitmap;
    try {
      bitmap = await createImageBitmap(video, limited(video.videoWidth, video.videoHeight, LONGEST_FRAME));
    } catch {
      if (source !== mine) return;
      if (!video.error && (video.seeking || video.readyState < 2)) continue; // it is on its way to another place
      return mine.broken();
    }
    if (source !== mine) return bitmap.close();
    const answer = await ask({ type: "frame", seconds }, bitmap);
    if (source !== mine) return;
    if (!answer && !facts) return stop(); // there is no network, and the message says why
    if (answer) show(answer);
    showClock();
  }
}

// --- controls --------------------------------------------------------------------------------------------------------

function showClock() {
  if (source?.kind !== "video") return;
  const whole = Math.floor(video.currentTime);
  const text = `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  if ($("clock").textContent !== text) $("seek").setAttribute("aria-valuetext", text);
  write("clock", text);
  if (video.duration && !$("seek").matches(":active")) $("seek").value = video.currentTime / video.duration;
}

function togglePause() {
  if (source?.kind !== "video" || $("player").hidden) return; // it has not begun yet
  if (video.paused) video.play();
  else video.pause();
}
video.onplay = () => { $("pause").textContent = "Pause"; };
video.onpause = () => { $("pause").textContent = "Play"; };
$("seek").oninput = () => { if (video.duration) video.currentTime = Number($("seek").value) * video.duration; };

function press(id, on) {
  $(id).setAttribute("aria-pressed", String(on));
}

/** Mirrors the picture or not, as was chosen for its kind of source: "camera" or "file". */
function setMirror(from) {
  shown.from = from;
  press("mirror", mirrors[from]);
  redraw();
}

function toggleMirror() {
  mirrors[shown.from] = !mirrors[shown.from];
  setMirror(shown.from);
}

function toggleHeatmaps() {
  shown.heatmaps = !shown.heatmaps;
  press("heatmaps", shown.heatmaps);
  redraw();
}

function toggleSmooth() {
  const on = $("smooth").getAttribute("aria-pressed") !== "true";
  press("smooth", on);
  worker.postMessage({ type: "smooth", on });
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

function toggleTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  setTheme((document.documentElement.dataset.theme ?? system) === "dark" ? "light" : "dark");
  try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch { /* not allowed: not kept */ }
}

function firstTheme() {
  let kept = null;
  try { kept = localStorage.getItem("theme"); } catch { /* not allowed */ }
  if (kept) setTheme(kept); // else the page follows the system
}

const actions = {
  p: () => $("picture-file").click(),
  v: () => $("video-file").click(),
  c: toggleCamera,
  " ": togglePause,
  h: toggleHeatmaps,
  m: toggleMirror,
  s: toggleSmooth,
  t: toggleTheme,
  "?": () => $("keys").showModal(),
};
const buttons = { picture: "p", video: "v", camera: "c", pause: " ", heatmaps: "h", mirror: "m", smooth: "s", theme: "t", help: "?" };
for (const [id, key] of Object.entries(buttons)) $(id).onclick = actions[key];

document.addEventListener("keydown", (event) => {
  const action = actions[event.key.toLowerCase()];
  const elsewhere = event.target.closest("select, input:not([type=range]), dialog");
  const scrolls = event.key === " " && (event.target.closest("button, a") || $("player").hidden);
  if (!action || elsewhere || scrolls || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  action();
});

for (const id of ["picture-file", "video-file"]) {
  $(id).onchange = ({ target }) => {
    openFile(target.files[0]);
    target.value = ""; // the same file may be chosen again
  };
}
for (const button of document.querySelectorAll("[data-example]")) {
  button.onclick = () => {
    chosen += 1;
    openPicture(fetched(button.dataset.example).then((response) => response.blob()), "the rendered hand");
  };
}
$("precision").onchange = () => {
  delete document.body.dataset.ready;
  say(LOADING);
  load();
};

let dragged = 0; // into how many elements, one inside the other, the pointer has been dragged
document.addEventListener("dragenter", (event) => {
  dragged += 1;
  $("drop").hidden = !event.dataTransfer?.types.includes("Files");
});
document.addEventListener("dragleave", () => {
  dragged -= 1;
  if (dragged <= 0) $("drop").hidden = true;
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  dragged = 0;
  $("drop").hidden = true;
  const files = [...event.dataTransfer.files];
  if (files.length) openFile(files.find(({ type }) => /^(image|video)\//.test(type)) ?? files[0]);
  else say("That was no file: drop a picture or a video from a folder.", true);
});
document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) openFile(event.clipboardData.files[0]); });
window.addEventListener("resize", redraw);

firstTheme();
load();
