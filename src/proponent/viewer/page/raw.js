/** A query's record as it is in its file: folded, written out when it is opened, and to be copied. */

import { shortName } from "./compare.js";
import { el, show } from "./dom.js";
import { notice } from "./files.js";
import { recordOf } from "./names.js";
import { textNodes } from "./passage.js";

const opened = new Set(); // names of files whose records are unfolded, so that they stay so

/** Copy the record; a page that may not is left with it selected. */
async function copy(button, text) {
  const done = await navigator.clipboard?.writeText(text).then(() => true, () => false);
  if (!done) getSelection().selectAllChildren(button.nextElementSibling);
  button.textContent = done ? "Copied" : "Selected";
  notice(button.textContent);
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

function rawRecord(file, row) {
  const body = el("div", {});
  const write = () => {
    const text = JSON.stringify(recordOf(row), null, 2);
    const button = el("button", { type: "button", onclick: () => copy(button, text) }, "Copy");
    const label = `Record of ${shortName(file.name)}`;
    show(body, button, el("pre", { tabindex: "0", role: "region", "aria-label": label }, textNodes(text)));
  };
  const details = el("details", { class: "raw", open: opened.has(file.name) }, el("summary", {}, `Raw record: ${shortName(file.name)}`), body);
  if (details.open) write();
  details.addEventListener("toggle", () => {
    if (details.open) opened.add(file.name);
    else opened.delete(file.name);
    if (details.open && !body.hasChildNodes()) write();
  });
  return details;
}

/** The query's record in each of some files, as an element. */
export function rawRecords(query, files) {
  const there = files.filter((file) => query.rows[file.index]);
  return el("div", { class: "records" }, there.map((file) => rawRecord(file, query.rows[file.index])));
}
