// The page of GET /captures: the images that were kept, the newest first, with their boxes; each can be saved and erased.

import { Problem, adminKey, captureImage, eraseCaptures, health, listCaptures, readCapture } from "./api.js";
import { $, element } from "./dom.js";
import { copy, save } from "./inputs.js";
import { createStage } from "./stage.js";
import { objects } from "./state.js";

const STEP = 60; // captures of a request
const MOST = 1000; // that the server lists at once
const HIGH = 300; // px of a thumbnail's pixels
const WHOLE = { scale: 1, x: 0, y: 0 }; // the view of a picture that is shown whole

/** {entry, item}: what GET /captures says of a capture, and its list item; the newest first. */
let shots = [];
let kept = null; // the answer of GET /captures without its list
let ended = true; // there are no older ones than those that are listed

function size(bytes) {
  const power = Math.min(3, Math.max(1, Math.floor(Math.log2(bytes || 1) / 10)));
  return `${Number((bytes / 1024 ** power).toFixed(1))} ${["", "KiB", "MiB", "GiB"][power]}`;
}

const images = (count) => `${count} ${count === 1 ? "image" : "images"}`;

/** The detections of a COCO dataset of one image, as a stage draws them. */
function detectionsOf({ annotations, categories }) {
  const names = new Map(categories.map(({ id, name }) => [id, name]));
  return annotations.map(({ bbox: [x, y, width, height], category_id: label, score }, index) => (
    { index, box: [x, y, x + width, y + height], label, name: names.get(label), score }));
}

async function drawShot(frame, { id, file }) {
  const [{ coco }, blob] = await Promise.all([readCapture(id), captureImage(id)]);
  const [{ width, height }] = coco.images;
  frame.style.aspectRatio = `${width} / ${height}`;
  const bitmap = await createImageBitmap(blob, { resizeHeight: HIGH, resizeQuality: "medium" }).catch(() => null);
  const picture = element("canvas", { width: bitmap?.width ?? width, height: bitmap?.height ?? height });
  const boxes = element("canvas", { className: "boxes", role: "img" });
  frame.replaceChildren(picture, boxes);
  if (bitmap) picture.getContext("2d").drawImage(bitmap, 0, 0);
  else frame.prepend(element("p", { textContent: `${file.split(".").pop().toUpperCase()}: this browser cannot show it` }));
  bitmap?.close();
  createStage(boxes, WHOLE).show({ detections: detectionsOf(coco), active: null, width, height });
  boxes.ariaLabel = `${file} with its boxes`;
}

const seen = new IntersectionObserver((found) => {
  for (const { target, isIntersecting } of found) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    drawShot(target, target.entry).catch((error) => target.replaceChildren(element("p", { textContent: error.title ?? String(error) })));
  }
}, { rootMargin: "200px" });

/** Runs it at each click, but not while it runs. */
function onClick(button, run) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    await run().catch(report);
    button.disabled = false;
  });
}

function link(text, name, run) {
  const button = element("button", { type: "button", className: "link", textContent: text, ariaLabel: `${text}: ${name}` });
  onClick(button, run);
  return button;
}

function shot(entry) {
  const frame = Object.assign(element("div", { className: "shot" }), { entry });
  seen.observe(frame);
  const found = entry.detections === 0 ? "no objects" : `${objects(entry.detections)}: ${entry.classes.join(", ")}`;
  const item = element("li", { className: "card" }, frame,
    element("div", { className: "row between" }, element("h2", { textContent: new Date(entry.time).toLocaleString() }), element("span", { className: "state", textContent: entry.reason })),
    element("p", { className: "muted", textContent: `${entry.model} · ${found}` }),
    element("div", { className: "shot-links" },
      link("Image", entry.file, async () => save(await captureImage(entry.id), entry.file)),
      link("COCO", entry.file, async () => save(new Blob([JSON.stringify((await readCapture(entry.id)).coco)], { type: "application/json" }), `${entry.id}.json`)),
      link("Delete", entry.file, () => erase(entry.id))));
  return { entry, item };
}

/** The values to choose from; a choice that is still there stays. */
function offer(select, all, values) {
  const [chosen, distinct] = [select.value, [...new Set(values)].sort()];
  select.replaceChildren(...["", ...distinct].map((value) => element("option", { value, textContent: value || all })));
  select.value = distinct.includes(chosen) ? chosen : "";
}

function draw() {
  offer($("rule"), "all", shots.map(({ entry }) => entry.reason));
  offer($("class"), "all", shots.flatMap(({ entry }) => entry.classes));
  filter();
  const since = `Each is kept for ${kept.days} days, all of them up to ${size(kept.max_bytes)}; the oldest are deleted first.`;
  $("lead").textContent = kept.count === 0
    ? `No image is kept yet. Rules: ${kept.rules}. Images that one of them selects appear here.`
    : `${images(kept.count)}, ${size(kept.bytes)}. ${since} Rules: ${kept.rules}.`;
  $("tools").hidden = $("export").hidden = shots.length === 0;
  $("more").hidden = ended;
}

/** Shows the captures of the chosen rule and class. */
function filter() {
  const [rule, name] = [$("rule").value, $("class").value];
  const fits = ({ reason, classes }) => (!rule || reason === rule) && (!name || classes.includes(name));
  for (const { entry, item } of shots) item.hidden = !fits(entry);
  const shown = shots.filter(({ item }) => !item.hidden).length;
  $("found").textContent = `${shown} of ${kept.count} shown`;
}

async function erase(id) {
  await eraseCaptures(id);
  await load();
}

function report(error) {
  if (!(error instanceof Problem)) throw error;
  const needsKey = error.status === 401;
  $("key-form").hidden = !needsKey;
  $("lead").textContent = needsKey ? "Captures are shown with a key of RCNN_ADMIN_KEYS." : error.detail || error.title;
}

/** Reads the list anew, as long as it is shown, or the next part of it. */
async function load({ more = false } = {}) {
  const limit = more ? STEP : Math.min(MOST, Math.max(STEP, shots.length));
  const answer = await listCaptures(limit, more ? shots.at(-1).entry.id : null);
  kept = answer;
  ended = answer.captures.length < limit;
  const known = new Map(shots.map((one) => [one.entry.id, one]));
  const found = answer.captures.map((entry) => known.get(entry.id) ?? shot(entry));
  shots = more ? [...shots, ...found] : found;
  $("shots").replaceChildren(...shots.map(({ item }) => item));
  $("key-form").hidden = true;
  draw();
}

async function start() {
  const answer = await health();
  $("off").hidden = answer === null || answer.captures !== null;
  if (answer === null) $("lead").textContent = "The server does not respond. Reload the page to look again.";
  else if (answer.captures === null) $("lead").textContent = "Captures are off.";
  else await load().catch(report);
}

function showCommand() {
  $("command").textContent = `rcnn captures export --to ${$("format").value} --out labelled`;
}

$("address").textContent = new URL("captures", document.baseURI).href;
for (const id of ["rule", "class"]) $(id).addEventListener("change", filter);
$("format").addEventListener("change", showCommand);
$("copy").addEventListener("click", () => copy($("command").textContent, $("copy")));
onClick($("more"), () => load({ more: true }));
$("erase-all").addEventListener("click", () => {
  $("sure-title").textContent = `Delete all ${images(kept.count)}?`;
  $("sure").returnValue = "no";
  $("sure").showModal();
});
$("sure").addEventListener("close", () => { if ($("sure").returnValue === "yes") erase(null).catch(report); });
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  adminKey.set($("key").value);
  load().catch(report);
});
showCommand();
start();
