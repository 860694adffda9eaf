// The server's state: its model, the defaults of the card, its load, its samples.

import { Problem, catalogue, health, samples, traffic } from "./api.js";
import { report, showKey } from "./asking.js";
import { $ } from "./dom.js";
import { chosenCard, showModels, takeThresholds } from "./models.js";
import { showSamples, showServing, showTraffic } from "./panels.js";
import { events, state } from "./state.js";

const HEALTH_PAUSE = 2000; // ms between polls of a server that is not ready
const TRAFFIC_PAUSE = 2000; // ms between polls of the queue
const WINDOW = 10_000; // ms over which the throughput is counted

let looking = 0; // timer of the next poll of /health
let offered = false; // whether samples are offered: which ones there are depends on the model that serves
let onReady = () => {};

/** Shows which model serves; looks again while it takes no work. */
async function watchHealth() {
  clearTimeout(looking);
  const answer = await health();
  showServing(answer);
  const chosen = answer?.models?.find(({ name, state: now }) => name === state.model && now === "ready");
  state.version = chosen?.version ?? answer?.model_version ?? null;
  const serves = ["ok", "degraded"].includes(answer?.status);
  if (serves && !offered) onReady();
  if (serves) await takeDefaults();
  else looking = setTimeout(watchHealth, HEALTH_PAUSE);
}

/** Starts the sliders where the card of the model does, until a person saw an answer; another choice does it again. */
async function takeDefaults() {
  const card = await cardOrKey();
  if (!card) return;
  $("size").dataset.card = card.min_size;
  if (state.size === null) showCardSize();
  if (state.image) return;
  takeThresholds(card);
}

/** The card of the model that answers; where that takes a key the page has not, the field for it is shown. */
async function cardOrKey() {
  try {
    const answer = await catalogue();
    showKey(false);
    if (answer) showModels(answer);
    return chosenCard(answer);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    showKey(true);
    return null;
  }
}

/** Sets the size slider to the model's own short side. */
export function showCardSize() {
  $("size").value = $("size").dataset.card;
  $("size-value").textContent = `${$("size").dataset.card} px`;
  $("size").disabled = false;
}

/** How many images wait, and how many the device did a second, over the last ten. */
async function watchTraffic(seen = []) {
  if (document.hidden) return setTimeout(watchTraffic, TRAFFIC_PAUSE);
  const now = await traffic();
  const before = seen.filter(({ at, images }) => now && now.at - at <= WINDOW && images <= now.images); // else the server restarted
  const first = before[0];
  showTraffic(now, first ? ((now.images - first.images) * 1000) / (now.at - first.at) : null);
  return setTimeout(watchTraffic, TRAFFIC_PAUSE, now ? [...before, now] : []);
}

async function offerSamples(onPick) {
  offered = true;
  try {
    showSamples(await samples(state.model), onPick);
  } catch (error) {
    report(error, () => offerSamples(onPick));
  }
}

/** Begins to look after the server; `onPick(sample)` for a sample clicked. */
export function watchServer(onPick) {
  events.addEventListener("trouble", watchHealth);
  events.addEventListener("model", () => { watchHealth(); offerSamples(onPick); });
  events.addEventListener("key", () => { watchHealth(); offerSamples(onPick); });
  onReady = () => offerSamples(onPick);
  watchHealth();
  watchTraffic();
}
