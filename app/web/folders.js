// The files of a drop: single ones, and all that lie in dropped folders.

const PICTURE = /\.(jpe?g|png|gif|webp|bmp|tiff?|avif|hei[cf]|hif|jxl|dng|cr[23]|nef|arw|orf|rw2|raf|pef|srw)$/i;
const MOVING = /\.(mp4|m4v|mov|webm|mkv|avi|mpe?g|ogv)$/i;

/** Those of a folder to open, by name, numbers as numbers. */
export const inOrder = (files) => files.filter(isOfInterest).sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));

/** Whether a file of a folder is one to open; other files (notes, labels) are left out in silence. */
export const isOfInterest = ({ name, type }) => /^(image|video)\//.test(type) || PICTURE.test(name) || MOVING.test(name);

/** Of single files those of interest; where there is none, the first, whatever it is: the server says what it is. */
const choice = (files) => (files.some(isOfInterest) ? files.filter(isOfInterest) : files.slice(0, 1));

const asFile = (entry) => new Promise((resolve, reject) => { entry.file(resolve, reject); });
const oneBlock = (reader) => new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });

async function* filesIn(entry) {
  if (entry.isFile) {
    yield await asFile(entry);
    return;
  }
  const reader = entry.createReader();
  for (let block = await oneBlock(reader); block.length > 0; block = await oneBlock(reader)) {
    for (const child of block) yield* filesIn(child);
  }
}

/** The files of a DataTransfer, by name; of folders, those of interest. */
export async function filesOf(transfer) {
  const entries = [...(transfer?.items ?? [])].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const folders = entries.filter(({ isDirectory }) => isDirectory);
  const files = [...(transfer?.files ?? [])];
  if (folders.length === 0) return choice(files);
  const found = [];
  for (const entry of entries) for await (const file of filesIn(entry)) found.push(file);
  return inOrder(found);
}
