// The page of GET /metrics: the load in a few numbers, and every series in words. It looks again while it is seen.

import { metricsText } from "./api.js";
import { $, element } from "./dom.js";

const PAUSE = 2000; // ms between looks

const SAMPLE = /^(\w+)(?:\{(.*)\})? (\S+)/;
const PART = /_(bucket|sum|count)$/;

/** {name: {help, type, samples: [{name, labels, value}]}} of Prometheus' text format. */
export function parse(text) {
  const families = new Map();
  for (const line of text.split("\n")) {
    const [, kind, name, rest] = line.match(/^# (HELP|TYPE) (\S+) (.*)/) ?? [];
    if (kind) {
      const family = families.get(name) ?? { help: "", type: "", samples: [] };
      family[kind.toLowerCase()] = rest;
      families.set(name, family);
      continue;
    }
    const [, series, labels = "", value] = line.match(SAMPLE) ?? [];
    const family = families.get(series) ?? families.get(series?.replace(PART, ""));
    family?.samples.push({ name: series, labels, value: Number(value) });
  }
  return families;
}

const number = (value) => (Number.isInteger(value) ? value.toLocaleString("en") : value.toLocaleString("en", { maximumSignificantDigits: 4 }));

/** [labels, text] of a family: of a histogram, the count and the mean of each series. */
function lines({ type, samples }, name) {
  if (type !== "histogram") return samples.map(({ labels, value }) => [labels, number(value)]);
  const sums = new Map(samples.filter((one) => one.name === `${name}_sum`).map(({ labels, value }) => [labels, value]));
  return samples.filter((one) => one.name === `${name}_count` && one.value > 0)
    .map(({ labels, value }) => [labels, `${number(value)} · mean ${number(sums.get(labels) / value)}`]);
}

const readable = (labels) => labels.replaceAll(/(\w+)="([^"]*)",?/g, "$1 $2   ").trim();

function rows([name, family]) {
  const found = lines(family, name);
  return found.map(([labels, text], index) => element("tr", {},
    element("td", {}, ...(index === 0 ? [element("code", { textContent: name }), element("span", { className: "muted", textContent: family.help })] : [])),
    element("td", { textContent: readable(labels) }), element("td", { className: "number", textContent: text })));
}

function tiles(families, before) {
  const sum = (name, series = name) => (families.get(name)?.samples ?? []).filter((one) => one.name === series).reduce((all, { value }) => all + value, 0);
  const now = { at: performance.now(), images: sum("rcnn_batch_size", "rcnn_batch_size_sum") };
  const batches = sum("rcnn_batch_size", "rcnn_batch_size_count");
  const rate = before && now.images >= before.images ? ((now.images - before.images) * 1000) / (now.at - before.at) : null;
  const shown = {
    Images: number(now.images), "Images/s": rate === null ? "–" : rate.toFixed(1), "In flight": number(sum("rcnn_in_flight")),
    "In queue": number(sum("rcnn_queue_depth")), "Images a batch": batches ? (now.images / batches).toFixed(2) : "–", Refused: number(sum("rcnn_rejected_total") || sum("rcnn_rejected", "rcnn_rejected_total")),
  };
  $("tiles").replaceChildren(...Object.entries(shown).map(([term, value]) => element("div", {}, element("dt", { textContent: term }), element("dd", { textContent: value }))));
  return now;
}

let families = new Map();

function draw() {
  const wanted = $("find").value.toLowerCase();
  const matching = [...families].filter(([name, { help }]) => `${name} ${help}`.toLowerCase().includes(wanted));
  $("rows").replaceChildren(...matching.flatMap(rows));
  $("found").textContent = `${matching.length} of ${families.size} metrics`;
}

async function look(before = null) {
  if (document.hidden) return setTimeout(look, PAUSE, before);
  const text = await metricsText();
  if (text === null) {
    $("found").textContent = "The server does not respond. This page looks again by itself.";
    return setTimeout(look, PAUSE);
  }
  families = parse(text);
  const now = tiles(families, before);
  draw();
  return setTimeout(look, PAUSE, now);
}

$("address").textContent = new URL("metrics", document.baseURI).href;
$("find").addEventListener("input", draw);
look();
