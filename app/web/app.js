// The page: reads an image, requests its detections, and handles the controls.

import { fetchSample } from "./api.js";
import { listenForActions } from "./actions.js";
import { ask, callOff, listenForKey, only } from "./asking.js";
import { closeCamera, listenForCamera } from "./camera.js";
import { listenForImages } from "./inputs.js";
import { listenForModel } from "./models.js";
import { say, showNotice } from "./panels.js";
import { showChooser, showPicture } from "./picture.js";
import { listenToBoxes, render, view } from "./render.js";
import { showCardSize, watchServer } from "./server.js";
import { state, summary } from "./state.js";

const PAUSE = 250; // ms without movement before a slider sends a request

const $ = (id) => document.getElementById(id);
let pause = 0;

async function choose(image) {
  callOff();
  closeCamera();
  clearTimeout(pause);
  Object.assign(state, { image, answer: null, hidden: new Set(), pointed: null, pinned: null });
  showNotice(null);
  showChooser(false);
  view.reset();
  $("time").hidden = $("actions").hidden = true;
  $("caption-text").textContent = $("photo").alt = image.name;
  say(`Detecting objects in ${image.name}.`);
  render();
  await showPicture(image);
  if (state.image === image) await ask();
}

async function chooseSample(sample) {
  let image = null;
  await only(async () => { image = await fetchSample(sample); });
  if (image) await choose(image);
}

/** Asks again once a slider rests; the camera's next frame is asked about with it anyway. */
function askSoon() {
  clearTimeout(pause);
  if (state.image && !state.camera) pause = setTimeout(ask, PAUSE);
}

function listenForSliders() {
  $("score").addEventListener("input", () => { state.score = $("score").valueAsNumber; render(); });
  $("score").addEventListener("change", () => { if (state.answer) say(summary()); });
  $("nms").addEventListener("input", () => {
    state.nms = $("nms").valueAsNumber;
    $("nms-value").textContent = state.nms.toFixed(2);
    askSoon();
  });
  $("size").addEventListener("input", () => {
    state.size = $("size").valueAsNumber;
    $("size-value").textContent = `${state.size} px`;
    $("size-card").hidden = false;
    askSoon();
  });
  $("size-card").addEventListener("click", () => {
    state.size = null;
    showCardSize();
    $("size-card").hidden = true;
    $("size").focus();
    askSoon();
  });
  $("tile").addEventListener("change", () => {
    state.tile = $("tile").value || null;
    askSoon();
  });
}

listenForImages(choose);
listenForCamera(choose);
listenForSliders();
listenForKey();
listenForModel(askSoon);
listenToBoxes();
listenForActions();
render();
watchServer(chooseSample);
