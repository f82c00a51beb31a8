// The report's own script: filters of promises, and the time-lines. Everything that came from an application is set as
// text (textContent), never as markup. No network, no storage, nothing that runs by itself.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const root = document.documentElement;
  const packed = JSON.parse(document.getElementById("histories").textContent);
  const unpacked = new Map();
  const figures = [];

  const make = (tag, attributes, ...inside) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === true) node.setAttribute(name, "");
      else if (value !== false && value != null) node.setAttribute(name, value);
    }
    node.append(...inside);
    return node;
  };
  const draw = (parent, tag, attributes, text) => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  };
  const titled = (node, words) => draw(node, "title", {}, words);
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const count = (number) => number.toLocaleString("en-US");
  const length = (seconds) => {
    const size = Math.abs(seconds);
    if (size < 0.0995) return `${(seconds * 1000).toFixed(size < 0.00995 ? 1 : 0)} ms`;
    if (size < 0.9995) return `${(seconds * 1000).toFixed(0)} ms`;
    return `${seconds.toFixed(size < 9.995 ? 2 : 1)} s`;
  };
  const clock = (seconds) => `${seconds < 0 ? "−" : ""}${Math.abs(seconds).toFixed(3)} s`;

  // -- histories ----------------------------------------------------------------------------------------------------

  const unpack = async (name) => {
    const bytes = Uint8Array.from(atob(packed[name]), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const data = await new Response(stream).json();
    const { due, waits, took, shape, visitor, path, detail } = data.columns;
    const shapes = data.shapes.map(
      ([stream, kind, method, via, connection, instance, attempts, status, outcome, answer, error, version]) => ({
        stream, kind, method, via, connection, instance, attempts, status, outcome, answer, error, version,
      }));
    let ticks = 0;
    data.ops = due.map((step, place) => {
      ticks += step;
      const at = data.from + ticks * data.tick;
      return {
        at,
        sent: waits[place] < 0 ? null : at + waits[place] * data.tick,
        took: took[place] < 0 ? null : took[place] * data.tick,
        shape: shapes[shape[place]],
        visitor: visitor[place] < 0 ? data.texts[-1 - visitor[place]] : `v${visitor[place]}`,
        path: data.texts[path[place]],
        detail: data.texts[detail[place]],
      };
    });
    delete data.columns;
    const others = [...new Set(data.ops.map((op) => op.shape.instance))]
      .filter((each) => each !== null && !data.instances.includes(each));
    data.names = [...data.instances, ...others];
    data.colour = new Map(data.names.map((each, place) => [each, place % 8]));
    return data;
  };
  const historyOf = (name) => {
    if (!unpacked.has(name)) unpacked.set(name, unpack(name));
    return unpacked.get(name);
  };

  // -- a time-line --------------------------------------------------------------------------------------------------

  const LANE = 24, WINDOW_ROW = 17, SILENT = 26, GAP = 20, PLOT = 250, AXIS = 24, RIGHT = 52;
  const FILTERS = { instance: "instance", outcome: "outcome", connection: "connection", stream: "stream" };
  const NOBODY = "(nobody)";
  const BROKEN = new Set(["down", "hung", "cut off", "out of memory", "breaking", "not there"]);

  class TimeLine {
    constructor(figure, data) {
      this.number = figures.push(this);
      this.figure = figure;
      this.data = data;
      const pad = (data.span[1] - data.span[0]) * 0.01;
      this.whole = [data.span[0] - pad, data.span[1] + pad];
      this.view = [...this.whole];
      this.chosen = { instance: "", outcome: "", connection: "", stream: "" };
      this.picked = null;
      this.gap = figure.dataset.gapFrom === undefined ? null
        : { from: Number(figure.dataset.gapFrom), seconds: Number(figure.dataset.gapSeconds) };
      this.build();
      this.filter();
      new ResizeObserver(() => this.render()).observe(this.stage);
    }

    build() {
      const { data } = this;
      this.tools = make("div", { class: "tools", role: "group", "aria-label": "Choose requests" });
      const values = {
        instance: [...data.names, ...(data.ops.some((op) => op.shape.instance === null) ? [NOBODY] : [])],
        outcome: ["not ok", "ok", "failed", "unknown", "tried twice or more"],
        connection: [...new Set(data.shapes.map((shape) => shape[4]))].sort(),
        stream: [...new Set(data.shapes.map((shape) => shape[0]))].sort(),
      };
      for (const [name, words] of Object.entries(FILTERS)) {
        const select = make("select", { "data-filter": name }, make("option", { value: "" }, "all"));
        for (const value of values[name]) select.append(make("option", { value }, value));
        select.addEventListener("change", () => { this.chosen[name] = select.value; this.filter(); });
        this.tools.append(make("label", {}, words, select));
      }
      const button = (words, label, act) => {
        const made = make("button", { type: "button", "aria-label": label }, words);
        made.addEventListener("click", act);
        this.tools.append(made);
      };
      button("+", "Zoom in", () => this.zoom(0.5));
      button("−", "Zoom out", () => this.zoom(2));
      button("whole", "Show the whole time", () => this.look(...this.whole));
      button("next failure", "Go to the next request that was not ok", () => this.step(1, true));
      this.shown = make("span", { class: "shown faint", role: "status" });
      this.tools.append(this.shown);

      this.stage = make("div", {
        class: "stage", tabindex: "0", role: "application", "aria-roledescription": "time-line",
        "aria-label": `${this.figure.querySelector("figcaption").textContent}. ${this.words()} Arrows move, plus and minus zoom, 0 shows all, n and p step through requests, f through those that were not ok. Tables follow.`,
      });
      this.canvas = make("canvas", { "aria-hidden": "true" });
      // Shades and grid lie below the requests, lines and words above them.
      [this.back, this.svg] = [0, 1].map(() => document.createElementNS(SVG, "svg"));
      for (const svg of [this.back, this.svg]) svg.setAttribute("aria-hidden", "true");
      this.tip = make("div", { class: "tip", hidden: true });
      this.said = make("p", { class: "hidden", "aria-live": "polite" });
      this.stage.append(this.back, this.canvas, this.svg, this.tip);
      this.figure.append(this.tools, this.stage, this.legend(), this.said);
      this.figure.append(make("p", { class: "hint on-screen" },
        "Drag to zoom, double-click for the whole. Keys: ← → move, + − zoom, 0 whole, n p step, f next failure, Esc close."));
      this.addLogs();
      this.addTables();
      this.listen();
    }

    words() {
      const { counted, recorded, windows } = this.data;
      const parts = Object.entries(counted).map(([outcome, number]) => `${count(number)} ${outcome}`);
      return `${count(recorded)} requests: ${parts.join(", ")}. ${windows.map((each) =>
        `${each.name}, ${clock(each.from)} to ${clock(each.to)}`).join("; ")}.`;
    }

    legend() {
      const list = make("ul", { class: "legend" });
      const entry = (paint, words) => {
        const svg = document.createElementNS(SVG, "svg");
        svg.setAttribute("width", 12); svg.setAttribute("height", 12); svg.setAttribute("aria-hidden", "true");
        paint(svg);
        list.append(make("li", {}, svg, words));
      };
      for (const name of this.data.names.slice(0, 12)) {
        entry((svg) => draw(svg, "circle", { cx: 6, cy: 6, r: 3.5, class: `fill c${this.data.colour.get(name)}` }), `ok, by ${name}`);
      }
      entry((svg) => draw(svg, "path", { d: "M2.5 2.5l7 7m0-7l-7 7", stroke: "var(--bad)", "stroke-width": 2 }), "failed");
      entry((svg) => draw(svg, "path", { d: "M6 1.5L10.5 6 6 10.5 1.5 6Z", stroke: "var(--bad)", "stroke-width": 1.6, fill: "none" }), "unknown: it may have had its effect");
      const { without } = this.data.stretches;
      const about = without ? ` (without the ${without} ones)` : "";
      for (const [name, dash] of [["median", ""], ["95 %", "5 3"], ["99 %", "1.5 2.5"]]) {
        entry((svg) => draw(svg, "path", { d: "M0 6h12", stroke: "var(--faint)", "stroke-width": 1.4, "stroke-dasharray": dash }), `${name}${about}`);
      }
      return list;
    }

    // Which requests are asked for; everything else follows from `this.ops`.
    filter() {
      const { instance, outcome, connection, stream } = this.chosen;
      this.ops = this.data.ops.filter(({ shape }) =>
        (!instance || (instance === NOBODY ? shape.instance === null : shape.instance === instance)) &&
        (!outcome || shape.outcome === outcome || (outcome === "not ok" && shape.outcome !== "ok") ||
          (outcome === "tried twice or more" && shape.attempts.includes(", "))) &&
        (!connection || shape.connection === connection) && (!stream || shape.stream === stream));
      this.hide();
      this.render();
    }

    look(from, to) {
      const least = 0.002;
      let size = clamp(to - from, least, this.whole[1] - this.whole[0]);
      const begin = clamp(from, this.whole[0], this.whole[1] - size);
      this.view = [begin, begin + size];
      this.render();
    }

    zoom(factor, around = null) {
      const [from, to] = this.view;
      const middle = around ?? (this.picked ? this.picked.at : (from + to) / 2);
      const size = (to - from) * factor;
      const share = clamp((middle - from) / (to - from), 0, 1);
      this.look(middle - size * share, middle + size * (1 - share));
    }

    // -- drawing ----------------------------------------------------------------------------------------------------

    render(width = 0) {
      width = width || this.stage.clientWidth;
      if (!width) return;
      const { data, svg } = this;
      const left = width < 560 ? 62 : 92;
      const top = data.windows.length ? WINDOW_ROW * Math.min(2, data.windows.length) + 4 : 2;
      const lanes = top + data.lanes.length * LANE;
      const silent = lanes + (this.gap ? GAP : 0);
      const plot = silent + SILENT;
      const size = root.classList.contains("on-paper") ? PLOT * 0.75 : PLOT;
      const bottom = plot + size;
      const height = bottom + AXIS;
      const right = width - RIGHT;
      this.box = { left, right, top, lanes, silent, plot, bottom, height, width };
      this.stage.style.height = `${height}px`;
      for (const each of [this.back, svg]) {
        each.setAttribute("width", width);
        each.setAttribute("height", height);
        each.setAttribute("viewBox", `0 0 ${width} ${height}`);
        each.replaceChildren();
      }
      const [from, to] = this.view;
      this.x = (at) => left + ((at - from) / (to - from)) * (right - left);
      this.timeAt = (x) => from + ((x - left) / (right - left)) * (to - from);
      const slowest = Math.max(0.02, ...data.stretches.latencies.map((each) => (each[3] || 0) / 1000), this.slowest());
      const fast = clamp(this.fastest() / 1.5, 0.0008, slowest / 30);
      this.fast = fast;
      const low = Math.log10(fast), high = Math.log10(slowest * 1.25);
      this.y = (took) => (took === null ? silent + SILENT / 2 + 2
        : bottom - ((Math.log10(clamp(took, fast, 1e6)) - low) / (high - low)) * size);

      const clip = draw(svg, "clipPath", { id: `clip-${this.number}` });
      draw(clip, "rect", { x: left, y: 0, width: Math.max(0, right - left), height });
      const [below, inside] = [this.back, svg].map((each) => draw(each, "g", { "clip-path": `url(#clip-${this.number})` }));
      this.drawWindows(below, inside);
      this.drawAxes(below, inside, slowest);
      this.drawPercentiles(inside);
      this.drawLanes(inside);
      this.drawGap(inside);
      this.cursor = draw(inside, "line", { class: "cursor", x1: -9, x2: -9, y1: top, y2: bottom });
      this.pick = draw(inside, "circle", { class: "pick", r: 7, cx: -99, cy: -99 });
      this.selection = draw(inside, "rect", { class: "selection", x: 0, y: top, width: 0, height: bottom - top });
      this.drawRequests();
      if (this.picked) this.mark(this.picked);
      this.tell();
    }

    slowest() {
      if (this.slowestSeen === undefined) {
        this.slowestSeen = this.data.ops.reduce((most, op) => Math.max(most, op.took || 0), 0);
      }
      return this.slowestSeen;
    }

    fastest() {
      if (this.fastestSeen === undefined) {
        this.fastestSeen = this.data.ops.reduce((least, op) => (op.took === null ? least : Math.min(least, op.took)), 1);
      }
      return this.fastestSeen;
    }

    drawWindows(below, svg) {
      const { top, bottom, left, right } = this.box;
      const ends = [-1e9, -1e9];
      for (const each of this.data.windows) {
        const x1 = this.x(each.from), x2 = Math.max(this.x(each.to), x1 + 1);
        draw(below, "rect", { class: `shade ${each.kind}`, x: x1, y: 0, width: x2 - x1, height: bottom });
        for (const x of [x1, x2]) draw(below, "line", { class: "edge", x1: x, x2: x, y1: 0, y2: bottom });
        if (x2 < left || x1 > right) continue;
        const words = `${each.name}, ${length(each.to - each.from)}`;
        const at = clamp(x1 + 4, left + 4, Math.max(left + 4, right - words.length * 6.1));
        const row = top > WINDOW_ROW * 2 ? (ends[0] <= at ? 0 : ends[1] <= at ? 1 : -1) : ends[0] <= at ? 0 : -1;
        if (row < 0) continue;
        ends[row] = at + words.length * 6.1 + 6;
        titled(draw(svg, "text", { class: `window ${each.kind}`, x: at, y: 12 + row * WINDOW_ROW }, words),
          `${clock(each.from)} to ${clock(each.to)}: ${each.detail}`);
      }
    }

    drawAxes(below, svg, slowest) {
      const { left, right, silent, plot, bottom } = this.box;
      const [from, to] = this.view;
      const rough = (to - from) / Math.max(3, (right - left) / 90);
      const unit = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].map((each) => each * unit).find((each) => each >= rough);
      const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
      for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
        const x = this.x(at);
        draw(svg, "line", { class: "grid", x1: x, x2: x, y1: bottom, y2: bottom + 4 });
        const words = `${at < -step / 2 ? "−" : ""}${Math.abs(at).toFixed(digits)} s`;
        draw(this.svg, "text", { x, y: bottom + 17, "text-anchor": "middle" }, words);
      }
      const outside = this.svg;
      for (let power = -3; 10 ** power <= slowest * 1.25; power += 1) {
        const y = this.y(10 ** power);
        if (10 ** power < this.fast) continue;
        draw(below, "line", { class: "grid", x1: left, x2: right, y1: y, y2: y });
        draw(outside, "text", { x: left - 8, y: y + 4, "text-anchor": "end" }, power < 0 ? `${10 ** (power + 3)} ms` : `${10 ** power} s`);
      }
      for (const y of [bottom, silent + 4, plot]) draw(below, "line", { class: "grid", x1: left, x2: right, y1: y, y2: y });
      draw(outside, "text", { x: left - 8, y: silent + SILENT / 2 + 6, "text-anchor": "end" }, left < 90 ? "none" : "no answer");
      if (from < 0 && to > 0) draw(svg, "line", { class: "zero", x1: this.x(0), x2: this.x(0), y1: 0, y2: bottom });
    }

    drawPercentiles(svg) {
      const { from, seconds, latencies } = this.data.stretches;
      const { right } = this.box;
      const told = [];
      ["p50", "p95", "p99"].forEach((name, place) => {
        let d = "", last = null;
        latencies.forEach((each, number) => {
          const value = each[place];
          if (value === null) { last = null; return; }
          const x1 = this.x(from + number * seconds), x2 = this.x(from + (number + 1) * seconds), y = this.y(value / 1000);
          d += `${last === null ? "M" : "L"}${x1.toFixed(1)} ${y.toFixed(1)}H${x2.toFixed(1)}`;
          last = y;
          if (x1 < right) this.lastY = y;
        });
        if (d) {
          draw(svg, "path", { class: `p ${name}`, d });
          told.push([name, this.lastY]);
        }
      });
      let above = 1e9;
      for (const [name, y] of told) {
        const at = Math.min(y + 4, above - 11);
        draw(this.svg, "text", { x: right + 5, y: at }, { p50: "median", p95: "95 %", p99: "99 %" }[name]);
        above = at;
      }
    }

    drawLanes(svg) {
      const { left, right, top } = this.box;
      this.data.lanes.forEach((lane, place) => {
        const y = top + place * LANE;
        const colour = this.data.colour.get(lane.node);
        const name = lane.node.length > left / 7.4 ? `${lane.node.slice(0, Math.floor(left / 7.4) - 1)}…` : lane.node;
        titled(draw(this.svg, "text", { class: "node", x: left - 8, y: y + 16, "text-anchor": "end" }, name), lane.node);
        for (const [from, to, state] of lane.states) {
          const x1 = Math.max(this.x(from), left - 2), x2 = Math.min(Math.max(this.x(to), this.x(from) + 1), right + 2);
          if (x2 <= x1) continue;
          if (state === "up") {
            const first = lane.versions.length ? lane.versions[0][2] : null;
            const parts = lane.versions.length > 1
              ? lane.versions.map(([begin, end, version], number) => [number ? begin : from, end, version]) : [[from, to, first]];
            for (const [begin, end, version] of parts) {
              const a = Math.max(this.x(Math.max(begin, from)), left - 2), b = Math.min(this.x(Math.min(end, to)), right + 2);
              if (b <= a) continue;
              const older = lane.versions.length > 1 && version === first;
              const bar = draw(svg, "rect", { class: `fill c${colour ?? 4}${older ? " older" : ""}`, x: a, y: y + 8, width: b - a, height: 9, rx: 1 });
              titled(bar, `${lane.node}: up${version === null ? "" : `, version ${version}`}`);
              if (lane.versions.length > 1 && b - a > 44) {
                const label = draw(svg, "text", { class: "state", x: a + 5, y: y + 7 }, `v${version}`);
                label.setAttribute("font-size", "9");
              }
            }
            continue;
          }
          const broken = BROKEN.has(state);
          const bar = draw(svg, "rect", { class: `state-box${broken ? " broken" : ""}`, x: x1, y: y + 4.5, width: x2 - x1, height: 16, rx: 1 });
          titled(bar, `${lane.node}: ${state}, ${length(to - from)}`);
          if (x2 - x1 > state.length * 6 + 8) draw(svg, "text", { class: "state", x: x1 + 4, y: y + 16.5 }, state);
        }
      });
    }

    drawGap(svg) {
      if (!this.gap) return;
      const { lanes } = this.box;
      const x1 = this.x(this.gap.from), x2 = this.x(this.gap.from + this.gap.seconds), y = lanes + 12;
      draw(svg, "line", { class: "gapline", x1, x2: Math.max(x2, x1 + 1), y1: y, y2: y });
      for (const x of [x1, x2]) draw(svg, "line", { class: "gapline", x1: x, x2: x, y1: y - 4, y2: y + 4 });
      const words = `longest gap ${length(this.gap.seconds)}`;
      const fits = x2 + 6 + words.length * 6.2 < this.box.right;
      draw(svg, "text", { class: "gap", x: fits ? x2 + 6 : x1 - 6, y: y + 4, "text-anchor": fits ? "start" : "end" }, words);
    }

    drawRequests() {
      const { left, right, width, height } = this.box;
      const ratio = window.devicePixelRatio || 1;
      const { canvas } = this;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
      const pen = canvas.getContext("2d");
      pen.scale(ratio, ratio);
      pen.beginPath();
      pen.rect(left, 0, right - left, height);
      pen.clip();
      const style = getComputedStyle(root);
      const colours = [...Array(8).keys()].map((each) => style.getPropertyValue(`--i${each}`).trim());
      const faint = style.getPropertyValue("--faint").trim(), bad = style.getPropertyValue("--bad").trim();
      const [from, to] = this.view;
      const seen = this.visible = this.ops.filter((op) => op.at >= from && op.at <= to);
      const small = seen.length > 4000;
      const radius = small ? 1.4 : seen.length > 1200 ? 1.9 : 2.6;
      pen.globalAlpha = small ? 0.55 : 0.72;
      const groups = new Map();
      for (const op of seen) {
        if (op.shape.outcome !== "ok") continue;
        const colour = op.shape.instance === null ? faint : colours[this.data.colour.get(op.shape.instance)];
        if (!groups.has(colour)) groups.set(colour, new Path2D());
        const x = this.x(op.at), y = this.y(op.took), path = groups.get(colour);
        path.moveTo(x + radius, y);
        path.arc(x, y, radius, 0, 7);
      }
      for (const [colour, path] of groups) { pen.fillStyle = colour; pen.fill(path); }
      // What broke lies above everything else, and is never smaller than it must be to be seen.
      pen.globalAlpha = 1;
      pen.strokeStyle = bad;
      pen.lineWidth = 1.5;
      const crosses = new Path2D(), rings = new Path2D();
      for (const op of seen) {
        const x = this.x(op.at), y = this.y(op.took);
        if (op.shape.outcome === "failed") {
          crosses.moveTo(x - 3, y - 3); crosses.lineTo(x + 3, y + 3);
          crosses.moveTo(x + 3, y - 3); crosses.lineTo(x - 3, y + 3);
        } else if (op.shape.outcome === "unknown") {
          rings.moveTo(x, y - 4); rings.lineTo(x + 4, y); rings.lineTo(x, y + 4); rings.lineTo(x - 4, y); rings.closePath();
        }
      }
      pen.stroke(crosses);
      pen.stroke(rings);
    }

    tell() {
      const { data } = this;
      const bad = this.visible.filter((op) => op.shape.outcome !== "ok").length;
      const thinned = data.shown < data.recorded
        ? `; ${count(data.shown)} of ${count(data.recorded)} that were recorded are drawn, all that were not ok among them` : "";
      this.shown.textContent = `${count(this.visible.length)} of ${count(data.shown)} requests, ${count(bad)} not ok${thinned}`;
      if (this.requestsTable?.open) this.fillRequests();
    }

    // -- pointing ---------------------------------------------------------------------------------------------------

    listen() {
      const { stage } = this;
      let from = null;
      const placeOf = (event) => {
        const box = stage.getBoundingClientRect();
        return [event.clientX - box.left, event.clientY - box.top];
      };
      stage.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        [from] = placeOf(event);
        stage.setPointerCapture(event.pointerId);
      });
      stage.addEventListener("pointermove", (event) => {
        const [x, y] = placeOf(event);
        const { left, right } = this.box;
        this.point(clamp(x, left, right));
        if (from !== null && Math.abs(x - from) > 4) {
          const a = clamp(Math.min(from, x), left, right), b = clamp(Math.max(from, x), left, right);
          this.selection.setAttribute("x", a);
          this.selection.setAttribute("width", b - a);
          this.hide();
          return;
        }
        const near = this.nearest(x, y);
        if (near) this.show(near, false); else this.hide();
      });
      stage.addEventListener("pointerup", (event) => {
        const [x] = placeOf(event);
        if (from !== null && Math.abs(x - from) > 4) {
          const { left, right } = this.box;
          this.look(this.timeAt(clamp(Math.min(from, x), left, right)), this.timeAt(clamp(Math.max(from, x), left, right)));
        }
        from = null;
      });
      stage.addEventListener("pointercancel", () => { from = null; this.render(); });
      stage.addEventListener("pointerleave", () => { if (from === null) this.hide(); });
      stage.addEventListener("dblclick", () => this.look(...this.whole));
      stage.addEventListener("wheel", (event) => {
        if (!event.ctrlKey) return; // a page is to scroll
        event.preventDefault();
        this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.timeAt(placeOf(event)[0]));
      }, { passive: false });
      stage.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        const size = this.view[1] - this.view[0];
        const acts = {
          ArrowLeft: () => this.look(this.view[0] - size / 8, this.view[1] - size / 8),
          ArrowRight: () => this.look(this.view[0] + size / 8, this.view[1] + size / 8),
          "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2),
          0: () => this.look(...this.whole), Home: () => this.look(...this.whole),
          n: () => this.step(1, false), p: () => this.step(-1, false), f: () => this.step(1, true),
          Escape: () => this.hide(),
        };
        const act = acts[event.key];
        if (act) { event.preventDefault(); act(); }
      });
    }

    nearest(x, y) {
      let best = null, least = 14 ** 2;
      for (const op of this.visible) {
        const dx = this.x(op.at) - x;
        if (Math.abs(dx) > 14) continue;
        // Of two that lie together the one that broke is meant.
        const distance = dx ** 2 + (this.y(op.took) - y) ** 2 - (op.shape.outcome === "ok" ? 0 : 40);
        if (distance < least) { least = distance; best = op; }
      }
      return best;
    }

    step(by, failures) {
      const list = failures ? this.ops.filter((op) => op.shape.outcome !== "ok") : this.ops;
      if (!list.length) { this.said.textContent = "none"; return; }
      const at = this.picked ? this.picked.at : this.view[0] - 1e-9;
      let place = this.picked ? list.indexOf(this.picked) : -1;
      if (place < 0) place = by > 0 ? list.findIndex((op) => op.at > at) - 1 : list.findLastIndex((op) => op.at < at) + 1;
      const op = list[(place + by + list.length) % list.length];
      const [from, to] = this.view;
      this.picked = op;
      if (op.at < from || op.at > to) this.look(op.at - (to - from) / 2, op.at + (to - from) / 2);
      this.show(op, true);
    }

    point(x) {
      this.cursor.setAttribute("x1", x);
      this.cursor.setAttribute("x2", x);
      this.scrollLogs(this.timeAt(x));
    }

    mark(op) {
      this.pick.setAttribute("cx", this.x(op.at));
      this.pick.setAttribute("cy", this.y(op.took));
    }

    show(op, aloud) {
      this.picked = op;
      this.mark(op);
      const { shape } = op;
      const facts = this.factsOf(op);
      const list = make("dl");
      for (const [name, value] of facts) list.append(make("dt", {}, name), make("dd", {}, value));
      const head = `${shape.method} ${op.path}`;
      this.tip.replaceChildren(make("p", { class: "head" }, head), list);
      this.tip.hidden = false;
      const x = this.x(op.at), y = this.y(op.took);
      const width = this.tip.offsetWidth, height = this.tip.offsetHeight;
      this.tip.style.left = `${x + 14 + width < this.box.width ? x + 14 : Math.max(0, x - width - 14)}px`;
      this.tip.style.top = `${clamp(y - height / 2, 0, Math.max(0, this.box.height - height))}px`;
      if (aloud) {
        this.point(x);
        this.said.textContent = `${head}; ${facts.map((each) => each.join(" ")).join(", ")}`;
      }
    }

    factsOf(op) {
      const { shape } = op;
      return [
        ["outcome", shape.outcome === "ok" ? `ok, ${shape.answer}` : `${shape.outcome}: ${shape.error || shape.answer}`],
        ["status", shape.status === null ? "no answer" : String(shape.status)],
        ["instance", shape.instance === null ? NOBODY : shape.instance + (shape.version ? `, version ${shape.version}` : "")],
        ["tried", shape.attempts || (shape.via === "balancer" ? "not told" : `${shape.via}, asked directly`)],
        ["visitor", `${op.visitor}, ${shape.stream} (${shape.kind})`],
        ["connection", shape.connection],
        ["due", clock(op.at)],
        ["sent", op.sent === null ? "never" : `${clock(op.sent)}, ${length(op.sent - op.at)} after it was due`],
        ["answered", op.took === null ? "never" : `${clock(op.at + op.took)}, after ${length(op.took)}`],
        ...(op.detail ? [["said", op.detail]] : []),
      ];
    }

    hide() {
      this.picked = null;
      this.tip.hidden = true;
      if (this.pick) this.pick.setAttribute("cx", -99);
      if (this.selection && this.selection.getAttribute("width") === "0" && this.cursor) this.cursor.setAttribute("x1", -9), this.cursor.setAttribute("x2", -9);
    }

    // -- logs and tables --------------------------------------------------------------------------------------------

    addLogs() {
      const { logs, logs_left_out: leftOut, logs_known: known, windows } = this.data;
      if (!windows.length) return;
      if (!logs.length) {
        this.figure.append(make("p", { class: "hint" }, known
          ? "No node wrote a line around it." : "Logs cannot be joined: this run did not write down the time of day. They are in logs/."));
        return;
      }
      const more = leftOut ? `; ${count(leftOut)} more lines of that time are in logs/` : "";
      this.figure.append(make("p", { class: "hint" }, `What nodes wrote meanwhile (it follows the pointer)${more}`));
      this.logs = make("div", { class: "logs", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Logs of the nodes" });
      this.lines = logs.map(([at, node, line]) => {
        const colour = this.data.colour.get(node);
        const chip = make("i", { class: `chip c${colour ?? 4}`, "aria-hidden": "true" });
        const row = make("div", {}, make("span", { class: "at" }, clock(at)), make("span", {}, ...(colour === undefined ? [] : [chip]), node), make("span", {}, line));
        row.addEventListener("click", () => {
          const size = this.view[1] - this.view[0];
          if (at < this.view[0] || at > this.view[1]) this.look(at - size / 2, at + size / 2);
          this.point(this.x(at));
        });
        return { at, row };
      });
      this.logs.append(...this.lines.map((each) => each.row));
      this.figure.append(this.logs);
    }

    scrollLogs(at) {
      if (!this.lines) return;
      let low = 0, high = this.lines.length;
      while (low < high) { const middle = (low + high) >> 1; if (this.lines[middle].at < at) low = middle + 1; else high = middle; }
      const place = low && (low === this.lines.length || at - this.lines[low - 1].at < this.lines[low].at - at) ? low - 1 : low;
      const row = this.lines[place].row;
      if (row === this.now) return;
      this.now?.classList.remove("now");
      row.classList.add("now");
      this.now = row;
      this.logs.scrollTop = row.offsetTop - this.logs.clientHeight / 2 + row.offsetHeight / 2;
    }

    addTables() {
      const { data } = this;
      const table = (title, heads, rows, numbers = []) => {
        const head = make("tr", {}, ...heads.map((each, place) => make("th", { scope: "col", class: numbers.includes(place) ? "number" : null }, each)));
        const body = make("tbody");
        const fill = (list) => body.replaceChildren(...list.map(([bad, cells]) => make("tr", { class: bad ? "bad" : null },
          ...cells.map((each, place) => make("td", { class: numbers.includes(place) ? "number" : null }, each)))));
        const summary = make("summary", {}, title);
        const box = make("details", {}, summary, make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, make("table", {}, make("thead", {}, head), body)));
        let filled = false;
        box.addEventListener("toggle", () => { if (box.open && !filled) { filled = true; fill(rows()); } });
        this.figure.append(box);
        return { box, fill, summary };
      };
      if (data.events.length) {
        table("Table: what was done", ["time", "node", "what"], () => data.events.map(([at, node, words]) => [false, [clock(at), node || "–", words]]), [0]);
      }
      if (data.lanes.length) {
        table("Table: what each node was", ["from", "to", "node", "state"], () => data.lanes.flatMap((lane) => [
          ...lane.states.map(([from, to, state]) => [BROKEN.has(state), [clock(from), clock(to), lane.node, state]]),
          ...(lane.versions.length > 1 ? lane.versions.map(([from, to, version]) => [false, [clock(from), clock(to), lane.node, `answers in version ${version}`]]) : []),
        ]), [0, 1]);
      }
      const { stretches } = data;
      const milliseconds = (value) => (value === null ? "–" : `${value} ms`);
      table("Table: requests and latencies over time", ["from", "ok", "failed", "unknown", "median", "95 %", "99 %", "slowest"],
        () => stretches.counts.map((each, place) => [each[1] + each[2] > 0,
          [clock(stretches.from + place * stretches.seconds), ...each.map(count), ...stretches.latencies[place].map(milliseconds)]]), [0, 1, 2, 3, 4, 5, 6, 7]);
      const most = 500;
      const made = table("Table: the requests in view", ["due", "request", "outcome", "status", "latency", "instance", "tried", "visitor", "connection", "said"], () => [], [0, 4]);
      this.requestsTable = made.box;
      this.fillRequests = () => {
        // What broke first: a table may be longer than anybody reads.
        const bad = this.visible.filter((op) => op.shape.outcome !== "ok"), fine = this.visible.filter((op) => op.shape.outcome === "ok");
        const rows = [...bad, ...fine].slice(0, most);
        made.summary.textContent = `Table: the requests in view${rows.length < this.visible.length ? ` (${count(rows.length)} of ${count(this.visible.length)}, what broke first; zoom in or choose for the others)` : ""}`;
        made.fill(rows.map((op) => [op.shape.outcome !== "ok", [clock(op.at), `${op.shape.method} ${op.path}`,
          op.shape.outcome === "ok" ? "ok" : `${op.shape.outcome}: ${op.shape.error}`, String(op.shape.status ?? "–"),
          op.took === null ? "–" : length(op.took), op.shape.instance ?? NOBODY, op.shape.attempts || "–", op.visitor, op.shape.connection, op.detail || "–"]]));
      };
      made.box.addEventListener("toggle", () => { if (made.box.open) this.fillRequests(); });
    }
  }

  // -- the page -----------------------------------------------------------------------------------------------------

  const wake = async (details) => {
    for (const figure of details.querySelectorAll("figure.time-line")) {
      if (figure.dataset.awake || !figure.checkVisibility()) continue;
      figure.dataset.awake = "yes";
      const data = await historyOf(figure.dataset.history);
      new TimeLine(figure, data);
      figure.dataset.awake = "ready";
    }
  };
  for (const details of document.querySelectorAll("details.promise, details.finding")) {
    details.addEventListener("toggle", () => { if (details.open) wake(details); });
  }

  const buttons = [...document.querySelectorAll(".counts button")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const each of buttons) each.setAttribute("aria-pressed", String(each === button));
      for (const each of document.querySelectorAll("details.promise")) each.hidden = Boolean(button.dataset.word) && each.dataset.word !== button.dataset.word;
    });
  }

  for (const button of document.querySelectorAll(".copy")) {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
      button.textContent = "copied";
    });
  }

  // A link to one promise, such as index.html#failover.kill, opens it.
  const openNamed = () => {
    const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (named?.matches("details.promise")) { named.hidden = false; named.open = true; named.scrollIntoView(); }
  };
  window.addEventListener("hashchange", openNamed);
  openNamed();

  const again = (width) => { for (const line of figures) line.render(width); };
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => again());
  // Paper is white and about 680 pixels wide, whatever the screen is.
  window.addEventListener("beforeprint", () => { root.classList.add("on-paper"); again(680); });
  window.addEventListener("afterprint", () => { root.classList.remove("on-paper"); again(); });
})();
