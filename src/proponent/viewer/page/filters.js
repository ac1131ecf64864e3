/** Search, filters and order of the list of queries. */

import { el, plain, show } from "./dom.js";
import { chosenFacets, facetsOf, withFacet } from "./facets.js";
import { CATEGORIES, sortable } from "./find.js";
import { known, modelIsRight, relationsOf } from "./library.js";
import { firstGold } from "./metrics.js";

const BY_NAME = [
  { name: "prompt", label: "Prompt, A to Z" },
  { name: "target", label: "Target, A to Z" },
];

function select(app, name, label, options, given = app.state[name], patch = (value) => ({ [name]: value })) {
  const choice = el(
    "select",
    { id: `filter-${name}`, onchange: () => app.update({ ...patch(choice.value), ...startOf(name, choice.value) }) },
    options.map(([value, text]) => el("option", { value }, text)),
  );
  choice.value = given;
  return el("label", { class: "field" }, el("span", {}, label), choice);
}

/** Names are sorted from A, numbers from the largest. */
function startOf(name, value) {
  return name === "sort" ? { up: BY_NAME.some((order) => order.name === value) ? "1" : "" } : {};
}

function modelFilter(app) {
  const { queries } = app.library;
  const judged = known(app.library, "judged", () => queries.some((query) => modelIsRight(query) !== null));
  const options = [["", "Any"], ["right", "Gets it right"], ["wrong", "Gets it wrong"]];
  return judged ? select(app, "model", "The model", options) : null;
}

function goldFilter(app) {
  const lead = app.shown()[0];
  const { queries } = app.library;
  const judged = () => queries.some((query) => firstGold(query.rows[lead.index]) !== null);
  if (!lead || !known(app.library, `gold ${lead.index}`, judged)) return null;
  const options = [["", "Any"], ["found", "Retrieved"], ["top", "On top"], ["missed", "Not retrieved"]];
  return select(app, "gold", "Gold passage", options);
}

function relationFilter(app) {
  const relations = known(app.library, "relations", () => relationsOf(app.library.queries));
  if (!relations.length) return null;
  const options = relations.map(([name, count]) => [name, `${name} (${plain(count)})`]);
  return select(app, "rel", "Relation", [["", "All"], ...options]);
}

/** A filter for each field with few values. */
function facetFilters(app) {
  const [lead] = app.shown();
  const chosen = chosenFacets(app.state);
  return (lead ? facetsOf(app.library, lead) : []).map(([name, values]) => {
    const options = values.map(([value, count]) => [String(value), `${value} (${plain(count)})`]);
    const patch = (value) => ({ is: withFacet(app.state, name, value) });
    const label = name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");
    return select(app, `is-${name}`, label, [["", "Any"], ...options], chosen.get(name) ?? "", patch);
  });
}

/** The files' own categories of the top proponent, or else the page's. */
function categoriesOf({ library }) {
  const top = (row) => row?.proponent_categories?.slice(0, 1) ?? [];
  return known(library, "own categories", () => {
    const own = new Set(library.queries.flatMap(({ rows }) => rows.flatMap(top)));
    return own.size ? [...own].map(String).sort() : CATEGORIES;
  });
}

function orderFields(app) {
  const metrics = [...sortable(app.library, app.shown()), ...BY_NAME].map(({ name, label }) => [name, label]);
  const up = app.state.up === "1";
  const turn = el(
    "button",
    {
      type: "button",
      class: "icon",
      "aria-label": up ? "Smallest first; turn round" : "Largest first; turn round",
      title: up ? "Smallest first" : "Largest first",
      onclick: () => app.update({ up: up ? "" : "1" }),
    },
    up ? "↑" : "↓",
  );
  return el("div", { class: "order" }, select(app, "sort", "Sort by", [["", "Order of the file"], ...metrics]), turn);
}

/** Show the filters that make sense for what is loaded. */
export function showFilters(app, element) {
  const focused = document.activeElement?.id;
  const categories = categoriesOf(app).map((name) => [name, name[0].toUpperCase() + name.slice(1)]);
  show(
    element,
    [
      modelFilter(app),
      goldFilter(app),
      relationFilter(app),
      ...facetFilters(app),
      select(app, "cat", "Top passage", [["", "Any"], ...categories]),
      orderFields(app),
      clearButton(app),
    ].filter(Boolean),
  );
  if (focused?.startsWith("filter-")) document.getElementById(focused)?.focus();
}

function clearButton(app) {
  const used = ["rel", "model", "gold", "cat", "s", "where", "is"].filter((name) => app.state[name]);
  if (!used.length) return null;
  const clear = () => {
    for (const id of ["search", "where"]) document.getElementById(id).value = "";
    app.update(Object.fromEntries(used.map((name) => [name, ""])));
    document.getElementById("search").focus();
  };
  return el("button", { type: "button", class: "clear", onclick: clear }, "Clear search and filters");
}

const PAUSE = 120; // milliseconds from the last key to the search

/** Whether a pointer is pressed: a button that is redrawn between press and release loses the click. */
function watchPointer() {
  const pointer = { pressed: false };
  // a release over a select's open list fires no event here, so later moves are watched as well
  for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
    addEventListener(name, (event) => (pointer.pressed = event.buttons > 0), { capture: true, passive: true });
  }
  return pointer;
}

/** Let a text field change a part of the state, a moment after the last key. */
function whenTyped(app, pointer, input, name) {
  let timer = 0;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(take, PAUSE);
  };
  const take = () => (pointer.pressed ? wait() : app.update({ [name]: input.value }));
  input.addEventListener("input", wait);
}

/** Let the search field, its box and the filter in words change the state. */
export function mountSearch(app, input, within, where) {
  const pointer = watchPointer();
  whenTyped(app, pointer, input, "s");
  whenTyped(app, pointer, where, "where");
  within.addEventListener("change", () => app.update({ within: within.checked ? "passages" : "" }));
}
