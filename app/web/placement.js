// Finds a place for each tag where it covers no box and no other tag.

const RINGS = 7; // distances from its own box at which a place is looked for
const RIM = 1; // px between a tag and any box: half of the width of its line

const overlaps = ([x, y], wide, high, [x1, y1, x2, y2]) => (
  x < x2 + RIM && x + wide > x1 - RIM && y < y2 + RIM && y + high > y1 - RIM);

/** Positions around a box, the nearest first: along its upper side, its lower one, then beside it, then farther out. */
function* positions([x1, y1, x2, y2], wide, high, size) {
  const across = (x) => Math.max(0, Math.min(x, size.width - wide));
  for (let ring = 0; ring < RINGS; ring += 1) {
    const away = RIM + ring * (high + 3);
    const step = Math.max(high, (x2 - x1) / 12);
    const last = ring === 0 ? Math.max(x1, x2 - wide) : x2 + away;
    const sides = [[y1 - high - away], [y2 + away]];
    for (const [y] of sides) for (let x = ring === 0 ? x1 - 1 : x1 - wide - away; x <= last; x += step) yield [across(x), y];
    for (let y = y1; y <= Math.max(y1, y2 - high); y += Math.max(high, (y2 - y1) / 6)) {
      yield [x2 + away, y];
      yield [x1 - wide - away, y];
    }
  }
}

/**
 * Places for `tags` ({box, wide, high}, the surest first) in a picture of `size`, or `null` where there is none.
 * A box is [x1, y1, x2, y2]; `boxes` are all that a tag may not cover.
 */
export function placeTags(tags, boxes, size) {
  const taken = [];
  return tags.map(({ box, wide, high }) => {
    const free = (place) => (
      place[0] >= 0 && place[1] >= 0 && place[0] + wide <= size.width && place[1] + high <= size.height
      && !boxes.some((other) => overlaps(place, wide, high, other))
      && !taken.some((other) => overlaps(place, wide, high, other)));
    for (const place of positions(box, wide, high, size)) {
      if (!free(place)) continue;
      taken.push([place[0], place[1], place[0] + wide, place[1] + high]);
      return place;
    }
    return null;
  });
}

/** The two ends of the line from a tag to its box, or `null` where they touch. */
export function leader([x, y], wide, high, [x1, y1, x2, y2]) {
  const near = (low, high_, from, to) => (from > high_ ? [from, high_] : to < low ? [to, low] : [Math.max(from, low), Math.max(from, low)]);
  const [tagX, boxX] = near(x1, x2, x, x + wide);
  const [tagY, boxY] = near(y1, y2, y, y + high);
  return Math.hypot(tagX - boxX, tagY - boxY) > 4 ? [[tagX, tagY], [boxX, boxY]] : null;
}
