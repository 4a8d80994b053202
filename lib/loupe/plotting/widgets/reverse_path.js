// Moves the texts that the page already holds: blocks and lines follow the step, the graph and the text chosen.

var SLOWEST = 0.4; // seconds that a state is shown at most
var COLOURS = 16;

// States between commas: new characters as letters, and how many before them stay as a number.
function decoded(text) {
  var state = [];
  return text.split(",").map(function (part) {
    var at = 0;
    state = state.slice();
    (part.match(/\d+|\D/g) || []).forEach(function (token) {
      if (/\d/.test(token)) { at += Number(token); } else { state[at] = token; at += 1; }
    });
    return state;
  });
}

live("loupe-reverse-path", function (root, one, all, data) {
  var last = data.shown.length - 1;
  var main = one(".lr-main .lr-text");
  var rows = all(".lr-rows .lr-text");
  var labels = all(".lr-step");
  var chosen = { graph: 0, text: 0 };
  var states = null; // of the text chosen, and when its characters were fixed
  var fixed = null;

  function words(k) {
    var left = fixed.filter(function (when) { return when > data.shown[k]; }).length;
    return "Step " + (data.shown[k] + data.first) + " of " + (data.states - 1 + data.first) + " · time " +
      data.times[k] + " · " + left + " " + data.open[chosen.graph];
  }

  function fill(block, k, rings) {
    var state = states[k];
    var before = rings && k > 0 && k < last ? states[k - 1] : state;
    var children = block.children;
    state.forEach(function (letter, i) {
      var colour = Math.floor((2 * (COLOURS - 1) * fixed[i] + data.states - 1) / (2 * (data.states - 1)));
      var kind = fixed[i] <= data.shown[k] ? "v" + colour : "o";
      if (letter === ".") { kind += " m"; }
      if (letter === "_") { kind += " s"; }
      if (letter !== before[i]) { kind += " n"; }
      var shown = letter === "." ? "" : letter === "_" ? " " : letter;
      if (children[i].className !== kind) { children[i].className = kind; }
      if (children[i].textContent !== shown) { children[i].textContent = shown; }
    });
    var text = state.join("").replace(/_/g, " ").replace(/\.+/g, "…");
    block.setAttribute("aria-label", data.alt + " The text now: " + text);
  }

  function choose() {
    states = decoded(data.paths[chosen.graph][chosen.text]);
    fixed = data.fixed[chosen.graph][chosen.text];
    rows.forEach(function (row, j) {
      fill(row, data.rows[j], false);
      labels[j].textContent = words(data.rows[j]);
    });
    step.draw(); // the same step
  }

  var step = player(root, one, {
    at: last,
    last: last,
    slowest: SLOWEST,
    show: function (k) {
      fill(main, k, true);
      return words(k);
    }
  });
  ["graph", "text"].forEach(function (what) {
    choice(all, what, function (k) {
      chosen[what] = k;
      choose();
    });
  });
  choose();
});
