// The web socket of live detection: frames go out, answers come in; the server takes the newest frame and drops older ones.

import { Problem, apiKey, query } from "./api.js";

const PATIENCE = 5000; // ms to open it; a proxy without web sockets may never respond

function address(options) {
  const url = new URL(`detect/live?${query(options)}`, document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  return url;
}

/** A browser gives a web socket no headers: the key goes as a subprotocol, in base64url. */
function protocols() {
  const key = apiKey.get();
  if (!key) return ["rcnn-live"];
  const bytes = String.fromCharCode(...new TextEncoder().encode(key));
  return ["rcnn-live", `rcnn-key.${btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`];
}

/** Resolves with the open socket, or with `null` where it cannot be opened, for whatever reason. */
function opened(options, signal) {
  const socket = new WebSocket(address(options), protocols());
  return new Promise((resolve) => {
    const give = (value) => { clearTimeout(timer); if (!value) socket.close(); resolve(value); };
    const timer = setTimeout(give, PATIENCE, null);
    socket.addEventListener("open", () => give(socket), { once: true });
    socket.addEventListener("close", () => give(null), { once: true });
    signal.addEventListener("abort", () => socket.close(), { once: true });
  });
}

/**
 * A line to the server for frames, or `null` where there is none: {open, busy, closed, send(blob), ask(options)}.
 * `onAnswer(answer, elapsed ms)` for each detected frame, `onProblem(problem)` for each that failed.
 */
export async function openLine(options, { signal, onAnswer, onProblem }) {
  const socket = await opened(options, signal);
  if (!socket) return null;
  const sent = new Map(); // number of the frame -> when it was sent
  let next = 0;
  let asked = JSON.stringify(options);
  socket.addEventListener("message", ({ data }) => {
    const answer = JSON.parse(data);
    if (answer.error) onProblem(new Problem(answer.error));
    else if ("frame" in answer) onAnswer(answer, performance.now() - sent.get(answer.frame));
    for (const frame of sent.keys()) if (frame <= answer.frame) sent.delete(frame);
  });
  return {
    get open() { return socket.readyState === WebSocket.OPEN; },
    get busy() { return socket.bufferedAmount > 0; }, // the connection is slower than the camera
    closed: new Promise((resolve) => { socket.addEventListener("close", resolve, { once: true }); }),
    send(blob) {
      if (socket.readyState !== WebSocket.OPEN) return; // it was closed while the frame was being made
      sent.set(next, performance.now());
      next += 1;
      socket.send(blob);
    },
    ask(changed) {
      const text = JSON.stringify(changed);
      if (text !== asked) socket.send(text);
      asked = text;
    },
  };
}
