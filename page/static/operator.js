// Operator: the flow by the catalogue, checkpoints, faults, dead letters, clocks, oracles, halts, controls, feeds.

import {bytes, clock, count, decoded, fixed, instant, ms, number, percent, short, span} from "./format.js";
import {el, facts, panel, setText, svg, Table} from "./dom.js";
import {Chart, colours} from "./draw.js";
import {oracleStrip} from "./trader.js";

export const title = "Operator";
const SLOW_MS = 2_000, LATE_MS = 10_000;
const BOX = {width: 118, height: 42, gapX: 18, gapY: 16};
const BRIGHT = ["bid", "ask", "good", "mark", "warn"];

export function build(root, app) {
  const strip = el("div", {class: "strip"});
  const map = el("div", {class: "flow"}), about = el("div", {class: "about"});
  const marks = el("div", {class: "marks"}, ...[["", "on time"], ["warn", `more than ${SLOW_MS / 1000} s behind, or restarting`], ["bad", `more than ${LATE_MS / 1000} s behind, or failed`], ["none", "nothing known"]].map(([kind, words]) => el("span", {}, el("i", {class: kind}), words)));
  const flow = panel("", "Flow", map, marks, about);
  const jobs = new Table([["job"], ["state"], ["tasks", "n"], ["behind", "n"], ["unread", "n"], ["restarts", "n"], ["checkpoints", "n"], ["took", "n"], ["state size", "n"], ["newest output", "n"], ["rows seen", "n"]], {open: name => choose(name), empty: "no job is known"});
  const jobPanel = panel("w8", "Jobs", jobs.node);
  const took = el("div", {class: "chart"});
  const tookPanel = panel("w4", "Checkpoints", took, el("p", {class: "empty"}, "no checkpoint is known"));
  const faultChart = el("div", {class: "chart"});
  const faults = new Table([["at"], ["book", "name"], ["fault"], ["expected", "why"], ["got", "why"]], {empty: "no feed has had a fault"});
  const faultPanel = panel("w6", "Feed faults", faultChart, faults.node);
  const letters = el("div", {class: "scroll"}), letterPanel = panel("w6", "Dead letters", letters);
  const clocks = new Table([["venue"], ["offset", "n"], ["shortest", "n"], ["jitter", "n"], ["steps back", "n"], ["messages", "n"], ["as of"]], {empty: "no clock has been measured yet"});
  const sources = new Table([["oracle"], ["source", "name"], ["price", "n"], ["off by", "n"], ["age", "n"], ["weight", "n"], ["left out because", "why"]], {empty: "no source of an oracle yet"});
  const sourceFaults = new Table([["oracle"], ["source", "name"], ["fault"], ["since"], ["measured", "n"], ["allowed", "n"]], {empty: "no source has a fault"});
  const halted = new Table([["what", "name"], ["by", "name"], ["since"], ["until"], ["why", "why"]], {empty: "nothing is halted"});
  const breaks = new Table([["at"], ["rule"], ["what", "name"], ["state"], ["why", "why"]], {empty: "no rule of the market was broken"});
  const controls = new Table([["scope"], ["mode"], ["who"], ["since"], ["until"], ["liquidations"], ["why", "why"]], {empty: "no control is on: everything runs"});
  const feeds = new Table([["feed"], ["state"], ["symbols", "n"], ["connections", "n"], ["messages/s", "n"], ["newest"], ["where", "name"]], {empty: "no feed or gateway has said how it is"});
  root.append(strip, el("div", {class: "grid"}, flow.node, jobPanel.node, tookPanel.node, panel("w6", "Halted now", halted.node).node, panel("w6", "Controls", controls.node).node, faultPanel.node, letterPanel.node,
    panel("w6", "Oracle sources", sources.node, el("h2", {}, "Faults of sources"), sourceFaults.node).node, panel("w6", "Breakers, as they act", breaks.node).node,
    panel("w6", "Clocks of venues", clocks.node).node, panel("w6", "Feeds and gateways", feeds.node).node));

  let catalogue = null, boxes = new Map(), paths = [], chosen = app.query.job ?? null, chart = null, checkpointChart = null;
  fetch("/catalogue.json").then(answer => answer.json()).then(told => { catalogue = told; drawMap(); drawFlow(); });

  function choose(name) {
    chosen = chosen === name ? null : name;
    app.query.job = chosen ?? undefined;
    if (!chosen) delete app.query.job;
    history.replaceState(null, "", `/operator${Object.keys(app.query).length ? "?" + new URLSearchParams(app.query) : ""}`);
    drawFlow();
  }

  function drawMap() {
    const layers = new Map();
    for (const job of catalogue.jobs) layers.set(job.layer, [...(layers.get(job.layer) ?? []), job]);
    const tallest = Math.max(...[...layers.values()].map(column => column.length));
    const height = tallest * (BOX.height + BOX.gapY) + 8, width = (layers.size + 1) * (BOX.width + BOX.gapX);
    const places = new Map([["feeds", {x: 4, y: (height - BOX.height) / 2}]]);
    for (const [layer, column] of layers) {
      column.forEach((job, at) => places.set(job.name, {x: 4 + layer * (BOX.width + BOX.gapX), y: (at + 0.5 + (tallest - column.length) / 2) * (BOX.height + BOX.gapY) - BOX.height / 2}));
    }
    const writers = new Map();
    for (const job of catalogue.jobs) for (const table of job.writes) writers.set(table, [...(writers.get(table) ?? []), job.name]);
    const drawing = svg("svg", {class: "flow-map", width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Jobs and what flows between them"});
    const edges = new Map();
    for (const job of catalogue.jobs) {
      if (job.reads[0] === "*") continue;
      for (const [tables, isMay] of [[job.reads, false], [job.may_read, true]]) {
        for (const table of tables) {
          for (const writer of writers.get(table) ?? ["feeds"]) {
            if (writer === job.name) continue;
            const key = `${writer} ${job.name}`, edge = edges.get(key) ?? {from: writer, to: job.name, tables: [], isMay: true};
            edge.tables.push(table);
            edge.isMay &&= isMay;
            edges.set(key, edge);
          }
        }
      }
    }
    paths = [...edges.values()].map(edge => {
      const from = places.get(edge.from), to = places.get(edge.to);
      const isBack = to.x <= from.x, x1 = from.x + (isBack ? BOX.width / 2 : BOX.width), x2 = to.x + (isBack ? BOX.width / 2 : 0);
      const y1 = from.y + (isBack ? BOX.height : BOX.height / 2), y2 = to.y + (isBack ? BOX.height : BOX.height / 2), bend = Math.max(24, Math.abs(x2 - x1) / 2);
      const shape = isBack ? `M${x1},${y1} C${x1},${y1 + 30} ${x2},${y2 + 30} ${x2},${y2}` : `M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`;
      const path = svg("path", {d: shape, class: edge.isMay ? "may" : ""}, svg("title", {}, `${edge.from} → ${edge.to}: ${edge.tables.join(", ")}`));
      drawing.append(path);
      return {...edge, path};
    });
    boxes = new Map();
    for (const [name, {x, y}] of places) {
      const small = svg("text", {x: x + 6, y: y + 33, class: "small"}), label = svg("text", {x: x + 6, y: y + 17});
      label.textContent = name === "feeds" ? "feeds" : name;
      const box = svg("g", {class: "job", tabindex: 0, role: "button", "aria-label": name}, svg("rect", {x, y, width: BOX.width, height: BOX.height, rx: 5}), label, small);
      box.addEventListener("click", () => choose(name));
      box.addEventListener("keydown", event => { if (event.key === "Enter") choose(name); });
      drawing.append(box);
      boxes.set(name, {box, small});
    }
    map.replaceChildren(drawing);
  }

  // How far behind the feeds a job is: by its watermark; in a finished run, or without a cluster, by the newest row that it wrote.
  function state(job, told) {
    const {cluster = {}, reached = {}} = told, own = jobOf(cluster, job.name);
    const times = cluster.topics && Object.keys(cluster.topics).length ? cluster.topics : Object.fromEntries(Object.entries(reached).map(([table, [at]]) => [table, at]));
    const written = Math.max(0, ...job.writes.map(table => times[table] ?? 0));
    const seen = job.writes.reduce((sum, table) => sum + (reached[table]?.[1] ?? 0), 0);
    const feedTimes = feedTables().map(table => times[table]).filter(Boolean);
    const front = feedTimes.length ? Math.max(...feedTimes) : told.clock_ms;
    const behind = own?.watermark_ms ? front - own.watermark_ms : null;
    const isGone = own && !["RUNNING", "FINISHED"].includes(own.state);
    const kind = own ? (["FAILED", "CANCELED"].includes(own.state) || behind > LATE_MS ? "bad" : isGone || behind > SLOW_MS ? "warn" : "good") : "none";
    return {own, behind, written, seen, kind};
  }

  const feedTables = () => {
    const written = new Set(catalogue.jobs.flatMap(job => job.writes));
    return ["index_prices", "trades", "tickers", "order_books", "instruments"].filter(table => !written.has(table));
  };

  function drawFlow() {
    const told = app.parts.flow;
    if (!catalogue || !told) return;
    const rows = [], keys = [], classes = [];
    for (const job of catalogue.jobs) {
      const {own, behind, written, seen, kind} = state(job, told), place = boxes.get(job.name);
      place.box.setAttribute("class", `job ${kind} ${chosen === job.name ? "is-on" : ""}`);
      setText(place.small, own ? `${own.state.toLowerCase()}${behind == null ? "" : `, ${span(Math.max(0, behind))} behind`}` : seen ? `${short(seen)} rows ${clock(written)}` : written ? clock(written) : "–");
      rows.push([job.name, own ? [own.state.toLowerCase(), kind === "good" ? "good" : kind] : ["–", "dim"], own ? own.tasks.join("/") : "–", behind == null ? "–" : [span(Math.max(0, behind)), kind === "good" ? "" : kind],
        count(own?.lag), count(own?.restarts), own ? `${count(own.done)}${own.failed ? `, ${own.failed} failed` : ""}` : "–", span(own?.took_ms), bytes(own?.bytes), clock(written, 1), seen ? count(seen) : "–"]);
      keys.push(job.name);
      classes.push(chosen === job.name ? "is-on" : "");
    }
    jobs.fill(rows, keys, classes);
    boxes.get("feeds").box.setAttribute("class", `job ${chosen === "feeds" ? "is-on" : ""}`);
    setText(boxes.get("feeds").small, "venues, simulator");
    for (const edge of paths) edge.path.setAttribute("class", `${edge.isMay ? "may" : ""} ${chosen === edge.from || chosen === edge.to ? "is-on" : ""}`);
    flow.note(told.cluster.trouble ?? "");
    drawAbout(told);
    drawCheckpoints(told);
  }

  function drawAbout(told) {
    const job = catalogue.jobs.find(job => job.name === chosen);
    if (!job) { about.replaceChildren(); return; }
    const {own} = state(job, told);
    const times = table => { const at = told.cluster.topics?.[table] ?? told.reached[table]?.[0]; return at ? `${table} (${clock(at, 1)})` : table; };
    about.replaceChildren(facts([["job", job.name], ["question", job.question], ["reads", job.reads.map(times).join(", ")], ["may read", job.may_read.map(times).join(", ") || "–"], ["writes", job.writes.map(times).join(", ") || "Parquet files"],
      ["runs", job.has_kernel ? `a kernel, once each ${job.window_ms} ms of event time` : "SQL alone"], ...(own?.cause ? [["failed because", own.cause]] : [])]));
  }

  function drawCheckpoints(told) {
    const known = Object.entries(told.cluster.jobs ?? {}).filter(([, job]) => job.history?.length).sort((a, b) => b[1].took_ms - a[1].took_ms).slice(0, BRIGHT.length);
    const own = chosen ? jobOf(told.cluster, chosen) : null;
    const shown = own?.history?.length ? [[chosen, own]] : known;
    took.hidden = !shown.length;
    tookPanel.node.lastChild.hidden = shown.length > 0;
    if (!shown.length) return;
    const names = shown.map(([name]) => name).join();
    if (checkpointChart?.names !== names) {
      checkpointChart?.close();
      checkpointChart = new Chart(took, {isTime: true, height: 180, series: shown.map(([name], at) => ({label: name, stroke: colours[BRIGHT[at]], width: 1.5, spanGaps: true})), format: value => span(value)});
      checkpointChart.names = names;
    }
    const times = [...new Set(shown.flatMap(([, job]) => job.history.map(([at]) => at)))].sort((a, b) => a - b);
    checkpointChart.fill([times.map(at => at / 1000), ...shown.map(([, job]) => { const by = new Map(job.history.map(([at, ms]) => [at, ms])); return times.map(at => by.get(at) ?? null); })]);
    tookPanel.note("how long each took");
  }

  function drawFaults() {
    const rows = app.parts.faults ?? [];
    faults.fill(rows.slice(-100).toReversed().map(row => [clock(row.event_at, 1), `${row.venue}:${row.instrument}`, [row.kind, "warn"], row.expected ?? "–", row.got ?? "–"]));
    faultChart.hidden = !rows.length;
    faultPanel.note(rows.length ? `${count(rows.length)} kept; by second and venue` : "");
    if (!rows.length) return;
    const venues = [...new Set(rows.map(row => row.venue))].sort().slice(0, BRIGHT.length), by = new Map();
    for (const row of rows) { const second = Math.floor(ms(row.event_at) / 1000), key = `${second} ${row.venue}`; by.set(key, (by.get(key) ?? 0) + 1); }
    const first = Math.floor(ms(rows[0].event_at) / 1000), last = Math.max(first + 1, Math.floor(app.clock_ms / 1000)), step = Math.max(1, Math.ceil((last - first) / 300));
    const seconds = Array.from({length: Math.ceil((last - first + 1) / step)}, (_, at) => first + at * step);
    const sums = venue => seconds.map(second => { let sum = 0; for (let at = second; at < second + step; at++) sum += by.get(`${at} ${venue}`) ?? 0; return sum; });
    if (chart?.names !== venues.join()) {
      chart?.close();
      chart = new Chart(faultChart, {isTime: true, height: 130, series: venues.map((venue, at) => ({label: venue, stroke: colours[BRIGHT[at]], fill: colours[BRIGHT[at]] + "55", paths: uPlot.paths.bars({size: [0.8, 20]}), points: {show: false}}))});
      chart.names = venues.join();
    }
    chart.fill([seconds, ...venues.map(sums)]);
  }

  function drawLetters() {
    const rows = (app.parts.letters ?? []).toReversed();
    letterPanel.note(rows.length ? `${count(rows.length)} kept, the newest first` : "");
    letters.replaceChildren(...(rows.length ? rows.slice(0, 40).map(row => el("div", {}, el("span", {class: "bad"}, `${row.source} ${row.partition == null ? "" : row.partition + "/"}${row.offset}`),
      ` field ${row.field ?? "(the whole)"}: expected ${row.expected}, got ${row.got ?? "nothing"}`, el("pre", {}, decoded(row.original).slice(0, 600)))) : [el("p", {class: "empty"}, "every input could be used")]));
  }

  function drawHalted() {
    const stopped = [
      ...(app.parts.breaks ?? []).map(row => [[row.venue, row.instrument, row.underlying].filter(Boolean).join(":"), `${row.rule}, by ${row.subject}`, clock(row.event_at), row.planned_end_at ? clock(row.planned_end_at) : "its condition ends",
        row.state === "limit" ? [`limit state, nothing stops yet: ${row.reason}`, "warn"] : `${row.passes_exits ? "exits pass; " : ""}${row.reason}`]),
      ...(app.parts.halts ?? []).map(row => [`${row.venue}: ${row.names.join(", ")}${row.count > row.names.length ? ` and ${row.count - row.names.length} more` : ""}`, "the venue", instant(row.since), "–", row.reason ?? "no reason is known"]),
    ];
    halted.fill(stopped);
    breaks.fill((app.parts.break_log ?? []).toReversed().map(row => [clock(row.event_at, 1), row.rule, row.subject, [row.state, {halted: "bad", limit: "warn", resumed: "good"}[row.state] ?? ""], row.reason]));
    controls.fill((app.parts.controls ?? []).map(row => [row.scope, [row.mode, "bad"], row.who, instant(row.event_at), row.ends_at ? instant(row.ends_at) : "taken back", row.liquidations && row.mode !== "reduce-only" ? "stop too" : "go on", row.why]));
  }

  function drawOracles() {
    oracleStrip(strip, app.parts.oracles ?? []);
    const newest = new Map();
    for (const row of app.parts.sources ?? []) newest.set(row.underlying, Math.max(newest.get(row.underlying) ?? 0, ms(row.event_at)));
    // One that is forgotten has no row of the newest tick.
    const rows = (app.parts.sources ?? []).filter(row => row.source !== "consensus" && ms(row.event_at) === newest.get(row.underlying)).sort((a, b) => `${a.underlying} ${a.source}` < `${b.underlying} ${b.source}` ? -1 : 1);
    sources.fill(rows.map(row => [row.underlying, row.source, number(row.price_usd), row.deviation == null ? "–" : `${fixed(row.deviation * 1e4, 1)} bp`, span(row.age_ms), percent(row.weight, 0), row.reason ? [row.reason.replaceAll("_", " "), "warn"] : ""]));
    const open = (app.parts.source_faults ?? []).filter(row => !row.is_over), unit = row => value => value == null ? "–" : row.unit === "ms" ? span(value) : percent(value);
    sourceFaults.fill(open.map(row => [row.underlying, row.source, [row.kind.replaceAll("_", " "), "warn"], clock(row.event_at), unit(row)(row.measured), unit(row)(row.allowed)]));
  }

  function drawFeeds() {
    const now = Date.now(), isSilent = row => now - ms(row.event_at) > 15_000;
    const word = row => row.state === "failed" ? [`failed: ${row.reason ?? "no reason is known"}`, "bad"] : row.state === "stopped" ? ["stopped", "dim"] : isSilent(row) ? [`silent since ${instant(row.event_at)}`, "bad"] : [row.state.replaceAll("_", " "), "good"];
    feeds.fill([...(app.parts.feeds ?? []).map(row => [row.feed, word(row), count(row.symbols), `${row.connections_open}/${row.connections_needed}`, count(Math.round(row.messages_per_s)), row.newest_at ? clock(row.newest_at) : "–", `${row.host}, process ${row.pid}, ${row.version}`]),
      ...(app.parts.sessions ?? []).map(row => [`${row.gateway} ${row.session} (${row.kind})`, word(row), "–", "–", `${count(row.messages_in)} in, ${count(row.messages_out)} out`, row.newest_at ? clock(row.newest_at) : "–", `${row.counterparty}; ${row.host}, process ${row.pid}`])]);
  }

  return {
    update(changed) {
      const has = (...names) => changed.has("size") || changed.has("is_new") || names.some(name => changed.has(name));
      if (has("flow")) drawFlow();
      if (has("faults")) drawFaults();
      if (has("letters")) drawLetters();
      if (has("breaks", "halts", "controls", "break_log")) drawHalted();
      if (has("oracles", "sources", "source_faults")) drawOracles();
      if (has("clocks")) clocks.fill((app.parts.clocks ?? []).map(row => [row.venue, `${fixed(row.median_offset_ms, 1)} ms`, [`${fixed(row.min_offset_ms, 1)} ms`, row.min_offset_ms < 0 ? "warn" : ""], `${fixed(row.jitter_ms, 1)} ms`, count(row.step_back_count), count(row.message_count), clock(row.event_at)]));
      if (has("feeds", "sessions")) drawFeeds();
    },
    escape: () => { if (chosen) choose(chosen); },
    close: () => { chart?.close(); checkpointChart?.close(); },
  };
}

// What is known of a job, also where it runs in a group.
function jobOf(cluster, name) {
  const found = Object.entries(cluster.jobs ?? {}).find(([key]) => key === name || key.split("+").includes(name));
  return found?.[1];
}
