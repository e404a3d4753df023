// Risk: accounts by how near to liquidation they are; one account's story, margin and positions; liquidations; the fund.

import {chance, clock, count, instant, ms, number, percent, usd} from "./format.js";
import {el, facts, panel, setText, Table} from "./dom.js";
import {Chart, colours} from "./draw.js";

export const title = "Risk";
const SIGNS = {healthy: ["healthy", "good"], margin_call: ["margin call", "warn"], liquidation: ["LIQUIDATION", "bad"], unpriced: ["unpriced", "dim"]};

export function build(root, app) {
  const tally = el("div", {class: "strip"});
  const search = el("input", {placeholder: "account", "aria-label": "Find an account", size: 14});
  const accounts = new Table([["account"], ["status"], ["ratio", "n"], [""], ["equity USD", "n"], ["maintenance", "n"], ["P 1 h", "n"], ["P 24 h", "n"], ["P 7 d", "n"], ["worst scenario"]],
    {open: account => app.go({account}), empty: "no account has been valued yet"});
  accounts.node.classList.add("tall");
  const list = panel("", "Accounts by margin ratio", accounts.node);
  list.right.append(search);

  const name = el("span"), figures = el("div"), history = el("div", {class: "chart"});
  const held = new Table([["position"], ["size", "n"], ["mark", "n"], ["initial USD", "n"], ["maintenance", "n"], ["adds", "n"], ["worst scenario"], ["loses in it", "n"]], {empty: "nothing is held"});
  const story = new Table([["at"], ["what"], ["why", "why"]], {empty: "reading…"});
  const again = el("button", {onclick: () => tell()}, "Read again"), shut = el("button", {onclick: () => app.go({account: null})}, "Close");
  const one = panel("", "", el("div", {class: "grid"}, el("div", {class: "w5"}, figures), el("div", {class: "w7"}, history)), el("h2", {}, "Positions' margin"), held.node, el("h2", {}, "Story"), story.node);
  one.heading.prepend(name);
  one.right.append(again, " ", shut);

  const events = new Table([["at"], ["account"], ["what"], ["state"], ["amount USD", "n"], ["why", "why"]], {open: account => app.go({account}), empty: "nothing was decided about any account yet"});
  const orders = new Table([["at"], ["account"], ["side"], ["size", "n"], ["instrument"], ["mark", "n"], ["limit", "n"], ["why", "why"]], {open: account => app.go({account}), empty: "no liquidation order yet"});
  const fund = new Table([["at"], ["kind"], ["account"], ["amount", "n"], ["balance", "n"], ["other side"], ["why", "why"]], {open: account => app.go({account}), empty: "the fund has done nothing yet"});
  const funds = el("span", {class: "dim"}), balances = el("div", {class: "chart"});
  const fundPanel = panel("w7", "Insurance fund and auto-deleveraging", funds, balances, fund.node);
  const scalings = new Table([["underlying"], ["factor", "n"], ["vol", "n"], ["since"], ["why", "why"]], {empty: "requirements are as they stand in the rules"});
  const place = panel("place", "VaR, stress and limits", el("p", {class: "empty"}, "Their jobs are not there yet. Value at risk, expected shortfall and stress of each account, exposures and limits will come as topics, and stand here."));
  root.append(tally, el("div", {class: "grid"}, one.node, list.node, panel("", "Liquidations, as they are decided", events.node).node, panel("", "Liquidation orders", orders.node).node, fundPanel.node,
    panel("w5", "Margin by volatility", scalings.node).node, place.node));

  let chart = null, fundChart = null, told = "";
  search.addEventListener("input", drawAccounts);
  search.addEventListener("keydown", event => { if (event.key === "Enter" && search.value) app.go({account: accounts.body.rows[0]?.dataset.key ?? search.value}); });

  // Whose story, and at which instant of a finished run that stands still.
  const asked = () => app.query.account ? `${app.query.account} ${app.speed ? "" : app.at_ms ?? ""}` : "";

  function tell() {
    const account = app.query.account, key = asked();
    told = key;
    if (!account) return;
    setText(story.none, "reading…");
    story.fill([]);
    app.story(account).then(answer => {
      if (told !== key) return;
      const lines = answer.lines.toReversed();
      story.fill(lines.map(([at, what, why]) => [clock(at, 3), what, why]));
      setText(story.none, "nothing is known of this account up to then");
      const rest = answer.before ? `; ${count(answer.before)} lines before these` : "";
      one.note(`${answer.holdings.map(([asset, amount]) => `${amount} ${asset}`).join(", ") || "holds nothing"}${rest}${answer.note ? "; " + answer.note : ""}`);
    }, error => { if (told === key) setText(story.none, `the story could not be read: ${error.message}`); });
  }

  function drawAccounts() {
    const {rows = [], count: all = 0, statuses = {}} = app.parts.accounts ?? {};
    const wanted = search.value.toLowerCase(), shown = rows.filter(row => row.account.toLowerCase().includes(wanted));
    tally.replaceChildren(...[["accounts", all], ...Object.entries(SIGNS).map(([status, [word]]) => [word.toLowerCase(), statuses[status] ?? 0])].map(([word, value]) => el("span", {}, el("b", {}, count(value)), ` ${word}`)));
    list.note(all > rows.length ? `the ${rows.length} nearest to liquidation of ${count(all)}` : "");
    accounts.fill(shown.map(row => [row.account, SIGNS[row.status] ?? row.status, row.margin_ratio == null ? (row.maintenance_margin_usd ? ["no equity", "bad"] : "–") : row.margin_ratio.toFixed(3), meter(row),
      usd(row.equity_usd), usd(row.maintenance_margin_usd), ...["1h", "24h", "7d"].map(time => chance(row[`liquidation_probability_${time}`], row[`liquidation_probability_${time}_error`])), row.worst_scenario ?? ["standard margin", "dim"]]),
      shown.map(row => row.account), shown.map(row => row.account === app.query.account ? "is-on" : ""));
  }

  function drawAccount() {
    one.node.hidden = !app.query.account;
    if (!app.query.account) return;
    setText(name, app.query.account);
    const row = app.parts.account?.[0];
    const [word] = SIGNS[row?.status] ?? ["not valued"];
    figures.replaceChildren(facts(row ? [
      ["status", `${word}${row.reason ? ": " + row.reason : ""}`], ["equity", `${usd(row.equity_usd)} USD`], ["initial margin", `${usd(row.initial_margin_usd)} USD`], ["maintenance margin", `${usd(row.maintenance_margin_usd)} USD`],
      ["ratio", row.margin_ratio == null ? "–" : row.margin_ratio.toFixed(4)], ["model", row.model], ["worst scenario", row.worst_scenario ? `${row.worst_scenario}: loses ${usd(row.worst_loss_usd)} USD` : "–"],
      ["liquidation within", ["1h", "24h", "7d"].map(time => `${time} ${chance(row[`liquidation_probability_${time}`], row[`liquidation_probability_${time}_error`])}`).join(", ")], ["valued at", instant(row.event_at)],
    ] : [["status", "not valued yet"]]));
    const rows = app.parts.history ?? [];
    history.hidden = rows.length < 2;
    if (rows.length >= 2) {
      chart ??= new Chart(history, {isTime: true, height: 170, series: [
        {label: "equity", stroke: colours.bid, width: 2}, {label: "maintenance", stroke: colours.ask, width: 2, dash: [6, 4]},
      ]});
      chart.fill([rows.map(row => ms(row.event_at) / 1000), rows.map(row => row.equity_usd), rows.map(row => row.maintenance_margin_usd)]);
    }
    const positions = app.parts.positions ?? [];
    held.fill(positions.map(row => [`${row.venue}:${row.instrument}`, [number(row.size), row.size < 0 ? "ask" : "bid"], number(row.mark_price), usd(row.initial_margin_usd), usd(row.maintenance_margin_usd), usd(row.contribution_usd), row.worst_scenario ?? "–", usd(row.worst_loss_usd)]));
  }

  function drawDecisions() {
    const decided = (app.parts.events ?? []).toReversed();
    events.fill(decided.map(row => [clock(row.event_at, 1), row.account, [row.kind.replaceAll("_", " "), KINDS[row.kind] ?? ""], row.state.replaceAll("_", " "), usd(row.amount_usd), row.reason]), decided.map(row => row.account));
    const ordered = (app.parts.orders ?? []).toReversed();
    orders.fill(ordered.map(row => [clock(row.event_at, 1), row.account, [row.side, row.side === "buy" ? "bid" : "ask"], number(row.size), `${row.venue}:${row.instrument}`, number(row.mark_price), number(row.limit_price), row.reason]), ordered.map(row => row.account));
  }

  function drawFund() {
    const rows = app.parts.fund ?? [], newest = app.parts.funds ?? [];
    setText(funds, newest.length ? newest.map(row => `${number(row.balance)} ${row.currency} since ${clock(row.event_at)}`).join("; ") : "");
    const paid = rows.toReversed();
    fund.fill(paid.map(row => [clock(row.event_at, 1), [row.kind.replaceAll("_", " "), row.counter_account ? "warn" : ""], row.account, number(row.amount), number(row.balance),
      row.counter_account ? `${row.counter_account}: ${number(row.size)} ${row.instrument} at ${number(row.price)}` : "", row.reason]), paid.map(row => row.account));
    const currencies = [...new Set(rows.map(row => row.currency))].slice(0, 4);
    balances.hidden = rows.length < 2;
    if (rows.length < 2) return;
    if (fundChart?.names !== currencies.join()) {
      fundChart?.close();
      fundChart = new Chart(balances, {isTime: true, height: 130, series: currencies.map((currency, at) => ({label: `balance ${currency}`, stroke: [colours.bid, colours.ask, colours.good, colours.mark][at], width: 2, spanGaps: true, paths: uPlot.paths.stepped({align: 1})}))});
      fundChart.names = currencies.join();
    }
    fundChart.fill([rows.map(row => ms(row.event_at) / 1000), ...currencies.map(currency => rows.map(row => row.currency === currency ? Number(row.balance) : null))]);
  }

  return {
    update(changed) {
      const has = (...names) => changed.has("size") || changed.has("is_new") || names.some(name => changed.has(name));
      if (!app.speed && asked() !== told) tell();
      if (has("accounts")) drawAccounts();
      if (has("account", "history", "positions")) drawAccount();
      if (has("events", "orders")) drawDecisions();
      if (has("fund", "funds")) drawFund();
      if (has("scalings")) scalings.fill((app.parts.scalings ?? []).map(row => [row.underlying, `× ${number(row.factor)}`, percent(row.vol, 1), clock(row.event_at), row.reason]));
    },
    chosen: () => { drawAccount(); drawAccounts(); },
    escape: () => { if (app.query.account) app.go({account: null}); },
    pick: () => { search.focus(); search.select(); },
    close: () => { chart?.close(); fundChart?.close(); },
  };
}

const KINDS = {margin_call: "warn", locked: "bad", bankrupt: "bad", claimed: "bad", recovered: "good", resumed: "good", held: "warn"};

function meter(row) {
  const share = row.margin_ratio ?? (row.maintenance_margin_usd ? 1 : 0);
  const bar = el("i", {class: share >= 1 ? "bad" : share >= 0.7 ? "warn" : ""});
  bar.style.width = `${Math.min(100, 100 * share)}%`;
  return el("span", {class: "meter", title: "margin ratio; liquidation at 1"}, bar);
}
