// Writes the side panel: which model serves, class chips, the list, the time bar. Text only: names are never HTML.

import { $, element } from "./dom.js";
import { colour } from "./stage.js";

function swatch(label) {
  const made = element("span", { className: "swatch", ariaHidden: "true" });
  made.style.background = colour(label);
  return made;
}

const STATUS_WORDS = {
  ok: "Ready", loading: "Loading the model…", draining: "Shutting down", failing: "The model failed",
  degraded: "Not all devices work",
};

/** Model, engine and device from GET /health (`null`: no answer), with the warning when a fallback serves. */
export function showServing(health) {
  const status = health?.status ?? "unreachable";
  const serves = [health?.model, health?.engine, health?.device, health?.precision].filter(Boolean).join(" · ");
  $("serving").dataset.status = status;
  $("serving").title = STATUS_WORDS[status] ?? "The server does not respond";
  const swap = health?.loading ? `Loading ${health.loading}…` : null;
  const words = status === "ok" ? swap : STATUS_WORDS[status] ?? "The server does not respond";
  $("serving-text").textContent = [words, serves].filter(Boolean).join(" · ");
  showFallback(health);
}

/** Says that a fallback answers; where it is the demo model, what it knows and which command serves photos. */
function showFallback(health) {
  const [reason, hint] = [health?.fallback_reason, health?.hint];
  $("fallback").hidden = !reason && !hint;
  const parts = (hint ?? "").split("`").map((text, index) => (index % 2 ? element("code", { textContent: text }) : text)); // as in Markdown
  const why = reason ? [element("span", { className: hint ? "reason" : "", textContent: `Fallback: ${reason}` })] : [];
  $("fallback").replaceChildren(element("strong", {}, ...parts), ...why);
}

/** How many images wait and how many were done a second (`perSecond` null: not known yet); `now` null: no answer. */
export function showTraffic(now, perSecond) {
  $("traffic").hidden = now === null;
  if (now === null) return;
  $("queue-depth").textContent = now.queue;
  $("in-flight").textContent = now.inFlight;
  $("throughput").textContent = perSecond === null ? "–" : perSecond.toFixed(perSecond >= 10 ? 0 : 1);
}

/** One chip a class, with its count; `hidden` holds the names switched off. */
export function showChips(counts, hidden, onToggle) {
  const focused = document.activeElement?.closest?.(".chip")?.dataset.name;
  const chips = counts.map(({ name, label, count }) => {
    const chip = element("button", { type: "button", className: "chip" },
      swatch(label), element("span", { textContent: name }), element("span", { className: "muted", textContent: count }));
    chip.ariaPressed = String(!hidden.has(name));
    chip.dataset.name = name;
    chip.addEventListener("click", () => onToggle(name));
    return chip;
  });
  $("chips").replaceChildren(...chips);
  chips.find((chip) => chip.dataset.name === focused)?.focus();
}

function row({ index, name, label, score, box }, on) {
  const [x1, y1, x2, y2] = box.map(Math.round);
  const made = element("button", { type: "button", className: "found" },
    swatch(label),
    element("span", { className: "name", textContent: name }),
    element("span", { className: "muted place", textContent: `${x2 - x1} × ${y2 - y1}` }),
    element("span", { className: "score", textContent: score.toFixed(2) }));
  made.ariaLabel = `${name}, score ${score.toFixed(2)}, ${x2 - x1} by ${y2 - y1} pixels at ${x1}, ${y1}`;
  made.dataset.index = index;
  for (const event of ["mouseenter", "focus"]) made.addEventListener(event, () => on.point(index));
  for (const event of ["mouseleave", "blur"]) made.addEventListener(event, () => on.point(null));
  made.addEventListener("click", () => on.pin(index));
  return element("li", {}, made);
}

/** What is visible, surest first; `why` stands in an empty list. `on.point(index|null)`, `on.pin(index)` tie it to the boxes. */
export function showList(visible, total, why, on) {
  const focused = document.activeElement?.closest?.(".found")?.dataset.index;
  $("list").replaceChildren(...visible.map((detection) => row(detection, on)));
  $("list").hidden = visible.length === 0;
  $("count").textContent = total === null ? "" : visible.length === total ? `${total}` : `${visible.length} of ${total}`;
  $("empty").hidden = visible.length > 0;
  $("empty").textContent = why;
  if (focused !== undefined) $("list").querySelector(`[data-index="${focused}"]`)?.focus();
}

/** Marks the row of the active box and brings it into view inside the list, never moving the page. */
export function markActive(active, pinned) {
  for (const made of $("list").querySelectorAll(".found")) {
    const index = Number(made.dataset.index);
    made.classList.toggle("active", index === active);
    made.ariaPressed = String(index === pinned);
    if (index !== active) continue;
    const list = $("list").getBoundingClientRect();
    const mine = made.getBoundingClientRect();
    if (mine.top < list.top) $("list").scrollTop -= list.top - mine.top;
    if (mine.bottom > list.bottom) $("list").scrollTop += mine.bottom - list.bottom;
  }
}

const STAGES = ["decode", "queue", "inference", "postprocess"];
const milliseconds = (value) => (value >= 100 ? value.toFixed(0) : value.toFixed(1)) + " ms";

/** Time by stage; `elapsed` is what the browser waited, so the rest of it was the network and the browser. */
export function showTime(timings, elapsed) {
  const stages = STAGES.filter((name) => name in timings).map((name) => [name, timings[name]]);
  stages.push(["network", Math.max(0, elapsed - timings.total)]);
  $("time").hidden = false;
  $("time-total").textContent = `${milliseconds(timings.total)} on the server`;
  $("time-bar").replaceChildren(...stages.map(([name, value]) => {
    const part = element("span", { className: `stage-${name}` });
    part.style.flexGrow = value;
    return part;
  }));
  $("time-legend").replaceChildren(...stages.map(([name, value]) => element("li", {},
    element("span", { className: `swatch stage-${name}`, ariaHidden: "true" }),
    element("span", { textContent: name }), element("span", { className: "muted", textContent: milliseconds(value) }))));
}

/** The tags that found no place in the picture, under it. */
export function showRoomless(detections) {
  $("roomless").replaceChildren(...detections.slice(0, 12).map(({ name, label, score }) => (
    element("li", {}, swatch(label), `${name} ${score.toFixed(2)}`))));
}

/** Thumbnails to click. */
export function showSamples(samples, onPick) {
  $("samples").hidden = samples.length === 0;
  $("sample-list").replaceChildren(...samples.map((sample) => {
    const picture = element("img", { src: sample.url, alt: sample.name, loading: "lazy", decoding: "async" });
    const made = element("button", { type: "button", className: "sample", title: sample.name }, picture, element("span", { textContent: sample.name, ariaHidden: "true" }));
    made.addEventListener("click", () => onPick(sample));
    return element("li", {}, made);
  }));
}

/** A message over the image with one button; `null` takes it away. `left`: seconds until the next try. */
export function showNotice(notice) {
  $("notice").hidden = notice === null;
  if (notice === null) return;
  const { title, text, advice = "", button, onButton, left, waiting = false } = notice;
  if ($("notice-title").textContent !== title) $("notice-title").textContent = title; // announced once, not every second
  if ($("notice-text").textContent !== text) $("notice-text").textContent = text;
  if ($("notice-advice").textContent !== advice) $("notice-advice").textContent = advice;
  $("notice").classList.toggle("waiting", waiting);
  $("countdown").textContent = left ? `Retrying in ${left} s` : "";
  $("notice-button").textContent = button ?? "";
  $("notice-button").hidden = !button;
  $("notice-button").onclick = onButton;
}

/** Says `text` to screen readers. */
export function say(text) {
  $("live").textContent = text;
}
