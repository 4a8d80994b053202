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
    var waiting = all("[hidden]");
    enliven(root, one, all, JSON.parse(one(".lw-data").textContent));
    waiting.forEach(function (element) { element.hidden = false; });
  });
}

// Play, the button for the next step and the slider move one number, `at`, between 0 and `last`. Given with these:
// - show(at): draws, and returns the words of the line;
// - spoken(): what the slider says of itself, where that is more than the line;
// - next(at): where the button leads, if not to the next whole number and from the last to 0;
// - slowest: seconds that a whole number is shown at most; without it the numbers between are shown as well.
function player(root, one, given) {
  var line = one(".lw-line");
  var slider = one(".lw-slider");
  var play = one(".lw-play");
  var frame = null; // the next frame asked for while playing
  var self = { at: given.at, last: given.last, draw: draw, pause: pause, stretch: stretch };

  function draw() {
    line.textContent = given.show(self.at);
    slider.value = Math.round(slider.max * self.at / self.last);
    slider.setAttribute("aria-valuetext", given.spoken ? given.spoken() : line.textContent);
  }

  function pause() {
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
    var pace = 1000 * Math.min(given.slowest || Infinity, SECONDS / self.last); // milliseconds from k to k + 1
    frame = requestAnimationFrame(function step(now) {
      if (!root.isConnected) { return; } // the notebook has taken the picture away
      if (begun === null) { begun = now; }
      var gone = (now - begun) / pace;
      var next = Math.min(self.last, from + (given.slowest ? Math.floor(gone) : gone));
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
    pause();
    self.last = last;
    slider.max = last;
    go(Math.min(self.at, last));
  }

  slider.addEventListener("input", function () {
    pause();
    go(self.last * slider.value / slider.max);
  });
  play.addEventListener("click", function () { if (frame === null) { start(); } else { pause(); } });
  one(".lw-next").addEventListener("click", function () {
    pause();
    go(given.next ? given.next(self.at) : self.at === self.last ? 0 : self.at + 1);
  });
  // Who asked for less motion goes from step to step instead.
  play.hidden = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  return self;
}

// Of the buttons for something one is pressed; `chosen` hears which, also while the picture plays.
function choice(all, what, chosen) {
  var buttons = all("button[data-" + what + "]");
  buttons.forEach(function (button, k) {
    button.addEventListener("click", function () {
      buttons.forEach(function (other) { other.setAttribute("aria-pressed", String(other === button)); });
      chosen(k);
    });
  });
}
