// What the scripts of the interactive pictures share. Python puts it before a picture's own script, both inside one
// function: the page sees none of these names. No library, no request, nothing outside the picture is touched.

var SECONDS = 8; // from 0 to the last when it plays

// Every script of a kind on a page may run first, and may run again, so each takes all pictures that are still and
// marks them. What a page without scripts hides, such as controls, is shown once it works.
function live(kind, enliven) {
  var roots = document.querySelectorAll(".loupe-widget." + kind + ":not([data-live])");
  Array.prototype.forEach.call(roots, function (root) {
    root.setAttribute("data-live", "");
    var one = function (selector) { return root.querySelector(selector); };
    var all = function (selector) { return Array.prototype.slice.call(root.querySelectorAll(selector)); };
    var waiting = all("[hidden]").filter(function (element) { return !element.closest(".lw-picture"); });
    // A picture that has to be unpacked first is a promise.
    Promise.resolve(enliven(root, one, all, JSON.parse(one(".lw-data").textContent))).then(function () {
      waiting.forEach(function (element) { element.hidden = false; });
      root.setAttribute("data-live", "ready");
    });
  });
}

// Play, the button for the next step and the slider move one number, `at`, between 0 and `last`. Given with these:
// - show(at): draws, and returns the words of the line;
// - slowest: seconds that each is shown at most.
// Pictures that are only chosen have no such controls.
function player(root, one, given) {
  var line = one(".lw-line");
  var slider = one(".lw-slider");
  var play = one(".lw-play");
  var frame = null; // the next frame asked for while playing
  var self = { at: given.at, last: given.last, draw: draw, pause: pause, stretch: stretch };

  function draw() {
    line.textContent = given.show(self.at);
    if (!slider) { return; }
    slider.value = self.at;
    slider.setAttribute("aria-valuetext", line.textContent);
  }

  function pause() {
    if (!slider) { return; }
    if (frame !== null) { cancelAnimationFrame(frame); }
    frame = null;
    play.textContent = "Play";
    line.setAttribute("aria-live", "polite");
  }

  function start() {
    if (self.at >= self.last) { go(0); }
    play.textContent = "Pause";
    line.setAttribute("aria-live", "off"); // a screen reader must not be given every frame
    var from = self.at;
    var begun = null;
    var pace = 1000 * Math.min(given.slowest, SECONDS / self.last); // milliseconds from k to k + 1
    frame = requestAnimationFrame(function step(now) {
      if (!root.isConnected) { return; } // the notebook has taken the picture away
      if (begun === null) { begun = now; }
      var next = Math.min(self.last, from + Math.floor((now - begun) / pace));
      if (next !== self.at) { go(next); }
      if (self.at < self.last) { frame = requestAnimationFrame(step); } else { pause(); }
    });
  }

  function go(at) {
    self.at = at;
    draw();
  }

  // Another number of steps, as far along as there are so many.
  function stretch(last) {
    if (last !== self.last) {
      pause();
      self.last = last;
      slider.max = last;
    }
    go(Math.min(self.at, last));
  }

  if (!slider) { return self; }
  slider.addEventListener("input", function () {
    pause();
    go(Number(slider.value));
  });
  play.addEventListener("click", function () { if (frame === null) { start(); } else { pause(); } });
  one(".lw-next").addEventListener("click", function () {
    pause();
    go(self.at === self.last ? 0 : self.at + 1);
  });
  // Who asked for less motion goes from step to step instead.
  play.hidden = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  return self;
}

// Of each choice one button is pressed, or one line of a list chosen; `chosen` hears which, also while it plays.
function choices(all, chosen) {
  all(".lw-choice").forEach(function (choice, k) {
    var buttons = Array.prototype.slice.call(choice.querySelectorAll("button"));
    var select = choice.querySelector("select");
    buttons.forEach(function (button, option) {
      button.addEventListener("click", function () {
        buttons.forEach(function (other) { other.setAttribute("aria-pressed", String(other === button)); });
        chosen(k, option);
      });
    });
    if (select) { select.addEventListener("change", function () { chosen(k, Number(select.value)); }); }
  });
}
