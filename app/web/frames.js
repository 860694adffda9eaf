// Videos and animations: the frames as the server reads them, over POST /detect/stream.

import { openStream, Problem } from "./api.js";

export const MOST_FRAMES = 60; // of one file
const EVERY = 15; // of a video: two a second at 30 frames a second; of an animation every frame is read
const ENLARGED = 320; // px: pictures whose long side is below it are drawn larger
const HEAD = 1 << 20; // bytes that tell whether a picture moves

const VIDEO = /\.(mp4|m4v|mov|webm|mkv|avi|mpe?g|ogv|m2ts|3gp)$/i;
export const isVideo = ({ type, name }) => type.startsWith("video/") || VIDEO.test(name);
export const everyOf = (file) => (isVideo(file) ? EVERY : 1);

/** Whether the file is a video, or a picture of several frames that a browser would play. */
export async function isMoving(file) {
  if (isVideo(file)) return true;
  const text = new TextDecoder("latin1").decode(await file.slice(0, HEAD).arrayBuffer());
  if (text.startsWith("GIF8")) return text.includes("NETSCAPE2.0") || text.split("\x21\xf9\x04").length > 2;
  if (text.startsWith("RIFF") && text.slice(8, 12) === "WEBP") return text.slice(12, 16) === "VP8X" && (text.charCodeAt(20) & 2) > 0;
  return text.startsWith("\x89PNG") && text.split("IDAT")[0].includes("acTL");
}

/** Options that read frames and detect nothing: the smallest input, and no box is as large as wanted. */
const bare = (file, model) => ({
  format: "png", size: 64, score_threshold: 1, min_area: 1e12, max_detections: 1, every: everyOf(file), max_frames: MOST_FRAMES, model,
});

/** Yields {file, frame} for each frame, a PNG file without loss, or {problem, frame} for one that failed. */
export async function* framesOf(file, model, signal) {
  const response = await openStream(file, bare(file, model), signal);
  const small = await sizeIfSmall(file);
  let index = 0;
  for await (const { type, body } of parts(response.body)) {
    const frame = index * everyOf(file);
    index += 1;
    if (type.startsWith("image/")) {
      const blob = new Blob([body], { type });
      yield { frame, file: new File([small ? await reduced(blob, small) : blob], frameName(file.name, frame), { type }) };
    }
    else yield { frame, problem: new Problem(JSON.parse(new TextDecoder().decode(body))) };
  }
}

/** The size of an animation that the server enlarges when it draws it, by whole numbers; `null` for any other file. */
async function sizeIfSmall(file) {
  const bitmap = isVideo(file) ? null : await createImageBitmap(file).catch(() => null);
  return bitmap && Math.max(bitmap.width, bitmap.height) < ENLARGED ? { width: bitmap.width, height: bitmap.height } : null;
}

/** The frame in its own size again: one pixel of each block of equal ones. */
async function reduced(blob, { width, height }) {
  const bitmap = await createImageBitmap(blob, { resizeWidth: width, resizeHeight: height, resizeQuality: "pixelated" });
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

const frameName = (name, frame) => `${name.replace(/\.\w+$/, "")}-frame-${String(frame).padStart(4, "0")}.png`;

/** The parts of a multipart body whose parts all have a Content-Length: {type, body}. */
async function* parts(stream) {
  let held = new Uint8Array();
  const reader = stream.getReader();
  for (;;) {
    const part = cut(held);
    if (part) {
      yield part;
      held = held.slice(part.end);
      continue;
    }
    const { done, value } = await reader.read();
    if (done) return;
    const joined = new Uint8Array(held.length + value.length);
    joined.set(held);
    joined.set(value, held.length);
    held = joined;
  }
}

/** The first whole part of `bytes`, or `null`. */
function cut(bytes) {
  const head = new TextDecoder("latin1").decode(bytes.subarray(0, 2048));
  const blank = head.indexOf("\r\n\r\n");
  const length = Number(head.match(/content-length: *(\d+)/i)?.[1]);
  if (blank < 0 || !(bytes.length >= blank + 4 + length)) return null;
  const end = blank + 4 + length;
  return { type: head.match(/content-type: *([^\r]+)/i)[1], body: bytes.slice(blank + 4, end), end };
}
