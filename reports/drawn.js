// What the page draws itself: critical differences, two rows data set by data set, and what a name or a cell opens.
function svg(name, attributes, ...inside) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, given] of Object.entries(attributes)) made.setAttribute(key, given);
  made.append(...inside);
  return made;
}

function html(name, attributes, ...inside) {
  const made = document.createElement(name);
  for (const [key, given] of Object.entries(attributes)) made.setAttribute(key, given);
  made.append(...inside);
  return made;
}

const marked = (shape, attributes, tipText) => svg(shape, { class: "mark", tabindex: 0, role: "img",
  "aria-label": tipText, "data-tip": tipText, ...attributes });
const button = (what, label) => html("button", { type: "button", "data-do": what }, label);

function axis(low, high, left, right, height, unit) { // a scale with round steps, its ticks, and x -> place
  const wide = high - low || 1, rough = wide / 5, ten = 10 ** Math.floor(Math.log10(rough));
  const step = ten * [1, 2, 5, 10].find((f) => f * ten >= rough);
  const at = (x) => left + (right - left) * (x - low) / wide, lines = [];
  for (let x = Math.ceil(low / step) * step; x <= high + 1e-9; x += step) {
    lines.push(svg("line", { x1: at(x), x2: at(x), y1: 8, y2: height - 34, stroke: "var(--faint)" }),
      svg("text", { x: at(x), y: height - 20, "text-anchor": "middle" }, `${Number(x.toPrecision(6))}`));
  }
  lines.push(svg("text", { x: (left + right) / 2, y: height - 4, "text-anchor": "middle" }, unit));
  return [at, lines];
}

const short = (text, most = 34) => (text.length <= most ? text : `${text.slice(0, most / 2 - 1)}…${text.slice(-most / 2)}`);
const frame = (width, height, title, ...inside) => html("div", { class: "picture" }, svg("svg", { role: "group",
  viewBox: `0 0 ${width} ${height}`, "aria-label": title, "font-size": 12, fill: "var(--ink)",
  style: `max-width: ${1.3 * width}px` }, ...inside));

// critical differences: rows by their mean, and a bar over those of each tie group
function drawTies(section, facts) {
  const figure = section.querySelector("[data-live=ties]"), all = section.found.found;
  figure.hidden = !all.length;
  figure.replaceChildren();
  for (const one of all) {
    const order = one.rows.map((_, i) => i).sort((a, b) => one.mean[b] - one.mean[a] || a - b);
    const names = [...new Set(one.letters.flatMap((text) => text.match(/[a-z]\d*/g) || []))].sort((a, b) =>
      a.slice(1) - b.slice(1) || (a < b ? -1 : 1));
    const height = 22 * order.length + 50, means = one.mean.map((m) => 100 * m), right = 520;
    const pad = 0.05 * (Math.max(...means) - Math.min(...means)) || 1;
    const [at, parts] = axis(Math.min(...means) - pad, Math.max(...means) + pad, 230, right, height,
      `mean of ${section.found.chosen.sets.length} data sets, %`);
    const y = (i) => 20 + 22 * order.indexOf(i), column = (g) => right + 20 + g * Math.min(16, 180 / names.length);
    names.forEach((letter, g) => {
      const own = order.filter((i) => (one.letters[i].match(/[a-z]\d*/g) || []).includes(letter));
      parts.push(svg("line", { x1: column(g), x2: column(g), y1: y(own[0]) - 4, y2: y(own.at(-1)) + 4,
        stroke: "var(--bar)", "stroke-width": 4, "stroke-linecap": "round" }),
      ...own.map((i) => svg("circle", { cx: column(g), cy: y(i), r: 3.5, fill: "var(--point)" })));
    });
    for (const i of order) {
      const label = facts.rows[one.rows[i]][3];
      parts.push(svg("text", { x: 222, y: y(i) + 4, "text-anchor": "end" }, short(label)),
        marked("circle", { cx: at(means[i]), cy: y(i), r: 6, fill: "var(--point)" }, `${label}\nmean ${fixed(means[i])} %\nrank ${
          one.ranks[i].join(" to ")}\ntie group ${one.letters[i]}`));
    }
    figure.append(html("h3", {}, "Critical differences"), frame(720, height, "Critical differences", ...parts),
      html("figcaption", { class: "soft" }, `Dots are means; rows that share a bar are not told apart (paired, Holm, 5 %)${
        one.tails[0] === " (runs)" ? ", as these runs have it" : ""}. `, button("svg", "Download SVG")));
  }
}

// two rows, data set by data set: as pairs.py compares, with the peers' spread over seeds
function differences(facts, section, a, b) {
  const { sets } = section.found.chosen, same = section.found.place;
  const peers = same.get(a)?.[0].rows.includes(b) ? same.get(a)[0].rows : [a, b];
  const found = sets.filter((d) => facts.cells[a][d] && facts.cells[b][d]).map((d) => {
    const own = peers.filter((k) => facts.cells[k][d] && facts.cells[k][d][7] === facts.cells[a][d][7]);
    const spread = own.includes(b) && !section.found.chosen.seeds ? spreadOf(facts, [d], own) : null;
    const gap = cellOf(facts, a, d, section.found.chosen.seeds)[2] - cellOf(facts, b, d, section.found.chosen.seeds)[2];
    if (!spread) return { d, gap };
    const parts = spread.parts(own.indexOf(a), own.indexOf(b)), half = halfWidth(parts);
    const p = spread.luck.alone ? signTest(gap, parts[0], facts.blocks[facts.cells[a][d][7]].n) : tail(gap, parts);
    return { d, gap, interval: [gap - half, gap + half], p, runs: spread.luck.alone };
  });
  const tested = found.filter((one) => one.p !== undefined), adjusted = holm(tested.map((one) => one.p));
  tested.forEach((one, i) => { one.p = adjusted[i]; });
  return found;
}

function signTest(gap, moved, n) { // of one run each: the items where they differ follow from gap and variance
  const differ = Math.round(moved * n * (n - 1) + n * gap * gap), few = Math.round((differ - Math.abs(n * gap)) / 2);
  let p = 0;
  for (let i = 0; i <= few; i += 1) p += Math.exp(lnGamma(differ + 1) - lnGamma(i + 1) - lnGamma(differ - i + 1) - differ * Math.LN2);
  return differ ? Math.min(1, 2 * p) : 1;
}

function drawPair(section, facts) {
  const figure = section.querySelector("[data-live=pair]");
  const two = boxes(section, "pair").filter((box) => box.checked).map((box) => Number(box.closest("tr").dataset.row));
  figure.hidden = two.length < 2;
  if (two.length < 2) return;
  const [a, b] = two, name = (k) => facts.rows[k][3], found = differences(facts, section, a, b);
  const ends = found.flatMap((one) => (one.interval || [one.gap]).map((x) => 100 * x)), height = 22 * found.length + 50;
  const low = Math.min(0, ...ends), high = Math.max(0, ...ends), pad = 0.04 * (high - low) || 1;
  const [at, parts] = axis(low - pad, high + pad, 230, 700, height, `${short(name(a))} − ${short(name(b))}, points`);
  parts.push(svg("line", { x1: at(0), x2: at(0), y1: 8, y2: height - 34, stroke: "var(--ink)" }));
  const rows = found.map((one, i) => {
    const y = 20 + 22 * i, [set, title] = facts.sets[one.d], show = (k) => fixed(100 * cellOf(facts, k, one.d, section.found.chosen.seeds)[2]);
    const gap = signed(one.gap) + (one.interval ? ` ${bracket(one.interval, signed)}` : "");
    const verdict = one.p === undefined ? "not on the same items" : one.p > 1 - 0.95 ? "not told apart" : one.gap > 0 ? "better" : "worse";
    parts.push(svg("text", { x: 222, y: y + 4, "text-anchor": "end" }, short(title)));
    if (one.interval) parts.push(svg("line", { x1: at(100 * one.interval[0]), x2: at(100 * one.interval[1]), y1: y, y2: y,
      stroke: "var(--bar)", "stroke-width": 3 }));
    parts.push(svg("circle", { cx: at(100 * one.gap), cy: y, r: 5, fill: verdict === "not told apart" ? "var(--bar)" : "var(--point)",
      "data-tip": `${title}\n${gap} points, ${verdict}` }));
    return html("tr", { "data-set": set }, html("th", { scope: "row" }, title), ...[show(a), show(b), gap, one.p === undefined ? "–"
      : one.p.toPrecision(2), verdict + (one.runs ? " (runs)" : "")].map((text, j) => html("td", j < 4 ? { class: "num" } : {}, text)));
  });
  const heads = ["Data set", name(a), name(b), "Difference, points", "p (Holm)", "The first is"];
  figure.replaceChildren(html("h3", {}, `${name(a)} and ${name(b)}, data set by data set`), frame(720, height, "Differences", ...parts),
    html("div", { class: "scroll" }, html("table", {}, html("thead", {}, html("tr", {}, ...heads.map((text) =>
      html("th", { scope: "col", class: heads.indexOf(text) % 5 ? "num" : "" }, html("span", {}, text))))), html("tbody", {}, ...rows))),
    html("figcaption", { class: "soft", "data-file": `${section.id}-pair` }, "Percent; intervals of 95 % over test items and seeds, "
      + "not corrected for their number; p by Holm's rule over these data sets. ", button("markdown", "Copy markdown"), " ",
    button("latex", "Copy LaTeX"), " ", button("csv", "Download CSV"), " ", button("svg", "Download SVG")));
}

// ---- what a name or a cell opens
function open(title, ...inside) {
  const box = document.getElementById("box");
  box.querySelector("h2").textContent = title;
  box.querySelector("div").replaceChildren(...inside);
  box.showModal();
}
const lines = (list) => list.map((text) => html("p", {}, text));

function about(section, k) {
  const facts = worlds.get(section), [parts, own] = facts.about.rows[k];
  open(nameOf(facts, k), ...[...parts.map((part) => [part, facts.about.parts[part]]), ...own].flatMap(([title, list]) =>
    [html("h3", {}, title), ...lines(list)]));
}

function record(section, cell) {
  const facts = worlds.get(section), k = Number(cell.parentElement.dataset.row);
  const d = Number($$("thead th", cell.closest("table"))[cell.cellIndex].dataset.set);
  const [told, curves] = facts.told?.[`${k},${d}`] || [[], []], points = curves.flatMap(([, list]) => list);
  const inside = [html("p", { class: "lines" }, cell.dataset.tip), ...lines(told)];
  if (points.length) {
    const most = Math.max(...points.map((p) => p[1])), last = Math.max(...points.map((p) => p[0]));
    const [at, parts] = axis(0, last, 50, 560, 220, "epoch");
    const y = (v) => 180 - 160 * v / (most || 1);
    parts.push(svg("text", { x: 46, y: y(most) + 4, "text-anchor": "end" }, most.toPrecision(2)),
      svg("text", { x: 46, y: y(0) + 4, "text-anchor": "end" }, "0"));
    curves.forEach(([label, list], i) => parts.push(svg("polyline", { points: list.map(([e, v]) => `${at(e)},${y(v)}`).join(" "),
      fill: "none", stroke: `var(--${["point", "front", "ink"][i % 3]})`, "stroke-width": 1.8, "data-tip": label })));
    inside.push(html("h3", {}, `Training loss: ${curves.map(([label]) => label).join(", ")}`), frame(580, 225, "Training loss", ...parts));
  }
  open(`${facts.rows[k][3]} on ${facts.sets[d][1]}`, ...inside);
}

