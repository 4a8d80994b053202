// Read a page at four settings, each in a frame of its own, and say what is too wide and what can hardly be read.
const channel = (value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);

function ground(element, view) {
  for (let one = element; one; one = one.parentElement) {
    const style = view.getComputedStyle(one), [r, g, b, alpha = 1] = numbers(style.backgroundColor);
    if (style.backgroundImage !== "none") return null;
    if (alpha > 0.5) return [r, g, b];
  }
  return [255, 255, 255];
}

function pale(document, view) {
  const found = new Set(), walker = document.createTreeWalker(document.querySelector(".bd-article"), 4);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("mjx-container, script, style, svg, .headerlink, details:not([open])")) continue;
    if (!element.checkVisibility({opacityProperty: true})) continue;
    const behind = ground(element, view), style = view.getComputedStyle(element);
    if (!behind) continue;
    const size = parseFloat(style.fontSize), least = size >= 24 || (size >= 18.6 && style.fontWeight >= 700) ? 3 : 4.5;
    const contrast = ratio(luminance(numbers(style.color)), luminance(behind));
    if (contrast < least - 0.05) found.add(`${contrast.toFixed(1)}: ${walker.currentNode.data.trim().slice(0, 40)}`);
  }
  return [...found].slice(0, 5);
}

function wide(document, view) {
  const page = document.scrollingElement;
  if (page.scrollWidth <= view.innerWidth + 1) return [];
  const boxed = (element) => {
    for (let one = element.parentElement; one && one !== page; one = one.parentElement)
      if (/auto|scroll|hidden|clip/.test(view.getComputedStyle(one).overflowX)) return true;
    return false;
  };
  const out = [...document.querySelectorAll(".bd-article *")].filter(
    (one) => one.getBoundingClientRect().right > view.innerWidth + 1 && !boxed(one));
  return [`${page.scrollWidth} of ${view.innerWidth}`, ...out.slice(0, 3).map((one) => one.outerHTML.slice(0, 80))];
}

const report = {};
function read(page, width, theme) {
  const frame = Object.assign(document.createElement("iframe"), {width, height: 900, src: page});
  return new Promise((done) => {
    frame.addEventListener("load", () => {
      frame.contentDocument.documentElement.dataset.theme = theme;
      setTimeout(() => {
        report[`${width} ${theme}`] = {
          wide: wide(frame.contentDocument, frame.contentWindow), pale: pale(frame.contentDocument, frame.contentWindow)};
        frame.remove();
        done();
      }, 1500);
    });
    document.body.append(frame);
  });
}

(async () => {
  for (const theme of ["light", "dark"]) for (const width of [390, 1280]) await read(PAGE, width, theme);
  document.body.dataset.report = JSON.stringify(report);
})();
