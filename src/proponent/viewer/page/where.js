/** The filter in words: its box, and what is wrong with what stands there. */

import { el, show } from "./dom.js";
import { fieldNames, fieldOf, problemWith } from "./fields.js";
import { holds, LanguageError, parse } from "./language.js";

/** A filter's text as `{test, error}`: a test of queries, or null and a LanguageError or null. */
export function whereOf(library, text, shown) {
  try {
    const filter = parse(text, (name) => problemWith(library, name));
    return { test: filter && ((query) => holds(filter, (name) => fieldOf(query, shown, name))), error: null };
  } catch (error) {
    if (!(error instanceof LanguageError)) throw error;
    return { test: null, error };
  }
}

/** An error with its place: the number of the character, and the text up to it and on from there. */
function inWords({ message, at }, text) {
  const before = text.slice(Math.max(0, at - 24), at);
  const after = text.slice(at, at + 24);
  return [
    el("strong", {}, `Not applied. Character ${at + 1}: `),
    `${message}${/[?]$/.test(message) ? "" : "."} `,
    el("code", {}, at > 24 ? "…" : "", before, el("mark", { class: "here" }, after || "⏎")),
  ];
}

/** Show the state's filter in its box, unless one is typing there, and say what is wrong with it, unfolded. */
export function showWhere(app, input, line) {
  const { where } = app.state;
  if (document.activeElement !== input) input.value = where;
  const { error } = app.shown().length ? whereOf(app.library, where, app.shown()) : { error: null };
  line.hidden = !error;
  if (error) {
    show(line, inWords(error, where));
    input.setAttribute("aria-invalid", "true");
    input.closest("details").open = true;
  } else {
    show(line);
    input.removeAttribute("aria-invalid");
  }
}

/** List the fields when they are asked for. */
export function mountFields(app, details, list) {
  details.addEventListener("toggle", () => {
    if (details.open) show(list, fieldNames(app.library).map((name) => [el("code", {}, /[\s()"=!<>~]/.test(name) ? `"${name}"` : name), " "]));
  });
}
