// Two answers side by side: another model, or another confidence, for the picture that is shown.

import { detect } from "./api.js";
import { onWait, report } from "./asking.js";
import { $, element } from "./dom.js";
import { say } from "./panels.js";
import { view } from "./render.js";
import { createStage } from "./stage.js";
import { above, askedOptions, events, objects, state } from "./state.js";

const SAME = 0.5; // IoU from which two boxes of a class are the same object

const other = { on: false, model: null, score: 0.5, answer: null, asked: null, pointed: null };
const stage = createStage($("boxes-b"), view);
let running = null; // AbortController of the request in flight
let served = { loaded: null, names: [] }; // from GET /models

function iou([a1, b1, a2, b2], [c1, d1, c2, d2]) {
  const both = Math.max(0, Math.min(a2, c2) - Math.max(a1, c1)) * Math.max(0, Math.min(b2, d2) - Math.max(b1, d1));
  return both / ((a2 - a1) * (b2 - b1) + (c2 - c1) * (d2 - d1) - both);
}

/** How many objects two lists have in common, each counted once. */
export function common(left, right) {
  const rest = [...right];
  return left.filter((one) => {
    const at = rest.findIndex((two) => two.name === one.name && iou(one.box, two.box) >= SAME);
    if (at >= 0) rest.splice(at, 1);
    return at >= 0;
  }).length;
}

const visible = (answer, score) => above(answer, score).filter(({ name }) => !state.hidden.has(name));
const sameModel = () => (other.model ?? served.loaded) === (state.model ?? served.loaded);

function draw() {
  if (!other.on) return;
  const answer = sameModel() ? state.answer : other.answer;
  const [left, right] = [visible(state.answer, state.score), visible(answer, other.score)];
  const { width, height } = answer?.image ?? { width: 1, height: 1 };
  const active = right.some(({ index }) => index === other.pointed) ? other.pointed : null;
  stage.show({ detections: right, active, width, height });
  $("score-b-value").textContent = other.score.toFixed(2);
  $("name-a").textContent = `A · ${state.model ?? served.loaded ?? "model"} · ${state.score.toFixed(2)}`;
  $("compared").textContent = state.answer && answer
    ? `A: ${objects(left.length)} · B: ${objects(right.length)} · ${common(left, right)} in both` : "";
}

/** Asks the other model about the picture that is shown, where it has not answered this yet. */
async function refresh() {
  if (!other.on || !state.answer || state.camera) return draw();
  const options = { ...askedOptions(), model: other.model };
  const asked = JSON.stringify([state.item?.id, options]);
  if (sameModel() || other.asked === asked) return draw();
  running?.abort();
  running = new AbortController();
  Object.assign(other, { answer: null, asked });
  draw();
  try {
    const { response } = await detect(state.image, options, { signal: running.signal, onWait });
    other.answer = await response.json();
    draw();
    say($("compared").textContent);
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    other.asked = null;
    report(error, refresh);
  }
  return undefined;
}

export function toggleCompare(on = !other.on) {
  if (state.camera || !state.image) return;
  other.on = on;
  if (on) Object.assign(other, { score: state.score, model: other.model ?? state.model });
  $("score-b").value = other.score;
  $("model-b").value = other.model ?? served.loaded ?? "";
  $("figure").classList.toggle("comparing", on);
  for (const id of ["frame-b", "name-a", "side-b", "compared"]) $(id).hidden = !on;
  $("compare").ariaPressed = String(on);
  refresh();
}

/** Fills the choice of B from GET /models: only what is loaded can answer. */
export function offerModels(answer) {
  served = { loaded: answer.loaded, names: answer.models.filter(({ loaded }) => loaded).map(({ name }) => name) };
  $("model-b").replaceChildren(...served.names.map((name) => element("option", { value: name, textContent: name })));
  if (!served.names.includes(other.model)) other.model = null;
  $("model-b").value = other.model ?? state.model ?? served.loaded ?? "";
}

export function listenForCompare() {
  $("compare").addEventListener("click", () => toggleCompare());
  $("photo").addEventListener("load", () => { $("photo-b").src = $("photo").src; });
  $("score-b").addEventListener("input", () => { other.score = $("score-b").valueAsNumber; draw(); });
  $("model-b").addEventListener("change", () => { other.model = $("model-b").value; refresh(); });
  $("boxes-b").addEventListener("pointermove", (event) => { other.pointed = stage.indexAt(event); draw(); });
  $("boxes-b").addEventListener("pointerleave", () => { other.pointed = null; draw(); });
  events.addEventListener("shown", refresh);
}
