// User input and output: files chosen, pasted or dropped; text to the clipboard; files to the disk.

import { $ } from "./dom.js";
import { filesOf, inOrder } from "./folders.js";

/** Calls `onFiles(File[])` for files picked, pasted, or dropped anywhere on the page, and for those of a folder. */
export function listenForImages(onFiles) {
  const take = (files) => { if (files.length > 0) onFiles(files); };
  const dragging = (on) => document.body.classList.toggle("dragging", on);
  for (const id of ["file", "directory"]) {
    $(id).addEventListener("change", () => {
      const files = [...$(id).files];
      take(id === "file" ? files : inOrder(files));
      $(id).value = ""; // so that the same file can be picked again
    });
  }
  $("another").addEventListener("click", () => $("file").click());
  for (const id of ["folder", "choose-folder"]) $(id).addEventListener("click", () => $("directory").click());
  $("drop").addEventListener("click", (event) => { if (event.target === $("drop")) $("file").click(); });
  window.addEventListener("paste", async (event) => {
    if (event.clipboardData?.files.length > 0) event.preventDefault();
    take(await filesOf(event.clipboardData));
  });
  window.addEventListener("dragover", (event) => {
    event.preventDefault();
    dragging(true);
  });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) dragging(false);
  });
  window.addEventListener("drop", async (event) => {
    event.preventDefault();
    dragging(false);
    take(await filesOf(event.dataTransfer));
  });
}

/** Copies `text`; the button says so for a moment. */
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // no clipboard outside https and localhost; execCommand still works there
    const area = Object.assign(document.createElement("textarea"), { value: text, className: "visually-hidden" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.dataset.label ??= button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = button.dataset.label; }, 1500);
}

/** Gives `blob` to the browser's downloads under `name`. */
export function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // the download has begun by then
}
