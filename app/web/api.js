// The server's API: one function for each route; failures are Problems; retries honour Retry-After.

const AS_DATA = { headers: { Accept: "application/json" }, cache: "no-store" }; // some addresses are pages too
const TRIES = 10; // at 429 and 503 before it gives up; loading does not count

/** A failed request in the words of RFC 9457; status 0 when the server was not reached. */
export class Problem extends Error {
  constructor({ status, code, title, detail, retryAfter = null }) {
    super(detail || title);
    Object.assign(this, { status, code, title, detail, retryAfter });
  }
}

/** A key in sessionStorage, which is removed when the tab is closed. */
const storedKey = (name) => ({
  get: () => sessionStorage.getItem(name),
  set: (value) => sessionStorage.setItem(name, value),
  forget: () => sessionStorage.removeItem(name),
});

export const apiKey = storedKey("rcnn-api-key");
export const adminKey = storedKey("rcnn-admin-key"); // a key is never both

/** Query string of detect options; empty lists and null are left to the server's defaults. */
export function query(options) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(options)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined) params.append(name, one);
  }
  return params.toString();
}

async function send(path, init = {}) {
  const headers = new Headers(init.headers);
  if (apiKey.get() && !headers.has("Authorization")) headers.set("Authorization", `Bearer ${apiKey.get()}`);
  try {
    return await fetch(path, { ...init, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({
      status: 0, code: "unreachable", title: "The server did not respond.",
      detail: "It may be stopped, or the image may be larger than the server accepts.",
    });
  }
}

/** A response that is not an error; else its Problem. */
async function request(path, init) {
  const response = await send(path, init);
  if (!response.ok) throw await readProblem(response);
  return response;
}

/** POST /detect/stream with a video or an animation; the response, whose body comes as it is read. */
export async function openStream(file, options, signal) {
  const init = { method: "POST", body: file, signal, headers: { "Content-Type": file.type || "application/octet-stream" } };
  return request(`detect/stream?${query(options)}`, init);
}

async function readProblem(response) {
  const body = await response.json().catch(() => ({}));
  const seconds = Number(response.headers.get("Retry-After"));
  return new Problem({
    status: response.status,
    code: body.code ?? "unknown",
    title: body.title ?? `The server answered ${response.status}.`,
    detail: typeof body.detail === "string" ? body.detail : "",
    retryAfter: Number.isFinite(seconds) && response.headers.has("Retry-After") ? seconds : null,
  });
}

/** Waits `seconds` and calls `tick` with the seconds left; rejects with AbortError when cancelled. */
function countDown(seconds, tick, signal) {
  return new Promise((resolve, reject) => {
    let left = Math.ceil(seconds);
    const stop = (end, value) => { clearInterval(timer); signal.removeEventListener("abort", cancel); end(value); };
    const cancel = () => stop(reject, new DOMException("Cancelled", "AbortError"));
    const timer = setInterval(() => { left -= 1; left > 0 ? tick(left) : stop(resolve); }, 1000);
    signal.addEventListener("abort", cancel);
    tick(left);
    if (left <= 0) stop(resolve);
  });
}

function mayWait(problem, tries) {
  if (problem.code === "loading") return true;
  if (problem.code === "failing") return false;
  return (problem.status === 429 || problem.status === 503) && tries < TRIES;
}

/** POST /detect -> {response, elapsed ms}; on 429 and 503 calls `onWait(problem, secondsLeft)`, waits and retries. */
export async function detect(image, options, { signal, onWait }) {
  const type = image.type.startsWith("image/") ? image.type : "application/octet-stream";
  const init = { method: "POST", body: image, signal, headers: { "Content-Type": type } };
  for (let tries = 1; ; tries += 1) {
    const started = performance.now();
    const response = await send(`detect?${query(options)}`, init);
    if (response.ok) return { response, elapsed: performance.now() - started };
    const problem = await readProblem(response);
    if (!mayWait(problem, tries)) throw problem;
    await countDown(problem.retryAfter ?? 1, (left) => onWait(problem, left), signal);
  }
}

/** GET a JSON document; `null` when the server has none to give (404, no answer). Without a key it wants: Problem. */
async function getJson(path) {
  const response = await send(path, AS_DATA).catch(() => null);
  if (response?.status === 401) throw await readProblem(response);
  return response?.ok ? response.json() : null;
}

/** GET /health, whose 503 answers carry the same document as its 200. */
export async function health() {
  const response = await send("health").catch(() => null);
  return (await response?.json().catch(() => null)) ?? null;
}

/** GET /metrics as text, or `null`. */
export async function metricsText() {
  const response = await send("metrics", { headers: { Accept: "text/plain" }, cache: "no-store" }).catch(() => null);
  return response?.ok ? response.text() : null;
}

/** What GET /metrics says of the traffic: images that wait, requests inside, images done so far, and when (ms). */
export async function traffic() {
  const text = await metricsText() ?? "";
  const samples = (series) => [...text.matchAll(new RegExp(`^${series}(?:{.*})? (\\S+)`, "gm"))];
  const read = (series) => samples(series).reduce((sum, [, value]) => sum + Number(value), 0);
  const [queue, inFlight, images] = ["rcnn_queue_depth", "rcnn_in_flight", "rcnn_batch_size_sum"].map(read);
  return Number.isFinite(queue + inFlight + images) ? { queue, inFlight, images, at: performance.now() } : null;
}

/** The catalogue: {loaded: name of the default model or null, models: [card with state]}. */
export const catalogue = () => getJson("models");

/** Loads a model with a key that may; it serves beside the others, or in place of the one that does. */
export async function loadModel(name, key) {
  const headers = { Authorization: `Bearer ${key}` };
  const response = await fetch(`models/${encodeURIComponent(name)}/load`, { method: "POST", headers });
  if (!response.ok) throw await readProblem(response);
}

/** The samples of a model (`null`: the default one) as [{name, url}], the urls relative so that a path prefix works. */
export async function samples(model) {
  const answer = await getJson(`samples?${query({ model })}`);
  return (answer?.samples ?? []).map(({ name, url }) => ({ name: name.replace(/\.\w+$/, ""), url: url.replace(/^\//, "") }));
}

/** A sample's bytes as a File. */
export async function fetchSample({ url }) {
  const blob = await (await request(url)).blob();
  return new File([blob], decodeURIComponent(url.split("?")[0].split("/").pop()), { type: blob.type });
}

/** A request with the key of an administrator, where one was given. */
function asAdmin(init = {}) {
  return adminKey.get() ? { ...init, headers: { ...init.headers, Authorization: `Bearer ${adminKey.get()}` } } : init;
}

/** GET /captures: {captures: [the newest first], count, bytes, max_bytes, days, rules}; `before`: an id, older ones follow. */
export const listCaptures = async (limit, before) => (await request(`captures?${query({ limit, before })}`, asAdmin(AS_DATA))).json();

/** A capture with its detections, as `coco`. */
export const readCapture = async (id) => (await request(`captures/${id}`, asAdmin(AS_DATA))).json();

/** The image of a capture as a Blob. */
export const captureImage = async (id) => (await request(`captures/${id}/image`, asAdmin())).blob();

/** Erases one capture, or all of them. */
export const eraseCaptures = (id = null) => request(id === null ? "captures" : `captures/${id}`, asAdmin({ method: "DELETE" }));
