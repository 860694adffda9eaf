// Keys that step through objects and pictures, and the window that lists them.

import { $ } from "./dom.js";
import { pinRow } from "./render.js";
import { neighbour } from "./roll.js";
import { shown, state } from "./state.js";

const OFF = "rcnn-keys-off"; // sessionStorage: single keys are switched off

/** Keeps the object `step` places down the list, from the one that is kept; beyond an end it goes on at the other. */
function stepObject(step) {
  const visible = shown();
  if (visible.length === 0) return;
  const now = visible.findIndex(({ index }) => index === state.pinned);
  const next = visible[(now + step + (now < 0 && step < 0 ? 1 : 0) + visible.length) % visible.length];
  if (next.index !== state.pinned) pinRow(next.index);
}

/** Whether a key belongs to what has the focus: a field, the tabs, a zoomed picture. */
function isTaken({ target, key }) {
  if (target.closest("input:not([type=radio]), select, textarea, dialog, pre")) return true;
  return key.startsWith("Arrow") && Boolean(target.closest("[role=tablist], .frame.zoomed, input"));
}

/** `onItem(item)` for another picture, `onCompare()` for the comparison. */
export function listenForKeys({ onItem, onCompare }) {
  const toItem = (step) => () => { const item = neighbour(step); if (item) onItem(item); };
  const keys = {
    j: () => stepObject(1), k: () => stepObject(-1), ArrowLeft: toItem(-1), ArrowRight: toItem(1),
    c: onCompare, o: () => $("file").click(), "?": () => $("keys").showModal(),
  };
  $("keys-on").checked = sessionStorage.getItem(OFF) === null;
  $("keys-on").addEventListener("change", () => {
    if ($("keys-on").checked) sessionStorage.removeItem(OFF);
    else sessionStorage.setItem(OFF, "1");
  });
  $("show-keys").addEventListener("click", () => $("keys").showModal());
  window.addEventListener("keydown", (event) => {
    const single = event.key.length === 1;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || !(event.key in keys) || isTaken(event)) return;
    if (single && !$("keys-on").checked) return;
    event.preventDefault();
    keys[event.key]();
  });
}
