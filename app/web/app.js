// The page: holds what is shown (state), asks the server, and draws state into the panels and over the image.

import { Problem, apiKey, asCurl, detect, fetchSample, health, loadedCard, samples } from "./api.js";
import { copy, listenForImages, save } from "./inputs.js";
import { markActive, say, showChips, showList, showNotice, showSamples, showServing, showTime } from "./panels.js";
import { createStage } from "./stage.js";

const FLOOR = 0.05; // asked for once, so that the score slider never needs the server
const MOST = 300; // boxes asked for; more than a person reads
const PAUSE = 250; // ms without movement before a slider asks the server
const HEALTH_PAUSE = 2000; // ms between looks at a server that is not ready

const $ = (id) => document.getElementById(id);
const stage = createStage($("boxes"));
const state = { image: null, answer: null, score: 0.5, nms: 0.5, hidden: new Set(), pointed: null, pinned: null };
let running = null; // AbortController of the request in flight
let looking = 0; // timer of the next look at /health

// What is shown -------------------------------------------------------------------------------------------------

/** Detections at or above the slider's score: {index, box, label, score, name}. */
function sure() {
  const { boxes, labels, scores, names } = state.answer ?? { boxes: [] };
  return boxes
    .map((box, index) => ({ index, box, label: labels[index], score: scores[index], name: names[index] }))
    .filter(({ score }) => score >= state.score);
}

const shown = () => sure().filter(({ name }) => !state.hidden.has(name));

function countByClass(detections) {
  const counts = new Map();
  for (const { name, label } of detections) {
    counts.set(name, { name, label, count: (counts.get(name)?.count ?? 0) + 1 });
  }
  return [...counts.values()].sort((a, b) => b.count - a.count || a.name.localeCompare(b.name));
}

function drawBoxes() {
  const visible = shown();
  const active = [state.pointed, state.pinned].find((one) => visible.some(({ index }) => index === one)) ?? null;
  const { width, height } = state.answer?.image ?? { width: 1, height: 1 };
  stage.show({ detections: visible, active, width, height });
  markActive(active, state.pinned);
}

function whyEmpty() {
  if (!state.image) return "Choose an image, and what is found in it is listed here.";
  if (!state.answer) return running ? "Looking…" : "No answer for this image.";
  if (state.answer.boxes.length === 0) return "Nothing found, even at the lowest score.";
  return "Nothing at this score. Lower the slider, or switch a class on.";
}

function render() {
  $("score-value").textContent = state.score.toFixed(2);
  $("nms-value").textContent = state.nms.toFixed(2);
  showChips(countByClass(sure()), state.hidden, toggleClass);
  showList(shown(), state.answer?.boxes.length ?? null, whyEmpty(), { point, pin });
  drawBoxes();
}

function point(index) {
  if (state.pointed === index) return;
  state.pointed = index;
  drawBoxes();
}

function pin(index) {
  state.pinned = state.pinned === index ? null : index;
  drawBoxes();
}

function toggleClass(name) {
  if (!state.hidden.delete(name)) state.hidden.add(name);
  render();
  say(summary());
}

function summary() {
  const visible = shown();
  const parts = countByClass(visible).map(({ name, count }) => `${count} ${name}`);
  return visible.length === 0 ? "No objects at this score." : `${visible.length} ${visible.length === 1 ? "object" : "objects"}: ${parts.join(", ")}.`;
}

// Asking the server ---------------------------------------------------------------------------------------------

/** What the server would be asked to answer exactly what is shown now. */
function shownOptions() {
  const names = countByClass(sure()).map(({ name }) => name);
  const some = names.some((name) => state.hidden.has(name));
  return {
    score_threshold: state.score,
    nms_threshold: state.nms,
    max_detections: MOST,
    classes: some ? names.filter((name) => !state.hidden.has(name)) : [],
  };
}

/** Runs `work(signal)` as the one request in flight, calling off the one before; a problem becomes a notice. */
async function only(work) {
  running?.abort();
  const mine = new AbortController();
  running = mine;
  $("busy").hidden = false;
  render();
  try {
    await work(mine.signal);
    if (running === mine) showNotice(null);
    $("key-form").hidden = true;
  } catch (error) {
    if (error.name !== "AbortError") report(error, () => only(work));
  } finally {
    if (running === mine) {
      running = null;
      $("busy").hidden = true;
      render();
    }
  }
}

function report(error, again) {
  if (!(error instanceof Problem)) throw error;
  if (error.status === 401) return askForKey(again);
  if (!state.answer && !$("photo").naturalWidth) showChooser(true); // there is nothing to show of this file
  const curable = error.status === 0 || error.status === 429 || error.status >= 500;
  showNotice({ title: error.title, text: error.detail, button: curable ? "Try again" : null, onButton: again });
  if (curable) watchHealth();
}

function onWait(problem, left) {
  const onButton = () => { running?.abort(); showNotice(null); };
  showNotice({ title: problem.title, text: problem.detail, left, waiting: true, button: "Stop waiting", onButton });
}

function ask() {
  return only(async (signal) => {
    const { image } = state;
    const options = { score_threshold: FLOOR, nms_threshold: state.nms, max_detections: MOST };
    const { response, elapsed } = await detect(image, options, { signal, onWait });
    const answer = await response.json();
    Object.assign(state, { answer, pointed: null, pinned: null });
    showTime(answer.timings_ms, elapsed);
    $("caption-text").textContent = `${image.name} · ${answer.image.width} × ${answer.image.height}`;
    $("actions").hidden = false;
    if (!$("photo").naturalWidth) await showServersPicture(signal);
    say(summary());
  });
}

/** A picture the browser cannot read (TIFF): the server's own drawing of it, without boxes. */
async function showServersPicture(signal) {
  const bare = { format: "png", score_threshold: 1, max_detections: 1 };
  const { response } = await detect(state.image, bare, { signal, onWait });
  await showPicture(await response.blob());
}

function download() {
  return only(async (signal) => {
    const { response } = await detect(state.image, { ...shownOptions(), format: "png" }, { signal, onWait });
    save(await response.blob(), `${state.image.name.replace(/\.\w+$/, "")}-detections.png`);
    say("The drawn picture is downloaded.");
  });
}

// Choosing an image ---------------------------------------------------------------------------------------------

async function showPicture(blob) {
  const photo = $("photo");
  URL.revokeObjectURL(photo.src);
  photo.src = URL.createObjectURL(blob);
  await photo.decode().catch(() => {}); // naturalWidth stays 0: the server's picture is shown instead
  $("frame").style.setProperty("--width", photo.naturalWidth || 640);
  $("frame").style.setProperty("--height", photo.naturalHeight || 480);
}

/** The place to choose an image, or the image chosen. */
function showChooser(shown) {
  const focused = $("drop").contains(document.activeElement);
  $("drop").hidden = !shown;
  $("figure").hidden = shown;
  if (focused && !shown) $("another").focus();
}

async function choose(image) {
  running?.abort();
  Object.assign(state, { image, answer: null, hidden: new Set(), pointed: null, pinned: null });
  showNotice(null);
  showChooser(false);
  $("time").hidden = $("actions").hidden = true;
  $("caption-text").textContent = $("photo").alt = image.name;
  say(`Looking for objects in ${image.name}.`);
  render();
  await showPicture(image);
  if (state.image === image) await ask();
}

async function chooseSample(sample) {
  let image = null;
  await only(async () => { image = await fetchSample(sample); });
  if (image) await choose(image);
}

// Controls ------------------------------------------------------------------------------------------------------

function listenForControls() {
  let pause = 0;
  $("score").addEventListener("input", () => { state.score = $("score").valueAsNumber; render(); });
  $("score").addEventListener("change", () => { if (state.answer) say(summary()); });
  $("nms").addEventListener("input", () => {
    state.nms = $("nms").valueAsNumber;
    $("nms-value").textContent = state.nms.toFixed(2);
    clearTimeout(pause);
    if (state.image) pause = setTimeout(ask, PAUSE);
  });
  $("boxes").addEventListener("pointermove", (event) => point(stage.indexAt(event)));
  $("boxes").addEventListener("pointerleave", () => point(null));
  $("boxes").addEventListener("click", (event) => {
    const index = stage.indexAt(event);
    if (index !== null) pin(index);
  });
  window.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && state.pinned !== null) pin(state.pinned);
  });
}

/** The server's answer, cut to what is shown. */
function shownAnswer() {
  const keep = shown().map(({ index }) => index);
  const cut = ["boxes", "labels", "scores", "names"].map((key) => [key, keep.map((index) => state.answer[key][index])]);
  return { ...state.answer, ...Object.fromEntries(cut) };
}

function listenForActions() {
  $("copy-json").addEventListener("click", (event) => {
    copy(JSON.stringify(shownAnswer(), null, 2), event.currentTarget);
    say("The answer is copied as JSON.");
  });
  $("copy-curl").addEventListener("click", (event) => {
    copy(asCurl(state.image, shownOptions()), event.currentTarget);
    say("The request is copied as a curl command.");
  });
  $("download").addEventListener("click", download);
}

// The server ----------------------------------------------------------------------------------------------------

function askForKey(again) {
  showNotice({ title: "This server asks for an API key.", text: "Enter it, and the request is sent again." });
  $("key-form").hidden = false;
  $("key").focus();
  $("key").select();
  $("key-form").onsubmit = (event) => {
    event.preventDefault();
    apiKey.set($("key").value);
    $("key-form").hidden = true;
    again();
    watchHealth();
    offerSamples();
  };
}

/** Shows which model serves; looks again while it is not ready. */
async function watchHealth() {
  clearTimeout(looking);
  const answer = await health();
  showServing(answer);
  if (answer?.status === "ok") await takeDefaults();
  else looking = setTimeout(watchHealth, HEALTH_PAUSE);
}

/** Starts the sliders where the card of the model does, until a person moved them or saw an answer. */
async function takeDefaults() {
  const card = state.image ? null : await loadedCard().catch(() => null);
  if (!card || state.image) return;
  $("score").value = Math.max(FLOOR, card.score_threshold);
  $("nms").value = card.nms_threshold;
  Object.assign(state, { score: $("score").valueAsNumber, nms: $("nms").valueAsNumber });
  render();
}

async function offerSamples() {
  try {
    showSamples(await samples(), chooseSample);
  } catch (error) {
    report(error, offerSamples);
  }
}

listenForImages(choose);
listenForControls();
listenForActions();
render();
watchHealth();
offerSamples();
