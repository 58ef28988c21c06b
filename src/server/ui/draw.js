// Pictures as SVG, made of nodes: what comes from the server is only ever text in them.

const SVG = "http://www.w3.org/2000/svg";

// A node with attributes and children; texts become text.
function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

export function html(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function picture(place, height, label) {
  const width = Math.max(place.clientWidth, 280);
  const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
  place.replaceChildren(node);
  return { node, width };
}

export function seconds(value) {
  if (value < 1e-3) return `${short(value * 1e6)} µs`;
  return value < 1 ? `${short(value * 1e3)} ms` : `${short(value)} s`;
}

function short(value) {
  return value >= 100 ? value.toFixed(0) : Number(value.toPrecision(2)).toString();
}

export function count(value) {
  return value.toLocaleString("en-US");
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

// Quantiles of every step, on a scale of powers of ten. A step without searches is a gap.
export function latency(place, steps, [nSteps, stepMs], names) {
  const known = steps.flat().filter((value) => value !== null);
  const last = steps.findLast((step) => step[0] !== null);
  const said = last ? names.map((name, i) => `${name} ${seconds(last[i])}`).join(", ") : "no searches";
  const { node, width } = picture(place, 210, `Latency: ${said}`);
  if (!known.length) {
    node.append(svg("text", { x: width / 2, y: 100, "text-anchor": "middle" }, "no searches since this page was opened"));
    return;
  }
  const low = Math.floor(Math.log10(Math.min(...known)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...known))));
  const [left, right, top, bottom] = [58, width - 84, 10, 186];
  const y = (value) => bottom - ((Math.log10(value) - low) / (high - low)) * (bottom - top);
  const x = (i) => right - ((steps.length - 1 - i) / (nSteps - 1)) * (right - left);
  for (let power = low; power <= high; power++) {
    const at = y(10 ** power);
    node.append(svg("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }));
    node.append(svg("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, seconds(10 ** power)));
  }
  const ago = `${((nSteps - 1) * stepMs) / 1000} s ago`;
  node.append(svg("text", { x: left, y: 204 }, ago), svg("text", { x: right, y: 204, "text-anchor": "end" }, "now"));
  const labels = [];
  names.forEach((name, line) => {
    let path = "";
    steps.forEach((step, i) => {
      if (step[line] === null) return;
      const begins = i === 0 || steps[i - 1][line] === null;
      path += `${begins ? "M" : "L"}${x(i).toFixed(1)} ${y(step[line]).toFixed(1)}`;
    });
    node.append(svg("path", { class: `line s${line}`, d: path, "fill-opacity": 0 }));
    if (steps.length) {
      const i = steps.findLastIndex((step) => step[line] !== null);
      node.append(svg("circle", { class: `s${line}`, cx: x(i), cy: y(steps[i][line]), r: 3 }));
    }
    if (last) labels.push({ at: y(last[line]) + 4, line, text: `${name} ${seconds(last[line])}` });
  });
  // Labels of near lines stand below each other.
  labels.sort((a, b) => a.at - b.at);
  labels.forEach((label, i) => {
    if (i > 0) label.at = Math.max(label.at, labels[i - 1].at + 15);
  });
  const over = Math.max(0, labels.at(-1).at - bottom);
  for (const { at, line, text } of labels) {
    node.append(svg("text", { class: `s${line}`, x: right + 8, y: at - over }, text));
  }
}

// Shares of a whole, as rows of bars: the way, how often, and which share that is.
export function shares(place, rows, empty) {
  const all = rows.reduce((sum, [, n]) => sum + n, 0);
  const said = rows.map(([name, n]) => `${name} ${count(n)}`).join(", ") || empty;
  const { node, width } = picture(place, Math.max(200, rows.length * 30 + 8), said);
  if (!all) {
    node.append(svg("text", { x: width / 2, y: 100, "text-anchor": "middle" }, empty));
    return;
  }
  const [left, right] = [118, width - 128];
  rows.forEach(([name, n], i) => {
    const y = i * 30 + 8;
    const long = Math.max(2, (n / all) * (right - left));
    node.append(svg("text", { class: "strong", x: left - 10, y: y + 14, "text-anchor": "end" }, name));
    node.append(svg("rect", { class: "bar-main", x: left, y, width: long, height: 18, rx: 3 }));
    const share = `${count(n)} (${((100 * n) / all).toFixed(1)} %)`;
    node.append(svg("text", { x: left + long + 8, y: y + 14 }, share));
  });
}

// Parts of a whole in one bar, against the largest whole there is.
export function parts(place, values, most) {
  const { node, width } = picture(place, 14, values.map(([name, n]) => `${name} ${bytes(n)}`).join(", "));
  let x = 0;
  for (const [name, n, color] of values) {
    const long = (n / Math.max(most, 1)) * width;
    if (long <= 0) continue;
    node.append(svg("rect", { class: color, x, y: 0, width: Math.max(long - 1, 0.5), height: 14 }, svg("title", {}, `${name}: ${bytes(n)}`)));
    x += long;
  }
}

// One bar, against the largest.
export function bar(place, n, most) {
  const { node, width } = picture(place, 14, count(n));
  node.append(svg("rect", { class: "bar-main", x: 0, y: 0, width: Math.max((n / Math.max(most, 1)) * width, 2), height: 14, rx: 3 }));
}

// What each way was predicted to take, the fastest first, on a scale of powers of ten; the taken one marked.
export function weighed(place, plan) {
  const ways = Object.entries(plan.predicted_us ?? {}).sort((a, b) => a[1] - b[1]);
  const height = Math.max(ways.length, 1) * 28 + 34;
  const said = ways.map(([way, us]) => `${way} ${seconds(us / 1e6)}`).join(", ");
  const { node, width } = picture(place, height, `Taken: ${plan.way}. Predicted: ${said || "nothing was weighed"}`);
  if (!ways.length) {
    const fresh = "nothing to weigh: these rows came since the index was built";
    const why = plan.predicted_us ? (plan.matches ? fresh : "no point matches: nothing was weighed") : "a tenant's key is not told what was weighed";
    node.append(svg("text", { x: 0, y: 20 }, why));
    return;
  }
  const times = ways.map(([, us]) => Math.max(us, 0.1)).concat(Math.max(plan.took_us, 0.1));
  const low = Math.floor(Math.log10(Math.min(...times)) - 0.3);
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...times))));
  const [left, right] = [118, width - 66];
  const every = (right - left) / (high - low) < 64 ? 2 : 1;
  const x = (us) => left + ((Math.log10(Math.max(us, 0.1)) - low) / (high - low)) * (right - left);
  for (let power = low; power <= high; power++) {
    const at = x(10 ** power);
    node.append(svg("line", { class: "grid", x1: at, x2: at, y1: 0, y2: height - 34 }));
    if ((power - low) % every > 0) continue;
    const [anchor, label] = [power === low ? "start" : "middle", seconds(10 ** (power - 6))];
    node.append(svg("text", { x: at, y: height - 18, "text-anchor": anchor }, label));
  }
  const is = (way) => way === plan.way;
  const long = (us) => Math.max(x(us) - left, 2);
  ways.forEach(([way, us], i) => {
    const color = is(way) ? "bar-taken" : "bar-quiet";
    node.append(svg("rect", { class: color, x: left, y: i * 28 + 4, width: long(us), height: 18, rx: 3 }));
  });
  const took = x(plan.took_us);
  node.append(svg("line", { class: "took", x1: took, x2: took, y1: 0, y2: height - 32 }));
  ways.forEach(([way, us], i) => {
    const y = i * 28 + 18;
    const [name, color] = is(way) ? [`▸ ${way}`, "taken"] : [way, "strong"];
    node.append(svg("text", { class: color, x: left - 10, y, "text-anchor": "end" }, name));
    node.append(svg("text", { x: left + long(us) + 6, y }, seconds(us / 1e6)));
  });
  const side = took > width / 2 ? "end" : "start";
  node.append(svg("text", { class: "strong", x: took, y: height - 4, "text-anchor": side }, `took ${seconds(plan.took_us / 1e6)}, filter included`));
}

// How many points there are, match, were compared and are returned: each a bar, on a scale of powers of ten.
export function funnel(place, stages) {
  const said = stages.map(([name, n]) => `${name} ${n === null ? "all" : count(n)}`).join(", ");
  const { node, width } = picture(place, stages.length * 46, said);
  const [left, right] = [130, width - 4];
  const most = Math.log10(Math.max(...stages.map(([, n]) => n ?? 0), 1) + 1);
  const half = (n) => Math.max(1, ((n === null ? most : Math.log10(n + 1)) / most) * ((right - left) / 2));
  const middle = (left + right) / 2;
  stages.forEach(([name, n, what], i) => {
    const [y, own] = [i * 46 + 2, half(n)];
    node.append(svg("text", { class: "strong", x: left - 12, y: y + 18, "text-anchor": "end" }, name));
    if (i + 1 < stages.length) {
      const next = half(stages[i + 1][1]);
      const corners = [[middle - own, y + 26], [middle + own, y + 26], [middle + next, y + 46], [middle - next, y + 46]];
      node.append(svg("polygon", { class: "link", points: corners.map((corner) => corner.join(",")).join(" ") }));
    }
    node.append(svg("rect", { class: what, x: middle - own, y, width: 2 * own, height: 26, rx: 3 }));
    const text = n === null ? "all, in one pass" : count(n);
    const inside = own > 8 * text.length;
    const [x, anchor] = inside ? [middle, "middle"] : [middle + own + 8, "start"];
    const label = svg("text", { class: inside ? "inside" : "strong", x, y: y + 18, "text-anchor": anchor }, text);
    node.append(label);
  });
}
