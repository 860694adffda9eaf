// Which model answers: the choice among those that serve, and the load of another one with a key that may.

import { adviceFor } from "./advice.js";
import { Problem, loadModel } from "./api.js";
import { offerModels } from "./compare.js";
import { $ } from "./dom.js";
import { say, showNotice } from "./panels.js";
import { render } from "./render.js";
import { FLOOR, events, state } from "./state.js";

let cards = []; // of the catalogue, by the server's order

const option = ({ name, state: now }, fallback) => Object.assign(document.createElement("option"), {
  value: name, textContent: name === fallback ? `${name} (default)` : now && now !== "ready" ? `${name} (${now})` : name,
});

function group(label, options) {
  const made = Object.assign(document.createElement("optgroup"), { label });
  made.append(...options);
  return made;
}

/** Fills the choice from GET /models; a model that no longer serves is not chosen any more. */
export function showModels(answer) {
  cards = answer.models;
  const loaded = cards.filter((card) => card.loaded);
  if (state.model && !loaded.some(({ name }) => name === state.model)) state.model = null;
  const rest = cards.filter((card) => !card.loaded);
  const serving = loaded.map((card) => option(card, answer.loaded));
  $("model").replaceChildren(group("Loaded", serving), group("Not loaded", rest.map((card) => option(card))));
  $("model").value = state.model ?? answer.loaded;
  $("models").hidden = false;
  $("load-form").hidden = true;
  offerModels(answer);
}

/** The card of the model that answers, or `null`. */
export const chosenCard = (answer) => answer?.models.find(({ name }) => name === (state.model ?? answer.loaded)) ?? null;

/** Takes the choice; `onChoice` is called when another loaded model is chosen. */
export function listenForModel(onChoice) {
  $("model").addEventListener("change", () => {
    const card = cards.find(({ name }) => name === $("model").value);
    $("load-form").hidden = card.loaded;
    $("load-hint").textContent = `${card.name} is not loaded. A key of RCNN_ADMIN_KEYS loads it.`;
    if (card.loaded) choose(card.name, onChoice);
    else $("load-key").focus();
  });
  $("load-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    await load($("model").value, onChoice);
  });
}

/** Starts the sliders where the card of the model does, but for those that a person moved. */
export function takeThresholds(card) {
  if (!state.moved.has("score")) $("score").value = state.score = Math.max(FLOOR, card.score_threshold);
  if (!state.moved.has("nms")) $("nms").value = state.nms = card.nms_threshold;
  render();
}

function choose(name, onChoice) {
  Object.assign(state, { model: name, size: null, hidden: new Set(), pinned: null });
  takeThresholds(cards.find((card) => card.name === name));
  $("size-card").hidden = true;
  events.dispatchEvent(new Event("model"));
  onChoice();
}

async function load(name, onChoice) {
  $("load").disabled = true;
  showNotice({ title: `Loading ${name}…`, text: "It is warmed up before it serves.", waiting: true });
  try {
    await loadModel(name, $("load-key").value);
    showNotice(null);
    say(`${name} is loaded.`);
    choose(name, onChoice);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    showNotice({ title: error.title, text: error.detail, advice: adviceFor(error) });
  } finally {
    $("load").disabled = false;
    $("load-key").value = "";
  }
}
