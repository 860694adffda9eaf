// The request that answers exactly what is shown, as a program: curl, Python, JavaScript. Keys stay out of it.

import { apiKey, query } from "./api.js";
import { MOST_FRAMES, everyOf } from "./frames.js";

const server = () => new URL(".", document.baseURI).href;

/** What to send where: a frame's file is the video it is of, and its route the one for streams. */
function request(item, options) {
  if (!item.source) return { name: item.name, path: "detect", options, moving: false };
  const { file } = item.source;
  return { name: file.name, path: "detect/stream", options: { ...options, every: everyOf(file), max_frames: MOST_FRAMES }, moving: true };
}

/** Options that are given: no null, no empty list. */
const given = (options) => Object.entries(options).filter(([, value]) => value !== null && value !== undefined && [value].flat().length > 0);

function shellWord(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** As one command of a POSIX shell. */
export function asCurl(item, shown) {
  const { name, path, options } = request(item, shown);
  const part = /^[\w.-]+$/.test(name) ? `image=@${name}` : `image=@"${name.replace(/["\\]/g, "\\$&")}"`;
  const url = `${server()}${path}?${query(options)}`;
  const key = apiKey.get() ? ' \\\n  -H "Authorization: Bearer $RCNN_API_KEY"' : "";
  return `curl -F ${shellWord(part)}${key} \\\n  '${url.replaceAll("'", "%27")}'`;
}

/** JSON is Python too, but for these three words and characters beyond the first plane, which Python reads in UTF-8. */
const python = (value) => (Array.isArray(value) ? `[${value.map(python).join(", ")}]` : JSON.stringify(value));

/** As a Python program with the client of this server. */
export function asPython(item, shown) {
  const { name, options, moving } = request(item, shown);
  const words = given(options).map(([option, value]) => `    ${option}=${python(value)},\n`).join("");
  const call = (method) => `client.${method}(\n    ${python(name)},\n${words})`;
  const key = apiKey.get() ? "  # the key: RCNN_API_KEY of the environment" : "";
  const start = `# pip install ./client\nfrom rcnn_client import Client\n\nclient = Client(${python(server())})${key}\n`;
  if (moving) return `${start}for frame in ${call("stream")}:\n    print(frame.index, frame.outcome)\n`;
  return `${start}detections = ${call("detect")}\nfor detection in detections:\n    print(detection.name, detection.score, detection.box)\n`;
}

/** As a JavaScript module; with a File of a page in place of `readFile` it runs in a browser too. */
export function asJavaScript(item, shown) {
  const { name, path, options, moving } = request(item, shown);
  const key = apiKey.get() ? "\n  headers: { Authorization: `Bearer ${process.env.RCNN_API_KEY}` }," : "";
  const pairs = given(options).flatMap(([option, value]) => [value].flat().map((one) => `  [${JSON.stringify(option)}, ${JSON.stringify(one)}],\n`));
  const read = moving
    ? 'const lines = (await response.text()).trim().split("\\n");\nfor (const line of lines) console.log(JSON.parse(line));'
    : "const { boxes, names, scores } = await response.json();\nnames.forEach((name, i) => console.log(name, scores[i], boxes[i]));";
  return `import { readFile } from "node:fs/promises"; // in a browser: a File of <input type="file">

const options = new URLSearchParams([
${pairs.join("")}]);
const response = await fetch(\`${server()}${path}?\${options}\`, {
  method: "POST",${key}
  body: await readFile(${JSON.stringify(name)}),
});
if (!response.ok) throw new Error((await response.json()).detail);
${read}
`;
}
