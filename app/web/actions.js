// Takes results away: a drawn picture, a COCO file.

import { detect } from "./api.js";
import { onWait, only } from "./asking.js";
import { $ } from "./dom.js";
import { save } from "./inputs.js";
import { say } from "./panels.js";
import { shownOptions, state } from "./state.js";

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
  $("download").addEventListener("click", () => download("png", "detections.png", "The image with its boxes was downloaded."));
  $("coco").addEventListener("click", () => download("coco", "coco.json", "The COCO file was downloaded."));
}
