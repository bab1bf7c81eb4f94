"use strict";
// Everything that comes from data goes in as text, never as markup: contracts choose their names.
(() => {
  const { summary, report } = JSON.parse(document.getElementById("data").textContent);
  const blocks = report.blocks;
  const byId = (id) => document.getElementById(id);
  const number = (value, digits = 2) =>
    value === null || value === undefined ? "–" : value.toFixed(digits);
  const times = (value) => (value === null || value === undefined ? "–" : `${number(value)}×`);
  const whole = (value) => value.toLocaleString("en-US");
  const gas = (value) =>
    value >= 1e9 ? `${number(value / 1e9)} G` : value >= 1e6 ? `${number(value / 1e6)} M` : value >= 1e3 ? `${number(value / 1e3, 0)} k` : `${value}`;
  const duration = (ns) =>
    ns >= 1e6 ? `${number(ns / 1e6)} ms` : ns >= 1e3 ? `${number(ns / 1e3, 1)} µs` : `${ns} ns`;

  // Long hexadecimal numbers with their middle left out.
  const brief = (text) => text.replace(/0x[0-9a-fA-F]{13,}/g, (hex) => `${hex.slice(0, 6)}…${hex.slice(-4)}`);

  const cut = (text) => (text.length > 46 ? `${text.slice(0, 45)}…` : text);

  function html(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  function svg(name, attributes = {}, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  const tip = byId("tip");
  function explain(element, text) {
    const place = (event) => {
      tip.textContent = typeof text === "function" ? text() : text;
      tip.hidden = false;
      const { width, height } = tip.getBoundingClientRect();
      tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
      const below = event.clientY + 16;
      tip.style.top = `${below + height > innerHeight ? event.clientY - height - 10 : below}px`;
    };
    element.addEventListener("mousemove", place);
    element.addEventListener("mouseleave", () => { tip.hidden = true; });
  }

  function canvas(id, width, height, fixed) {
    const picture = byId(id);
    picture.replaceChildren();
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (fixed) {
      picture.setAttribute("width", width);
      picture.setAttribute("height", height);
    }
    return picture;
  }

  let chosen = Math.max(0, blocks.reduce(
    (best, block, index) =>
      block.details && (best < 0 || block.line.sequential_ms > blocks[best].line.sequential_ms) ? index : best, -1));

  function showSummary() {
    byId("subtitle").textContent =
      `${report.workers} workers, ${report.repeat} repetition(s), sequential and parallel in turn`;
    const card = (value, label, kind = "") =>
      html("div", { class: `card ${kind}` }, html("b", {}, value), html("span", {}, label));
    const all = summary.verified === summary.blocks;
    byId("summary").append(
      card(`${summary.verified} of ${summary.blocks}`, "blocks verified", all ? "good" : "bad"),
      card(times(summary.speedup), "speed-up over all"),
      card(times(summary.speedup_mean), "mean of the blocks"),
      card(`${times(summary.speedup_min)} – ${times(summary.speedup_max)}`, "lowest and highest"),
      card(`${number(summary.sequential_ms, 1)} ms`, "sequential"),
      card(`${number(summary.parallel_ms, 1)} ms`, "parallel"),
      card(summary.gas_per_second === null ? "–" : gas(summary.gas_per_second), "gas a second, parallel"),
      card(whole(summary.txs), "transactions"),
    );
  }

  // A scale of powers of two between two values.
  function logScale(low, high, from, to) {
    const [a, b] = [Math.log2(low), Math.log2(high)];
    const scale = (value) => from + ((Math.log2(value) - a) / (b - a || 1)) * (to - from);
    scale.ticks = [];
    for (let power = Math.ceil(a - 1e-9); power <= b + 1e-9; power++) scale.ticks.push(2 ** power);
    return scale;
  }
  const powerAbove = (value) => 2 ** Math.ceil(Math.log2(Math.max(value, 2)) + 1e-9);
  const powerBelow = (value) => 2 ** Math.floor(Math.log2(Math.min(value, 1)) - 1e-9);

  function axes(picture, x, y, left, right, top, bottom, xLabel, yLabel) {
    for (const tick of x.ticks) {
      picture.append(svg("line", { x1: x(tick), x2: x(tick), y1: top, y2: bottom, class: "axis" }));
      picture.append(svg("text", { x: x(tick), y: bottom + 16, "text-anchor": "middle" }, `${tick}`));
    }
    for (const tick of y.ticks) {
      picture.append(svg("line", { x1: left, x2: right, y1: y(tick), y2: y(tick), class: "axis" }));
      picture.append(svg("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, tick < 1 ? `1/${1 / tick}×` : `${tick}×`));
    }
    picture.append(svg("text", { x: (left + right) / 2, y: bottom + 34, "text-anchor": "middle" }, xLabel));
    picture.append(svg("text", { x: left, y: top - 8 }, yLabel));
  }

  function showScatter() {
    const [width, height, left, top, right, bottom] = [600, 340, 52, 28, 585, 290];
    const picture = canvas("scatter", width, height);
    const points = blocks.map((block, index) => ({ block, index }))
      .filter(({ block }) => block.line.speedup && block.line.max_speedup);
    if (!points.length) return;
    const most = (of) => Math.max(...points.map(of));
    const x = logScale(1, powerAbove(most(({ block }) => block.line.max_speedup)), left, right);
    const lowest = Math.min(...points.map(({ block }) => block.line.speedup));
    const y = logScale(powerBelow(lowest), powerAbove(Math.max(report.workers, most(({ block }) => block.line.speedup))), bottom, top);
    axes(picture, x, y, left, right, top, bottom, "bound: total gas / critical-path gas", "measured speed-up");
    const highest = x.ticks[x.ticks.length - 1];
    const knee = Math.min(report.workers, highest);
    picture.append(svg("path", { class: "bound", d: `M${x(1)} ${y(1)} L${x(knee)} ${y(knee)} L${x(highest)} ${y(knee)}` }));
    const largest = most(({ block }) => block.line.gas) || 1;
    for (const { block, index } of points) {
      const { line } = block;
      const dot = svg("circle", {
        cx: x(line.max_speedup), cy: y(line.speedup), r: 4 + 9 * Math.sqrt(line.gas / largest),
        class: `dot ${line.verified ? "" : "failed"} ${index === chosen ? "chosen" : ""}`,
      });
      explain(dot, `block ${line.number} (${line.spec})\nspeed-up ${times(line.speedup)} of at most ${times(line.max_speedup)}\n${line.txs} transactions, ${gas(line.gas)} gas`);
      dot.addEventListener("click", () => choose(index));
      picture.append(dot);
    }
  }

  function showCurve() {
    const [width, height, left, top, right, bottom] = [600, 340, 52, 28, 585, 290];
    const picture = canvas("curve", width, height);
    const block = blocks[chosen];
    const details = block?.details;
    if (!details) {
      byId("curve-hint").textContent = "Choose a block that was analysed.";
      return;
    }
    const sequential = block.line.sequential_ms;
    const points = details.simulated.map((run) => ({ run, speedup: sequential / run.elapsed_ms }));
    const bound = details.max_speedup_ns ?? 1;
    const measured = sequential / details.measured_ms;
    const values = points.map(({ speedup }) => speedup).concat(bound, measured);
    const x = logScale(1, points[points.length - 1].run.workers, left, right);
    const y = logScale(powerBelow(Math.min(...values)), powerAbove(Math.max(...values)), bottom, top);
    axes(picture, x, y, left, right, top, bottom, "workers (simulated)", "speed-up over the sequential reference");
    picture.append(svg("line", { x1: left, x2: right, y1: y(bound), y2: y(bound), class: "bound" }));
    picture.append(svg("text", { x: right, y: y(bound) - 6, "text-anchor": "end" }, `critical-path bound ${times(bound)}`));
    picture.append(svg("path", {
      class: "curve",
      d: points.map(({ run, speedup }, index) => `${index ? "L" : "M"}${x(run.workers)} ${y(speedup)}`).join(" "),
    }));
    for (const { run, speedup } of points) {
      const dot = svg("circle", { cx: x(run.workers), cy: y(speedup), r: 5, class: "point" });
      explain(dot, `simulated: ${run.workers} worker(s)\n${number(run.elapsed_ms)} ms, ${times(speedup)}\n${run.conflicts} conflicts, ${run.reexecutions} re-executions`);
      picture.append(dot);
    }
    if (report.workers <= x.ticks[x.ticks.length - 1]) {
      const dot = svg("circle", { cx: x(report.workers), cy: y(measured), r: 6, class: "measured" });
      explain(dot, `measured: ${report.workers} worker(s)\n${number(details.measured_ms)} ms, ${times(measured)}`);
      picture.append(dot);
    }
    byId("curve-hint").textContent =
      `Block ${block.line.number}: simulated from measured times and the true dependencies; the other dot is `
      + `measured. At ${report.workers} worker(s) the simulation says ${number(details.simulated_as_measured.elapsed_ms)} ms, `
      + `the clock ${number(details.measured_ms)} ms (${details.simulation_error >= 0 ? "+" : ""}${number(details.simulation_error * 100, 0)} %).`;
  }

  const columns = [
    ["block", (line) => line.number, (line) => `${line.number}`],
    ["rules", (line) => line.spec, (line) => line.spec, "text"],
    ["txs", (line) => line.txs, (line) => whole(line.txs)],
    ["gas", (line) => line.gas, (line) => gas(line.gas)],
    ["verified", (line) => Number(line.verified), (line) => (line.verified ? "yes" : "no")],
    ["sequential ms", (line) => line.sequential_ms ?? -1, (line) => number(line.sequential_ms)],
    ["parallel ms", (line) => line.parallel_ms ?? -1, (line) => number(line.parallel_ms)],
    ["speed-up", (line) => line.speedup ?? -1, (line) => times(line.speedup)],
    ["bound", (line) => line.max_speedup ?? -1, (line) => times(line.max_speedup)],
    ["conflicts", (line) => line.conflicts, (line) => whole(line.conflicts)],
    ["re-executions", (line) => line.reexecutions, (line) => whole(line.reexecutions)],
  ];
  let sorted = { column: 0, down: false };

  function showBlocks() {
    const header = html("tr");
    columns.forEach(([title, , , kind = ""], column) => {
      const button = html("button", { type: "button" }, title + (column === sorted.column ? (sorted.down ? " ↓" : " ↑") : ""));
      button.addEventListener("click", () => {
        sorted = { column, down: column === sorted.column && !sorted.down };
        showBlocks();
      });
      header.append(html("th", { class: kind, scope: "col" }, button));
    });
    const key = columns[sorted.column][1];
    const order = blocks.map((_, index) => index).sort((a, b) => {
      const [first, second] = [key(blocks[a].line), key(blocks[b].line)];
      return (first < second ? -1 : first > second ? 1 : a - b) * (sorted.down ? -1 : 1);
    });
    const body = html("tbody");
    for (const index of order) {
      const row = html("tr", { tabindex: "0", class: index === chosen ? "chosen" : "" });
      for (const [title, , show, kind = ""] of columns) {
        const verdict = title === "verified" ? (blocks[index].line.verified ? " yes" : " no") : "";
        row.append(html("td", { class: kind + verdict }, show(blocks[index].line)));
      }
      row.addEventListener("click", () => choose(index));
      row.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(index); });
      body.append(row);
    }
    byId("blocks").replaceChildren(html("thead", {}, header), body);
    // Within its own frame only: the page stays where it is.
    const [frame, row] = [byId("blocks").parentElement, body.querySelector(".chosen")];
    if (row) frame.scrollTop = row.offsetTop - frame.clientHeight / 2;
  }

  function describe(details, tx) {
    return `transaction ${tx}\n${details.hashes[tx]}\n${whole(details.gas[tx] ?? 0)} gas`;
  }

  function showTimeline(details) {
    const lane = 30;
    const lanes = report.workers;
    const [left, right] = [76, 20];
    const room = Math.max(320, byId("chosen").clientWidth - 40);
    const inner = (room - left - right) * 2 ** Number(byId("zoom").value);
    const height = lanes * lane + 40;
    const picture = canvas("timeline", inner + left + right, height, true);
    const end = Math.max(details.elapsed_ns, 1, ...details.spans.map((span) => span[4]));
    const x = (ns) => left + (ns / end) * inner;
    for (let worker = 0; worker < lanes; worker++) {
      picture.append(svg("rect", { x: left, y: worker * lane + 4, width: inner, height: lane - 8, class: "lane" }));
      picture.append(svg("text", { x: left - 8, y: worker * lane + 20, "text-anchor": "end" }, `worker ${worker}`));
    }
    const critical = new Set(details.critical_path);
    const conflicts = new Map();
    for (const conflict of details.conflicts) {
      if (!conflicts.has(conflict.reader)) conflicts.set(conflict.reader, []);
      conflicts.get(conflict.reader).push(conflict);
    }
    const endings = ["ran to its end", "met a value about to be written again", "had to be the first uncommitted", "failed"];
    for (const [worker, tx, incarnation, start, stop, ending] of details.spans) {
      const kind = ending === 3 ? "failure" : ending > 0 ? "wait" : incarnation > 0 ? "again" : "run";
      const bar = svg("rect", {
        x: x(start), y: worker * lane + 6, width: Math.max(0.6, x(stop) - x(start) - 0.3), height: lane - 12,
        class: `bar ${kind}`,
      });
      explain(bar, () => {
        const fought = (conflicts.get(tx) ?? []).slice(0, 3).map((conflict) =>
          `conflict: ${conflict.location}${conflict.writer === null ? "" : `, written by transaction ${conflict.writer}`}`);
        return [
          describe(details, tx),
          `run ${incarnation + 1}, ${duration(stop - start)} from ${duration(start)}: ${endings[ending]}`,
          ...(critical.has(tx) ? ["on the critical path"] : []), ...fought,
        ].join("\n");
      });
      picture.append(bar);
      if (critical.has(tx) && ending === 0) {
        picture.append(svg("rect", { x: x(start), y: worker * lane + lane - 7, width: Math.max(0.6, x(stop) - x(start)), height: 3, class: "critical" }));
      }
    }
    for (let tick = 0; tick <= 4; tick++) {
      const ns = (end * tick) / 4;
      picture.append(svg("text", { x: x(ns), y: height - 12, "text-anchor": tick === 4 ? "end" : tick ? "middle" : "start" }, duration(Math.round(ns))));
    }
    const key = (color, text) => [html("span", { class: "key", style: `background:var(${color})` }), text];
    byId("timeline-legend").replaceChildren(
      ...key("--run", "first run"), ...key("--again", "re-execution"),
      ...key("--wait", "stopped to wait"), ...key("--path", "underlined: on the critical path"),
    );
  }

  function showConflicts(details) {
    const hot = details.hot;
    const row = 24;
    const [left, right] = [330, 20];
    const width = Math.max(640, byId("chosen").clientWidth - 40);
    const picture = canvas("conflicts", width, hot.length * row + 36, true);
    const count = Math.max(details.hashes.length - 1, 1);
    const x = (tx) => left + (tx / count) * (width - left - right);
    const stale = new Set(details.conflicts.map((conflict) => `${conflict.location} ${conflict.reader}`));
    hot.forEach((entry, index) => {
      const y = index * row + 14;
      const title = entry.name ? `${entry.name} · ${entry.location}` : entry.location;
      const label = svg("text", { x: left - 12, y: y + 4, "text-anchor": "end" }, cut(brief(title)));
      explain(label, `${title}\n${whole(entry.gas_serialised)} gas one after the other, ${entry.transactions.length} transactions, ${entry.conflicts} conflicts`);
      picture.append(label);
      const [first, last] = [entry.transactions[0], entry.transactions[entry.transactions.length - 1]];
      picture.append(svg("line", { x1: x(first), x2: x(last), y1: y, y2: y, class: "chain" }));
      for (const tx of entry.transactions) {
        const dot = svg("circle", { cx: x(tx), cy: y, r: 3.2, class: "touch" });
        explain(dot, () => `${describe(details, tx)}\n${title}`);
        picture.append(dot);
        if (stale.has(`${entry.location} ${tx}`)) {
          picture.append(svg("circle", { cx: x(tx), cy: y, r: 5.5, class: "stale" }));
        }
      }
    });
    const bottom = hot.length * row + 24;
    picture.append(svg("text", { x: left, y: bottom }, "transaction 0"));
    picture.append(svg("text", { x: width - right, y: bottom, "text-anchor": "end" }, `${details.hashes.length - 1}`));

    const header = html("tr", {}, ...[["name", "text"], ["location", "text"], ["gas serialised", ""], ["transactions", ""], ["conflicts", ""]]
      .map(([title, kind]) => html("th", { class: kind, scope: "col" }, title)));
    const body = html("tbody", {}, ...hot.map((entry) => html("tr", {},
      html("td", { class: "text" }, entry.name ?? "–"),
      html("td", { class: "text mono wrap" }, entry.location),
      html("td", {}, whole(entry.gas_serialised)),
      html("td", {}, whole(entry.transactions.length)),
      html("td", {}, whole(entry.conflicts)))));
    byId("hot").replaceChildren(html("thead", {}, header), body);
  }

  function showChosen() {
    const block = blocks[chosen];
    byId("chosen").hidden = !block;
    if (!block) return;
    const { line, details } = block;
    byId("chosen-title").textContent = `Block ${line.number}, ${line.spec}`;
    const check = (name, value) => `${name} ${value === null ? "not checkable" : value ? "agrees" : "differs"}`;
    byId("chosen-facts").textContent = [
      block.hash ?? "",
      `${whole(line.txs)} transactions, ${whole(line.gas)} gas, critical path ${whole(line.critical_path_gas)} gas`
        + (details ? ` (${details.critical_path.length} transactions, ${duration(details.critical_path_ns)} of running)` : ""),
      [check("gasUsed", line.checks.gasUsed), check("logsBloom", line.checks.logsBloom), check("receiptsRoot", line.checks.receiptsRoot)].join(", "),
      ...block.notes,
    ].filter(Boolean).join(" · ");
    const mismatch = byId("chosen-mismatch");
    mismatch.hidden = !block.mismatch;
    mismatch.textContent = block.mismatch ?? "";
    byId("details").hidden = !details;
    if (details) {
      showTimeline(details);
      showConflicts(details);
    }
  }

  function choose(index) {
    chosen = index;
    tip.hidden = true;
    showBlocks();
    showScatter();
    showCurve();
    showChosen();
  }

  byId("zoom").addEventListener("input", () => {
    const details = blocks[chosen]?.details;
    if (details) showTimeline(details);
  });
  addEventListener("resize", showChosen);
  showSummary();
  choose(chosen);
})();
