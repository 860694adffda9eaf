// Requests detections: one request at a time, a new one cancels the previous; a problem is shown as a notice.

import { adviceFor } from "./advice.js";
import { Problem, apiKey, detect } from "./api.js";
import { $ } from "./dom.js";
import { say, showNotice, showTime } from "./panels.js";
import { hasPicture, mayDiffer, showChooser, showPicture, showSize } from "./picture.js";
import { render, take } from "./render.js";
import { begin, fail, settle } from "./roll.js";
import { askedOptions, events, state, summary } from "./state.js";

let running = null; // AbortController of the request in flight

/** Calls off what is asked now. */
export const callOff = () => running?.abort();

/**
 * Runs `work(signal)` as the one thing asked, calling off the one before; a problem becomes a notice.
 * `quiet`: without the bar that says so.
 */
export async function only(work, { quiet = false } = {}) {
  callOff();
  const mine = new AbortController();
  running = mine;
  $("busy").hidden = quiet;
  render(true);
  try {
    await work(mine.signal);
    if (running === mine) showNotice(null);
  } catch (error) {
    if (error.name !== "AbortError") report(error, () => only(work, { quiet }));
  } finally {
    if (running === mine) {
      running = null;
      $("busy").hidden = true;
      render(false);
    }
  }
}

/** Tells a Problem to the person; `again` does what failed once more. */
export function report(error, again) {
  if (!(error instanceof Problem)) throw error;
  if (error.status === 401) return askForKey(again);
  if (!state.camera && !state.answer && !hasPicture()) showChooser(true); // this file cannot be displayed
  const curable = error.status === 0 || error.status === 429 || error.status >= 500;
  showNotice({ title: error.title, text: error.detail, advice: adviceFor(error), button: curable ? "Try again" : null, onButton: again });
  if (curable) events.dispatchEvent(new Event("trouble"));
}

/** Says that the server has no time now, and in how many seconds it is asked again. */
export function onWait(problem, left) {
  const onButton = () => {
    callOff();
    showNotice(null);
    events.dispatchEvent(new Event("stopped"));
  };
  showNotice({ title: problem.title, text: problem.detail, advice: adviceFor(problem), left, waiting: true, button: "Stop waiting", onButton });
}

/** Asks about the image shown, and keeps the answer with its item. */
export function ask() {
  return only(async (signal) => {
    const { image, item } = state;
    const turn = begin(item);
    try {
      const { response, elapsed } = await detect(image, askedOptions(), { signal, onWait });
      const answer = await response.json();
      settle(item, turn, answer, elapsed);
      take(answer);
      showTime(answer.timings_ms, elapsed);
      showSize(image.name, answer.image);
      $("actions").hidden = false;
    } catch (error) {
      fail(item, turn, error);
      throw error;
    }
    if (!item.picture && (!hasPicture() || await mayDiffer(image, state.answer.image))) await showServersPicture(item, signal);
    say(summary());
  });
}

/** A picture that the browser cannot read (TIFF), may turn otherwise or would play: the server's own, without boxes. */
async function showServersPicture(item, signal) {
  const bare = { format: "png", score_threshold: 1, min_area: 1e12, max_detections: 1, model: state.model }; // no box is as large
  const { response } = await detect(item.file, bare, { signal, onWait });
  item.picture = await response.blob();
  await showPicture(item.picture);
}

// The key -------------------------------------------------------------------------------------------------------

let onKey = () => {};

function askForKey(again) {
  showNotice({ title: "This server requires an API key.", text: "Enter it. The request is then sent again." });
  onKey = again;
  showKey(true);
  $("key").focus();
  $("key").select();
}

/** The field for the key (`wanted`), or else that one is in use. */
export function showKey(wanted) {
  $("key-form").hidden = !wanted;
  $("key-used").hidden = wanted || !apiKey.get();
  $("key-hint").textContent = apiKey.get()
    ? "The server rejected this key. Enter another one." : "This server requires an API key. It is kept until this tab is closed.";
}

/** Takes the key that is entered, and removes it on request. */
export function listenForKey() {
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    apiKey.set($("key").value);
    showKey(false);
    showNotice(null);
    const again = onKey;
    onKey = () => {};
    again();
    events.dispatchEvent(new Event("key"));
  });
  $("key-forget").addEventListener("click", () => {
    apiKey.forget();
    $("key").value = "";
    showKey(true);
    $("key").focus();
    say("The key was removed.");
  });
}
