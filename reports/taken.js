// What a reader takes away: a table as markdown, LaTeX or CSV, a picture as SVG.
function cellsOf(table) {
  const text = (cell) => (cell.querySelector("code[data-tip]")?.dataset.tip || cell.textContent).trim();
  return [...table.rows].filter((row) => !row.hidden).map((row) => [...row.cells].filter((c) => !c.hidden).map(text));
}

const FORMS = {
  markdown: ([head, ...body]) => [head, head.map(() => "---"), ...body].map((line) =>
    `| ${line.map((text) => text.replace(/[\\`*_{}[\]|~#<>]/g, "\\$&")).join(" | ")} |`).join("\n"),
  latex: (lines) => {
    const signs = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$", "−": "$-$",
      "–": "--", "°": "$^\\circ$", "†": "\\dag{}", "‡": "\\ddag{}", "§": "\\S{}", "¶": "\\P{}", "◊": "$\\diamond$", "×": "$\\times$" };
    const [head, ...body] = lines.map((line) => `${line.map((text) => text.replace(/[\\~^±−–°†‡§¶◊×]|[&%$#_{}]/g,
      (sign) => signs[sign] || `\\${sign}`)).join(" & ")} \\\\`);
    return [`\\begin{tabular}{l${"r".repeat(lines[0].length - 1)}}`, "\\toprule", head, "\\midrule", ...body, "\\bottomrule",
      "\\end{tabular}"].join("\n");
  },
  csv: (lines) => lines.map((line) => line.map((text) => {
    const safe = /^[=+\-@\t\n\r]/.test(text) && !/^[+-]?[\d.]+$/.test(text) ? `'${text}` : text; // no spreadsheet's formula
    return /[",\n\r]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  }).join(",")).join("\n"),
};

function save(name, text, type) {
  const link = html("a", { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    document.getElementById("said").textContent = "Copied.";
  } catch { // no leave to: shown, to be copied by hand
    open("Copy this", html("textarea", { rows: 12, readonly: "" }, text));
  }
}

function picture(figure) { // the picture that is shown, its colours as they are now
  const shown = figure.querySelector(".picture:not([hidden]) svg").cloneNode(true), style = getComputedStyle(document.documentElement);
  shown.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const text = new XMLSerializer().serializeToString(shown);
  return text.replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
}

