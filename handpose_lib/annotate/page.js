// The page of `handpose annotate`: shows a picture with its 21 points, lets them be dragged, and saves each change.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const ZOOMS = [1, 1.5, 2, 3, 4, 6];
const WINDOW = crypto.randomUUID(); // where an answer is lost, the server knows whose the change was
const UNSURE = 0.5; // points of a lower confidence are drawn pale until they are moved

let state; // pictures, keypoints, bones, colours
let number = 0; // of the picture shown
let hand = null; // its label: `saved` is what the server confirmed, `wanted` whether it shall have one
let points = []; // 21 of [x, y] or null, px of the picture
let moved = new Set(); // points that a person has placed
let past = []; // earlier labels, for undo
let zoom = 0;
let saving = Promise.resolve(true);
let unsaved = null; // sends the last change again; null where the server has confirmed it
let letGo = null; // ends the drag that is going on; null where there is none

async function ask(path, method = "GET", content = undefined, version = undefined) {
  const options = { method, headers: version ? { "If-Match": version, Window: WINDOW } : {} };
  if (content !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(content);
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("handpose annotate is no longer running: start it again and open its new address");
  }
  if (!answer.ok) throw Object.assign(new Error(await answer.text()), { status: answer.status });
  return answer.json();
}

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

// --- one picture ---------------------------------------------------------------------------------------------------

// Points that could not be saved are nowhere but on this page, so it stays on their picture until they are.
async function allSaved() {
  letGo?.();
  await settled();
  unsaved?.();
  await settled();
  return unsaved === null;
}

async function settled() {
  let waited;
  do {
    waited = saving;
    await waited;
  } while (waited !== saving);
}

async function show(wanted) {
  if (!(await allSaved())) return;
  number = Math.min(Math.max(wanted, 0), state.pictures.length - 1);
  history.replaceState(null, "", `#${number + 1}`);
  const asked = number;
  hand = null;
  points = [];
  past = [];
  draw();
  $("name").textContent = `${state.folder}: ${state.pictures[number].name}`;
  $("picture").src = `picture/${number}`;
  $("picture").alt = state.pictures[number].name;
  say("the network looks …");
  try {
    const answer = await ask(`hand/${number}`);
    await $("picture").decode().catch(() => {}); // no points on the picture before
    if (asked !== number) return;
    hand = { ...answer, wanted: answer.saved };
    state.pictures[number].done = answer.saved;
  } catch (error) {
    if (asked === number) say(error.message, true);
    progress();
    return;
  }
  points = hand.keypoints.map((point) => point && [...point]);
  moved = new Set(hand.saved ? points.keys() : []);
  $("side").value = hand.side;
  $("group").value = hand.group;
  say(hand.saved ? "saved" : "proposed by the network, not saved yet: drag what is off, then accept");
  fit();
  draw();
  progress();
  if (number + 1 < state.pictures.length) fetch(`hand/${number + 1}`).catch(() => {}); // so that it is there at once
}

function progress() {
  const done = state.pictures.filter((picture) => picture.done).length;
  $("progress").max = state.pictures.length;
  $("progress").value = done;
  $("progress-text").textContent = `picture ${number + 1} of ${state.pictures.length}, ${done} labelled`;
  $("undo").disabled = past.length === 0;
  $("remove").disabled = !removable();
  for (const id of ["accept", "reset", "side", "group"]) $(id).disabled = !hand;
  $("previous").disabled = number === 0;
  $("next").disabled = number === state.pictures.length - 1;
}

function fit() {
  if (!hand) return;
  const [width, height] = hand.size;
  const stage = $("stage");
  const share = Math.min(stage.clientWidth / width, Math.max(0.6 * innerHeight, 240) / height);
  $("canvas").style.width = `${Math.round(width * share * ZOOMS[zoom])}px`;
  $("zoom").textContent = `${Math.round(100 * ZOOMS[zoom])} %`;
  $("hand").setAttribute("viewBox", `-0.5 -0.5 ${width} ${height}`); // a pixel's centre has whole-number coordinates
}

// --- drawing -------------------------------------------------------------------------------------------------------

function make(kind, attributes) {
  const element = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function draw() {
  const svg = $("hand");
  const focused = document.activeElement?.dataset?.point;
  svg.replaceChildren();
  if (hand) {
    const pixel = hand.size[0] / $("canvas").clientWidth; // px of the picture per px of the screen
    const ends = state.bones.filter(([a, b]) => points[a] && points[b]);
    for (const kind of ["edge", "bone"]) {
      for (const [a, b] of ends) {
        const line = make("line", { x1: points[a][0], y1: points[a][1], x2: points[b][0], y2: points[b][1], class: kind });
        if (kind === "bone") line.setAttribute("stroke", state.colours[b]);
        svg.append(line);
      }
    }
    points.forEach((point, k) => {
      if (!point) return;
      const pale = !moved.has(k) && hand.confidence[k] < UNSURE ? " unsure" : "";
      const circle = make("circle", {
        cx: point[0], cy: point[1], r: 6 * pixel, fill: state.colours[k], class: `point${pale}`, tabindex: 0,
        "data-point": k, role: "button", "aria-label": state.keypoints[k].replace("_", " "),
      });
      const title = make("title", {});
      title.textContent = state.keypoints[k];
      circle.append(title);
      svg.append(make("circle", { cx: point[0], cy: point[1], r: 14 * pixel, class: "target", "data-point": k }), circle);
    });
    if (focused !== undefined) svg.querySelector(`.point[data-point="${focused}"]`)?.focus({ preventScroll: true });
  }
  $("list").replaceChildren(...(hand ? state.keypoints.map(entry) : []));
}

function entry(name, k) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.textContent = name.replace("_", " ");
  button.classList.toggle("missing", !points[k]);
  button.title = points[k] ? "go to it" : "put it back where the network proposed it";
  button.addEventListener("click", () => {
    if (!points[k]) change(() => { points[k] = [...hand.proposed[k]]; moved.add(k); });
    document.querySelector(`.point[data-point="${k}"]`)?.focus();
  });
  item.append(button);
  return item;
}

// --- changes -------------------------------------------------------------------------------------------------------

function remember() {
  const { wanted, side, group } = hand;
  past.push({ points: points.map((point) => point && [...point]), moved: new Set(moved), wanted, side, group });
}

function change(how) {
  remember();
  how();
  draw();
  save();
}

// When the side or the group was changed: the page shows the new one then, and `hand` has the old one.
const told = () => hand && change(() => {});

function save() {
  if (!hand) return saving;
  hand.side = $("side").value;
  hand.group = $("group").value.trim();
  return sent(true);
}

// One after the other, so that an older change never overwrites a newer one. What is wanted is noted at once: the next
// change, undo or removal may come before the answer does.
function sent(wanted, undone = false) {
  const [path, now, picture] = [`hand/${number}`, hand, state.pictures[number]];
  const label = wanted ? structuredClone({ keypoints: points, side: hand.side, group: hand.group, undone }) : undefined;
  const send = async () => {
    say("saving …");
    try {
      now.version = (await ask(path, wanted ? "PUT" : "DELETE", label, now.version)).version;
      now.saved = picture.done = wanted;
      if (unsaved === again) unsaved = null;
      if (now === hand) say(wanted ? "saved" : "no label is saved");
      progress();
      return true;
    } catch (error) {
      const refused = [404, 422].includes(error.status); // this label will never be taken
      say(`not saved: ${error.message}${refused ? '. "Undo" or "no label" lets you go on' : ""}`, true);
      return false;
    }
  };
  const again = () => (saving = saving.then(send));
  hand.wanted = wanted;
  unsaved = again;
  progress();
  return again();
}

function undo() {
  letGo?.();
  const before = past.pop();
  if (!before) return;
  ({ points, moved } = before);
  $("side").value = hand.side = before.side;
  $("group").value = hand.group = before.group;
  draw();
  sent(before.wanted, true);
}

async function accept() {
  letGo?.();
  const next = number + 1; // the number may be another when this one is saved
  if (hand && (await save()) && next < state.pictures.length) show(next);
}

function reset() {
  if (hand) change(() => { points = hand.proposed.map((point) => [...point]); moved = new Set(); });
}

// Also while its label is being saved, and again where the removal failed.
const removable = () => hand?.wanted || hand?.saved;

function remove() {
  if (!removable()) return;
  if (hand.wanted) remember();
  sent(false);
}

function place(event) {
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform($("hand").getScreenCTM().inverse());
  return [at.x, at.y];
}

function inside([x, y]) {
  const [width, height] = hand.size;
  return [Math.min(Math.max(x, -0.5), width - 0.5), Math.min(Math.max(y, -0.5), height - 0.5)];
}

$("hand").addEventListener("pointerdown", (event) => {
  const k = Number(event.target.dataset.point ?? -1);
  if (letGo || k < 0 || !points[k]) return; // a second finger moves nothing
  event.preventDefault();
  const [x, y] = place(event);
  const [dx, dy] = [points[k][0] - x, points[k][1] - y]; // where it was taken hold of
  remember();
  document.querySelector(`.point[data-point="${k}"]`).focus({ preventScroll: true });
  let dragged = false;
  const move = (next) => {
    if (next.pointerId !== event.pointerId) return;
    const [u, v] = place(next);
    points[k] = inside([u + dx, v + dy]);
    moved.add(k);
    dragged = true;
    draw();
  };
  const stop = (last) => {
    if (last && last.pointerId !== event.pointerId) return;
    removeEventListener("pointermove", move);
    removeEventListener("pointerup", stop);
    removeEventListener("pointercancel", stop);
    letGo = null;
    if (dragged) save();
    else past.pop();
    progress();
  };
  letGo = stop;
  addEventListener("pointermove", move);
  addEventListener("pointerup", stop);
  addEventListener("pointercancel", stop);
});

// A finger on a point drags it, a finger beside the points scrolls. That can't be said by `touch-action`, since the
// element that was touched is drawn anew.
$("hand").addEventListener("touchstart", (event) => {
  if (event.target.dataset.point) event.preventDefault();
}, { passive: false });

// --- keys and buttons ----------------------------------------------------------------------------------------------

function setZoom(step) {
  zoom = Math.min(Math.max(zoom + step, 0), ZOOMS.length - 1);
  fit();
  draw();
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const KEYS = {
  n: () => show(number + 1), p: () => show(number - 1), u: undo, r: reset, x: remove,
  "+": () => setZoom(1), "=": () => setZoom(1), "-": () => setZoom(-1),
  l: () => {
    $("side").selectedIndex = ($("side").selectedIndex + 1) % 3;
    told();
  },
};

addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.altKey) return;
  if ((event.ctrlKey || event.metaKey) && event.key === "z") {
    event.preventDefault();
    undo();
    return;
  }
  if (event.ctrlKey || event.metaKey) return;
  if (event.key in KEYS || event.key in ARROWS || event.key === "Delete") letGo?.();
  const k = Number(event.target.dataset?.point ?? -1);
  if (k >= 0 && points[k] && event.key in ARROWS) {
    event.preventDefault();
    const [dx, dy] = ARROWS[event.key].map((step) => step * (event.shiftKey ? 10 : 1));
    change(() => { points[k] = inside([points[k][0] + dx, points[k][1] + dy]); moved.add(k); });
  } else if (k >= 0 && points[k] && (event.key === "Delete" || event.key === "Backspace")) {
    event.preventDefault();
    change(() => { points[k] = null; moved.add(k); });
  } else if (event.key === "Enter" && !event.target.matches("button, summary")) {
    accept();
  } else if (event.key in KEYS) {
    KEYS[event.key]();
  }
});

const BUTTONS = {
  previous: () => show(number - 1), next: () => show(number + 1), accept, undo, reset, remove,
  smaller: () => setZoom(-1), larger: () => setZoom(1),
};
for (const [id, action] of Object.entries(BUTTONS)) $(id).addEventListener("click", action);
for (const id of ["side", "group"]) $(id).addEventListener("change", told);
addEventListener("beforeunload", (event) => {
  if (unsaved) event.preventDefault(); // the browser asks whether to leave all the same
});
addEventListener("resize", () => { fit(); draw(); });

try {
  state = await ask("state");
  const first = state.pictures.findIndex((picture) => !picture.done);
  await show(location.hash ? Number(location.hash.slice(1)) - 1 || 0 : Math.max(first, 0));
} catch (error) {
  say(error.message, true);
}
