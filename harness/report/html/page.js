"use strict";
// Sorting of tables, and the panel with the runs behind a number. Everything from the data is set as text.
(() => {
  const panel = document.getElementById("panel");
  const said = document.getElementById("said");
  const SIGNS = { reproduced: "✓", consistent: "≈", inconclusive: "?", "not reproduced": "✕", "not comparable": "∅" };
  const FACTS = [
    ["train_hardware", "Trained on"], ["train_threads", "Training threads"], ["train_processes", "Training processes"],
    ["train_started", "Training started"], ["train_finished", "Training finished"],
    ["train_seconds", "Training seconds"], ["device_hours", "Device hours"],
    ["trial_peak_memory_gb", "Peak memory, GB"], ["initial_weights", "Started from"],
    ["evaluated", "Evaluated"], ["finished", "Finished"], ["hardware", "Measured on"], ["device", "Device"],
    ["threads", "Threads"], ["host", "Host"], ["executor", "Executor"], ["attempt", "Attempt"],
    ["git_commit", "Commit"], ["git_dirty", "Uncommitted changes"], ["data_name", "Data"], ["split", "Split"],
  ];

  function el(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
    made.append(...children.filter((child) => child !== null && child !== ""));
    return made;
  }

  // ---- sorting -------------------------------------------------------------------------------------------

  const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

  function compare(one, other, direction, isNumber) {
    const a = one.text, b = other.text;
    if ((a === "") !== (b === "")) return a === "" ? 1 : -1; // no number stands last, whichever way
    const order = isNumber ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
    return (direction === "descending" ? -order : order) || one.place - other.place;
  }

  function sort(button) {
    const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
    const direction = NEXT[head.getAttribute("aria-sort")], column = head.cellIndex;
    for (const other of head.parentElement.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", direction);
    const rows = [...body.rows].map((row) => {
      if (row.dataset.place === undefined) row.dataset.place = row.sectionRowIndex;
      return { row, place: Number(row.dataset.place), text: row.cells[column].dataset.sort };
    });
    rows.sort((a, b) => (direction === "none" ? a.place - b.place : compare(a, b, direction, column > 0)));
    body.append(...rows.map(({ row }) => row));
    const name = button.getAttribute("aria-label") || button.textContent;
    said.textContent = direction === "none" ? "In the order of the paper" : `${name}, ${direction}`;
  }

  function step(event) {
    const cell = event.target.closest("td"), row = cell.parentElement;
    const target = {
      ArrowLeft: () => cell.previousElementSibling,
      ArrowRight: () => cell.nextElementSibling,
      ArrowUp: () => row.previousElementSibling?.cells[cell.cellIndex],
      ArrowDown: () => row.nextElementSibling?.cells[cell.cellIndex],
    }[event.key];
    const link = target && target()?.querySelector("a.cell");
    if (link) {
      event.preventDefault();
      link.focus();
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.sort");
    if (button) sort(button);
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("a.cell") && !event.ctrlKey && !event.metaKey && !event.altKey) step(event);
  });

  // ---- the panel -----------------------------------------------------------------------------------------

  let sweeps = null;

  function sweepOf(anchor) {
    if (sweeps === null) {
      sweeps = new Map();
      for (const block of document.querySelectorAll("script.panel-data")) {
        const data = JSON.parse(block.textContent);
        for (const name of data.anchors) sweeps.set(name, data);
      }
    }
    return sweeps.get(anchor);
  }

  const isAt = (place, row, column) => place[0] === row && place[1] === column;

  function pairs(entries) {
    return el("dl", { class: "pairs" }, ...entries.map(([name, value]) => el("div", null, el("dt", null, name), el("dd", null, value))));
  }

  function table(heads, rows, label) {
    const line = (cells, head) => el("tr", null, ...cells.map((cell, index) => {
      const at = { ...(heads[index].number ? { class: "number" } : {}), ...(heads[index].marked ? { "data-marked": "" } : {}) };
      const tag = head || index === 0 ? "th" : "td";
      return el(tag, tag === "th" ? { ...at, scope: head ? "col" : "row" } : at, ...[cell].flat());
    }));
    const made = el("table", { class: "list" }, el("thead", null, line(heads.map((head) => head.text), true)),
      el("tbody", null, ...rows.map((row) => line(row, false))));
    return el("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, made);
  }

  function verdict(line) {
    const sign = el("span", { "aria-hidden": "true" }, SIGNS[line.verdict]);
    const badge = el("span", { class: `verdict ${line.verdict.replace(" ", "-")}` }, sign, ` ${line.verdict}`);
    return [badge, el("span", { class: "why" }, ` ${line.why}`)];
  }

  // Below the table, where it has the whole width; metrics with the same verdict stand together.
  function verdicts(lines, data) {
    const together = new Map();
    for (const line of lines.filter((each) => each.verdict)) {
      const key = `${line.verdict}\n${line.why}`;
      together.set(key, [...(together.get(key) || []), line]);
    }
    return [...together.values()].map((alike) => {
      const names = alike.map((line) => data.metrics[line.metric]).join(", ");
      return el("p", { class: "judged" }, el("b", null, names), " against the paper’s: ", ...verdict(alike[0]));
    });
  }

  function summary(cell, data, metric) {
    const lines = cell.metrics;
    const hasPaper = lines.some((line) => line.paper !== "--");
    const heads = [{ text: "Metric" }, { text: "Mean ± SD", number: true }, { text: "n", number: true }, { text: "95 % t interval", number: true }];
    if (hasPaper) heads.push({ text: "Paper", number: true });
    const rows = lines.map((line) => {
      const name = data.metrics[line.metric];
      const first = line.metric === metric ? el("b", null, name) : name;
      const ours = [first, line.ours, line.n, line.interval];
      return hasPaper ? [...ours, line.paper] : ours;
    });
    const withheld = lines.some((line) => line.ours === "withheld");
    return [table(heads, rows, "Summary of the cell"), ...verdicts(lines, data),
      ...(withheld ? [el("p", { class: "small" }, "Withheld: numbers of different machines have no mean.")] : [])];
  }

  function machine(run, data) {
    const row = { ...data.row, ...run.row };
    const threads = row.threads && `${row.threads} thread${row.threads === "1" ? "" : "s"}`;
    const how = [row.device, threads].filter(Boolean).join(", ");
    return (row.hardware || "unknown") + (how ? ` (${how})` : "");
  }

  function seedTable(runs, missing, data, metric) {
    const ofMachine = new Set(data.ofMachine); // speeds of several machines stand beside their machine, last
    const metrics = Object.keys(data.metrics).sort((a, b) => ofMachine.has(a) - ofMachine.has(b));
    const isMixed = metrics.some((name) => ofMachine.has(name));
    const heads = [{ text: "Seed" }, { text: "Status" },
      ...metrics.map((name) => ({ text: data.metrics[name], number: true, marked: name === metric })),
      ...(isMixed ? [{ text: "Machine" }] : []), { text: "Trial" }];
    const rows = runs.map((run, index) => {
      const status = run.old ? `${run.status} (replaced)` : run.status;
      const jump = el("button", { type: "button", class: "jump", "data-run": String(index), "aria-label": `Details of seed ${run.seed}` }, run.seed);
      return [jump, status, ...metrics.map((name) => run.values[name] || "--"),
        ...(isMixed ? [machine(run, data)] : []), el("code", null, run.trial)];
    });
    for (const seed of missing) rows.push([seed, "missing", ...metrics.map(() => "--"), ...(isMixed ? ["--"] : []), "--"]);
    return table(heads, rows, "Runs, seed by seed");
  }

  function overlaid(most, difference) {
    return Object.entries({ ...most, ...difference }).filter(([, value]) => value !== null);
  }

  function folded(title, text, isOpen) {
    const made = el("details", { class: "fold" }, el("summary", null, title), el("pre", { tabindex: "0" }, text));
    made.open = Boolean(isOpen);
    return made;
  }

  function runDetails(run, data, index) {
    const config = new Map(overlaid(data.config, run.config)), row = new Map(overlaid(data.row, run.row));
    const trial = data.trials[run.trial] || { command: "", log: -1 };
    const differing = data.differs.filter((key) => config.has(key)).map((key) => [key, config.get(key)]);
    const log = data.logs[run.log] || data.logs[trial.log] || "";
    const whole = [...config].map(([key, value]) => `${key}: ${value}`).join("\n");
    const rest = [...row].map(([key, value]) => `${key}: ${value}`).join("\n");
    const made = el("details", { class: "run", id: `run-${index}` },
      el("summary", null, el("b", null, `Seed ${run.seed}`), ` ${run.status}${run.old ? ", replaced by a newer row" : ""} `, el("code", null, run.trial)),
      run.error ? el("pre", { class: "error", tabindex: "0" }, run.error) : null,
      el("h4", null, "Configuration: what differs within the sweep"),
      differing.length ? pairs(differing) : el("p", { class: "small" }, config.size ? "Nothing." : "No configuration was recorded."),
      el("h4", null, "Repeat it"),
      trial.command ? el("div", { class: "command" }, el("pre", { tabindex: "0" }, trial.command),
        el("button", { type: "button", class: "copy" }, "Copy")) : el("p", { class: "small" }, "No command is known."),
      el("h4", null, "Where and when"),
      pairs(FACTS.filter(([key]) => row.has(key)).map(([key, name]) => [name, row.get(key)])),
      log ? folded("End of the log", log, run.status !== "done") : el("p", { class: "small" }, "No log was kept."),
      config.size ? folded(`Whole configuration (${config.size} keys)`, whole) : null,
      folded(`Everything else in the row (${row.size} columns)`, rest));
    return made;
  }

  function fill(data, cell, metric) {
    const [row, column] = cell.place;
    const runs = data.runs.filter((run) => isAt(run.place, row, column));
    runs.sort((a, b) => Number(a.seed) - Number(b.seed) || Number(a.old) - Number(b.old));
    const there = new Set(runs.map((run) => run.seed));
    const name = [data.rows[row], data.columns[column]].filter(Boolean).join(", ");
    const close = el("button", { type: "button", class: "close" }, "Close");
    panel.replaceChildren(el("div", { class: "inside" },
      el("header", null, el("h2", { id: "panel-title" }, name), close, el("p", { class: "small" }, `${data.name}: ${data.title}`)),
      ...summary(cell, data, metric),
      el("h3", null, "Seed by seed"),
      seedTable(runs, data.seeds.filter((seed) => !there.has(seed)), data, metric),
      el("h3", null, "Runs"),
      ...(runs.length ? runs.map((run, index) => runDetails(run, data, index)) : [el("p", null, "No run of this cell has a row.")])));
    close.addEventListener("click", () => panel.close());
  }

  let opener = null;

  function cellLink(parts) {
    const whole = `#${parts.map(encodeURIComponent).join("/")}`;
    const links = [...document.querySelectorAll("a.cell")];
    const decoded = (link) => decodeURIComponent(link.getAttribute("href"));
    const wanted = decodeURIComponent(whole);
    return links.find((link) => decoded(link) === wanted) || links.find((link) => decoded(link).startsWith(`${wanted}/`));
  }

  function addressed() {
    try {
      return location.hash.slice(1).split("/").map(decodeURIComponent);
    } catch {
      return [];
    }
  }

  function cellAt([anchor, row, column, metric, ...rest], data) {
    if (!data || rest.length || (metric !== undefined && !Object.hasOwn(data.metrics, metric))) return undefined;
    return data.cells.find((each) => isAt(each.place, row, column));
  }

  function openClaim(anchor) {
    const claim = anchor ? document.getElementById(anchor) : null;
    if (!claim || !claim.matches("details.claim")) return;
    claim.open = true;
    claim.scrollIntoView({ block: "start" });
  }

  function follow() {
    const parts = addressed();
    const [anchor, , , metric] = parts;
    const data = parts.length > 2 ? sweepOf(anchor) : undefined;
    const cell = cellAt(parts, data);
    if (!cell) {
      if (panel.open) panel.close();
      openClaim(anchor);
      return;
    }
    fill(data, cell, metric);
    if (!panel.open) {
      const active = document.activeElement;
      const link = cellLink(parts);
      opener = active && active.matches("a[href]") ? active : link;
      if (link && opener === link) link.scrollIntoView({ block: "nearest", inline: "nearest" });
      panel.showModal();
    }
    panel.scrollTop = 0;
  }

  panel.addEventListener("close", () => {
    const parts = addressed();
    if (parts.length > 2) history.replaceState(null, "", `#${parts[0]}`);
    if (opener) opener.focus({ preventScroll: true });
    opener = null;
    panel.replaceChildren();
  });

  async function copy(button) {
    const source = button.previousElementSibling;
    let isCopied = false;
    try {
      await navigator.clipboard.writeText(source.textContent);
      isCopied = true;
    } catch { // no permission, or an old browser
      getSelection().selectAllChildren(source);
      isCopied = document.execCommand("copy");
    }
    button.textContent = isCopied ? "Copied" : "Selected: press Ctrl+C";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }

  panel.addEventListener("click", (event) => {
    const target = event.target;
    if (target === panel) panel.close(); // beside it
    if (target.matches("button.copy")) copy(target);
    if (target.matches("button[data-run]")) {
      const run = document.getElementById(`run-${target.dataset.run}`);
      run.open = true;
      run.scrollIntoView({ block: "start" });
      run.querySelector("summary").focus({ preventScroll: true });
    }
  });
  addEventListener("hashchange", follow);
  follow();

  // ---- claims, print -------------------------------------------------------------------------------------

  const all = document.querySelector("button[data-all]");
  if (all) {
    all.hidden = false;
    all.addEventListener("click", () => {
      const claims = [...document.querySelectorAll("details.claim")];
      const isOpen = !claims.every((claim) => claim.open);
      for (const claim of claims) claim.open = isOpen;
      all.textContent = isOpen ? "Close all comparisons" : "Open all comparisons";
    });
  }

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("main details:not([open])")];
    for (const each of closed) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of closed) each.open = false;
  });
})();
