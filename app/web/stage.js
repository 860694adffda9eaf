// Draws the boxes over the image, and finds the box under the pointer.

import { leader, placeTags } from "./placement.js";

// The same as in the pictures that the server draws (models/images/drawing.py), by label id.
const PALETTE = [
  [230, 25, 75], [60, 200, 80], [255, 225, 25], [40, 110, 240], [245, 130, 48], [165, 60, 200],
  [70, 230, 230], [240, 50, 230], [191, 239, 69], [0, 140, 140], [250, 170, 190], [150, 85, 30],
  [170, 255, 195], [150, 10, 30], [130, 140, 10], [255, 200, 140], [20, 30, 150], [200, 175, 255],
];

const FAINT = 0.2; // of the boxes beside the one pointed at
const FINGER = 12; // px of tolerance around a box for touch

const rgb = (label) => PALETTE[label % PALETTE.length];

/** A class's colour, the same for every image. */
export function colour(label) {
  return `rgb(${rgb(label).join(" ")})`;
}

/** Black or white, whichever reads better on a class's colour: 4.5 : 1 or more. */
export function ink(label) {
  const [red, green, blue] = rgb(label).map((value) => (value / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.19 ? "#000" : "#fff";
}

/**
 * The stage over `canvas`, seen through `view`: `show` what is visible, `indexAt` a pointer event. Boxes are in image pixels.
 * `onRoomless(detections)`: those whose tag has no place in the picture that covers nothing.
 */
export function createStage(canvas, view, onRoomless = () => {}) {
  const context = canvas.getContext("2d");
  let scene = { detections: [], active: null, width: 1, height: 1 };

  function fit() {
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = canvas.getBoundingClientRect();
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    return { width, height };
  }

  /** A side that lies on the edge of the canvas is drawn whole, just inside. */
  const onCanvas = (value, length) => (value > -2 && value < 1 ? 1 : value > length - 1 && value < length + 2 ? length - 1 : value);

  function drawBox(box, fill, active) {
    const { width, height } = canvas.getBoundingClientRect();
    const [x1, y1, x2, y2] = box.map((value, index) => onCanvas(value, index % 2 ? height : width));
    context.lineJoin = "round";
    context.strokeStyle = "rgb(0 0 0 / 45%)"; // a dark rim keeps light colours visible on light photos
    context.lineWidth = active ? 5 : 3.5;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    context.strokeStyle = fill;
    context.lineWidth = active ? 3 : 2;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    if (!active) return;
    context.globalAlpha = 0.18;
    context.fillStyle = fill;
    context.fillRect(x1, y1, x2 - x1, y2 - y1);
    context.globalAlpha = 1;
  }

  function drawTag(text, label, [x, y, wide, high]) {
    context.fillStyle = colour(label);
    context.beginPath();
    context.roundRect(x, y, wide, high, 3);
    context.fill();
    context.fillStyle = ink(label);
    context.fillText(text, x + 5, y + high / 2 + 0.5);
  }

  /** Where a box lies in a window of width × height px, by the view's zoom and pan. */
  function place([x1, y1, x2, y2], { width, height }) {
    const across = (x) => ((x / scene.width) * view.scale + view.x) * width;
    const down = (y) => ((y / scene.height) * view.scale + view.y) * height;
    return [across(x1), down(y1), across(x2), down(y2)];
  }

  /** The part of a placed box inside the window, or null. */
  function inside([x1, y1, x2, y2], { width, height }) {
    const part = [Math.max(0, x1), Math.max(0, y1), Math.min(width, x2), Math.min(height, y2)];
    return part[0] <= part[2] && part[1] <= part[3] ? part : null;
  }

  /** [detection, text, tag {box, wide, high, at}] of each; `at` is null where the picture has no free place. */
  function makeTags(detections, size) {
    const high = size.width < 480 ? 17 : 20;
    context.font = `600 ${high === 17 ? 11 : 12.5}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    const tags = detections.map((detection) => {
      const text = `${detection.name} ${detection.score.toFixed(2)}`;
      return { detection, text, box: inside(place(detection.box, size), size), wide: context.measureText(text).width + 10, high };
    });
    const places = placeTags(tags, tags.map(({ box }) => box), size);
    return tags.map((tag, index) => ({ ...tag, at: places[index] }));
  }

  /** Darkens what is not in the box, so that it stands alone. */
  function isolate([x1, y1, x2, y2], { width, height }) {
    context.fillStyle = "rgb(0 0 0 / 45%)";
    context.beginPath();
    context.rect(0, 0, width, height);
    context.rect(x1, y1, x2 - x1, y2 - y1);
    context.fill("evenodd");
  }

  function drawLeader({ detection, box, wide, high, at }) {
    const ends = leader(at, wide, high, box);
    if (!ends) return;
    context.strokeStyle = colour(detection.label);
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(...ends[0]);
    context.lineTo(...ends[1]);
    context.stroke();
  }

  function draw() {
    const size = fit();
    const { active } = scene;
    const detections = scene.detections.filter(({ box }) => inside(place(box, size), size));
    const surestFirst = [...detections].sort((a, b) => b.score - a.score);
    const tags = makeTags(surestFirst, size);
    const seen = tags.find(({ detection }) => detection.index === active);
    for (const { detection } of tags.toReversed()) {
      context.globalAlpha = seen ? FAINT : 1;
      if (detection !== seen?.detection) drawBox(place(detection.box, size), colour(detection.label), false);
    }
    context.globalAlpha = 1;
    if (seen) {
      isolate(seen.box, size);
      drawBox(place(seen.detection.box, size), colour(seen.detection.label), true);
    }
    for (const tag of seen ? [seen] : tags.toReversed()) {
      const at = tag.at ?? (seen ? [tag.box[0], tag.box[1]] : null); // hovered, it shows even over its own box
      if (!at) continue;
      drawLeader({ ...tag, at });
      drawTag(tag.text, tag.detection.label, [...at, tag.wide, tag.high]);
    }
    onRoomless(tags.filter(({ at }) => !at).map(({ detection }) => detection));
  }

  new ResizeObserver(draw).observe(canvas);

  return {
    /** Draws `detections` ({index, box, label, name, score}) of an image of width × height px; `active` stands out. */
    show(next) {
      scene = next;
      draw();
      canvas.setAttribute("aria-label", `${scene.detections.length} objects drawn over the image; the list names them`);
    },
    /** Index of the smallest box under a pointer event, or close to it where that is a finger, or null. */
    indexAt(event) {
      const { left, top, width, height } = canvas.getBoundingClientRect();
      const slack = event.pointerType === "touch" ? FINGER : 0;
      const [aside, above] = [(slack / width / view.scale) * scene.width, (slack / height / view.scale) * scene.height];
      const x = (((event.clientX - left) / width - view.x) / view.scale) * scene.width;
      const y = (((event.clientY - top) / height - view.y) / view.scale) * scene.height;
      const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
      const under = scene.detections.filter(({ box: [x1, y1, x2, y2] }) => (
        x >= x1 - aside && x <= x2 + aside && y >= y1 - above && y <= y2 + above));
      return under.sort((a, b) => area(a.box) - area(b.box))[0]?.index ?? null;
    },
  };
}
