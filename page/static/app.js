// The shell: views by their addresses, the stream, the clock, pause, keys, and the time of a finished run.

import {clock, instant} from "./format.js";
import {el, setText} from "./dom.js";
import {Stream} from "./stream.js";
import * as trader from "./trader.js";
import * as risk from "./risk.js";
import * as operator from "./operator.js";
import * as audit from "./audit.js";

const VIEWS = {trader, risk, operator, audit};
const find = id => document.getElementById(id);
const app = {
  parts: {}, query: {}, head: {kind: null}, clock_ms: 0, at_ms: null, speed: 0, isPaused: false, view: null, shown: null,
  // Changes the address; null takes a parameter out.
  go(changes, isNew = true) {
    const query = {...app.query};
    for (const [name, value] of Object.entries(changes)) value == null ? delete query[name] : query[name] = value;
    show(app.view, query, isNew);
  },
  story: account => fetch(`/story?${new URLSearchParams({account, ...(app.at_ms == null ? {} : {at: Math.round(app.clock_ms)})})}`)
    .then(async answer => answer.ok ? answer.json() : Promise.reject(new Error(await answer.text()))),
};

const stream = new Stream(onFrame, onState);
let due = new Set(), isDue = false;

for (const [number, name] of Object.keys(VIEWS).entries()) {
  document.querySelector("nav").append(el("a", {href: `/${name}`, title: `Key ${number + 1}`, "data-view": name}, VIEWS[name].title));
}

function show(name, query, isNew) {
  const address = `/${name}${Object.keys(query).length ? "?" + new URLSearchParams(query) : ""}`;
  if (isNew && address !== location.pathname + location.search) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
  const isOther = app.view !== name;
  app.view = name;
  app.query = query;
  if (isOther) {
    app.shown?.close?.();
    document.title = `${VIEWS[name].title} · Gammaflow`;
    for (const link of document.querySelectorAll("nav a")) link.dataset.view === name ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
    find("view").replaceChildren();
    app.shown = VIEWS[name].build(find("view"), app);
  }
  app.shown.chosen?.();
  if (!app.isPaused) connect();
}

function connect() {
  const {at, ...query} = app.query;
  if (app.at_ms == null && at) app.at_ms = Number(at);
  const time = app.at_ms == null ? {} : {at: Math.round(app.at_ms), speed: app.speed};
  stream.open(app.view, {...query, ...time});
}

function onFrame(changed, frame) {
  app.parts = stream.parts;
  app.clock_ms = frame.clock_ms;
  if (frame.kind) {
    app.head = {...frame};
    delete app.head.parts;
    timeline();
  }
  find("trouble").hidden = !frame.trouble;
  setText(find("trouble"), frame.trouble ?? "");
  if (frame.is_new) changed.add("is_new");
  for (const name of changed) due.add(name);
  if (!isDue) { isDue = true; requestAnimationFrame(draw); }
}

function draw() {
  isDue = false;
  const changed = due;
  due = new Set();
  setText(find("clock"), app.clock_ms ? instant(app.clock_ms) : "no time yet");
  if (app.at_ms != null && app.speed) {
    app.at_ms = app.clock_ms;
    if (app.clock_ms >= app.head.last_ms) stop();
  }
  if (app.head.kind === "finished") {
    if (document.activeElement !== find("at") || app.speed) find("at").value = app.at_ms ?? app.head.last_ms;
    setText(find("instant"), clock(app.clock_ms, 1));
  }
  app.shown.update(changed);
  if (changed.size && !document.body.dataset.firstMs) document.body.dataset.firstMs = Math.round(performance.now());
}

function onState(state) {
  const words = {live: "live", waiting: "connecting", lost: "no connection"};
  if (state === "live" && app.head.kind === "finished") words.live = "finished run";
  const name = app.isPaused ? "paused" : state;
  find("link").className = name;
  setText(find("link"), app.isPaused ? "paused" : words[state]);
}

function pause() {
  if (app.head.kind === "finished") { app.speed ? stop() : play(); return; }
  app.isPaused = !app.isPaused;
  find("pause").setAttribute("aria-pressed", app.isPaused);
  setText(find("pause"), app.isPaused ? "Go on" : "Pause");
  if (app.isPaused) { stream.close(); onState("paused"); } else connect();
}

// The time of a finished run.

function timeline() {
  const isFinished = app.head.kind === "finished";
  find("timeline").hidden = !isFinished;
  find("pause").hidden = isFinished;
  if (!isFinished) return;
  const at = find("at");
  at.min = app.head.first_ms;
  at.max = app.head.last_ms;
  if (app.at_ms == null) app.at_ms = app.head.last_ms;
  at.value = app.at_ms;
  onState("live");
}

function seek(at_ms) {
  if (!app.head.last_ms) return;
  app.at_ms = Math.max(app.head.first_ms, Math.min(app.head.last_ms, at_ms));
  app.query.at = String(Math.round(app.at_ms));
  history.replaceState(null, "", `/${app.view}?${new URLSearchParams(app.query)}`);
  connect();
}

function play() {
  app.speed = Number(find("speed").value);
  if (app.at_ms >= app.head.last_ms) app.at_ms = app.head.first_ms;
  setText(find("play"), "Stop");
  connect();
}

function stop() {
  app.speed = 0;
  setText(find("play"), "Play");
  seek(app.clock_ms);
}

let wait = null;
find("at").addEventListener("input", event => {
  clearTimeout(wait);
  if (app.speed) { app.speed = 0; setText(find("play"), "Play"); }
  setText(find("instant"), clock(Number(event.target.value), 1));
  wait = setTimeout(() => seek(Number(event.target.value)), 50);
});
find("play").addEventListener("click", () => app.speed ? stop() : play());
find("speed").addEventListener("change", () => { if (app.speed) play(); });
find("pause").addEventListener("click", pause);
find("help").addEventListener("click", () => find("keys").showModal());
document.addEventListener("click", event => {
  const link = event.target.closest("a");
  if (!link || link.origin !== location.origin || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const name = link.pathname.slice(1);
  if (!(name in VIEWS)) return;
  event.preventDefault();
  show(name, {...Object.fromEntries(new URLSearchParams(link.search)), ...(app.query.at ? {at: app.query.at} : {})}, true);
});
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || find("keys").open) return;
  const isTyping = event.target.closest("input:not([type=range]), select, textarea");
  if (event.key === "Escape") { isTyping ? event.target.blur() : app.shown.escape?.(); return; }
  if (isTyping) return;
  const step = event.shiftKey ? 10_000 : 1_000;
  if (event.key >= "1" && event.key <= "4") show(Object.keys(VIEWS)[event.key - 1], app.query.at ? {at: app.query.at} : {}, true);
  else if (event.key === " " && !event.target.closest("button")) pause();
  else if (event.key === "?") find("keys").showModal();
  else if (event.key === "/") app.shown.pick?.();
  else if (event.key === "ArrowLeft" && app.head.kind === "finished") seek(app.clock_ms - step);
  else if (event.key === "ArrowRight" && app.head.kind === "finished") seek(app.clock_ms + step);
  else return;
  event.preventDefault();
});
window.addEventListener("popstate", () => {
  const query = Object.fromEntries(new URLSearchParams(location.search));
  if (query.at) app.at_ms = Number(query.at);
  show(location.pathname.slice(1) in VIEWS ? location.pathname.slice(1) : "trader", query, false);
});
let isResizing = null;
window.addEventListener("resize", () => { clearTimeout(isResizing); isResizing = setTimeout(() => app.shown?.update(new Set(["size", ...Object.keys(app.parts)])), 100); });

show(location.pathname.slice(1) in VIEWS ? location.pathname.slice(1) : "trader", Object.fromEntries(new URLSearchParams(location.search)), false);
