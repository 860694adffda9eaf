// User input and output: images chosen, pasted or dropped; text to the clipboard; files to the disk.

const $ = (id) => document.getElementById(id);

/** Calls `onImage(File)` for an image picked, pasted, or dropped anywhere on the page. */
export function listenForImages(onImage) {
  const take = (transfer) => {
    const files = [...(transfer?.files ?? [])];
    const image = files.find((file) => file.type.startsWith("image/")) ?? files[0];
    if (image) onImage(image);
    return Boolean(image);
  };
  const dragging = (on) => document.body.classList.toggle("dragging", on);
  $("file").addEventListener("change", () => {
    take($("file"));
    $("file").value = ""; // so that the same file can be picked again
  });
  $("another").addEventListener("click", () => $("file").click());
  $("drop").addEventListener("click", (event) => { if (event.target === $("drop")) $("file").click(); });
  window.addEventListener("paste", (event) => {
    if (take(event.clipboardData)) event.preventDefault();
  });
  window.addEventListener("dragover", (event) => {
    event.preventDefault();
    dragging(true);
  });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) dragging(false);
  });
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    dragging(false);
    take(event.dataTransfer);
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
