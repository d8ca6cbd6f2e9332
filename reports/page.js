// The page: choosing, ranking anew, sorting, filtering, tooltips, the theme. Data come as attributes and as JSON, and
// leave as text, never as HTML. All that is chosen stands in named inputs, and those that changed in the address.
const SIGNS = JSON.parse($("#signs").textContent);
const worlds = new Map($$("section.world").map((section) => [section, read(section)]));

function read(section) {
  const facts = JSON.parse($("script", section).textContent);
  const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0)).buffer);
  facts.blocks = facts.blocks.map(([n, members, mean, one, apart]) => {
    const place = {}, gaps = floats(apart), low = (i, j) => gaps[i * (i - 1) / 2 + j];
    members.forEach(([k, d], i) => { (place[k] ||= {})[d] = i; });
    return { n, mean, place, one: floats(one), apart: (i, j) => (i === j ? 0 : i > j ? low(i, j) : low(j, i)) };
  });
  for (const cell of $$("td, thead button", section)) cell.first = [cell.textContent, cell.dataset.value];
  return facts;
}

// ---- numbers as text
const many = (text) => text.replace(/\b1 (\D+?)s\b/, "1 $1"); // `1 rows` is one row
function fixed(x) { // one decimal; halves go to the even side, as Python's do
  const size = Math.abs(x), text = (size % 1 === 0.25 ? size - 0.05 : size).toFixed(1);
  return x < 0 && text !== "0.0" ? `−${text}` : text;
}
const signed = (x) => (/[1-9]/.test(fixed(100 * x)) && x > 0 ? "+" : "") + fixed(100 * x);
const bracket = ([low, high], form = (x) => fixed(100 * x)) => `[${form(low)}, ${form(high)}]`;
const rankOf = ({ ranks, tails }, i) => [...new Set(ranks[i])].join("–") + tails[i];
const letters = (one, i) => one.groups.map((own, p) => (own.includes(i) ? letter(p) : "")).join("");
const shares = (list) => fixed(100 * sum(list) / list.length)
  + (list.length > 1 ? ` ± ${fixed(100 * Math.sqrt(variance(list)))} (${list.length})` : "");

// ---- a choice, and what follows from it
const boxes = (root, name) => $$(`input[name=${name}]`, root);
const ticked = (root, name) => boxes(root, name).filter((box) => box.checked);
const wordsOf = (section) => $("[name=words]", section).value.toLowerCase().trim().split(/\s+/);

function choiceOf(section, facts) {
  const allowed = (name) => { // without boxes there is nothing to choose
    const on = ticked(section, name).map((box) => box.value), all = boxes(section, name).length === on.length;
    return (given) => all || on.includes(`${given}`);
  };
  const [row, pool, verdict, set, seed] = ["row", "pool", "verdict", "set", "seed"].map(allowed);
  const limits = $$("[type=number]", section).map((input) => [input.name, input.valueAsNumber]); // NaN: none
  if (ticked(section, "merge").length) limits.push(["stays", 0]);
  const fits = (one) => limits.every(([name, most]) => Number.isNaN(most) || (one[name] !== null && one[name] <= most));
  const sets = places(facts.sets, (one) => set(one.name));
  const rows = places(facts.rows, (one) => row(one.row) && pool(one.pool) && verdict(one.verdict) && fits(one));
  const seeds = facts.seeds.filter(seed), all = seeds.length === facts.seeds.length;
  const whole = all && sets.length === facts.sets.length, across = ticked(section, "across").length > 0;
  return { sets, rows, seeds: all ? null : seeds, whole, across,
    every: whole && rows.length === facts.rows.length && across === facts.across,
    apart: ticked(section, "apart").length > 0 };
}

function cellOf(facts, k, d, seeds) { // for the chosen seeds
  const cell = facts.cells[k][d];
  if (!cell || !seeds) return cell || { values: [], mean: NaN };
  const values = cell.values.filter((_, i) => seeds.includes(cell.seeds[i])), count = values.length;
  return { ...cell, values, mean: sum(values) / count, whole: count && (cell.whole || count === seeds.length) };
}

function meanOf(facts, k, parts, seeds) { // [text, value], as fields.mean_of
  const each = parts.flatMap((part) => part.map((d) => [d, 1 / parts.length / part.length]));
  const weights = new Map(each.sort((a, b) => a[0] - b[0])), w = [...weights.values()], { backbone } = facts.rows[k];
  const cells = [...weights.keys()].map((d) => cellOf(facts, k, d, seeds)), done = cells.filter((cell) => cell.whole);
  if (done.length < cells.length) return [`${done.length}/${cells.length}`];
  const key = backbone + JSON.stringify(each), known = facts.intervals ||= {};
  const interval = !seeds && (known[key] ||= intervalsOf(facts, weights, backbone)).get(k);
  const mean = dot(w, cells.map((cell) => cell.mean)), same = new Set(cells.map((cell) => `${cell.seeds}`)).size === 1;
  const runs = cells[0].values.map((_, s) => dot(w, cells.map((cell) => cell.values[s])));
  const signs = [..."§*‡¶"].filter((sign) => cells.some((cell) => cell.signs.includes(sign))).join("");
  const text = [shares(same ? runs : [mean]), interval && bracket(interval), signs].filter(Boolean).join(" ");
  return [text, 100 * mean];
}

// Of the chosen rows by pool, backbone and protocol: {rows, mean, ranks, groups, tails}.
function rankings(facts, { sets, rows, seeds, across }) {
  const peers = {};
  for (const k of sets.length && !seeds ? rows : []) {
    const cells = sets.map((d) => facts.cells[k][d]), { ranked, pool, backbone } = facts.rows[k];
    if (ranked && cells.every((cell) => cell?.whole))
      (peers[[across || pool, backbone, ...cells.map((cell) => cell.protocol)]] ||= []).push(k);
  }
  return Object.values(peers).filter((own) => own.length > 1 && own.length <= facts.most).flatMap((own) => {
    const spread = spreadOf(facts, sets, own);
    return spread ? [{ rows: own, mean: spread.mean, ...rankingOf(spread) }] : [];
  });
}

function recompute(section, facts) {
  const chosen = choiceOf(section, facts), key = JSON.stringify(chosen), place = new Map();
  if (section.found?.key === key) return;
  const found = rankings(facts, chosen), best = (one, d) => Math.max(...one.rows.map((k) => facts.cells[k][d].mean));
  found.forEach((one, g) => {
    const most = chosen.sets.map((d) => best(one, d));
    one.rows.forEach((k, i) => place.set(k, { one, i, g,
      gaps: chosen.sets.map((d, j) => 100 * (most[j] - facts.cells[k][d].mean)) }));
  });
  section.found = { chosen, found, place, key };
  for (const table of $$("[role=tabpanel] table", section)) rewrite(table, facts, section.found);
  drawTies(section, facts);
  const { every, seeds, rows } = chosen, none = !seeds && rows.length > 1 && !found.length;
  const told = { choice: !every, seeds, ranks: none };
  for (const line of $$("[data-say]", section)) line.hidden = !told[line.dataset.say];
}

function rewrite(table, facts, found) {
  const { chosen: { sets, seeds, whole } } = found;
  $$("thead th", table).forEach((head, j) => {
    const { role, set, parts } = head.dataset, all = JSON.parse(parts || "[]"), button = $("button", head);
    head.parts = all.map((part) => part.filter((d) => sets.includes(d)));
    const size = head.parts.flat().length, fewer = size < all.flat().length;
    head.gone = set ? !sets.includes(+set) : role === "mean" ? !size || (all.length > 1 && fewer)
      : (role === "whole" && !whole) || (role === "below" && seeds);
    [button.textContent] = button.first;
    if (fewer) button.textContent = many(button.textContent.replace(/\d+(?=\)?$| tasks$)/, size));
    for (const row of role || set ? $$("tbody tr[data-row]", table) : []) {
      const cell = row.cells[j], now = head.gone ? null : anew(facts, found, +row.dataset.row, head);
      const [text, number] = now || cell.first;
      cell.textContent = text;
      cell.classList.toggle("mark-bad", text.includes("†"));
      if (number === undefined) delete cell.dataset.value; else cell.dataset.value = number;
    }
  });
}

function anew(facts, { chosen, place }, k, head) { // [text, value] of a cell; null: as it was written
  const { sets, seeds, whole, every, apart } = chosen, { role, set } = head.dataset, at = place.get(k);
  if (set) {
    const { values, mean } = cellOf(facts, k, set, seeds), gap = at?.gaps[sets.indexOf(+set)];
    if (apart) return gap === undefined ? ["–"] : [fixed(gap), gap];
    return !seeds || !facts.cells[k][set] ? null : values.length ? [shares(values), 100 * mean] : ["–"];
  }
  if (every || role === "whole" || (whole && role === "mean")) return null;
  if (role === "mean") return meanOf(facts, k, head.parts, seeds);
  if (!at) return ["–"];
  const { one, i, gaps } = at, far = sum(gaps) / gaps.length;
  return role === "rank" ? [rankOf(one, i), one.ranks[i][0]] : role === "tie" ? [letters(one, i)]
    : [`${fixed(far)} (at most ${fixed(Math.max(...gaps))})`, far];
}

// ---- what is shown
function show(section) {
  const facts = worlds.get(section), words = wordsOf(section), complete = ticked(section, "complete").length;
  recompute(section, facts);
  const { chosen: { rows, sets, seeds }, place } = section.found;
  const seen = new Set(rows.filter((k) => !complete || sets.every((d) => cellOf(facts, k, d, seeds).whole)));
  for (const one of $$("[data-name]", section)) {
    const { name, row } = one.dataset, hit = (!row || seen.has(+row)) && words.every((text) => name.includes(text));
    if (one.matches("tr")) one.hidden = !hit; else one.classList.toggle("dim", !hit);
  }
  const tabs = $$("[role=tab]", section), opened = tabs.at($("[name=tab]", section).value) || tabs[0];
  for (const tab of tabs) {
    const panel = document.getElementById(tab.getAttribute("aria-controls")), picked = boxes(panel, "column");
    const own = tab === opened;
    tab.ariaSelected = own;
    tab.tabIndex = own ? 0 : -1;
    panel.hidden = !own;
    $$("thead th", panel).forEach((head, j) => {
      head.hidden = head.gone || (j > 0 && !picked[j - 1].checked);
      for (const row of $$("tbody tr", panel)) row.cells[j].hidden = head.hidden;
    });
    order(panel, place);
    const cells = $$("tr:not([hidden]) td:not([hidden])", panel); // one is in the tab order; arrows reach the others
    if (cells[0] && !cells.some((cell) => cell.tabIndex === 0)) cells[0].tabIndex = 0;
  }
  $(".count", section).textContent = many(`${$$("[data-first='1'] tbody tr:not([hidden])", section).length} rows`);
  const two = ticked(section, "pair").length > 1;
  for (const box of boxes(section, "pair")) box.disabled = two && !box.checked;
  drawPair(section, facts);
}

function order(panel, place) { // by a heading, else by rank; what has no place stays last, in the order as written
  const [column, way] = $("[name^=sort]", panel).value.split(" "), heads = $$("thead th", panel);
  const head = column && heads.at(column), turn = way === "descending" ? -1 : 1, body = $("tbody", panel);
  for (const other of heads) other.ariaSort = other === head ? way : "none";
  const key = (row) => {
    const at = place.get(+row.dataset.row), cell = row.cells[head?.cellIndex], value = cell?.dataset.value;
    if (!head) return at && 2 * at.g - at.one.mean[at.i];
    return value !== undefined ? +value : head.dataset.kind === "text" ? cell.textContent : undefined;
  };
  const compare = (x, y) => (x === undefined || y === undefined ? (x === undefined) - (y === undefined)
    : turn * (typeof x === "number" && typeof y === "number" ? x - y : `${x}`.localeCompare(`${y}`, "en")));
  const keyed = [...body.rows].map((row) => [key(row), row]);
  keyed.sort(([x, a], [y, b]) => compare(x, y) || a.dataset.order - b.dataset.order);
  body.append(...keyed.map(([, row]) => row));
}

// ---- the address
const moved = ({ type, checked, defaultChecked, value, defaultValue }) =>
  (type === "checkbox" ? checked !== defaultChecked : value !== defaultValue);

function write() {
  const text = new URLSearchParams();
  for (const section of worlds.keys())
    for (const input of $$("[name]", section).filter(moved)) text.append(`${section.id}.${input.name}`, input.value);
  if (`${text}` || location.hash.includes("=")) history.replaceState(null, "", `#${text}`);
}

function restore() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const section of worlds.keys()) {
    for (const input of $$("[name]", section)) {
      const values = given.getAll(`${section.id}.${input.name}`);
      if (input.type === "checkbox") input.checked = input.defaultChecked !== values.includes(input.value);
      else input.value = values[0] ?? input.defaultValue;
    }
    show(section);
  }
}

// ---- tooltips; a point and its row answer to each other
const tip = $("#tip");
let current = null; // what the tooltip speaks of
function hint(mark) {
  current?.removeAttribute("aria-describedby");
  current = mark;
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.dataset.tip;
  mark.setAttribute("aria-describedby", "tip");
  const at = mark.getBoundingClientRect(), { width, height } = tip.getBoundingClientRect();
  const below = at.bottom + height + 10 < innerHeight ? at.bottom + 6 : at.top - height - 6;
  tip.style.left = `${Math.max(8, Math.min(at.left + (at.width - width) / 2, innerWidth - width - 8))}px`;
  tip.style.top = `${Math.max(8, below)}px`;
}

function point({ target }) {
  const one = target.closest?.("[data-row]");
  hint(target.closest?.("[data-tip]"));
  for (const other of $$(".lit")) other.classList.remove("lit");
  if (!one) return;
  for (const other of $$(`[data-row="${one.dataset.row}"]`, one.closest("section"))) other.classList.add("lit");
}
for (const kind of ["mouseover", "focusin"]) addEventListener(kind, point);
addEventListener("focusout", () => hint(null));
addEventListener("scroll", () => hint(current), true); // reaching a mark by keyboard scrolls to it

// ---- the keyboard
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -1e9, End: 1e9 };
addEventListener("keydown", (event) => {
  const { target, key } = event, cell = target.closest("tbody td"), tab = target.closest("[role=tab]");
  if (key === "Escape") hint(null);
  if (key === "Enter" && (cell || target.matches("svg .mark"))) {
    event.preventDefault(); // or the same key would press the button of what it opens
    act(target);
  }
  if (!STEPS[key] || !(cell || tab)) return;
  const rows = () => $$("tr:not([hidden])", cell.closest("tbody")).map((row) => row.cells[cell.cellIndex]);
  const list = tab ? $$("[role=tab]", tab.parentElement) : /Up|Down/.test(key) ? rows()
    : $$("td:not([hidden])", cell.parentElement);
  const next = list[bound(list.indexOf(cell || tab) + STEPS[key], 0, list.length - 1)];
  event.preventDefault();
  if (tab) act(next); else [cell.tabIndex, next.tabIndex] = [-1, 0];
  next.focus();
});

// ---- what a click does
const DOES = {
  reset: (section) => $$(".choose [name]", section).forEach((input) => {
    input.checked = input.defaultChecked;
    if (input.type === "number") input.value = "";
  }),
  all: (section, one) => { // of a fieldset; none where all are chosen
    const own = $$("input", one.closest("fieldset")), some = own.some((box) => !box.checked);
    for (const box of own) box.checked = some;
  },
  found: (section) => boxes(section, "row").forEach((box) => {
    box.checked = wordsOf(section).every((text) => box.value.toLowerCase().includes(text));
  }),
  about: (section, one) => about(worlds.get(section), one.closest("tr").dataset.row),
  svg: (section, one) => save(`${one.dataset.file}.svg`, picture(one.closest("figure")), "image/svg+xml"),
  csv: (section, one, text) => save(`${one.parentElement.dataset.file}.csv`, `${text}\n`, "text/csv"),
  markdown: (section, one, text) => copy(text),
  latex: (section, one, text) => copy(text),
};

function act(target) {
  const near = (query) => target.closest(query), section = near("section.world");
  const panel = near("[role=tabpanel], figure"), row = near("svg [data-row]")?.dataset.row;
  const one = near("[data-do]"), tab = near("[role=tab]"), head = near("thead th[data-kind]"), cell = near("tbody td");
  if (!section) return;
  if (tab) $("[name=tab]", section).value = $$("[role=tab]", section).indexOf(tab);
  else if (head) {
    const down = head.ariaSort === "ascending" || (head.dataset.first === "down" && head.ariaSort !== "descending");
    $("[name^=sort]", panel).value = `${head.cellIndex} ${down ? "descending" : "ascending"}`;
  } else if (one) {
    const form = FORMS[one.dataset.do];
    DOES[one.dataset.do](section, one, form && form(cellsOf($("table", panel))));
  } else if (cell) {
    const { set } = $$("thead th", panel)[cell.cellIndex].dataset;
    if (set) record(worlds.get(section), cell.parentElement.dataset.row, set, cell.dataset.tip);
  } else if (row)
    $$(`[role=tabpanel]:not([hidden]) tr[data-row="${row}"]`, section)[0]?.scrollIntoView({ block: "center" });
  else return;
  show(section);
  write();
}
addEventListener("click", ({ target }) => act(target));

addEventListener("input", ({ target }) => {
  const section = target.closest("section.world"), figure = target.closest("figure");
  if (target.matches("select[data-pictures]"))
    for (const one of $$("[data-picture]", figure)) one.hidden = one.dataset.picture !== target.value;
  else if (section) {
    show(section);
    write();
  }
});
restore();
addEventListener("hashchange", () => { if (location.hash.includes("=")) restore(); });
