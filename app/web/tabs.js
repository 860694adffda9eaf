// The tabs Objects · JSON · Code, and what the last two show.

import { asCurl, asJavaScript, asPython } from "./code.js";
import { $ } from "./dom.js";
import { copy } from "./inputs.js";
import { say } from "./panels.js";
import { events, shownAnswer, shownOptions, state } from "./state.js";

const LANGUAGES = { curl: asCurl, python: asPython, javascript: asJavaScript };
const tabs = () => [...document.querySelectorAll("[role=tab]")];

const json = () => JSON.stringify(shownAnswer(), null, 2).replace(/\[\s+([-\d.,\s]+?)\s+\]/g, (_, numbers) => `[${numbers.replace(/\s+/g, " ")}]`);
const language = () => document.querySelector("[name=language]:checked").value;
const itemShown = () => state.item ?? { name: state.image.name, source: null };
const code = () => LANGUAGES[language()](itemShown(), shownOptions());

/** Writes the tab that is open; the others are written when they are opened. */
function write() {
  const answered = Boolean(state.answer);
  for (const id of ["copy-json", "copy-code"]) $(id).disabled = !answered;
  if (!$("json").hidden) $("json-text").textContent = answered ? json() : "No response yet.";
  if (!$("code").hidden) $("code-text").textContent = answered ? code() : "Choose an image. The request for it is written here.";
}

export function openTab(tab) {
  for (const one of tabs()) {
    one.ariaSelected = String(one === tab);
    one.tabIndex = one === tab ? 0 : -1;
    $(one.getAttribute("aria-controls")).hidden = one !== tab;
  }
  write();
}

const STEPS = { ArrowLeft: -1, ArrowRight: 1 };

export function listenForTabs() {
  for (const tab of tabs()) tab.addEventListener("click", () => openTab(tab));
  document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const all = tabs();
    const next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
    next.focus();
    openTab(next);
  });
  for (const radio of document.querySelectorAll("[name=language]")) radio.addEventListener("change", write);
  events.addEventListener("shown", write);
  $("copy-json").addEventListener("click", (event) => {
    copy(JSON.stringify(shownAnswer(), null, 2), event.currentTarget);
    say("The response was copied as JSON.");
  });
  $("copy-code").addEventListener("click", (event) => {
    copy(code(), event.currentTarget);
    say(`The request was copied as ${language()}.`);
  });
}
