// The page's state and what is derived from it: the image, the server's response, the visible detections.

export const FLOOR = 0.05; // requested threshold: the confidence slider filters without a request
export const MOST = 300; // maximum number of requested boxes

export const state = {
  item: null, // of the filmstrip, see roll.js; null: none, or the camera
  image: null, // the File of the item, or the camera's newest frame
  answer: null, // of POST /detect, in pixels
  score: 0.5,
  nms: 0.5,
  moved: new Set(), // "score", "nms": the sliders that a person moved
  size: null, // null: the short side that the model's card has
  tile: null, // null: no tiles; "auto", or the tiles' side in pixels
  hidden: new Set(), // names of the classes switched off
  model: null, // the name of the model that is chosen; null: the server's default one
  version: null, // of the model that answers
  pointed: null, // index of the detection under the pointer or the focus
  pinned: null, // index of the detection that a click keeps
  camera: false, // whether the image is the camera's
};

/**
 * "key": a key was given; "trouble": the server could not serve, or serves another model; "model": one was chosen;
 * "stopped": a person waits no longer; "shown": what is shown changed; "roll": an item of the filmstrip did.
 */
export const events = new EventTarget();
export const tell = (name) => events.dispatchEvent(new Event(name));

/** Detections of `answer` at or above `score`: {index, box, label, score, name}. */
export function above(answer, score) {
  const { boxes, labels, scores, names } = answer ?? { boxes: [] };
  return boxes
    .map((box, index) => ({ index, box, label: labels[index], score: scores[index], name: names[index] }))
    .filter((detection) => detection.score >= score);
}

/** Detections at or above the slider's score. */
export const sure = () => above(state.answer, state.score);

/** Those of them whose class is switched on. */
export const shown = () => sure().filter(({ name }) => !state.hidden.has(name));

/** [{name, label, count}] of `detections`, the most frequent first. */
export function countByClass(detections) {
  const counts = new Map();
  for (const { name, label } of detections) {
    counts.set(name, { name, label, count: (counts.get(name)?.count ?? 0) + 1 });
  }
  return [...counts.values()].sort((a, b) => b.count - a.count || a.name.localeCompare(b.name));
}

/** What is asked of the server: everything that the sliders may show. */
export const askedOptions = () => ({
  score_threshold: FLOOR, nms_threshold: state.nms, max_detections: MOST, size: state.size, tile: state.tile,
  model: state.model,
});

/** What the server would be asked to answer exactly what is shown now. */
export function shownOptions() {
  const names = countByClass(sure()).map(({ name }) => name);
  const on = names.filter((name) => !state.hidden.has(name));
  const nothing = names.length > 0 && on.length === 0; // an empty list of classes means all
  return {
    ...askedOptions(),
    score_threshold: nothing ? 1 : state.score,
    classes: on.length < names.length ? on : [],
  };
}

/** The server's answer, cut to what is shown. */
export function shownAnswer() {
  const keep = shown().map(({ index }) => index);
  const cut = ["boxes", "labels", "scores", "names"].map((key) => [key, keep.map((index) => state.answer[key][index])]);
  return { ...state.answer, ...Object.fromEntries(cut) };
}

export const objects = (count) => `${count} ${count === 1 ? "object" : "objects"}`;

/** What is shown, as a sentence. */
export function summary() {
  const visible = shown();
  const parts = countByClass(visible).map(({ name, count }) => `${count} ${name}`);
  return visible.length === 0 ? "No objects at this confidence." : `${objects(visible.length)}: ${parts.join(", ")}.`;
}

/** Why the list is empty; `looking`: a request is in flight. */
export function whyEmpty(looking) {
  if (!state.image) return "Choose an image. Its objects are listed here.";
  if (!state.answer) return looking ? "Detecting…" : "No response for this image.";
  if (state.answer.boxes.length === 0) return "No objects found, even at the lowest confidence.";
  return "No objects at this confidence. Lower the slider or select more classes.";
}
