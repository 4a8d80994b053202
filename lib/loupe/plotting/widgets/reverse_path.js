// Moves the texts that the page already holds: blocks and lines follow the step, the graph and the text chosen.
// Every script of this kind on a page may run first, and may run again, so each takes all pictures that are still
// and marks them. No library, no request, nothing outside the picture is touched.
(function () {
  "use strict";

  var SECONDS = 8; // from the first state to the last
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

  function enliven(root) {
    root.setAttribute("data-live", "");
    var one = function (selector) { return root.querySelector(selector); };
    var all = function (selector) { return Array.prototype.slice.call(root.querySelectorAll(selector)); };
    var data = JSON.parse(one(".lr-data").textContent);
    var last = data.shown.length - 1;
    var slider = one("input");
    var play = one(".lr-play");
    var line = one(".lr-line");
    var main = one(".lr-main .lr-text");
    var rows = all(".lr-rows .lr-text");
    var labels = all(".lr-step");
    var chosen = { graph: 0, text: 0 };
    var states = null; // of the text chosen, and when its characters were fixed
    var fixed = null;
    var at = last;
    var frame = null; // the next frame asked for while playing

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

    function draw() {
      fill(main, at, true);
      line.textContent = words(at);
      slider.value = at;
      slider.setAttribute("aria-valuetext", line.textContent);
    }

    function choose() {
      states = decoded(data.paths[chosen.graph][chosen.text]);
      fixed = data.fixed[chosen.graph][chosen.text];
      rows.forEach(function (row, j) {
        fill(row, data.rows[j], false);
        labels[j].textContent = words(data.rows[j]);
      });
      draw();
    }

    function pause() {
      if (frame !== null) { cancelAnimationFrame(frame); }
      frame = null;
      play.textContent = "Play";
      line.setAttribute("aria-live", "polite");
    }

    function start() {
      if (at === last) { at = 0; draw(); }
      play.textContent = "Pause";
      line.setAttribute("aria-live", "off"); // a screen reader must not be given every frame
      var from = at;
      var begun = null;
      var pace = 1000 * Math.min(SLOWEST, SECONDS / last); // milliseconds for each state
      frame = requestAnimationFrame(function step(now) {
        if (!root.isConnected) { return; } // the notebook has taken the picture away
        if (begun === null) { begun = now; }
        var next = Math.min(last, from + Math.floor((now - begun) / pace));
        if (next !== at) { at = next; draw(); }
        if (at < last) { frame = requestAnimationFrame(step); } else { pause(); }
      });
    }

    slider.addEventListener("input", function () {
      pause();
      at = Number(slider.value);
      draw();
    });
    play.addEventListener("click", function () { if (frame === null) { start(); } else { pause(); } });
    one(".lr-next").addEventListener("click", function () {
      pause();
      at = at === last ? 0 : at + 1;
      draw();
    });
    ["graph", "text"].forEach(function (what) {
      var buttons = all("button[data-" + what + "]");
      buttons.forEach(function (button, k) {
        button.addEventListener("click", function () {
          buttons.forEach(function (other) { other.setAttribute("aria-pressed", String(other === button)); });
          chosen[what] = k;
          choose(); // at the same step, also while playing
        });
      });
    });
    // Who asked for less motion goes from step to step instead.
    play.hidden = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    one(".lr-choices").hidden = false;
    one(".lr-ringed").hidden = false;
    one(".lr-controls").hidden = false;
    choose();
  }

  Array.prototype.forEach.call(document.querySelectorAll(".loupe-reverse:not([data-live])"), function (root) {
    enliven(root);
  });
})();
