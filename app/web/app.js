// The page: opens pictures, requests their detections, and handles the controls.

import { fetchSample } from "./api.js";
import { listenForActions } from "./actions.js";
import { ask, callOff, listenForKey, only, report } from "./asking.js";
import { closeCamera, listenForCamera } from "./camera.js";
import { listenForCompare, toggleCompare } from "./compare.js";
import { $ } from "./dom.js";
import { isMoving } from "./frames.js";
import { listenForImages } from "./inputs.js";
import { listenForKeys } from "./keys.js";
import { listenForModel } from "./models.js";
import { say, showNotice, showTime } from "./panels.js";
import { showChooser, showPicture, showSize } from "./picture.js";
import { listenToBoxes, render, take, view } from "./render.js";
import * as roll from "./roll.js";
import { showCardSize, watchServer } from "./server.js";
import { state, summary } from "./state.js";
import { listenForStrip } from "./strip.js";
import { listenForTabs } from "./tabs.js";

const PAUSE = 250; // ms without movement before a slider sends a request

let pause = 0;

/** Opens files as pictures of this visit, and shows the first of them. */
async function open(files) {
  const made = await Promise.all(files.map(async (file) => roll.createItem(file, { moving: await isMoving(file) })));
  const opened = roll.add(made);
  if (opened.length === 0) return showNotice({ title: "The filmstrip is full.", text: `It keeps ${roll.LONGEST} pictures.`, advice: "Clear it to open more." });
  const shown = select(opened[0]);
  for (const item of opened.filter(({ moving }) => moving)) roll.unroll(item, (one) => { if (state.item === item) select(one); });
  roll.work();
  return shown;
}

/** Shows a picture, with the answer it has, or asks for one. */
async function select(item) {
  callOff();
  closeCamera();
  clearTimeout(pause);
  Object.assign(state, { item, image: item.file, answer: null, hidden: new Set(), pointed: null, pinned: null });
  showNotice(null);
  showChooser(false);
  view.reset();
  $("time").hidden = $("actions").hidden = true;
  $("caption-text").textContent = $("photo").alt = item.name;
  render();
  roll.work();
  if (item.moving) return showMoving(item);
  await showPicture(item.picture ?? item.file);
  if (state.item !== item) return undefined;
  if (roll.isFresh(item)) return showAnswer(item);
  if (item.problem && item.file.size === 0) return report(item.problem, () => {}); // a frame that the server could not read
  say(`Detecting objects in ${item.name}.`);
  return ask();
}

function showAnswer({ name, answer, elapsed }) {
  take(answer);
  showTime(answer.timings_ms, elapsed);
  showSize(name, answer.image);
  $("actions").hidden = false;
  render();
  say(summary());
}

/** A video has no picture of its own: its frames take its place as they come, or it says why there are none. */
function showMoving(item) {
  if (item.problem) return report(item.problem, () => { roll.unroll(item, (one) => { if (state.item === item) select(one); }); select(item); });
  showPicture(new Blob());
  $("caption-text").textContent = `Reading the frames of ${item.name}…`;
  return say(`Reading the frames of ${item.name}.`);
}

async function chooseSample(sample) {
  let image = null;
  await only(async () => { image = await fetchSample(sample); });
  if (image) await open([image]);
}

function empty() {
  callOff();
  toggleCompare(false);
  Object.assign(state, { item: null, image: null, answer: null });
  $("time").hidden = $("actions").hidden = true;
  showNotice(null);
  showChooser(true);
  render();
  $("file").focus();
}

/** Asks again once a slider rests; the camera's next frame is asked about with it anyway. */
function askSoon() {
  clearTimeout(pause);
  if (state.image && !state.camera && !state.item?.moving) pause = setTimeout(ask, PAUSE);
}

function listenForSliders() {
  $("score").addEventListener("input", () => {
    state.score = $("score").valueAsNumber;
    state.moved.add("score");
    render();
  });
  $("score").addEventListener("change", () => { if (state.answer) say(summary()); });
  $("nms").addEventListener("input", () => {
    state.nms = $("nms").valueAsNumber;
    state.moved.add("nms");
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

listenForImages(open);
listenForCamera((photo) => open([photo]));
listenForSliders();
listenForKey();
listenForModel(askSoon);
listenToBoxes();
listenForTabs();
listenForStrip({ pick: select, empty });
listenForCompare();
listenForKeys({ onItem: select, onCompare: toggleCompare });
listenForActions();
render();
watchServer(chooseSample);
