// Requests detections: one request at a time, a new one cancels the previous; a problem is shown as a notice.

import { Problem, apiKey, detect } from "./api.js";
import { say, showNotice, showTime } from "./panels.js";
import { hasPicture, mayDiffer, showChooser, showPicture, showSize } from "./picture.js";
import { render, take } from "./render.js";
import { askedOptions, events, state, summary } from "./state.js";

const $ = (id) => document.getElementById(id);
let running = null; // AbortController of the request in flight
let replaced = null; // the image whose picture is the server's own

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
  showNotice({ title: error.title, text: error.detail, button: curable ? "Try again" : null, onButton: again });
  if (curable) events.dispatchEvent(new Event("trouble"));
}

/** Says that the server has no time now, and in how many seconds it is asked again. */
export function onWait(problem, left) {
  const onButton = () => {
    callOff();
    showNotice(null);
    events.dispatchEvent(new Event("stopped"));
  };
  showNotice({ title: problem.title, text: problem.detail, left, waiting: true, button: "Stop waiting", onButton });
}

/** Asks about the image shown. */
export function ask() {
  return only(async (signal) => {
    const { image } = state;
    const { response, elapsed } = await detect(image, askedOptions(), { signal, onWait });
    const answer = await response.json();
    take(answer);
    showTime(answer.timings_ms, elapsed);
    showSize(image.name, answer.image);
    $("actions").hidden = false;
    if (image !== replaced && (!hasPicture() || await mayDiffer(image, answer.image))) await showServersPicture(image, signal);
    say(summary());
  });
}

/** A picture that the browser cannot read (TIFF) or may turn otherwise: the server's own, without boxes. */
async function showServersPicture(image, signal) {
  const bare = { format: "png", score_threshold: 1, max_detections: 1, model: state.model };
  const { response } = await detect(image, bare, { signal, onWait });
  await showPicture(await response.blob());
  replaced = image;
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
