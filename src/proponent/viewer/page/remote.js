/** Files by their address.  The browser fetches them, by its own rules for other sites; a click starts it. */

import { el } from "./dom.js";
import { add, notice, say } from "./files.js";
import { FileError, readRecords } from "./records.js";

const MOST_BYTES = 2 ** 30;
const SILENCE = 30_000; // milliseconds without a byte
const HELP =
  "check the address; else that server does not let other pages read it: download the file and open it here";

/** The address as a URL; FileError for what is none, or of another kind than http and https. */
export function checkedAddress(text) {
  let url = null;
  try {
    url = new URL(text.trim());
  } catch {
    throw new FileError(`“${text.trim()}” is no address; it begins with https://`);
  }
  if (!/^https?:$/.test(url.protocol)) throw new FileError(`${url.protocol} is not fetched; the address begins with https://`);
  if (url.username || url.password) throw new FileError("an address with a name or password in it is not fetched");
  return url;
}

/** A stream that passes bytes on, up to a limit, and calls `heard` for each part. */
function limited(name, heard) {
  let size = 0;
  return new TransformStream({
    transform(part, out) {
      heard();
      size += part.byteLength;
      if (size > MOST_BYTES) throw new FileError(`${name}: larger than 1 GiB, the most that is fetched; open it from disk`);
      out.enqueue(part);
    },
  });
}

async function records(url, name, onProgress) {
  const stop = new AbortController();
  let timer = 0;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(), SILENCE);
  };
  heard();
  try {
    const how = { credentials: "omit", referrerPolicy: "no-referrer", cache: "no-store", signal: stop.signal };
    const answer = await fetch(url, how).catch(() => null);
    if (stop.signal.aborted) throw new FileError(`${name}: no answer in ${SILENCE / 1000} seconds`);
    if (!answer) throw new FileError(`${name}: could not be fetched; ${HELP}`);
    if (!answer.ok) throw new FileError(`${name}: that server answers ${answer.status} ${answer.statusText}`);
    const bytes = answer.body.pipeThrough(limited(name, heard));
    const packed = url.pathname.endsWith(".gz");
    return await readRecords(name, packed ? bytes.pipeThrough(new DecompressionStream("gzip")) : bytes, onProgress);
  } finally {
    clearTimeout(timer);
  }
}

async function load(app, text, button) {
  say(null);
  button.disabled = true;
  try {
    const url = checkedAddress(text);
    const name = url.pathname.split("/").pop() || url.hostname;
    if (await add(app, name, (onProgress) => records(url, name, onProgress))) {
      app.state.url = url.href;
      notice(`${name} loaded`);
    }
  } catch (error) {
    if (!(error instanceof FileError)) throw error;
    say(error.message);
  } finally {
    button.disabled = false;
    app.loaded();
    app.update({});
  }
}

/** Show the box for an address; one in the page's own address waits there for a click. */
export function mountRemote(app, place) {
  const input = el("input", { id: "address", type: "text", inputmode: "url", autocomplete: "off", spellcheck: "false", placeholder: "https://…/results.jsonl" });
  const button = el("button", { type: "button", onclick: () => load(app, input.value, button) }, "Load");
  input.value = app.state.url;
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !button.disabled) load(app, input.value, button);
  });
  place.append(el("label", { for: "address" }, "Load a result file by its address"), input, button);
  place.hidden = false;
}
