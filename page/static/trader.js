// Trader: a book as ladder and heat map, its trades; the chain round the money, its smile, surface and forwards.

import {clock, date, fixed, ms, number, percent, span, usd} from "./format.js";
import {el, panel, setClass, setText, Table} from "./dom.js";
import {Chart, colours, heatMap, surface, vol} from "./draw.js";

export const title = "Trader";
const LEVELS = 10, SPAN_MS = 60_000, STRIKES = 9, OLD_MS = 2_000;

export function build(root, app) {
  const strip = el("div", {class: "strip", "aria-label": "Oracle prices"});
  const picker = el("input", {class: "picker", list: "books", placeholder: "venue:instrument", "aria-label": "Book", size: 26});
  const books = el("datalist", {id: "books"});
  const badge = el("span", {class: "badge none"}, "no book");
  const ladder = panel("w3", "Ladder");
  ladder.right.append(badge);
  const lines = el("tbody"), table = el("table", {class: "ladder"}, el("thead", {}, el("tr", {}, ...["bid size", "price", "ask size"].map(name => el("th", {class: "n"}, name)))), lines);
  for (let at = 0; at < 2 * LEVELS + 1; at++) {
    const line = el("tr", {class: at < LEVELS ? "a" : at > LEVELS ? "b" : "mid"});
    if (at === LEVELS) line.append(el("td", {colspan: 3, class: "n"}));
    else for (let cell = 0; cell < 3; cell++) line.append(el("td", {class: "n"}, el("span", {}, ""), el("i", {class: "bar"})));
    lines.append(line);
  }
  const noBook = el("p", {class: "empty"}, "no book yet");
  const metrics = el("p", {class: "dim"});
  ladder.node.append(table, noBook, metrics);

  const heat = panel("w6", "Depth over time");
  heat.right.append(picker, books);
  const canvas = el("canvas", {role: "img", "aria-label": "Depth of the book over the last minute"});
  heat.node.append(el("div", {}, canvas));
  const trades = new Table([["at"], ["price", "n"], ["size", "n"], [""]], {empty: "no trade yet"});
  trades.node.style.maxHeight = "505px";
  const traded = panel("w3", "Trades", trades.node);

  const chainPick = el("select", {"aria-label": "Chain"}), expiryPick = el("select", {"aria-label": "Expiry"});
  const chain = panel("w7", "Options round the money");
  chain.right.append(chainPick, " ", expiryPick);
  const options = new Table([["Δ"], ["IV", "wide-only"], ["bid"], ["ask"], ["strike", "k"], ["bid"], ["ask"], ["IV", "wide-only"], ["Δ"]], {kind: "chain", empty: "no option has a price yet"});
  chain.node.append(options.node);
  chain.note("calls left, puts right; IV by our surface");
  const smileNode = el("div", {class: "chart"});
  const smile = panel("w5", "Smile", smileNode, el("p", {class: "empty"}, "no fit yet"));
  const shape = el("canvas", {role: "img", "aria-label": "Volatility surface"});
  const surfacePanel = panel("w5", "Surface", el("div", {}, shape), el("p", {class: "empty"}, "no fit yet"));
  const forwards = new Table([["expiry"], ["forward", "n"], ["±", "n"], ["basis", "n"], ["source"], ["vol", "n"], ["inside", "n"], ["arbitrage"]], {empty: "no forward yet"});
  const forwardPanel = panel("w7", "Forwards and fits", forwards.node);
  root.append(strip, el("div", {class: "grid"}, ladder.node, heat.node, traded.node, chain.node, smile.node, forwardPanel.node, surfacePanel.node));

  let chart = null, smileData = {bars: [], marks: []};

  picker.addEventListener("change", () => { if (known(app).has(picker.value)) { app.go({book: picker.value}); picker.blur(); } });
  chainPick.addEventListener("change", () => app.go({chain: chainPick.value, expiry: null}));
  expiryPick.addEventListener("change", () => app.go({expiry: expiryPick.value}));

  function pickDefaults() {
    const {books: all = [], forwards: rows = []} = app.parts, changes = {};
    if (!app.query.book && all.length) {
      const names = all.map(([venue, instrument]) => `${venue}:${instrument}`);
      changes.book = names.find(name => /BTC.*PERP/.test(name)) ?? names.find(name => /PERP|SWAP/.test(name)) ?? names[0];
    }
    const chains = [...new Set(rows.map(row => `${row.venue}:${row.underlying}`))].sort();
    if (!app.query.chain && chains.length) changes.chain = chains.find(name => name.endsWith(":BTC")) ?? chains[0];
    const chosen = changes.chain ?? app.query.chain;
    const expiries = expiriesOf(rows, chosen);
    if (!app.query.expiry && expiries.length) changes.expiry = expiries.find(at => ms(at) > app.clock_ms) ?? expiries.at(-1);
    if (Object.keys(changes).length) app.go(changes, false);
  }

  function drawLadder() {
    const row = app.parts.depth?.[0];
    table.hidden = !row;
    noBook.hidden = Boolean(row);
    if (!row) { setText(badge, "no book"); setClass(badge, "badge none"); return; }
    const age = app.clock_ms - ms(row.event_at);
    const isStale = row.is_stale, isOld = age > OLD_MS;
    setText(badge, isStale ? `STALE, last ${clock(row.event_at)}` : isOld ? `quiet ${span(age)}` : "fresh");
    setClass(badge, `badge ${isStale ? "stale" : isOld ? "none" : "fresh"}`);
    const most = Math.max(...row.bids.slice(0, LEVELS).map(level => level[1]), ...row.asks.slice(0, LEVELS).map(level => level[1]), 0);
    for (let at = 0; at < LEVELS; at++) {
      level(lines.rows[LEVELS - 1 - at], row.asks[at], 2, "ask", most);
      level(lines.rows[LEVELS + 1 + at], row.bids[at], 0, "bid", most);
    }
    const [bid, ask] = [row.bids[0]?.[0], row.asks[0]?.[0]];
    const middle = bid != null && ask != null ? (bid + ask) / 2 : null;
    setText(lines.rows[LEVELS].cells[0], middle == null ? "one side only" : `mid ${number(middle)}  ·  spread ${number(+(ask - bid).toPrecision(6))} (${fixed((ask - bid) / middle * 1e4, 1)} bp)`);
    const told = app.parts.metrics?.[0];
    setText(metrics, told && told.imbalance != null ? `imbalance ${fixed(told.imbalance, 2)}, micro price ${number(told.micro_price)}` : `at ${clock(row.event_at, 1)} by the venue's clock`);
  }

  function level(line, told, column, kind, most) {
    const [price, size] = told ?? [null, null];
    setText(line.cells[1].firstChild, price == null ? "" : number(price));
    setClass(line.cells[1].firstChild, kind);
    setText(line.cells[column].firstChild, size == null ? "" : number(size));
    line.cells[column].lastChild.style.width = size == null || !most ? "0" : `${100 * size / most}%`;
  }

  function drawTrades() {
    const rows = [...(app.parts.trades ?? []), ...(app.parts.own_trades ?? [])].sort((a, b) => ms(b.event_at) - ms(a.event_at)).slice(0, 60);
    trades.fill(rows.map(row => [clock(row.event_at, 2), [number(row.price), row.side === "buy" ? "bid" : "ask"], number(row.size), [row.off_market ?? row.side, "dim"]]));
  }

  function drawChain() {
    const rows = app.parts.options ?? [], byStrike = new Map();
    for (const row of rows) byStrike.set(row.strike_usd, {...byStrike.get(row.strike_usd), [row.option_type]: row});
    const strikes = [...byStrike.keys()].sort((a, b) => a - b);
    const F = forwardOf(app);
    const nearest = strikes.reduce((best, K) => best == null || Math.abs(K - F) < Math.abs(best - F) ? K : best, null);
    const middle = strikes.indexOf(nearest), from = Math.max(0, Math.min(strikes.length - STRIKES, middle - (STRIKES - 1) / 2));
    const shown = strikes.slice(from, from + STRIKES);
    const side = (row, isCall) => {
      const cells = [fixed(row?.delta, 2), row?.surface_iv == null ? "–" : fixed(100 * row.surface_iv, 1), [quote(row?.bid, row), row?.is_stale ? "warn" : "bid"], [quote(row?.ask, row), row?.is_stale ? "warn" : "ask"]];
      return isCall ? cells : [cells[2], cells[3], cells[1], cells[0]];
    };
    options.fill(shown.map(K => [...side(byStrike.get(K).call, true), number(K), ...side(byStrike.get(K).put, false)]), null, shown.map(K => K === nearest ? "at" : ""));
    chain.note(rows.length ? `calls left, puts right; prices in ${rows[0].is_in_coin ? app.query.chain.split(":")[1] : "the quote currency"}; IV in % by our surface` : "");
    drawSmile(rows, F);
  }

  function drawSmile(rows, F) {
    const slice = (app.parts.surface ?? []).find(row => row.expiry_at === app.query.expiry);
    const isThere = Boolean(rows.length && F);
    smile.node.lastChild.hidden = isThere;
    smileNode.hidden = !isThere;
    if (!isThere) return;
    const out = rows.filter(row => (row.strike_usd >= F) === (row.option_type === "call"));
    smileData = {bars: out.filter(row => row.bid_iv != null && row.ask_iv != null), forward: F};
    const low = Math.min(...out.map(row => row.strike_usd)), high = Math.max(...out.map(row => row.strike_usd));
    const strikes = [...new Set([...Array.from({length: 81}, (_, i) => low * 0.99 + (high * 1.01 - low * 0.99) * i / 80), ...out.map(row => row.strike_usd)])].sort((a, b) => a - b);
    const fit = strikes.map(K => slice && slice.svi_a != null ? 100 * vol(slice, Math.log(K / F)) : null);
    const at = new Map(out.map(row => [row.strike_usd, row]));
    const percentOf = name => strikes.map(K => at.get(K)?.[name] == null ? null : 100 * at.get(K)[name]);
    chart ??= new Chart(smileNode, {
      height: 230,
      x: {label: "strike", value: (_, v) => v == null ? "–" : number(v)},
      series: [
        {label: "fit", stroke: colours.bid, width: 2, spanGaps: true, points: {show: false}, value: (_, v) => v == null ? "–" : `${v.toFixed(2)} %`},
        {label: "bid", stroke: colours.ask, paths: () => null, points: {show: false}, value: (_, v) => v == null ? "–" : `${v.toFixed(2)} %`},
        {label: "ask", stroke: colours.ask, paths: () => null, points: {show: false}, value: (_, v) => v == null ? "–" : `${v.toFixed(2)} %`},
        {label: "mark", stroke: colours.mark, paths: () => null, points: {show: true, size: 6, fill: colours.mark}, value: (_, v) => v == null ? "–" : `${v.toFixed(2)} %`},
      ],
      format: value => `${number(value)} %`,
      hooks: {draw: [plot => bars(plot, smileData)]},
    });
    chart.fill([strikes, fit, percentOf("bid_iv"), percentOf("ask_iv"), percentOf("mark_iv")]);
    smile.note(slice ? `${date(slice.expiry_at)}, fitted ${clock(slice.event_at)}${slice.reason ? ": " + slice.reason : ""}` : "no fit of this expiry");
  }

  function drawSurface() {
    const slices = (app.parts.surface ?? []).filter(row => row.svi_a != null && row.atm_vol != null).sort((a, b) => ms(a.expiry_at) - ms(b.expiry_at)).map(row => ({...row, label: date(row.expiry_at)}));
    surfacePanel.node.lastChild.hidden = slices.length > 0;
    shape.hidden = !slices.length;
    surfacePanel.note(app.query.chain ?? "");
    if (slices.length) surface(shape, slices, 270);
  }

  function drawForwards() {
    const rows = (app.parts.forwards ?? []).filter(row => `${row.venue}:${row.underlying}` === app.query.chain).sort((a, b) => ms(a.expiry_at) - ms(b.expiry_at));
    const fits = new Map((app.parts.surface ?? []).map(row => [row.expiry_at, row]));
    forwardPanel.note(app.query.chain ?? "");
    forwards.fill(rows.map(row => {
      const fit = fits.get(row.expiry_at);
      const basis = row.forward_usd != null && row.index_usd ? `${fixed((row.forward_usd / row.index_usd - 1) * 1e4, 1)} bp` : "–";
      const isFree = fit?.is_arbitrage_free;
      return [date(row.expiry_at), usd(row.forward_usd), row.half_width_usd == null ? "–" : fixed(row.half_width_usd, 2), basis, row.reason ? [row.reason, "warn why"] : row.source,
        percent(fit?.atm_vol), percent(fit?.inside_share, 0), isFree == null ? "–" : isFree ? [fit.is_repaired ? "none, repaired" : "none", "good"] : ["yes", "bad"]];
    }));
  }

  function drawPickers() {
    const names = known(app);
    if (books.children.length !== names.size) books.replaceChildren(...[...names].map(name => el("option", {value: name})));
    if (document.activeElement !== picker) picker.value = app.query.book ?? "";
    const rows = app.parts.forwards ?? [], chains = [...new Set(rows.map(row => `${row.venue}:${row.underlying}`))].sort();
    choose(chainPick, chains, chains, app.query.chain);
    const expiries = expiriesOf(rows, app.query.chain);
    choose(expiryPick, expiries, expiries.map(date), app.query.expiry);
  }

  return {
    update(changed) {
      const has = (...names) => changed.has("size") || changed.has("is_new") || names.some(name => changed.has(name));
      if (has("books", "forwards")) { pickDefaults(); drawPickers(); }
      drawLadder();
      if (has("heat")) heatMap(canvas, app.parts.heat ?? [], window.innerWidth < 600 ? 300 : 472, SPAN_MS);
      if (has("trades", "own_trades")) drawTrades();
      if (has("options", "surface")) drawChain();
      if (has("surface")) drawSurface();
      if (has("forwards", "surface")) drawForwards();
      if (has("oracles")) oracleStrip(strip, app.parts.oracles ?? []);
      heat.note(app.query.book ? `${app.query.book}, last minute; white line: best bid, orange: best ask` : "");
      ladder.note(app.query.book ?? "");
    },
    chosen: drawPickers,
    pick: () => { picker.focus(); picker.select(); },
    close: () => chart?.close(),
  };
}

const known = app => new Set((app.parts.books ?? []).map(([venue, instrument]) => `${venue}:${instrument}`));
const expiriesOf = (rows, chain) => rows.filter(row => `${row.venue}:${row.underlying}` === chain).map(row => row.expiry_at).sort((a, b) => ms(a) - ms(b));
const quote = (price, row) => price == null ? "–" : row.is_in_coin ? fixed(price, 4) : number(price);

function forwardOf(app) {
  const rows = [...(app.parts.surface ?? []), ...(app.parts.forwards ?? []).filter(row => `${row.venue}:${row.underlying}` === app.query.chain)];
  return rows.find(row => row.expiry_at === app.query.expiry && row.forward_usd != null)?.forward_usd ?? null;
}

function choose(select, values, texts, chosen) {
  const wanted = values.join();
  if (select.dataset.values !== wanted) {
    select.dataset.values = wanted;
    select.replaceChildren(...values.map((value, at) => el("option", {value}, texts[at])));
  }
  if (chosen && document.activeElement !== select) select.value = chosen;
}

// From bid to ask, a bar with ends, as in every picture of a smile.
function bars(plot, {bars: rows, forward}) {
  const context = plot.ctx, ratio = window.devicePixelRatio || 1;
  context.save();
  context.strokeStyle = colours.ask;
  context.lineWidth = 2 * ratio;
  for (const row of rows) {
    const x = plot.valToPos(row.strike_usd, "x", true), top = plot.valToPos(100 * row.ask_iv, "y", true), bottom = plot.valToPos(100 * row.bid_iv, "y", true);
    context.beginPath();
    context.moveTo(x, top); context.lineTo(x, bottom);
    context.moveTo(x - 4 * ratio, top); context.lineTo(x + 4 * ratio, top);
    context.moveTo(x - 4 * ratio, bottom); context.lineTo(x + 4 * ratio, bottom);
    context.stroke();
  }
  if (forward) {
    const x = plot.valToPos(forward, "x", true);
    context.setLineDash([4 * ratio, 4 * ratio]);
    context.strokeStyle = colours.dim;
    context.lineWidth = ratio;
    context.beginPath(); context.moveTo(x, plot.bbox.top); context.lineTo(x, plot.bbox.top + plot.bbox.height); context.stroke();
  }
  context.restore();
}

export function oracleStrip(node, rows) {
  const shown = [...rows].sort((a, b) => a.underlying < b.underlying ? -1 : 1).map(row => el("span", {}, el("b", {}, row.underlying), ` ${number(row.price_usd)} ± ${number(+row.confidence_usd.toPrecision(3))} USD `,
    el("span", {class: `badge ${row.validity === "valid" ? "fresh" : "stale"}`}, row.validity.replaceAll("_", " "))));
  node.replaceChildren(...shown);
  node.hidden = !shown.length;
}
