// The image area: the file chooser, the chosen image, or the camera's video.

import { $ } from "./dom.js";
import { view } from "./render.js";


/** Whether the browser could read the picture. */
export const hasPicture = () => $("photo").naturalWidth > 0;

// EXIF, in either byte order, and XMP that mirror a picture or turn it by 180°: its size is the same then.
const MIRRORED = /\x12\x01\x03\0\x01\0\0\0[\x02-\x04]\0|\x01\x12\0\x03\0\0\0\x01\0[\x02-\x04]|tiff:Orientation[^0-9]{1,9}[2-4]/;
const TURNED = /\x12\x01\x03\0\x01\0\0\0[\x05-\x08]\0|\x01\x12\0\x03\0\0\0\x01\0[\x05-\x08]|tiff:Orientation[^0-9]{1,9}[5-8]|irot|imir/;
const PLAYED = /^....ftypavis/s; // an AVIF of several frames

/** Whether the browser may show the image otherwise than the server saw it, with `size` {width, height}. */
export async function mayDiffer(image, { width, height }) {
  const { naturalWidth, naturalHeight } = $("photo");
  if (naturalWidth !== width || naturalHeight !== height) return true;
  const text = new TextDecoder("latin1").decode(await image.arrayBuffer());
  return MIRRORED.test(text) || PLAYED.test(text) || (width === height && TURNED.test(text));
}

/** Gives the frame the shape of a picture of width × height px. */
export function shape(width, height) {
  $("figure").style.setProperty("--width", width || 640);
  $("figure").style.setProperty("--height", height || 480);
}

/** Shows an image file; one that the browser cannot read leaves `hasPicture` false. */
export async function showPicture(blob) {
  const photo = $("photo");
  URL.revokeObjectURL(photo.src);
  photo.src = URL.createObjectURL(blob);
  await photo.decode().catch(() => {});
  shape(photo.naturalWidth, photo.naturalHeight);
}

/** Writes the caption: the image's name, or what else there is to say of it, and its size. */
export function showSize(name, { width, height }) {
  $("caption-text").textContent = `${name} · ${width} × ${height}`;
}

/** The place to choose an image, or the image chosen. */
export function showChooser(chooser) {
  const focused = $("drop").contains(document.activeElement);
  $("drop").hidden = !chooser;
  $("figure").hidden = chooser;
  if (focused && !chooser) ($("another").checkVisibility() ? $("another") : $("shutter")).focus();
}

/** Puts the camera's buttons and moving picture in the place of the image's, or back. */
export function showCamera(on) {
  for (const id of ["photo", "another", "folder", "camera-again", "compare"]) $(id).hidden = on;
  $("video").hidden = $("shutter").hidden = $("camera-off").hidden = !on;
  view.reset();
}
