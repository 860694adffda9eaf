// The camera: its video on the page, and live detection at the rate of the server.

import { detect } from "./api.js";
import { callOff, onWait, only } from "./asking.js";
import { $ } from "./dom.js";
import { openLine } from "./live.js";
import { say, showNotice, showTime } from "./panels.js";
import { shape, showCamera, showChooser, showSize } from "./picture.js";
import { render, take } from "./render.js";
import { askedOptions, events, state } from "./state.js";

const WANTED = { video: { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: { ideal: "environment" } } };
const QUALITY = 0.9; // of the JPEG that is sent
const NEWEST = 0.2; // weight of the newest answer in the rate that is shown

const REASONS = {
  NotAllowedError: "The browser does not allow it. Allow the camera for this page, or choose an image.",
  NotFoundError: "No camera was found. Choose an image instead.",
  NotReadableError: "Another program may be using it.",
};
let stream = null;

/** Whether the browser lets this page have a camera at all: only over https or on this machine itself. */
const mayStream = () => Boolean(navigator.mediaDevices?.getUserMedia);

/** Opens the camera and detects what it sees until it is closed; without one, the system's own takes a photo. */
export async function openCamera() {
  if (!mayStream()) return $("shot").click();
  callOff();
  try {
    stream = await navigator.mediaDevices.getUserMedia(WANTED);
  } catch (error) {
    const text = REASONS[error.name] ?? error.message;
    return showNotice({ title: "The camera cannot be used", text, button: "Try again", onButton: openCamera });
  }
  for (const track of stream.getTracks()) track.addEventListener("ended", leave); // unplugged, or permission withdrawn
  $("video").srcObject = stream;
  await $("video").play();
  begin();
  return live();
}

function begin() {
  const { videoWidth, videoHeight } = $("video");
  Object.assign(state, { camera: true, item: null, image: new File([], "camera"), answer: null, hidden: new Set() });
  shape(videoWidth, videoHeight);
  showCamera(true);
  showChooser(false);
  showNotice(null);
  showSize("camera", { width: videoWidth, height: videoHeight });
  $("time").hidden = $("actions").hidden = true;
  say("The camera is on. Frames are detected as fast as the server answers.");
  render();
}

/** Stops the camera; what it saw last stays in the state until another image takes its place. */
export function closeCamera() {
  if (!state.camera) return;
  callOff();
  for (const track of stream.getTracks()) track.stop();
  $("video").srcObject = stream = null;
  state.camera = false;
  showCamera(false);
}

/** Leaves the camera for the place to choose an image. */
function leave() {
  closeCamera();
  Object.assign(state, { image: null, answer: null });
  $("time").hidden = true;
  showNotice(null);
  showChooser(true);
  $("camera").focus();
  render();
}

/** Over a web socket, opened anew while it answers; where there is none, by one request after the other. */
function live() {
  return only(async (signal) => {
    const show = createShow();
    while (state.camera) {
      await nextFrame(signal);
      if (!await overSocket(show, signal)) return overRequests(show, signal);
    }
  }, { quiet: true });
}

/** Every frame of the camera, as far as the network takes them; the server drops those it has no time for. */
async function overSocket(show, signal) {
  let answered = false;
  const onAnswer = (answer, elapsed) => {
    answered = true;
    if (!signal.aborted) show(answer, elapsed);
  };
  const onProblem = ({ title, message }) => {
    if (!signal.aborted) showNotice({ title, text: message, waiting: true });
  };
  const line = await openLine(askedOptions(), { signal, onAnswer, onProblem });
  signal.throwIfAborted();
  while (line?.open) {
    line.ask(askedOptions());
    if (!line.busy) await grab("camera.jpg").then(line.send);
    await Promise.race([nextFrame(signal), line.closed]);
  }
  return answered;
}

/** Frame after frame, the next one taken when the one before is answered: never two in flight. */
async function overRequests(show, signal) {
  while (state.camera) {
    const frame = await grab("camera.jpg");
    const { response, elapsed } = await detect(frame, askedOptions(), { signal, onWait });
    const answer = await response.json();
    signal.throwIfAborted();
    show(answer, elapsed);
    await nextFrame(signal);
  }
}

/** What shows an answer with the rate of the last ones, and how many frames were dropped where that is known. */
function createShow() {
  let rate = null;
  let before = performance.now();
  return (answer, elapsed) => {
    const now = 1000 / (performance.now() - before);
    before = performance.now();
    rate = rate === null ? now : rate + NEWEST * (now - rate);
    showNotice(null);
    take(answer);
    showTime(answer.timings_ms, elapsed);
    const dropped = answer.dropped === undefined ? "" : ` · ${answer.dropped} dropped`;
    showSize(`${rate.toFixed(1)} frames/s${dropped}`, answer.image);
    render();
  };
}

/** Waits for a picture that the camera has not given yet; a page out of sight gets none, so it asks nothing. */
function nextFrame(signal) {
  const video = $("video");
  return new Promise((resolve, reject) => {
    const cancel = () => reject(signal.reason);
    const give = () => { signal.removeEventListener("abort", cancel); resolve(); };
    signal.addEventListener("abort", cancel, { once: true });
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(give);
    else requestAnimationFrame(give);
  });
}

/** What the camera sees now, as a JPEG file. */
async function grab(name) {
  const { videoWidth: width, videoHeight: height } = $("video");
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").drawImage($("video"), 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
  return new File([blob], name, { type: "image/jpeg" });
}

/** Opens, shuts and closes the camera by its buttons; `onImage(File)` gets the photo taken. */
export function listenForCamera(onImage) {
  $("camera").addEventListener("click", openCamera);
  $("camera-again").addEventListener("click", openCamera);
  $("camera-off").addEventListener("click", leave);
  events.addEventListener("stopped", () => {
    if (state.camera) showNotice({ title: "Live detection is paused", text: "", waiting: true, button: "Resume", onButton: live });
  });
  $("shutter").addEventListener("click", async () => {
    onImage(await grab(`photo-${new Date().toISOString().slice(0, 19).replace(/\D/g, "-")}.jpg`));
  });
  $("shot").addEventListener("change", () => {
    if ($("shot").files[0]) onImage($("shot").files[0]);
    $("shot").value = "";
  });
}
