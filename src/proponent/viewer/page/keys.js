/** Keys that work anywhere on the page, unless one is typing. */

import { remember, remembered } from "./theme.js";

const KEPT = "proponent-single-keys";

function isTyping(target) {
  return target.closest("input, select, textarea, [contenteditable], dialog") !== null;
}

/** Let single keys act, while the box in the dialog says so. */
export function mountKeys(app, dialog, box) {
  box.checked = remembered(KEPT) !== "no";
  box.addEventListener("change", () => remember(KEPT, box.checked ? "yes" : "no"));
  const actions = {
    j: () => app.step(1),
    k: () => app.step(-1),
    "/": () => document.getElementById("search").focus(),
    o: () => app.shown().length > 1 && app.update({ role: app.state.role ? "" : "opponents" }),
    "?": () => dialog.showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (!box.checked || !(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  });
}
