// Draws the boxes over the image, and finds the box under the pointer.

// The same as in the pictures that the server draws (models/images/drawing.py), by label id.
const PALETTE = [
  [230, 25, 75], [60, 200, 80], [255, 225, 25], [40, 110, 240], [245, 130, 48], [165, 60, 200],
  [70, 230, 230], [240, 50, 230], [191, 239, 69], [0, 140, 140], [250, 170, 190], [150, 85, 30],
  [170, 255, 195], [150, 10, 30], [130, 140, 10], [255, 200, 140], [20, 30, 150], [200, 175, 255],
];

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

/** The stage over `canvas`, seen through `view`: `show` what is visible, `indexAt` a pointer event. Boxes are in image pixels. */
export function createStage(canvas, view) {
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

  function drawBox([x1, y1, x2, y2], fill, active) {
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

  /** Where a tag of wide × high px goes: the first place by its box that no surer tag takes. */
  function placeTag([x1, y1, x2, y2], wide, high, size, taken) {
    const left = Math.max(0, Math.min(x1 - 1, size.width - wide));
    const places = [[left, y1 - high], [left, y1], [x2 - wide, y1 - high], [left, y2], [left, y2 - high]];
    const overlaps = ([x, y]) => taken.some(([a, b, w, h]) => x < a + w && a < x + wide && y < b + h && b < y + high);
    const fits = ([x, y]) => x >= 0 && y >= 0 && x + wide <= size.width && y + high <= size.height;
    const [x, y] = places.find((place) => fits(place) && !overlaps(place)) ?? [left, Math.max(0, y1)];
    taken.push([x, y, wide, high]);
    return [x, y];
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

  function placeTags(detections, size) {
    const high = size.width < 480 ? 17 : 20;
    const taken = [];
    context.font = `600 ${high === 17 ? 11 : 12.5}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    return detections.map((detection) => {
      const text = `${detection.name} ${detection.score.toFixed(2)}`;
      const wide = context.measureText(text).width + 10;
      const seen = inside(place(detection.box, size), size);
      return [detection, text, [...placeTag(seen, wide, high, size, taken), wide, high]];
    });
  }

  function draw() {
    const size = fit();
    const { active } = scene;
    const detections = scene.detections.filter(({ box }) => inside(place(box, size), size));
    const strength = ({ index }) => (active === null || index === active ? 1 : 0.3);
    const surestFirst = [...detections].sort((a, b) => (b.index === active) - (a.index === active) || b.score - a.score);
    const tags = placeTags(surestFirst, size);
    for (const detection of surestFirst.toReversed()) {
      context.globalAlpha = strength(detection);
      drawBox(place(detection.box, size), colour(detection.label), detection.index === active);
    }
    for (const [detection, text, tag] of tags.toReversed()) {
      context.globalAlpha = strength(detection);
      drawTag(text, detection.label, tag);
    }
    context.globalAlpha = 1;
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
