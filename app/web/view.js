// Zoom and pan of the image in its frame: by buttons, keys, Ctrl and the wheel, two fingers, and dragging.

import { $ } from "./dom.js";

const MOST = 16; // times
const STEP = 1.5; // times, of a button or a key
const STRIDE = 0.15; // of the frame, of an arrow key
const DRAG = 4; // px that a pointer moves before its click is none

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/**
 * The view of what lies in `frames`, the same in each: {scale, x, y}, x and y the offset of the image in shares of the frame.
 * `onChange()` after every move, `onClick(event)` for a click that ends no drag.
 */
export function createView(frames, { onChange, onClick }) {
  const view = { scale: 1, x: 0, y: 0, move, zoom, reveal, reset: () => move(1, 0, 0) };

  function move(scale, x, y) {
    view.scale = clamp(scale, 1, MOST);
    view.x = clamp(x, 1 - view.scale, 0); // the image always fills the frame
    view.y = clamp(y, 1 - view.scale, 0);
    const transform = view.scale === 1 ? "" : `translate(${view.x * 100}%, ${view.y * 100}%) scale(${view.scale})`;
    for (const frame of frames) {
      for (const picture of frame.querySelectorAll("img, video")) picture.style.transform = transform;
      frame.classList.toggle("zoomed", view.scale > 1);
    }
    $("zoom-value").textContent = `${Math.round(view.scale * 100)} %`;
    $("zoom-out").disabled = $("zoom-fit").disabled = view.scale === 1;
    $("zoom-in").disabled = view.scale === MOST;
    onChange();
  }

  /** Zooms by `factor` around a place given in shares of the frame: it stays where it is. */
  function zoom(factor, x = 0.5, y = 0.5) {
    const scale = clamp(view.scale * factor, 1, MOST);
    const ratio = scale / view.scale;
    move(scale, x - (x - view.x) * ratio, y - (y - view.y) * ratio);
  }

  /** Moves as little as brings the centre of a box (x1, y1, x2, y2 in shares of the image) into sight. */
  function reveal([x1, y1, x2, y2]) {
    const needed = (offset, centre) => {
      const now = offset + centre * view.scale;
      return now < 0 || now > 1 ? 0.5 - centre * view.scale : offset;
    };
    move(view.scale, needed(view.x, (x1 + x2) / 2), needed(view.y, (y1 + y2) / 2));
  }

  for (const frame of frames) {
    listenToPointers(frame, view, frame === frames[0] ? onClick : () => {});
    listenToWheel(frame, view);
    listenToKeys(frame, view);
  }
  $("zoom-in").addEventListener("click", () => view.zoom(STEP));
  $("zoom-out").addEventListener("click", () => view.zoom(1 / STEP));
  $("zoom-fit").addEventListener("click", view.reset);
  return view;
}

function sharesOf(frame, { clientX, clientY }) {
  const { left, top, width, height } = frame.getBoundingClientRect();
  return [(clientX - left) / width, (clientY - top) / height];
}

/** One pointer drags; two pinch around their middle. */
function listenToPointers(frame, view, onClick) {
  const down = new Map(); // pointerId -> [x, y] in shares of the frame
  let moved = 0; // px since the first pointer came down

  const grip = () => {
    const places = [...down.values()];
    const middle = [0, 1].map((axis) => places.reduce((sum, place) => sum + place[axis], 0) / places.length);
    const [a, b] = places;
    const { width, height } = frame.getBoundingClientRect();
    return { middle, spread: b ? Math.hypot((a[0] - b[0]) * width, (a[1] - b[1]) * height) : null };
  };
  const drag = (event) => {
    if (!down.has(event.pointerId)) return;
    const before = grip();
    down.set(event.pointerId, sharesOf(frame, event));
    const after = grip();
    moved += Math.hypot(event.movementX, event.movementY);
    if (before.spread && after.spread) view.zoom(after.spread / before.spread, ...before.middle);
    if (moved > DRAG) frame.setPointerCapture(event.pointerId);
    view.move(view.scale, view.x + after.middle[0] - before.middle[0], view.y + after.middle[1] - before.middle[1]);
  };
  frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    if (down.size === 0) moved = 0;
    down.set(event.pointerId, sharesOf(frame, event));
  });
  frame.addEventListener("pointermove", drag);
  for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, (event) => down.delete(event.pointerId));
  frame.addEventListener("touchmove", (event) => { // one finger scrolls the page until the image is zoomed
    if (event.touches.length > 1) event.preventDefault();
  }, { passive: false });
  frame.addEventListener("click", (event) => { if (moved <= DRAG) onClick(event); });
  frame.addEventListener("dblclick", (event) => {
    if (view.scale > 1) view.reset();
    else view.zoom(STEP * STEP, ...sharesOf(frame, event));
  });
}

/** The wheel alone scrolls the page, as everywhere; with Ctrl or ⌘ it zooms (so does a pinch on a trackpad). */
function listenToWheel(frame, view) {
  frame.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    view.zoom(Math.exp(-clamp(event.deltaY, -100, 100) / 250), ...sharesOf(frame, event));
  }, { passive: false });
}

function listenToKeys(frame, view) {
  const stride = (x, y) => () => view.move(view.scale, view.x + x * STRIDE, view.y + y * STRIDE);
  const keys = {
    "+": () => view.zoom(STEP), "=": () => view.zoom(STEP), "-": () => view.zoom(1 / STEP), 0: view.reset,
    ArrowLeft: stride(1, 0), ArrowRight: stride(-1, 0), ArrowUp: stride(0, 1), ArrowDown: stride(0, -1),
  };
  frame.addEventListener("keydown", (event) => {
    const arrow = event.key.startsWith("Arrow");
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey || (arrow && view.scale === 1)) return;
    event.preventDefault();
    keys[event.key]();
  });
}
