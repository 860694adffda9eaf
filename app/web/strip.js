// The filmstrip: a thumbnail for each picture of this visit, with its state; the whole of them as one file.

import { $, element } from "./dom.js";
import { save } from "./inputs.js";
import { items, remove } from "./roll.js";
import { above, events, objects, state } from "./state.js";

const HIGH = 120; // px of a thumbnail's pixels
const made = new Map(); // id of an item -> its list item
let onPick = () => {};
let onEmpty = () => {};

/** What is to say of an item, in a badge and in words. */
function badge(item) {
  if (item.state === "failed") return ["!", item.problem.title];
  if (item.state === "busy") return ["…", item.moving ? "reading frames" : "detecting"];
  if (item.state === "waiting") return ["", "waiting"];
  const count = above(item.answer, state.score).length;
  return [String(count), objects(count)];
}

function create(item) {
  const button = element("button", { type: "button", className: "thumb" },
    element("span", { className: "thumb-picture", textContent: item.name.split(".").pop().slice(0, 5).toUpperCase() }),
    element("span", { className: "thumb-name", textContent: item.source ? `frame ${item.source.frame}` : item.name }),
    element("span", { className: "badge" }));
  button.dataset.id = item.id;
  button.addEventListener("click", () => onPick(item));
  const made_ = element("li", {}, button);
  if (!item.moving) drawWhenSeen(item, button.firstChild);
  return made_;
}

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    target.draw();
  }
});

/** Thumbnails are made when they come into sight: a folder may have hundreds of large photos. */
function drawWhenSeen(item, place) {
  place.draw = async () => {
    const bitmap = await createImageBitmap(item.picture ?? item.file, { resizeHeight: HIGH, resizeQuality: "medium" }).catch(() => null);
    if (!bitmap) return; // the browser cannot read it: its ending stands there
    const canvas = element("canvas", { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    place.replaceChildren(canvas);
  };
  seen.observe(place);
}

function update(item) {
  const button = made.get(item.id).firstChild;
  const [text, words] = badge(item);
  button.dataset.state = item.state;
  button.lastChild.textContent = text;
  button.title = item.state === "failed" ? `${item.name}: ${words}` : item.name;
  button.ariaLabel = `${item.name}, ${words}`;
  button.ariaCurrent = item === state.item ? "true" : null;
}

/** Draws what changed since the last time. */
function draw() {
  for (const [id, one] of made) {
    if (items.some((item) => item.id === id)) continue;
    one.remove();
    made.delete(id);
  }
  items.forEach((item, index) => {
    if (!made.has(item.id)) made.set(item.id, create(item));
    if ($("strip-list").children[index] !== made.get(item.id)) $("strip-list").insertBefore(made.get(item.id), $("strip-list").children[index] ?? null);
    update(item);
  });
  $("strip").hidden = items.length === 0;
  showProgress();
  reveal();
}

function showProgress() {
  const count = (...states) => items.filter((item) => states.includes(item.state)).length;
  const [ended, failed] = [count("done", "failed"), count("failed")];
  $("strip-progress").hidden = ended === items.length;
  Object.assign($("strip-progress"), { max: items.length, value: ended });
  const parts = [ended < items.length ? `${ended} of ${items.length}` : `${items.length}`, failed ? `${failed} failed` : ""];
  $("strip-status").textContent = parts.filter(Boolean).join(" · ");
  $("save-all").hidden = items.length < 2;
}

/** Brings the thumbnail of the picture shown into sight, never moving the page. */
function reveal() {
  const list = $("strip-list");
  const mine = made.get(state.item?.id);
  if (!mine) return;
  const { left, right } = list.getBoundingClientRect();
  const place = mine.getBoundingClientRect();
  if (place.left < left) list.scrollLeft -= left - place.left + 8;
  if (place.right > right) list.scrollLeft += place.right - right + 8;
}

/** All answers as shown, cut at the slider's confidence, and all problems, in one JSON file. */
function saveAll() {
  const results = items.map(({ name, answer, problem }) => ({
    name, ...(problem ? { error: { code: problem.code, title: problem.title, detail: problem.detail } } : {}),
    ...(answer ? { model: answer.model, image: answer.image, objects: above(answer, state.score).map(({ name: of, label, score, box }) => ({ name: of, label, score, box })) } : {}),
  }));
  save(new Blob([JSON.stringify(results, null, 2)], { type: "application/json" }), "detections.json");
}

/** `pick(item)` for a thumbnail clicked; `empty()` when all are cleared. */
export function listenForStrip({ pick, empty }) {
  [onPick, onEmpty] = [pick, empty];
  for (const name of ["roll", "shown"]) events.addEventListener(name, draw);
  $("clear").addEventListener("click", () => { remove([...items]); onEmpty(); });
  $("save-all").addEventListener("click", saveAll);
}
