// Exports the results: JSON, a curl command, a drawn image, a COCO file.

import { asCurl, detect } from "./api.js";
import { onWait, only } from "./asking.js";
import { copy, save } from "./inputs.js";
import { say } from "./panels.js";
import { shownAnswer, shownOptions, state } from "./state.js";

const $ = (id) => document.getElementById(id);

/** Has the server write what is shown in `format`, and saves it as the image's name with `ending`. */
function download(format, ending, words) {
  return only(async (signal) => {
    const { image } = state;
    const options = { ...shownOptions(), format, ...(format === "png" ? {} : { file_name: image.name }) };
    const { response } = await detect(image, options, { signal, onWait });
    save(await response.blob(), `${image.name.replace(/\.\w+$/, "")}-${ending}`);
    say(words);
  });
}

export function listenForActions() {
  $("copy-json").addEventListener("click", (event) => {
    copy(JSON.stringify(shownAnswer(), null, 2), event.currentTarget);
    say("The response was copied as JSON.");
  });
  $("copy-curl").addEventListener("click", (event) => {
    copy(asCurl(state.image, shownOptions()), event.currentTarget);
    say("The request was copied as a curl command.");
  });
  $("download").addEventListener("click", () => download("png", "detections.png", "The image with its boxes was downloaded."));
  $("coco").addEventListener("click", () => download("coco", "coco.json", "The COCO file was downloaded."));
}
