// The pictures of this visit: what was opened, in order, each with its answer or its problem. Nothing is drawn here.

import { Problem, detect } from "./api.js";
import { framesOf } from "./frames.js";
import { askedOptions, state, tell } from "./state.js";

const AT_ONCE = 2; // requests of a batch in flight, beside the one for the picture that is shown
export const LONGEST = 500; // pictures that are kept

/** {id, name, file, picture, source, state: waiting|busy|done|failed, answer, elapsed, asked, problem, stop, turn}. */
export const items = [];
let next = 0;
let working = 0;

const optionsKey = () => JSON.stringify(askedOptions());

/** Whether the item has the answer to what would be asked now. */
export const isFresh = (item) => item.state === "done" && item.asked === optionsKey();

/** A new item of a file. `moving`: a video or an animation, whose frames take its place; `source`: the file of a frame. */
export function createItem(file, { moving = false, source = null } = {}) {
  next += 1;
  return { id: next, name: file.name, file, moving, source, picture: null, state: "waiting", answer: null, problem: null, stop: null, turn: 0 };
}

/** Puts items at the end, or behind `after`; gives those there was room for. */
export function add(made, after = items.at(-1)) {
  const fitting = made.slice(0, Math.max(0, LONGEST - items.length));
  items.splice(items.indexOf(after) + 1, 0, ...fitting);
  tell("roll");
  return fitting;
}

/** Forgets items, and stops what is asked about them. */
export function remove(gone) {
  for (const item of gone) item.stop?.abort();
  items.splice(0, items.length, ...items.filter((item) => !gone.includes(item)));
  tell("roll");
}

/** The item `step` places from the one that is shown. */
export const neighbour = (step) => items[items.indexOf(state.item) + step] ?? null;

/** Takes an item on, from whoever had it; gives the turn that `settle` and `fail` need. */
export function begin(item) {
  item.stop?.abort();
  Object.assign(item, { state: "busy", problem: null, stop: null, asked: optionsKey(), turn: item.turn + 1 });
  tell("roll");
  return item.turn;
}

export function settle(item, turn, answer, elapsed) {
  if (item.turn !== turn) return; // it was taken on again
  Object.assign(item, { state: "done", answer, elapsed, stop: null });
  tell("roll");
}

/** Keeps why an item has no answer; one that was called off waits again. */
export function fail(item, turn, error) {
  if (item.turn !== turn) return;
  if (error.name === "AbortError") Object.assign(item, { state: "waiting", stop: null });
  else if (error instanceof Problem) Object.assign(item, { state: "failed", problem: error, stop: null });
  else throw error;
  tell("roll");
  work();
}

/** Detects the pictures that wait, a few at once; the one that is shown is asked about by itself. */
export function work() {
  while (working < AT_ONCE) {
    const item = items.find((one) => one.state === "waiting" && one !== state.item && !one.moving);
    if (!item) return;
    working += 1;
    detectOne(item).finally(() => { working -= 1; work(); });
  }
}

async function detectOne(item) {
  const turn = begin(item);
  const stop = new AbortController();
  item.stop = stop;
  const onWait = () => {};
  try {
    const { response, elapsed } = await detect(item.file, askedOptions(), { signal: stop.signal, onWait });
    const answer = await response.json();
    settle(item, turn, answer, elapsed);
  } catch (error) {
    fail(item, turn, error);
  }
}

/** Reads the frames of a video or an animation into items behind it; `onFirst(item)` for the first one. */
export async function unroll(item, onFirst) {
  const turn = begin(item);
  item.stop = new AbortController();
  let last = item;
  try {
    for await (const { file, problem, frame } of framesOf(item.file, state.model, item.stop.signal)) {
      const made = createItem(file ?? new File([], `${item.name}, frame ${frame}`), { source: { file: item.file, frame } });
      if (problem) Object.assign(made, { state: "failed", problem });
      if (add([made], last).length === 0) break;
      if (last === item) onFirst(made);
      last = made;
      work();
    }
    if (last === item) throw new Problem({ status: 422, code: "no_frames", title: "No frame could be read.", detail: "" });
    remove([item]);
  } catch (error) {
    fail(item, turn, error);
    if (state.item === item) onFirst(item); // it says why
  }
}
