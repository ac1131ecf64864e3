/** The files of the page: where they come from, and which of them are shown. */

import { shortName } from "./compare.js";
import { el, plain, show } from "./dom.js";
import { addRecords, checkedRecords } from "./library.js";
import { FileError, readLocalFile, readRecords } from "./records.js";

const SHOWN_AT_FIRST = 2;

/** The files that a state shows, the first in the lead. */
export function shownFiles(library, state) {
  const names = state.files.split(",").map(decodeName);
  const shown = names.map((name) => library.files.find((file) => file.name === name)).filter(Boolean);
  return shown.length ? shown : library.files.slice(0, SHOWN_AT_FIRST);
}

function decodeName(name) {
  return name.replaceAll("%2C", ",");
}

function encodeNames(files) {
  return files.map(({ name }) => name.replaceAll(",", "%2C")).join(",");
}

/** Show a button for each file that shows or hides it; one always stays. */
export function showFiles(app, element) {
  const shown = app.shown();
  const focused = document.activeElement?.dataset?.file;
  const toggle = (file) => {
    const left = shown.includes(file) ? shown.filter((other) => other !== file) : [...shown, file];
    if (left.length) app.update({ files: encodeNames(left) });
  };
  const chips = app.library.files.map((file) =>
    el(
      "button",
      {
        type: "button",
        class: "chip",
        "data-file": file.index,
        "aria-pressed": String(shown.includes(file)),
        title: `${file.name}: ${plain(file.rows)} queries`,
        onclick: () => toggle(file),
      },
      shortName(file.name),
    ),
  );
  element.hidden = chips.length < 2;
  show(element, el("span", { class: "muted", "aria-hidden": "true" }, "Compare"), chips);
  if (focused !== undefined) element.querySelector(`[data-file="${focused}"]`)?.focus();
}

/** Show an error in the line at the top, or hide the line. */
export function say(error) {
  const line = document.getElementById("error");
  line.hidden = !error;
  line.textContent = error ?? "";
}

/** Announce a change to screen readers; it is not visible. */
export function notice(text) {
  document.getElementById("notice").textContent = text;
}

/** Add a file that is read by `reading`; whether it could be, else an error is shown. */
export async function add(app, name, reading) {
  try {
    const progress = (count) => (document.getElementById("count").textContent = `${name}: ${plain(count)} lines read`);
    addRecords(app.library, name, await reading(progress));
    return true;
  } catch (error) {
    if (!(error instanceof FileError)) throw error;
    say(error.message);
    return false;
  }
}

/** Files that the reader of the page chose or dropped. */
export async function openFiles(app, files) {
  say(null);
  for (const file of files) await add(app, file.name, (progress) => readLocalFile(file, progress));
  app.loaded();
  notice(`${plain(app.library.queries.length)} queries loaded`);
}

/** The files that are embedded in the page; false where there are none. */
export function readEmbedded(app) {
  const element = document.getElementById("data");
  if (!element) return false;
  for (const file of JSON.parse(element.textContent)) addRecords(app.library, file.name, checkedRecords(file));
  return true;
}

/** The files that a server has, and its state; null where there is no server. */
export async function readServer(app) {
  const answer = await fetch("api/state").catch(() => null);
  if (!answer?.ok) {
    if (answer) say(`the server answers ${answer.status} ${answer.statusText}; start 'proponent view' again`);
    return null;
  }
  const state = await answer.json();
  for (const [n, { name }] of state.files.entries()) await add(app, name, (progress) => fetched(n, name, progress));
  return state;
}

async function fetched(n, name, progress) {
  const answer = await fetch(`api/files/${n}`);
  if (!answer.ok) throw new FileError(`${name}: the server answers ${answer.status} ${answer.statusText}`);
  return readRecords(name, answer.body, progress);
}

/** Let files be chosen, or dropped anywhere. */
export function mountOpening(app, input) {
  input.addEventListener("change", () => {
    openFiles(app, [...input.files]).then(() => (input.value = ""));
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) openFiles(app, [...event.dataTransfer.files]);
  });
}
