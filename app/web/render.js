// Draws the state into the panels and over the image, and links the list to the boxes.

import { $ } from "./dom.js";
import { markActive, say, showChips, showList, showRoomless } from "./panels.js";
import { createStage } from "./stage.js";
import { countByClass, events, shown, state, summary, sure, tell, whyEmpty } from "./state.js";
import { createView } from "./view.js";

let looking = false;

export const view = createView([$("frame"), $("frame-b")], { onChange: drawBoxes, onClick: pinUnder });
const stage = createStage($("boxes"), view, showRoomless);

function drawBoxes() {
  const visible = shown();
  const active = [state.pointed, state.pinned].find((one) => visible.some(({ index }) => index === one)) ?? null;
  const { width, height } = state.answer?.image ?? { width: 1, height: 1 };
  stage.show({ detections: visible, active, width, height });
  markActive(active, state.pinned);
}

/** Draws everything that depends on the state; `busy`, if given: whether a request is in flight from now on. */
export function render(busy = looking) {
  looking = busy;
  $("score-value").textContent = state.score.toFixed(2);
  $("nms-value").textContent = state.nms.toFixed(2);
  showChips(countByClass(sure()), state.hidden, toggleClass);
  showList(shown(), state.answer?.boxes.length ?? null, whyEmpty(looking), { point, pin: pinRow });
  drawBoxes();
  tell("shown");
}

/** Another answer takes the place of the one before. */
export function take(answer) {
  Object.assign(state, { answer, pointed: null, pinned: null });
  const version = answer?.model_version ?? state.version;
  if (state.version && version !== state.version) events.dispatchEvent(new Event("trouble")); // another model serves
}

function point(index) {
  if (state.pointed === index) return;
  state.pointed = index;
  drawBoxes();
}

function pin(index) {
  state.pinned = state.pinned === index ? null : index;
  const { width, height } = state.answer.image;
  const box = state.pinned === null ? null : state.answer.boxes[state.pinned];
  if (box) view.reveal([box[0] / width, box[1] / height, box[2] / width, box[3] / height]);
  drawBoxes();
}

/** A click or a tap on a box keeps it, one beside all boxes lets it go. */
function pinUnder(event) {
  const index = stage.indexAt(event) ?? state.pinned;
  if (index !== null) pin(index);
}

/** Keeps a box by its row; on a phone the image may be far above. */
export function pinRow(index) {
  pin(index);
  const { top, bottom } = $("frame").getBoundingClientRect();
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const unseen = bottom <= 0 || top >= window.innerHeight;
  if (unseen && state.pinned !== null) $("frame").scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
}

function toggleClass(name) {
  if (!state.hidden.delete(name)) state.hidden.add(name);
  render();
  say(summary());
}

/** Ties the boxes to the list: hover, click, Escape. */
export function listenToBoxes() {
  $("boxes").addEventListener("pointermove", (event) => point(stage.indexAt(event)));
  $("boxes").addEventListener("pointerleave", () => point(null));
  window.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && state.pinned !== null) pin(state.pinned);
  });
}
