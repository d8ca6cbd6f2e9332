// The page: choosing, ranking anew, sorting, filtering, copying, tooltips, the theme. Data come as attributes and as
// JSON, and leave as text, never as HTML. What is chosen stands in the controls, and those that changed in the address.
const $$ = (query, root = document) => [...root.querySelectorAll(query)];
const worlds = new Map($$("section.world").map((section) => [section, read(section)]));

function read(section) {
  const facts = JSON.parse(section.querySelector("script[type='application/json']").textContent);
  const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0)).buffer);
  facts.blocks = facts.blocks.map(([n, members, mean, one, apart]) => {
    const place = {}, gaps = floats(apart);
    members.forEach(([k, d], i) => { (place[k] ||= {})[d] = i; });
    const at = (i, j) => (i === j ? 0 : i > j ? gaps[i * (i - 1) / 2 + j] : gaps[j * (j - 1) / 2 + i]);
    return { n, mean, place, one: floats(one), apart: at };
  });
  for (const cell of $$("td, thead button", section)) cell.first = cell.textContent;
  for (const cell of $$("td", section)) cell.firstValue = cell.dataset.value;
  return facts;
}

// ---- numbers as text
function fixed(x) { // one decimal; halves go to the even side, as Python's do
  const size = Math.abs(x), half = Number.isInteger(4 * size) && size % 1 === 0.25;
  const text = (half ? size - 0.05 : size).toFixed(1);
  return x < 0 && text !== "0.0" ? `−${text}` : text;
}
const signed = (x) => { const text = fixed(100 * x); return text === "0.0" || x < 0 ? text : `+${text}`; };
const bracket = ([low, high], show = (x) => fixed(100 * x)) => `[${show(low)}, ${show(high)}]`;

// ---- a choice, and what follows from it
const boxes = (section, name) => $$(`input[name=${name}]`, section);
const value = (section, name) => section.querySelector(`input[name=${name}]`)?.value.trim() || "";

function amount(text) { // "2M", "1.5 G" -> a number; NaN for what is none
  const found = /^([\d.]+)\s*([kMG]?)i?B?$/i.exec(text.trim());
  return found ? Number(found[1]) * { "": 1, k: 1e3, m: 1e6, g: 1e9 }[found[2].toLowerCase()] : NaN;
}

function choiceOf(section, facts) {
  const sets = boxes(section, "set"), rows = boxes(section, "row"), seeds = boxes(section, "seed");
  const on = (list, i) => !list.length || list[i].checked;
  const budget = ["weights", "bytes", "ms"].map((name) => [value(section, name), amount(value(section, name))]);
  const name = (k) => `${facts.rows[k][0]} on ${facts.rows[k][1]}`;
  const ticked = new Set(rows.filter((box) => box.checked).map((box) => box.value));
  const merges = section.querySelector("input[name=merge]")?.checked;
  const bySet = new Map(sets.map((box) => [box.value, box.checked]));
  const fits = (row) => budget.every(([text, most], i) => !text || Number.isNaN(most)
    || (row[4 + i] !== null && row[4 + i] <= most)) && (!merges || row[7] === 0);
  const chosen = {
    sets: facts.sets.flatMap((set, d) => (bySet.get(set[0]) ?? true ? [d] : [])),
    rows: facts.rows.flatMap((row, k) => ((!rows.length || ticked.has(name(k))) && fits(row) ? [k] : [])),
    seeds: seeds.every((box) => box.checked) ? null : facts.seeds.filter((s, i) => on(seeds, i)),
    odd: budget.filter(([text, most]) => text && Number.isNaN(most)).map(([text]) => text),
  };
  chosen.whole = chosen.sets.length === facts.sets.length && !chosen.seeds;
  chosen.every = chosen.whole && chosen.rows.length === facts.rows.length;
  return chosen;
}

// [values, complete, mean] of a cell for the chosen seeds
function cellOf(facts, k, d, seeds) {
  const cell = facts.cells[k][d];
  if (!cell) return [[], false, NaN];
  if (!seeds) return [cell[0], cell[5] === 1, cell[2]];
  const values = cell[0].filter((v, i) => seeds.includes(cell[1][i]));
  const wanted = cell[5] ? cell[1].filter((s) => seeds.includes(s)) : seeds;
  return [values, values.length > 0 && values.length === wanted.length, sum(values) / values.length];
}

function meanOf(facts, k, parts, seeds) { // [text, value], as fields.mean_of
  const weights = new Map(parts.flatMap((part) => part.map((d) => [d, 1 / parts.length / part.length])));
  const cells = [...weights].map(([d, w]) => [d, w, ...cellOf(facts, k, d, seeds)]);
  const done = cells.filter((one) => one[3]).length;
  if (!cells.length || done < cells.length) return [`${done}/${cells.length}`, undefined];
  const mean = sum(cells.map(([, w, , , middle]) => w * middle));
  const sorted = new Map([...weights].sort((a, b) => a[0] - b[0])), backbone = facts.rows[k][1];
  const key = `${backbone} ${JSON.stringify([...sorted])}`, known = facts.intervals ||= new Map();
  if (!seeds && !known.has(key)) known.set(key, intervalsOf(facts, sorted, backbone));
  const interval = seeds ? null : known.get(key).get(k);
  const used = cells.map(([d]) => facts.cells[k][d]);
  const same = new Set(used.map((cell) => String(cell[1]))).size === 1, count = cells[0][2].length;
  const each = cells[0][2].map((_, s) => sum(cells.map(([, w, values]) => w * values[s])));
  const signs = [..."§*‡¶"].filter((sign) => used.some((cell) => cell[8].includes(sign))).join("");
  return [`${fixed(100 * mean)}${same && count > 1 ? ` ± ${fixed(100 * Math.sqrt(variance(each)))} (${count})` : ""}${
    interval ? ` ${bracket(interval)}` : ""}${signs ? ` ${signs}` : ""}`, 100 * mean];
}

// Rankings of the chosen rows by protocol: {rows, ranks, letters, tails, mean, sure, spread}
function rankings(facts, { sets, rows, seeds }) {
  const peers = new Map();
  for (const k of sets.length ? rows : []) {
    const cells = sets.map((d) => facts.cells[k][d]), kind = facts.rows[k][2];
    if (!kind || !cells.every((cell) => cell && cell[5])) continue;
    const key = `${kind} ${cells.map((cell) => cell[6])} ${facts.rows[k][1]}`;
    peers.set(key, [...(peers.get(key) || []), k]);
  }
  return [...peers.values()].filter((own) => own.length > 1 && own.length <= facts.most && !seeds).flatMap((own) => {
    const spread = spreadOf(facts, sets, own);
    return spread ? [{ rows: own, spread, mean: spread.mean, ...rankingOf(spread) }] : [];
  });
}

function belowBest(facts, rows, sets) { // row -> gaps to the best of each data set, in points
  const best = sets.map((d) => Math.max(...rows.map((k) => facts.cells[k][d][2])));
  return new Map(rows.map((k) => [k, sets.map((d, i) => 100 * (best[i] - facts.cells[k][d][2]))]));
}

function recompute(section) {
  const facts = worlds.get(section), chosen = choiceOf(section, facts), found = rankings(facts, chosen);
  const place = new Map(found.flatMap((one, g) => one.rows.map((k, i) => [k, [one, i, g]])));
  const below = new Map(found.flatMap((one) => [...belowBest(facts, one.rows, chosen.sets)]));
  section.found = { chosen, found, place };
  for (const table of $$("table", section)) rewrite(table, facts, section.found, below);
  return section.found;
}

function rewrite(table, facts, { chosen, place }, below) {
  const heads = $$("thead th", table), held = chosen.sets;
  const shown = heads.map((head) => {
    const { role, set } = head.dataset, button = head.querySelector("button");
    button.textContent = button.first;
    head.parts = JSON.parse(head.dataset.parts || "[]").map((part) => part.filter((d) => held.includes(d)));
    const parts = JSON.parse(head.dataset.parts || "[]");
    if (set !== undefined) return held.includes(Number(set));
    if (chosen.whole || !role) return true;
    if (role === "mean") {
      const size = head.parts.flat().length, all = parts.flat().length;
      if (!size || (head.parts.length > 1 && size < all)) return false;
      if (size < all) button.textContent = button.first.replace(/\d+(?!.*\d)/, (n) => (all === facts.sets.length ? size : `${size} of ${n}`));
    }
    return role !== "whole" && !(role === "below" && chosen.seeds);
  });
  heads.forEach((head, j) => { head.gone = !shown[j]; });
  for (const row of $$("tbody tr[data-row]", table)) {
    const k = Number(row.dataset.row), at = place.get(k);
    heads.forEach((head, j) => {
      const cell = row.cells[j], { role, set } = head.dataset;
      if (!role && (set === undefined || !chosen.seeds) && cell.first === cell.textContent) return;
      const [text, number] = anew(facts, chosen, k, at, below.get(k), role, head) || [cell.first, cell.firstValue];
      if (cell.tagName === "TD" && cell.textContent !== text) {
        cell.textContent = text;
        cell.classList.remove("mark-bad");
      }
      if (number === undefined) delete cell.dataset.value; else cell.dataset.value = number;
    });
  }
}

// [text, value] of a cell for a choice; null for what was written at first
function anew(facts, chosen, k, at, gaps, role, head) {
  const set = head.dataset.set;
  if (set !== undefined && chosen.seeds && facts.cells[k][set]) {
    const [values, , mean] = cellOf(facts, k, Number(set), chosen.seeds);
    if (!values.length) return ["–", undefined];
    return [values.length > 1 ? `${fixed(100 * mean)} ± ${fixed(100 * Math.sqrt(variance(values)))} (${values.length})`
      : fixed(100 * mean), 100 * mean];
  }
  if (chosen.every || (chosen.whole && role === "mean")) return null;
  if (role === "rank" && at) {
    const [low, high] = at[0].ranks[at[1]];
    return [`${low === high ? low : `${low}–${high}`}${at[0].tails[at[1]]}`, low];
  }
  if (role === "tie" && at) return [at[0].letters[at[1]], undefined];
  if (role === "below" && gaps) {
    const mean = sum(gaps) / gaps.length;
    return [`${fixed(mean)} (at most ${fixed(Math.max(...gaps))})`, mean];
  }
  if (["rank", "tie", "below"].includes(role)) return ["–", undefined];
  if (role === "mean") return meanOf(facts, k, head.parts, chosen.seeds);
  const cells = chosen.sets.map((d) => [facts.cells[k][d], cellOf(facts, k, d, chosen.seeds)]);
  const done = cells.filter(([, cell]) => cell[1]).length, ours = cells.filter(([cell]) => cell);
  const idle = ours.filter(([cell]) => cell[9]).length;
  if (role === "done") return [`${done}/${cells.length}`, done];
  if (role === "chance") return chosen.seeds ? ["", undefined] : [ours.length ? `${idle} of ${ours.length}` : "–", idle];
  return null;
}

// ---- what is shown
const nameOf = (facts, k) => `${facts.rows[k][0]} on ${facts.rows[k][1]}`;

function rowOf(section, mark) { // a tooltip begins with the row's name
  const first = mark.dataset.tip.split(/\n| is better than /)[0];
  return worlds.get(section).rows.findIndex((row) => first === row[3] || [" ", ","].some((end) =>
    first.startsWith(row[3] + end)));
}

function show(section) {
  const facts = worlds.get(section), { chosen } = recompute(section), complete = section.querySelector("[name=complete]").checked;
  const words = value(section, "words").toLowerCase().split(/\s+/).filter(Boolean);
  const has = (text) => words.every((word) => text.includes(word)), rows = new Set(chosen.rows);
  const whole = (k) => !complete || chosen.sets.every((d) => cellOf(facts, k, d, chosen.seeds)[1]);
  let count = 0;
  for (const row of $$("tbody tr[data-name]", section)) {
    const k = row.dataset.row;
    const hit = has(row.dataset.name) && (k === undefined || (rows.has(Number(k)) && whole(k)));
    row.hidden = !hit;
    if (hit && row.closest("[role=tabpanel]").dataset.first === "1") count += 1;
  }
  for (const panel of $$("[role=tabpanel]", section)) {
    const picked = boxes(panel, "column");
    $$("thead th", panel).forEach((head, j) => {
      head.hidden = head.gone || (j > 0 && !picked[j - 1].checked);
      for (const row of $$("tbody tr", panel)) row.cells[j].hidden = head.hidden;
    });
    if (panel.by) sortBy(panel, ...panel.by);
    else if (panel.querySelector("[data-role=rank]")) byRank(panel, section.found);
  }
  section.querySelector(".count").textContent = `${count} rows`;
  tell(section, facts, chosen);
  drawTies(section, facts);
  drawPair(section, facts);
  for (const mark of $$("svg .mark", section)) {
    const k = rowOf(section, mark), own = mark.dataset.tip.toLowerCase().split(/\n| is better than /)[0];
    mark.classList.toggle("dim", !(has(own) && (k < 0 || (rows.has(k) && whole(k)))));
  }
}

function tell(section, facts, chosen) {
  const told = [];
  if (!chosen.every) {
    told.push(`Chosen: ${chosen.sets.length} of ${facts.sets.length} data sets, ${chosen.rows.length} of ${
      facts.rows.length} rows${chosen.seeds ? `, seeds ${chosen.seeds.join(", ") || "none"}` : ""}. Means, ranks and ties are`
      + " of this choice; pictures that this page does not draw anew are of everything.");
  }
  if (chosen.seeds) {
    told.push("No intervals, ranks and ties for a choice of seeds: this page holds summaries over all seeds of a row,"
      + " and they would need its answers. Choose every seed to have them.");
  } else if (chosen.rows.length > 1 && !section.found.found.length) {
    told.push("No ranks: fewer than two chosen rows are complete and share a protocol, or their answers are not stored.");
  }
  for (const text of chosen.odd) told.push(`“${text}” is no amount; write for instance 500k, 2M or 1.5G.`);
  const line = section.querySelector(".said");
  line.hidden = !told.length;
  line.textContent = told.join(" ");
}

function byRank(panel, { place }) { // by ranking, then the largest mean; rows without a rank keep their order
  const key = (row) => { const at = place.get(Number(row.dataset.row)); return at ? [at[2], -at[0].mean[at[1]]] : [1e9, 0]; };
  const body = panel.querySelector("tbody");
  const rows = [...body.rows].map((row) => [row, key(row)]);
  rows.sort(([a, x], [b, y]) => x[0] - y[0] || x[1] - y[1] || a.dataset.order - b.dataset.order);
  body.append(...rows.map(([row]) => row));
}

function sortBy(panel, index, way) {
  const header = $$("thead th", panel)[index], down = way === "descending";
  for (const other of $$("thead th", panel)) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", way);
  const key = (row) => (row.cells[index].dataset.value === undefined ? row.cells[index].textContent
    : Number(row.cells[index].dataset.value));
  const missing = (row) => header.dataset.kind === "number" && row.cells[index].dataset.value === undefined;
  const body = panel.querySelector("tbody");
  body.append(...[...body.rows].sort((a, b) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b) || a.dataset.order - b.dataset.order;
    const x = key(a), y = key(b);
    const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en");
    return (down ? -order : order) || a.dataset.order - b.dataset.order;
  }));
}

function turn(header) { // a click on a heading
  const now = header.getAttribute("aria-sort");
  const down = now === "ascending" || (header.dataset.first === "down" && now !== "descending");
  const panel = header.closest("[role=tabpanel]");
  panel.by = [header.cellIndex, down ? "descending" : "ascending"];
  sortBy(panel, ...panel.by);
}

// ---- the address: controls that are not as they were written, by world
function write() {
  const said = new URLSearchParams();
  for (const section of worlds.keys()) {
    for (const input of $$("input[name]", section)) {
      if (input.type === "checkbox" ? input.checked !== input.defaultChecked : input.value)
        said.append(`${section.id}.${input.name}`, input.value);
    }
    $$("[role=tab]", section).forEach((tab, i) => {
      const panel = document.getElementById(tab.getAttribute("aria-controls"));
      if (i && tab.getAttribute("aria-selected") === "true") said.append(`${section.id}.tab`, i);
      if (panel.by) said.append(`${section.id}.sort`, `${i}:${panel.by.join(":")}`);
    });
  }
  const text = String(said);
  if (text || location.hash.includes("=")) history.replaceState(null, "", text ? `#${text}` : "#");
}

function restore() {
  const said = new URLSearchParams(location.hash.slice(1));
  for (const section of worlds.keys()) {
    const given = (name) => said.getAll(`${section.id}.${name}`);
    for (const input of $$("input[name]", section)) {
      if (input.type === "checkbox") input.checked = input.defaultChecked !== given(input.name).includes(input.value);
      else input.value = given(input.name)[0] || "";
    }
    const tabs = $$("[role=tab]", section);
    choose(tabs[Number(given("tab")[0])] || tabs[0]);
    for (const tab of tabs) document.getElementById(tab.getAttribute("aria-controls")).by = null;
    for (const [at, column, way] of given("sort").map((text) => text.split(":"))) {
      const panel = tabs[at] && document.getElementById(tabs[at].getAttribute("aria-controls"));
      if (panel && $$("thead th", panel)[column] && /^(a|de)scending$/.test(way)) panel.by = [Number(column), way];
    }
    groups(section);
    show(section);
  }
}

function groups(section) { // the box of a group is ticked when all of its data sets are
  for (const box of $$("[data-group]", section)) {
    const own = boxes(box.closest("fieldset"), "set"), on = own.filter((one) => one.checked).length;
    box.checked = on === own.length;
    box.indeterminate = on > 0 && on < own.length;
  }
}

// ---- tabs and the keyboard
function choose(tab) {
  for (const other of $$("[role=tab]", tab.parentElement)) {
    const own = other === tab;
    other.setAttribute("aria-selected", String(own));
    other.tabIndex = own ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !own;
  }
}

function step(list, from, key) {
  const at = list.indexOf(from);
  if (key === "Home") return list[0];
  if (key === "End") return list[list.length - 1];
  return list[(at + (key === "ArrowRight" || key === "ArrowDown" ? 1 : list.length - 1)) % list.length];
}

// one cell of a table is in the tab order; arrows move through the others
function moveCell(cell, key) {
  const row = cell.parentElement, seen = [...row.cells].filter((c) => !c.hidden && c.tagName === "TD");
  let target = null;
  if (key === "ArrowRight" || key === "ArrowLeft") target = seen[seen.indexOf(cell) + (key === "ArrowRight" ? 1 : -1)];
  else if (key === "Home") target = seen[0];
  else if (key === "End") target = seen.at(-1);
  else {
    let next = row;
    do next = key === "ArrowDown" ? next.nextElementSibling : next.previousElementSibling; while (next && next.hidden);
    target = next && next.cells[cell.cellIndex];
  }
  if (!target) return;
  cell.tabIndex = -1;
  target.tabIndex = 0;
  target.focus();
}

// ---- tooltips; a point and its row answer to each other
const tip = document.getElementById("tip");
let current = null; // what the tooltip speaks of
function showTip(mark) {
  current = mark;
  tip.textContent = mark.dataset.tip;
  tip.hidden = false;
  const box = mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), innerWidth - own.width - 8);
  const below = box.bottom + own.height + 10 < innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.max(8, below ? box.bottom + 6 : box.top - own.height - 6)}px`;
}
const hideTip = () => { current = null; tip.hidden = true; };

function light(target) {
  for (const one of $$(".lit")) one.classList.remove("lit");
  const section = target?.closest("section.world"), row = target?.closest("tr[data-row]"), mark = target?.closest("svg .mark");
  if (!section || !(row || mark)) return;
  const k = row ? Number(row.dataset.row) : rowOf(section, mark);
  if (k < 0) return;
  for (const one of $$(`tr[data-row="${k}"]`, section)) one.classList.add("lit");
  for (const one of $$("svg .mark", section)) one.classList.toggle("lit", rowOf(section, one) === k);
}

function point(event) {
  const target = event.target instanceof Element ? event.target : null, mark = target?.closest("[data-tip]");
  if (mark) showTip(mark); else hideTip();
  light(target);
}
document.addEventListener("mouseover", point);
document.addEventListener("focusin", point);
document.addEventListener("focusout", hideTip);
// reaching a mark by keyboard scrolls to it, so the tooltip goes along
document.addEventListener("scroll", () => { if (current) showTip(current); }, true);

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
  if (!(event.target instanceof Element)) return;
  const { target, key } = event;
  if (key === "Enter" && (target.matches("tbody td") || target.matches("svg .mark"))) act(target);
  if (!/^(Arrow|Home$|End$)/.test(key)) return;
  if (target.matches("[role=tab]")) {
    const next = step($$("[role=tab]", target.parentElement), target, key);
    choose(next);
    next.focus();
    write();
    event.preventDefault();
  } else if (target.matches("tbody td")) {
    moveCell(target, key);
    event.preventDefault();
  }
});

// ---- what a click does
const DOES = {
  reset: (section) => {
    for (const input of $$(".choose input", section)) { input.checked = input.defaultChecked; input.value = input.defaultValue; }
  },
  all: (section) => boxes(section, "row").forEach((box) => { box.checked = true; }),
  none: (section) => boxes(section, "row").forEach((box) => { box.checked = false; }),
  found: (section) => {
    const words = value(section, "words").toLowerCase().split(/\s+/).filter(Boolean);
    for (const box of boxes(section, "row")) box.checked = words.every((word) => box.value.toLowerCase().includes(word));
  },
  about: (section, one) => about(section, Number(one.closest("tr").dataset.row)),
  svg: (section, one) => save(`${section.id}-${one.closest("figure").querySelector("h3").textContent.toLowerCase().replace(/\W+/g, "-")}.svg`,
    picture(one.closest("figure")), "image/svg+xml"),
};

function act(target) {
  const section = target.closest("section.world"), one = target.closest("[data-do]"), cell = target.closest("td[data-tip]");
  if (!section) return;
  const tab = target.closest("[role=tab]"), header = target.closest("thead th[data-kind]"), mark = target.closest("svg .mark");
  if (tab) choose(tab);
  else if (header) turn(header);
  else if (one && FORMS[one.dataset.do]) {
    const table = one.closest("[role=tabpanel], figure").querySelector("table"), text = FORMS[one.dataset.do](cellsOf(table));
    if (one.dataset.do === "csv") save(`${one.parentElement.dataset.file}.csv`, `${text}\n`, "text/csv"); else copy(text);
  } else if (one) {
    DOES[one.dataset.do](section, one);
    if (!["about", "svg"].includes(one.dataset.do)) { groups(section); show(section); }
  } else if (cell && $$("thead th", cell.closest("table"))[cell.cellIndex].dataset.set !== undefined) record(section, cell);
  else if (mark && rowOf(section, mark) >= 0) {
    $$(`[role=tabpanel]:not([hidden]) tr[data-row="${rowOf(section, mark)}"]`, section)[0]?.scrollIntoView({ block: "center" });
  } else return;
  write();
}
document.addEventListener("click", (event) => { if (event.target instanceof Element) act(event.target); });

document.addEventListener("input", (event) => {
  const input = event.target, section = input.closest("section.world");
  if (input.matches("select[data-pictures]")) pick(input);
  if (!section || input.matches("select")) return;
  if (input.dataset.group) for (const box of boxes(input.closest("fieldset"), "set")) box.checked = input.checked;
  if (input.name === "pair" && input.checked) { // of three, the one that was ticked first goes
    section.pairs = [...(section.pairs || boxes(section, "pair").filter((box) => box.checked && box !== input)), input]
      .filter((box) => box.checked);
    for (const box of section.pairs.splice(0, section.pairs.length - 2)) box.checked = false;
  }
  groups(section);
  show(section);
  write();
});

function pick(select) {
  for (const one of $$("[data-picture]", select.closest("figure"))) one.hidden = one.dataset.picture !== select.value;
}
for (const select of $$("select[data-pictures]")) pick(select);
restore();
window.addEventListener("hashchange", () => { if (location.hash.includes("=")) restore(); });

const theme = document.getElementById("theme");
const themes = ["auto", "light", "dark"];
function setTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  theme.textContent = `Theme: ${name}`;
}
let themed = "auto";
try { themed = themes.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto"; } catch { /* a file */ }
setTheme(themed);
theme.addEventListener("click", () => {
  themed = themes[(themes.indexOf(themed) + 1) % themes.length];
  setTheme(themed);
  try { localStorage.setItem("theme", themed); } catch { /* a page opened as a file may not store */ }
});
