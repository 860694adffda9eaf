// The page of GET /models: a card for each model of the catalogue, the loaded ones first.

import { Problem, apiKey, catalogue } from "./api.js";
import { $, element } from "./dom.js";

const PAUSE = 5000; // ms between looks at the catalogue

const bytes = (count) => (count === null ? null : `${(count / 2 ** 20).toFixed(0)} MiB`);

function ago(seconds) {
  if (seconds === null) return "not yet";
  if (seconds < 90) return `${seconds.toFixed(0)} s ago`;
  return seconds < 5400 ? `${(seconds / 60).toFixed(0)} min ago` : `${(seconds / 3600).toFixed(1)} h ago`;
}

function facts(card) {
  const classes = card.labels.slice(1).filter((name) => name !== "N/A");
  const named = classes.length > 8 ? `${classes.slice(0, 8).join(", ")} and ${classes.length - 8} more` : classes.join(", ");
  const always = [
    ["Architecture", card.architecture], ["Classes", named], ["Input", `${card.min_size} to ${card.max_size} px`],
    ["Thresholds", `confidence ${card.score_threshold}, overlap ${card.nms_threshold}`], ["Weights", card.weights],
  ];
  const live = card.loaded
    ? [["Requests", `${card.requests}, last ${ago(card.last_used_seconds)}`], ["Memory", bytes(card.memory_bytes)], ["Precision", card.precision_reason]] : [];
  return [...live, ...always].filter(([, value]) => value !== null);
}

function article(card, fallback) {
  const state = card.state ?? "not loaded";
  const badge = element("span", { className: "state", textContent: card.name === fallback ? `${state} · default` : state });
  badge.dataset.state = state;
  const list = element("dl", { className: "facts" }, ...facts(card).map(([term, value]) => (
    element("div", {}, element("dt", { textContent: term }), element("dd", { textContent: value })))));
  return element("li", { className: "card" }, element("div", { className: "row between" }, element("h2", { textContent: card.name }), badge), list);
}

async function show() {
  try {
    const answer = await catalogue();
    $("key-form").hidden = true;
    if (answer === null) $("lead").textContent = "The server does not respond. This page looks again by itself.";
    else {
      const loaded = answer.models.filter((card) => card.loaded);
      const sorted = [...loaded, ...answer.models.filter((card) => !card.loaded)];
      const loading = answer.loading ? ` ${answer.loading} is being loaded.` : "";
      $("lead").textContent = `${loaded.length} of ${sorted.length} models loaded.${loading} The page Detect chooses one of them, and loads others with a key.`;
      $("cards").replaceChildren(...sorted.map((card) => article(card, answer.loaded)));
    }
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    $("key-form").hidden = false;
    $("lead").textContent = "This server requires an API key.";
    return;
  }
  setTimeout(show, PAUSE);
}

$("address").textContent = new URL("models", document.baseURI).href;
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  apiKey.set($("key").value);
  show();
});
show();
