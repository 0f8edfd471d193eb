// Draws what the network says: the skeleton, the heatmaps, the confidence of each keypoint.

import { inverse } from "./geometry.js";

/** The colour of each keypoint: its finger's. */
export function keypointColours(facts) {
  return facts.keypoints.map((_, index) =>
    facts.fingers.find((finger) => finger.keypoints.includes(index))?.colour ?? facts.wrist_colour);
}

/** Fits a canvas into a box of the page.
 *
 * A picture is drawn at the screen's own resolution. A video's frames keep theirs, and the browser enlarges them, which
 * takes the page less time than to draw each at another size.
 */
export function fit(canvas, width, height, boxWidth, boxHeight, still) {
  const shrink = Math.min(boxWidth / width, boxHeight / height);
  const [shownWidth, shownHeight] = [width, height].map((side) => Math.max(1, Math.round(side * shrink)));
  const density = Math.min(window.devicePixelRatio || 1, 2);
  const [w, h] = still ? [Math.round(shownWidth * density), Math.round(shownHeight * density)] : [width, height];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  canvas.style.width = `${shownWidth}px`;
  canvas.style.height = `${shownHeight}px`;
  return { scale: w / width, line: w / shownWidth };
}

/** The frame with what was found in it. */
export function drawFrame(context, bitmap, seen, facts, { scale, line, mirror, heatmaps }) {
  context.setTransform(mirror ? -scale : scale, 0, 0, scale, mirror ? bitmap.width * scale : 0, 0);
  context.imageSmoothingEnabled = scale !== 1;
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  context.imageSmoothingEnabled = true;
  if (!seen) return;
  if (heatmaps) drawHeatmaps(context, seen, facts);
  if (seen.found) drawSkeleton(context, seen, facts, line / scale);
}

function drawSkeleton(context, { keypoints, confidence }, facts, unit) {
  const colours = keypointColours(facts);
  const at = (index) => keypoints[index].map((value) => value + 0.5); // the middle of its pixel
  context.lineCap = "round";
  const line = ([from, to]) => {
    context.moveTo(...at(from));
    context.lineTo(...at(to));
  };
  context.strokeStyle = "rgb(0 0 0 / 55%)";
  context.lineWidth = 6 * unit;
  context.beginPath();
  facts.bones.forEach(line); // in one go: no darker where two meet
  context.stroke();
  context.lineWidth = 3.2 * unit;
  for (const bone of facts.bones) {
    context.strokeStyle = colours[bone[1]];
    context.globalAlpha = 0.35 + 0.65 * Math.min(confidence[bone[0]], confidence[bone[1]]);
    context.beginPath();
    line(bone);
    context.stroke();
  }
  context.globalAlpha = 1;
  keypoints.forEach((_, index) => {
    context.beginPath();
    context.arc(...at(index), 4.4 * unit, 0, 2 * Math.PI);
    context.fillStyle = confidence[index] < 0.3 ? "#00000099" : "#ffffff"; // an unsure one is hollow
    context.fill();
    context.lineWidth = 2.2 * unit;
    context.strokeStyle = colours[index];
    context.stroke();
  });
}

/** The heatmaps where the network's square lies in the picture. */
function drawHeatmaps(context, { heatmaps, map, size }, facts) {
  const back = inverse(map);
  context.save();
  // From the square to the picture, both counted from the edge of their first pixel.
  const [x, y] = [back[2] + 0.5 - (back[0] + back[1]) / 2, back[5] + 0.5 - (back[3] + back[4]) / 2];
  context.transform(back[0], back[3], back[1], back[4], x, y);
  context.drawImage(heatPicture(heatmaps, facts), 0, 0, size, size);
  context.strokeStyle = "rgb(255 255 255 / 60%)";
  context.lineWidth = size / 160;
  context.strokeRect(0, 0, size, size);
  context.restore();
}

/** All heatmaps in one picture, each in its finger's colour, as opaque as it is high. */
function heatPicture({ values, side }, facts) {
  const colours = keypointColours(facts).map((colour) =>
    [1, 3, 5].map((start) => Number.parseInt(colour.slice(start, start + 2), 16)));
  const pixels = side * side;
  const image = new ImageData(side, side);
  for (let pixel = 0; pixel < pixels; pixel += 1) {
    let [total, most, red, green, blue] = [0, 0, 0, 0, 0];
    for (let index = 0; index < colours.length; index += 1) {
      const value = values[index * pixels + pixel];
      if (value <= 0.05) continue;
      total += value;
      most = Math.max(most, value);
      red += value * colours[index][0];
      green += value * colours[index][1];
      blue += value * colours[index][2];
    }
    if (total > 0) image.data.set([red / total, green / total, blue / total, 255 * Math.min(1, most) * 0.9], pixel * 4);
  }
  const canvas = new OffscreenCanvas(side, side);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** The network's square with its heatmaps. */
export function drawView(canvas, { square, size, heatmaps }, facts) {
  const image = new ImageData(size, size);
  for (let from = 0, to = 0; from < square.length; from += 3, to += 4) {
    image.data[to] = square[from];
    image.data[to + 1] = square[from + 1];
    image.data[to + 2] = square[from + 2];
    image.data[to + 3] = 255;
  }
  const small = new OffscreenCanvas(size, size);
  small.getContext("2d").putImageData(image, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false; // these are the pixels that it gets
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = true;
  context.drawImage(heatPicture(heatmaps, facts), 0, 0, canvas.width, canvas.height);
}

/** A box per keypoint, fingers side by side, fingertips on top. */
export function makeConfidenceTable(parent, facts) {
  const cells = new Array(facts.keypoints.length);
  const make = (index, colour, extra = "") => {
    const cell = document.createElement("div");
    cell.className = `cell ${extra}`;
    cell.role = "img"; // which may have a label
    const fill = document.createElement("i");
    fill.style.background = colour;
    const text = document.createElement("span");
    text.textContent = "–";
    cell.append(fill, text);
    cell.title = facts.keypoints[index].replaceAll("_", " ");
    cell.dataset.keypoint = facts.keypoints[index];
    parent.append(cell);
    cells[index] = { cell, fill, text };
  };
  parent.replaceChildren();
  for (const { name } of facts.fingers) {
    const label = document.createElement("div");
    label.className = "finger-name";
    label.textContent = name;
    parent.append(label);
  }
  for (let row = 3; row >= 0; row -= 1) {
    for (const finger of facts.fingers) make(finger.keypoints[row], finger.colour);
  }
  make(0, facts.wrist_colour, "wrist");
  return (confidence) => cells.forEach(({ cell, fill, text }, index) => {
    const percent = confidence ? Math.round(100 * confidence[index]) : null;
    const name = facts.keypoints[index].replaceAll("_", " ");
    fill.style.transform = `scaleY(${percent === null ? 0 : percent / 100})`;
    text.textContent = percent === null ? "–" : index === 0 ? `wrist ${percent}` : percent;
    cell.setAttribute("aria-label", percent === null ? name : `${name}: ${percent} percent`);
  });
}
