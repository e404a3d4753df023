// Pictures on canvas, and charts by uPlot.

import {fitted} from "./dom.js";
import {clock, number, short} from "./format.js";

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const colours = Object.fromEntries(["ground", "panel", "line", "text", "dim", "bid", "ask", "good", "warn", "bad", "mark"].map(name => [name, css(`--${name}`)]));

// Viridis: even steps of lightness, for every kind of eye.
const VIRIDIS = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]];

export function viridis(share) {
  const at = Math.max(0, Math.min(0.9999, share)) * (VIRIDIS.length - 1), low = Math.floor(at), part = at - low;
  const [from, to] = [VIRIDIS[low], VIRIDIS[low + 1]];
  return `rgb(${from.map((value, i) => Math.round(value + part * (to[i] - value))).join(",")})`;
}

// The depth of a book over time: a column for each row of book_depth, a cell for each level, brighter the larger it is.
// Best bid and ask are lines; a stale book is hatched.
export function heatMap(canvas, rows, height, mostMs) {
  const {context, width} = fitted(canvas, height);
  const right = 62, bottom = 16, wide = width - right, high = height - bottom;
  if (!rows.length) return;
  const last = Date.parse(rows.at(-1).event_at), spanMs = Math.max(10_000, Math.min(mostMs, last - Date.parse(rows[0].event_at))), first = last - spanMs;
  const shown = rows.filter(row => Date.parse(row.event_at) >= first);
  // Twenty levels may reach far; what is drawn is what most rows show, and all that was best.
  const lows = [], highs = [], sizes = [];
  for (const row of shown) {
    if (row.bids.length) lows.push(row.bids.at(-1)[0]);
    if (row.asks.length) highs.push(row.asks.at(-1)[0]);
    for (const [, size] of [...row.bids, ...row.asks]) sizes.push(size);
  }
  if (!lows.length && !highs.length) return;
  const best = shown.flatMap(row => [row.bids[0]?.[0], row.asks[0]?.[0]].filter(price => price != null));
  const sorted = values => [...values].sort((a, b) => a - b);
  const quantile = (values, share) => sorted(values)[Math.floor(share * (values.length - 1))];
  let low = Math.min(lows.length ? quantile(lows, 0.2) : Infinity, ...best);
  let top = Math.max(highs.length ? quantile(highs, 0.8) : -Infinity, ...best);
  if (top <= low) { top += Math.abs(top) * 1e-4 || 1; low -= Math.abs(low) * 1e-4 || 1; }
  const most = Math.log1p(quantile(sizes, 0.98) || 1);
  const y = price => high - (price - low) / (top - low) * high;
  const x = at => (at - first) / spanMs * wide;
  shown.forEach((row, number) => {
    const from = x(Date.parse(row.event_at));
    const to = number + 1 < shown.length ? x(Date.parse(shown[number + 1].event_at)) : wide;
    for (const [levels, sign] of [[row.bids, -1], [row.asks, 1]]) {
      levels.forEach(([price, size], at) => {
        const next = levels[at + 1]?.[0] ?? price + sign * Math.abs(price - (levels[at - 1]?.[0] ?? price * (1 - sign * 1e-4)));
        const edge = Math.abs(y(next) - y(price));
        context.fillStyle = viridis(Math.log1p(size) / most);
        context.fillRect(from, sign > 0 ? y(price) - edge : y(price), Math.max(1, to - from + 0.5), Math.max(1.5, edge));
      });
    }
  });
  hatch(context, stretches(shown, x, wide), high);
  for (const [side, colour] of [["bids", "#ffffff"], ["asks", colours.ask]]) {
    context.strokeStyle = colour;
    context.lineWidth = 1.2;
    context.beginPath();
    let isDown = false;
    for (const row of shown) {
      const price = row[side][0]?.[0];
      if (price == null) { isDown = false; continue; }
      const at = x(Date.parse(row.event_at));
      if (isDown) context.lineTo(at, y(price)); else context.moveTo(at, y(price));
      isDown = true;
    }
    context.stroke();
  }
  context.fillStyle = colours.panel;
  context.fillRect(wide, 0, right, height);
  context.fillRect(0, high, width, bottom);
  context.fillStyle = colours.dim;
  context.font = "11px system-ui";
  context.textBaseline = "middle";
  for (let step = 0; step <= 4; step++) {
    const price = low + (top - low) * step / 4;
    context.fillText(number(price), wide + 4, Math.min(high - 6, Math.max(7, y(price))));
  }
  context.textBaseline = "alphabetic";
  const marks = wide < 420 ? 2 : 4;
  for (let step = 0; step < marks; step++) context.fillText(clock(first + spanMs * step / marks), wide * step / marks, height - 3);
}

// From where to where the book was stale.
function stretches(rows, x, end) {
  const found = [];
  rows.forEach((row, at) => {
    if (!row.is_stale) return;
    const from = x(Date.parse(row.event_at)), to = at + 1 < rows.length ? x(Date.parse(rows[at + 1].event_at)) : end;
    if (found.length && found.at(-1)[1] >= from - 0.01) found.at(-1)[1] = to; else found.push([from, to]);
  });
  return found;
}

function hatch(context, parts, high) {
  for (const [from, to] of parts) {
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, high);
    context.clip();
    context.fillStyle = "rgba(14,17,22,.6)";
    context.fillRect(from, 0, to - from, high);
    context.strokeStyle = colours.warn;
    context.lineWidth = 0.5;
    context.beginPath();
    for (let at = from - high; at < to; at += 12) { context.moveTo(at, high); context.lineTo(at + high, 0); }
    context.stroke();
    if (to - from > 40) {
      context.fillStyle = colours.warn;
      context.font = "11px system-ui";
      context.fillText("stale", from + 5, 14);
    }
    context.restore();
  }
}

// The total variance of an SVI slice at k = ln(strike / forward), and its volatility.
export function vol(row, k) {
  const away = k - row.svi_m;
  const variance = row.svi_a + row.svi_b * (row.svi_rho * away + Math.sqrt(away * away + row.svi_sigma ** 2));
  return variance > 0 ? Math.sqrt(variance / row.years) : null;
}

// The surface: a line for each expiry over standard deviations from the forward, the nearest in front.
export function surface(canvas, slices, height) {
  const {context, width} = fitted(canvas, height);
  const points = 41, reach = 1.5;
  const lines = slices.map(row => Array.from({length: points}, (_, i) => vol(row, (i / (points - 1) * 2 - 1) * reach * row.atm_vol * Math.sqrt(row.years)) ?? row.atm_vol));
  if (!lines.length) return;
  const all = lines.flat(), low = Math.min(...all), high = Math.max(...all), range = Math.max(high - low, 0.02);
  const depth = Math.max(1, lines.length - 1), away = lines.length > 1 ? 1 : 0;
  const left = 44, right = 84, top = 16, bottom = 34;
  const shiftX = Math.min(110, width * 0.2) * away, shiftY = (height - top - bottom) * 0.42 * away;
  const wide = width - left - right - shiftX, tall = height - top - bottom - shiftY;
  const spot = (line, i, value) => [
    left + i / (points - 1) * wide + line / depth * shiftX,
    height - bottom - line / depth * shiftY - (value - low) / range * tall,
  ];
  context.font = "11px system-ui";
  for (let line = lines.length - 2; line >= 0; line--) {
    for (let i = 0; i < points - 1; i++) {
      const corners = [[line, i], [line, i + 1], [line + 1, i + 1], [line + 1, i]].map(([l, p]) => spot(l, p, lines[l][p]));
      const mean = (lines[line][i] + lines[line + 1][i + 1]) / 2;
      context.fillStyle = context.strokeStyle = viridis((mean - low) / range);
      context.beginPath();
      corners.forEach(([x, y], n) => n ? context.lineTo(x, y) : context.moveTo(x, y));
      context.closePath();
      context.fill();
      context.stroke();
    }
  }
  lines.forEach((values, line) => {
    context.strokeStyle = "#0b0d11";
    context.lineWidth = line ? 0.8 : 1.6;
    context.beginPath();
    values.forEach((value, i) => { const [x, y] = spot(line, i, value); if (i) context.lineTo(x, y); else context.moveTo(x, y); });
    context.stroke();
    const [x, y] = spot(line, points - 1, values[points - 1]);
    context.fillStyle = colours.text;
    context.fillText(slices[line].label, x + 5, y + 4);
  });
  context.fillStyle = colours.dim;
  for (const share of [0, 0.5, 1]) {
    const value = low + share * range, [x, y] = spot(0, 0, value);
    context.fillText(`${(100 * value).toFixed(0)} %`, 2, y + 4);
    context.strokeStyle = colours.line;
    context.beginPath(); context.moveTo(x - 6, y); context.lineTo(x, y); context.stroke();
  }
  for (const [share, text] of [[0, "-1.5 σ"], [0.5, "forward"], [1, "+1.5 σ"]]) {
    const [x] = spot(0, share * (points - 1), low);
    context.fillText(text, x - 18, height - bottom + 16);
  }
}

const AXIS = {stroke: colours.dim, grid: {stroke: "#222a34", width: 1}, ticks: {stroke: "#222a34", width: 1}, font: "11px system-ui"};

// A chart of uPlot that is filled again and again.
export class Chart {
  // series: uPlot's, without the first; axes: labels of x and y; time: x is in seconds since 1970
  constructor(node, {series, isTime = false, height = 190, format = short, hooks = {}, scales = {}, x = null, hasLegend = true}) {
    this.node = node;
    this.height = height;
    const width = Math.max(120, node.clientWidth);
    this.plot = new uPlot({
      width, height, series: [x ?? {label: "UTC", value: (_, at) => at == null ? "–" : clock(at * 1000)}, ...series], hooks, legend: {show: hasLegend},
      scales: {x: {time: isTime}, ...scales},
      tzDate: seconds => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: {drag: {x: false, y: false}},
      axes: [
        {...AXIS, ...(isTime ? {values: (_, ticks) => ticks.map(tick => clock(tick * 1000))} : {values: (_, ticks) => ticks.map(number)})},
        {...AXIS, size: 54, values: (_, ticks) => ticks.map(format)},
      ],
    }, [[], ...series.map(() => [])], node);
  }

  fill(data) {
    const width = Math.max(120, this.node.clientWidth);
    if (width !== this.plot.width) this.plot.setSize({width, height: this.height});
    this.plot.setData(data);
  }

  close() { this.plot.destroy(); }
}
