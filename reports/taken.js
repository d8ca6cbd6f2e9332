// What a reader takes away: a table as markdown, LaTeX or CSV, a picture as SVG.
const cellsOf = (table) => $$("tr:not([hidden])", table).map((row) => $$("th:not([hidden]), td:not([hidden])", row)
  .map((cell) => ($("code[data-tip]", cell)?.dataset.tip || cell.textContent).trim()));

const FORMS = {
  markdown: ([head, ...body]) => [head, head.map(() => "---"), ...body].map((row) =>
    `| ${row.map((text) => text.replace(/[\\`*_{}[\]|~#<>]/g, "\\$&")).join(" | ")} |`).join("\n"),
  latex: (rows) => { // with the signs of latex.py
    const tex = (text) => [...text].map((sign) => SIGNS[sign] || sign).join("");
    const [head, ...body] = rows.map((row) => `${row.map(tex).join(" & ")} \\\\`);
    const columns = `l${"r".repeat(rows[0].length - 1)}`;
    return [`\\begin{tabular}{${columns}}`, "\\toprule", head, "\\midrule", ...body, "\\bottomrule", "\\end{tabular}"]
      .join("\n");
  },
  csv: (rows) => rows.map((row) => row.map((text) => { // no cell is a spreadsheet's formula
    const safe = /^[=+\-@\t\n\r]/.test(text) && !/^[+-]?[\d.]+$/.test(text) ? `'${text}` : text;
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
    $("#said").textContent = "Copied.";
  } catch { // no leave to: shown, to be copied by hand
    open("Copy this", html("textarea", { rows: 12, readonly: "" }, text));
  }
}

function picture(figure) { // the picture that is shown, its colours as they are now
  const shown = $(".picture:not([hidden]) svg", figure), style = getComputedStyle(document.documentElement);
  const colour = (_, name) => style.getPropertyValue(name).trim();
  return new XMLSerializer().serializeToString(shown).replace(/var\((--[\w-]+)\)/g, colour);
}
