// What is wrong with the layout of a page, as a list of sentences. An expression, evaluated in the page.
(() => {
  const found = [], wide = document.documentElement.clientWidth;
  const name = e => e.localName + (e.id ? `#${e.id}` : "") + (e.getAttribute("class") ? `.${e.getAttribute("class").split(/\s+/).join(".")}` : "");
  const shown = text => JSON.stringify(text.trim().replace(/\s+/g, " ").slice(0, 30));
  const ancestors = function* (e) { for (; e; e = e.parentElement) yield e; };
  const clips = e => !(e instanceof SVGElement) && /auto|scroll|hidden|clip/.test(getComputedStyle(e).overflowX);
  const layer = e => [...ancestors(e)].find(a => /sticky|fixed/.test(getComputedStyle(a).position))?.parentElement;  // a row of them is one
  const cut = (rect, e) => {  // to what the scrolling elements around it show
    let {left, right, top, bottom} = rect;
    for (const a of ancestors(e.parentElement)) {
      if (a === document.body || a === document.documentElement || !clips(a)) continue;
      const box = a.getBoundingClientRect();
      [left, right, top, bottom] = [Math.max(left, box.left), Math.min(right, box.right), Math.max(top, box.top), Math.min(bottom, box.bottom)];
    }
    return {left, right, top, bottom};
  };

  if (document.documentElement.scrollWidth > wide + 1) found.push(`the page is ${document.documentElement.scrollWidth - wide} pixels wider than the window`);
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const e = node.parentElement;
    if (!node.data.trim() || e.closest("script, style, title, svg desc, noscript")) continue;
    if (!e.checkVisibility({opacityProperty: true, visibilityProperty: true, contentVisibilityAuto: true})) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const lines = [...range.getClientRects()].filter(r => r.width > 1 && r.height > 1);
    for (const line of lines) texts.push({e, text: node.data, ...cut(line, e), whole: line});
  }

  for (const t of texts) if (t.right > wide + 1 || t.left < -1) found.push(`${name(t.e)} ${shown(t.text)} is outside of the window`);
  for (const e of document.querySelectorAll("button, input, canvas, svg:not(#js-plotly-tester), table, figure")) {
    const box = cut(e.getBoundingClientRect(), e);
    if (e.checkVisibility({visibilityProperty: true}) && box.right > box.left && (box.right > wide + 1 || box.left < -1)) found.push(`${name(e)} is outside of the window`);
  }
  for (const e of document.body.querySelectorAll("*")) {
    if (!(e instanceof SVGElement) && /hidden|clip/.test(getComputedStyle(e).overflowX) && e.textContent.trim() && e.clientWidth && e.scrollWidth > e.clientWidth + 1)
      found.push(`${name(e)} ${shown(e.textContent)} is cut off`);
  }

  const alone = texts.filter(t => t.right > t.left && t.bottom > t.top);
  for (const t of alone) t.layer = layer(t.e);
  alone.sort((a, b) => a.top - b.top);
  alone.forEach((a, n) => {
    for (let k = n + 1; k < alone.length && alone[k].top < a.bottom - 2; k++) {
      const b = alone[k], across = Math.min(a.right, b.right) - Math.max(a.left, b.left), down = Math.min(a.bottom, b.bottom) - b.top;
      // lines of one paragraph may touch: a line's box is higher than its letters
      if (a.layer === b.layer && across > 2 && down > .35 * Math.min(a.bottom - a.top, b.bottom - b.top) && !(a.e === b.e && a.text === b.text))
        found.push(`${name(a.e)} ${shown(a.text)} lies on ${name(b.e)} ${shown(b.text)}`);
    }
  });

  const pen = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgba = colour => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data].map(x => x / 255); };
  const over = (top, below) => below.map((x, i) => top[i] * top[3] + x * (1 - top[3]));
  const light = c => { const [r, g, b] = c.map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const canvas = matchMedia("(prefers-color-scheme: dark)").matches && getComputedStyle(document.documentElement).colorScheme.includes("dark") ? [.07, .07, .07] : [1, 1, 1];
  const ground = e => [...ancestors(e)].reverse().reduce((below, a) => over(rgba(getComputedStyle(a).backgroundColor), below), canvas);
  const seen = new Set();
  for (const t of texts) {
    if (seen.has(t.e)) continue;
    seen.add(t.e);
    const style = getComputedStyle(t.e), svg = t.e instanceof SVGElement, below = ground(t.e);
    const ink = over(rgba(svg ? style.fill : style.color), below), [a, b] = [light(ink), light(below)].sort((x, y) => y - x);
    const matrix = svg && t.e.getScreenCTM && t.e.getScreenCTM(), scale = matrix ? Math.hypot(matrix.a, matrix.b) : 1;
    const size = parseFloat(style.fontSize) * scale, large = size >= 24 || (size >= 18.6 && style.fontWeight >= 700);
    if ((a + .05) / (b + .05) < (large ? 3 : 4.5)) found.push(`${name(t.e)} ${shown(t.text)} has a contrast of ${((a + .05) / (b + .05)).toFixed(1)}`);
    if (size < 9) found.push(`${name(t.e)} ${shown(t.text)} is ${size.toFixed(1)} pixels high`);
  }
  if (matchMedia("(pointer: coarse)").matches) for (const e of document.querySelectorAll("button, input, summary, nav a")) {
    const box = e.getBoundingClientRect();
    if (box.width && Math.min(box.width, box.height) < 20) found.push(`${name(e)} ${shown(e.textContent)} is too small for a finger: ${box.width.toFixed()} x ${box.height.toFixed()}`);
  }
  return [...new Set(found)].slice(0, 40);
})()
