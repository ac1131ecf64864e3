/** The page: one state, which the address holds, and what is shown of it. */

import { DEFAULTS, readAddress, writeAddress } from "./address.js";
import { showDetail } from "./detail.js";
import { counted, plain } from "./dom.js";
import { mountOpening, notice, readEmbedded, readServer, showFiles, shownFiles } from "./files.js";
import { mountSearch, showFilters } from "./filters.js";
import { find } from "./find.js";
import { mountKeys } from "./keys.js";
import { newLibrary } from "./library.js";
import { virtualList } from "./list.js";
import { drawOption } from "./option.js";
import { showOverview } from "./overview.js";
import { showRow } from "./results.js";
import { mountTheme } from "./theme.js";
import { mountFields, showWhere } from "./where.js";

const LISTED = ["s", "within", "where", "is", "rel", "model", "gold", "cat", "sort", "up", "files"];
const VIEWS = ["queries", "overview", "live"];
const WIDE = matchMedia("(min-width: 60rem)");
const at = (id) => document.getElementById(id);

function newApp() {
  const app = { library: newLibrary(), state: readAddress(location.hash), found: [], drawn: {}, version: 0, live: false };
  app.shown = () => shownFiles(app.library, app.state);
  app.update = (patch, step = false) => {
    app.state = { ...app.state, ...patch };
    writeAddress(app.state, step);
    render(app);
  };
  app.place = () => ({ position: app.found.indexOf(app.library.byKey.get(app.state.q)), count: app.found.length });
  app.step = (by) => stepTo(app, by);
  app.traceLive = ({ prompt, target }) => {
    app.update({ view: "live", prompt, target }, true);
    app.refreshLive?.();
  };
  app.back = () => {
    app.update({ q: "" }, true);
    at("list").focus();
  };
  app.loaded = () => {
    app.version += 1;
    render(app);
  };
  return app;
}

function stepTo(app, by) {
  const to = app.found[Math.max(0, Math.min(app.found.length - 1, app.place().position + by))];
  if (!to) return;
  app.update({ q: to.key, view: "queries" });
  app.list.select(to, true);
}

/** Whether a part has to be drawn again: its name and what it is drawn from. */
function changed(app, part, ...from) {
  const now = JSON.stringify([app.version, ...from]);
  if (app.drawn[part] === now) return false;
  app.drawn[part] = now;
  return true;
}

function renderList(app) {
  const { state } = app;
  if (!changed(app, "list", LISTED.map((name) => state[name]))) return;
  app.found = find(app.library, state, app.shown());
  app.list.set(app.found);
  const all = app.library.queries.length;
  at("count").textContent =
    app.found.length === all ? counted(all, "query", "queries") : `${plain(app.found.length)} of ${counted(all, "query", "queries")}`;
  showFilters(app, at("filter-fields"));
  showFiles(app, at("files"));
  if (document.activeElement !== at("search")) at("search").value = state.s;
  at("within").checked = state.within === "passages";
  showWhere(app, at("where"), at("where-error"));
  chooseFirst(app);
  app.list.select(app.library.byKey.get(state.q), true);
}

/** Beside a list there is always a query; on a narrow screen the list comes first. */
function chooseFirst(app) {
  const there = app.library.byKey.get(app.state.q);
  const gone = app.state.q === "" || (there && app.drawn.detail && !app.found.includes(there));
  if (!WIDE.matches || !gone || !app.found.length || app.state.view !== "queries") return;
  app.state = { ...app.state, q: app.found[0].key };
  writeAddress(app.state, false);
}

function renderDetail(app) {
  const { state, library } = app;
  const seen = LISTED.concat("q", "role", "tokens").map((name) => state[name]);
  if (state.view !== "queries" || !changed(app, "detail", seen)) return;
  const query = library.byKey.get(state.q);
  const again = at("detail").contains(document.activeElement) ? document.activeElement : null;
  const label = again?.getAttribute("aria-label") ?? again?.textContent;
  showDetail(app, query, at("detail"));
  app.list.select(query, false);
  if (again && label) refocus(at("detail"), label);
}

/** Keep the focus on the button that was just pressed when it is drawn again. */
function refocus(element, label) {
  const same = [...element.querySelectorAll("button")].find((b) => (b.getAttribute("aria-label") ?? b.textContent) === label);
  same?.focus({ preventScroll: true });
}

function renderOverview(app) {
  if (app.state.view !== "overview" || !changed(app, "overview", LISTED.map((name) => app.state[name]))) return;
  showOverview(app, app.found, app.found.length < app.library.queries.length, at("overview"));
}

function render(app) {
  const { state, library } = app;
  const empty = !library.queries.length;
  if (!VIEWS.includes(state.view) || (state.view === "live" && !app.live)) state.view = DEFAULTS.view;
  if (empty && app.live) state.view = "live";
  document.body.dataset.view = state.view;
  document.body.dataset.empty = String(empty);
  renderList(app);
  document.body.dataset.pane = state.view === "queries" && !state.q ? "list" : "detail";
  renderDetail(app);
  renderOverview(app);
  at("detail").hidden = empty || state.view !== "queries";
  at("overview").hidden = empty || state.view !== "overview";
  at("live").hidden = state.view !== "live";
  at("welcome").hidden = !empty || state.view === "live";
  for (const view of VIEWS) {
    const link = at(`view-${view}`);
    if (view === state.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const query = library.byKey.get(state.q);
  document.title = query && state.view === "queries" ? `${query.prompt} → ${query.target} · proponent` : "proponent";
}

function choose(app, query, how) {
  app.update({ q: query.key, view: "queries" }, how !== "keys");
  if (how === "keys" || (how === "pointer" && WIDE.matches)) return;
  at("question")?.focus();
}

async function copyLink() {
  const done = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
  if (!done) window.prompt("The address of this view:", location.href);
  else at("link").textContent = "Copied";
  notice(done ? "Link copied" : "");
  setTimeout(() => (at("link").textContent = "Copy link"), 1500);
}

function mount(app) {
  app.list = virtualList(
    at("list"),
    (query, node) => drawOption(query, app.shown(), node),
    (query, how) => choose(app, query, how),
  );
  mountTheme(at("theme"));
  mountSearch(app, at("search"), at("within"), at("where"));
  mountFields(app, at("where-help"), at("where-fields"));
  mountOpening(app, at("open"));
  mountKeys(app, at("keys"), at("single-keys"));
  at("help").addEventListener("click", () => at("keys").showModal());
  at("link").addEventListener("click", copyLink);
  at("filters").open = WIDE.matches;
  for (const view of VIEWS) {
    at(`view-${view}`).addEventListener("click", (event) => {
      event.preventDefault();
      app.update({ view }, true);
    });
  }
  addEventListener("popstate", () => {
    app.state = readAddress(location.hash);
    render(app);
    app.refreshLive?.();
  });
}

async function start() {
  const app = newApp();
  mount(app);
  if (!readEmbedded(app)) {
    const state = await readServer(app);
    if (state?.remote) {
      const { mountRemote } = await import("./remote.js");
      mountRemote(app, at("remote"));
    }
    if (state?.run) {
      app.live = true;
      at("view-live").hidden = false;
      const { mountLive } = await import("./live.js");
      const read = () => app.state;
      app.refreshLive = mountLive(at("live"), { state, showRow, read, write: app.update });
    }
  }
  app.loaded();
}

start();
