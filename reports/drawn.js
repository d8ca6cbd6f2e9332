// What the page draws itself: critical differences, two rows data set by data set, and what a name or a cell opens.
const $ = (query, root = document) => root.querySelector(query);
const $$ = (query, root = document) => [...root.querySelectorAll(query)];
const maker = (space) => (name, attributes, ...inside) => {
  const made = document.createElementNS(space, name);
  for (const [key, given] of Object.entries(attributes)) made.setAttribute(key, given);
  made.append(...inside);
  return made;
};
const svg = maker("http://www.w3.org/2000/svg"), html = maker("http://www.w3.org/1999/xhtml");
const word = (x, y, anchor, text) => svg("text", { x, y, "text-anchor": anchor }, text);
const disc = (cx, cy, r, ink, more) => svg("circle", { cx, cy, r, fill: `var(--${ink})`, ...more });
const stroke = (x1, x2, y1, y2, ink, width = 1) => svg("line", { x1, x2, y1, y2, stroke: `var(--${ink})`,
  "stroke-width": width });
const telling = (tip) => ({ class: "mark", tabindex: 0, role: "img", "aria-label": tip, "data-tip": tip });
const short = (text, most = 34) => (text.length <= most ? text
  : `${text.slice(0, most / 2 - 1)}…${text.slice(-most / 2)}`);
const frame = (width, height, title, parts) => svg("svg", { role: "group", "aria-label": title, "font-size": 12,
  viewBox: `0 0 ${width} ${height}`, fill: "var(--ink)", style: `max-width: ${1.3 * width}px` }, ...parts);

// A line for each name over a scale with round steps; draw(i, at, y) gives what stands on it.
function chart(figure, title, names, ends, margin, draw) { // narrower where the screen is
  const edge = figure.offsetWidth < 600 ? 480 : 720, left = edge / 3 - 10, right = edge - margin;
  const low = Math.min(...ends), high = Math.max(...ends), pad = 0.05 * (high - low) || 1, wide = high - low + 2 * pad;
  const height = 22 * names.length + 50, ten = 10 ** Math.floor(Math.log10(wide / 5));
  const step = ten * [1, 2, 5, 10].find((f) => f * ten >= wide / 5);
  const at = (x) => left + (right - left) * (x - low + pad) / wide;
  const parts = [word((left + right) / 2, height - 4, "middle", title)];
  for (let x = Math.ceil((low - pad) / step) * step; x <= high + pad; x += step)
    parts.push(stroke(at(x), at(x), 8, height - 34, "faint"), word(at(x), height - 20, "middle", +x.toPrecision(6)));
  names.forEach((name, i) => parts.push(word(left - 8, 24 + 22 * i, "end", short(name, left / 7.5)),
    ...draw(i, at, 20 + 22 * i, edge)));
  $(".picture", figure).replaceChildren(frame(edge, height, title, parts));
}

function drawTies(section, facts) { // rows by their mean, and a bar over those of each tie group
  const { found, chosen } = section.found, figure = $("[data-live=ties]", section);
  figure.hidden = !found.length;
  const lines = found.flatMap((one) => one.rows.map((k, i) => ({ one, k, i, mean: 100 * one.mean[i] }))
    .sort((a, b) => b.mean - a.mean || a.i - b.i));
  const draw = (n, at, y, edge) => {
    const { one, k, i, mean } = lines[n], { label } = facts.rows[k];
    const bars = one.groups.flatMap((own, g) => {
      if (!own.includes(i)) return [];
      const x = edge - 180 + g * Math.min(16, 180 / one.groups.length);
      const next = lines.findIndex((other, m) => m > n && other.one === one && own.includes(other.i));
      return [stroke(x, x, y, next < 0 ? y : 20 + 22 * next, "bar", 4), disc(x, y, 3.5, "point")];
    });
    const tip = `${label}\nmean ${fixed(mean)} %\nrank ${rankOf(one, i)}\ntie group ${letters(one, i)}`;
    const of = { ...telling(tip), "data-row": k, "data-name": label.toLowerCase() };
    return [...bars, disc(at(mean), y, 6, "point", of)];
  };
  const names = lines.map(({ k }) => facts.rows[k].label), title = many(`Mean of ${chosen.sets.length} data sets, %`);
  if (found.length) chart(figure, title, names, lines.map(({ mean }) => mean), 200, draw);
}

// two rows, data set by data set: as pairs.py compares, with the peers' spread over seeds
function differences(facts, { chosen: { sets, seeds }, place }, a, b) {
  const ranked = place.get(a)?.one.rows, peers = ranked?.includes(b) ? ranked : [a, b];
  const found = sets.filter((d) => facts.cells[a][d] && facts.cells[b][d]).map((d) => {
    const { block, span } = facts.cells[a][d], own = peers.filter((k) => facts.cells[k][d]?.block === block);
    const [x, y] = [a, b].map((k) => cellOf(facts, k, d, seeds).mean), gap = x - y, { name, title } = facts.sets[d];
    const one = { name, title, x, y, gap, text: signed(gap), verdict: "not on the same items" };
    const spread = own.includes(b) && !seeds && spreadOf(facts, [d], own);
    if (!spread) return one;
    const parts = spread.parts(own.indexOf(a), own.indexOf(b)), half = halfWidth(parts), runs = spread.luck.alone;
    const ends = [gap - half, gap + half], exact = runs && span === 1;
    const p = exact ? signTest(gap, parts[0], facts.blocks[block].n) : tail(gap, parts);
    return { ...one, ends, p, runs, text: `${one.text} ${bracket(ends, signed)}` };
  });
  const tested = found.filter((one) => one.ends), adjusted = holm(tested.map((one) => one.p));
  tested.forEach((one, i) => {
    one.p = adjusted[i];
    one.sure = one.p <= 1 - 0.95;
    one.verdict = (one.sure ? (one.gap > 0 ? "better" : "worse") : "not told apart") + (one.runs ? " (runs)" : "");
  });
  return found;
}

function signTest(gap, moved, n) { // of one run each: the items where they differ follow from gap and variance
  const differ = Math.round(moved * n * (n - 1) + n * gap * gap), few = Math.round((differ - Math.abs(n * gap)) / 2);
  const ways = (i) => lnGamma(differ + 1) - lnGamma(i + 1) - lnGamma(differ - i + 1);
  const p = sum(Array.from({ length: few + 1 }, (_, i) => Math.exp(ways(i) - differ * Math.LN2)));
  return differ ? Math.min(1, 2 * p) : 1;
}

function drawPair(section, facts) {
  const two = ticked(section, "pair").map((box) => +box.closest("tr").dataset.row).slice(0, 2);
  const found = two[1] === undefined ? [] : differences(facts, section.found, ...two);
  const figure = $("[data-live=pair]", section);
  figure.hidden = !found.length;
  if (!found.length) return;
  const [a, b] = two.map((k) => facts.rows[k].label), [own, other] = two.map((k) => facts.rows[k].pool);
  const apart = own === other || section.found.chosen.across ? "" : ` (${own}; ${other}: no comparison of methods)`;
  const heads = [`${a} and ${b}${apart}`, "Data set", a, b];
  const reach = [0, ...found.flatMap(({ ends, gap }) => ends || [gap])].map((x) => 100 * x);
  const draw = (i, at, y) => {
    const { gap, ends, sure, title, text, verdict } = found[i];
    return [stroke(at(0), at(0), y - 11, y + 11, "ink"),
      ...(ends ? [stroke(at(100 * ends[0]), at(100 * ends[1]), y, y, "bar", 3)] : []),
      disc(at(100 * gap), y, 5, sure ? "point" : "bar", telling(`${title}\n${text} points, ${verdict}`))];
  };
  chart(figure, `${short(a)} − ${short(b)}, points`, found.map(({ title }) => title), reach, 20, draw);
  $$("h3, thead span", figure).slice(0, 4).forEach((head, i) => { head.textContent = heads[i]; });
  $("tbody", figure).replaceChildren(...found.map(({ name, title, x, y, text, p, verdict }) => {
    const cells = [fixed(100 * x), fixed(100 * y), text, p === undefined ? "–" : p.toPrecision(2), verdict];
    return html("tr", { "data-set": name }, html("th", { scope: "row" }, title), ...cells.map((words) =>
      html("td", { class: words === verdict ? "" : "num" }, words)));
  }));
}

// ---- what a name or a cell opens
const box = $("#box");
const paragraphs = (list) => list.map((text) => html("p", {}, text));
function open(title, ...inside) {
  $("h2", box).textContent = title;
  $("div", box).replaceChildren(...inside);
  box.showModal();
}
function about(facts, k) {
  const [parts, own] = facts.about.rows[k], every = [...parts.map((part) => [part, facts.about.parts[part]]), ...own];
  open(facts.rows[k].row, ...every.flatMap(([title, list]) => [html("h3", {}, title), ...paragraphs(list)]));
}
function record(facts, k, d, tip) {
  const [told, title, most, last, curves] = facts.told?.[`${k},${d}`] || [[], "", "", "", []];
  const lines = curves.map((points, i) => svg("polyline", { points, fill: "none", transform: "translate(50 10)",
    stroke: `var(--${["point", "front", "ink"][i % 3]})`, "stroke-width": 1.8 })); // as told.py drew them, 500 x 150
  const scale = [word(46, 14, "end", most), word(46, 164, "end", 0), word(550, 180, "end", last),
    stroke(50, 550, 160, 160, "faint")];
  const drawn = lines.length ? [html("h3", {}, title), frame(560, 185, title, [...scale, ...lines])] : [];
  const head = `${facts.rows[k].label} on ${facts.sets[d].title}`;
  open(head, html("p", { class: "lines" }, tip), ...paragraphs(told), ...drawn);
}
