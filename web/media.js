// Where frames come from: sizes, times and what can go wrong with cameras and videos.

/** What createImageBitmap needs to know for a bitmap of at most `longest` px a side; {} where it is small enough. */
export function limited(width, height, longest) {
  const factor = Math.min(1, longest / Math.max(width, height));
  if (factor === 1) return {};
  const [resizeWidth, resizeHeight] = [width, height].map((side) => Math.max(1, Math.round(side * factor)));
  return { resizeWidth, resizeHeight, resizeQuality: "high" };
}

/** A picture file's bitmap, of at most `longest` px a side. */
export async function readPicture(blob, longest) {
  const whole = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const size = limited(whole.width, whole.height, longest);
  if (!size.resizeWidth) return whole;
  try {
    return await createImageBitmap(whole, size);
  } finally {
    whole.close(); // 4 bytes per pixel, kept for as long as nobody closes it
  }
}

/** Waits for a frame of a playing <video> that was not there before, and says when it belongs, in seconds. */
export function nextFrame(video, live) {
  const time = (now, media) => (live ? now / 1000 : media);
  return new Promise((resolve) => {
    if (video.requestVideoFrameCallback) {
      video.requestVideoFrameCallback((now, { mediaTime }) => resolve(time(now, mediaTime)));
    } else {
      requestAnimationFrame((now) => resolve(time(now, video.currentTime)));
    }
    if (!live) video.onseeked = () => resolve(video.currentTime); // not every browser shows a paused video's frame anew
  });
}

/** Starts to play; an error says what is wrong with the video. */
export async function start(video, name) {
  const failed = new Promise((_, reject) => { video.onerror = () => reject(video.error); });
  try {
    await Promise.race([video.play(), failed]);
  } catch {
    throw new Error(`${name} can't be played: it is damaged, or of a kind that this browser doesn't know. MP4 with H.264 plays nearly everywhere.`);
  }
  if (!video.videoWidth) throw new Error(`${name} has sound but no picture: choose a video of a hand.`);
}

/** The camera's stream; an error says what to do. */
export async function openCamera() {
  const wanted = { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" };
  try {
    if (!navigator.mediaDevices) throw new DOMException("", "NotSupportedError");
    return await navigator.mediaDevices.getUserMedia({ video: wanted });
  } catch (error) {
    throw new Error(cameraProblem(error), { cause: error });
  }
}

function cameraProblem({ name }) {
  return {
    NotAllowedError: "The camera may not be used: allow it in the browser's settings for this page, then press Camera again.",
    NotFoundError: "No camera was found: connect one, or choose a video.",
    NotReadableError: "The camera is in use by another program: close it there, then press Camera again.",
    NotSupportedError: "This browser gives no camera to this page: open it at https:// or at http://127.0.0.1.",
  }[name] ?? `The camera could not be started (${name}).`;
}
