// Puts one stored picture in the place of another, as the slider, the choices, the ticks and the view say.

var SLOWEST = 0.6; // seconds that a frame is shown at most
var DRAGGED = 0.5; // degrees for a pixel
var KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// A promise, which an old browser does not keep: the still remains.
function unpacked(text) {
  return Promise.resolve().then(function () {
    var bytes = Uint8Array.from(atob(text), function (letter) { return letter.charCodeAt(0); });
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).json();
  });
}

live("lw-frames", function (root, one, all, data) {
  return unpacked(data.strips).then(function (strips) {
    var picture = one(".lw-picture");
    var above = one(".lw-above");
    var ticks = all("[data-layer]");
    var chosen = data.sizes.map(function () { return 0; });
    var strip = strips[0]; // what stands above, then the frames
    var at = data.at;
    var turned = data.view ? turning(root, one, data, function () { paint(); }) : function (html) { return html; };

    function paint() {
      picture.innerHTML = turned(strip[at + 1][0]);
      ticks.forEach(function (tick) {
        picture.querySelectorAll("." + tick.dataset.layer).forEach(function (part) {
          part.toggleAttribute("hidden", !tick.checked);
        });
      });
    }

    function show(k) {
      var frame = strip[k + 1];
      at = k;
      paint();
      picture.setAttribute("aria-label", frame[2] || data.alt + (frame[1] ? " Now: " + frame[1] : ""));
      return frame[1];
    }

    var player_ = player(root, one, { at: at, last: strip.length - 2, slowest: SLOWEST, show: show });
    ticks.forEach(function (tick) { tick.addEventListener("change", paint); });
    choices(all, function (k, option) {
      chosen[k] = option;
      strip = strips[chosen.reduce(function (place, option_, j) { return place * data.sizes[j] + option_; }, 0)];
      above.innerHTML = strip[0];
      player_.stretch(strip.length - 2);
    });
    player_.draw();
  });
});

// A picture in space is turned by dragging it or by the arrow keys; gives what makes it as it is seen.
function turning(root, one, data, changed) {
  var grip = one(".lw-grip");
  var view = data.view.slice();
  var held = null; // the pointer that drags, where it was put down, and the view then

  function turn(across, down) {
    view = [((view[0] - across) % 360 + 360) % 360, Math.min(90, Math.max(-90, view[1] + down))];
    said();
    changed();
  }

  function said() {
    var down = Math.round(view[1]);
    grip.setAttribute("aria-valuenow", Math.round(view[0]));
    grip.setAttribute("aria-valuetext", "turned " + Math.round(view[0]) + "°, seen from " + Math.abs(down) + "° " +
      (down < 0 ? "below" : "above"));
  }

  // The role is a slider's so that a screen reader hands the arrow keys on.
  var about = { tabindex: 0, role: "slider", "aria-label": "View, turned by the four arrow keys", "aria-valuemin": 0,
    "aria-valuemax": 360, "aria-roledescription": "view that can be turned" };
  Object.keys(about).forEach(function (name) { grip.setAttribute(name, about[name]); });
  grip.addEventListener("keydown", function (event) {
    var way = KEYS[event.key];
    if (!way || event.ctrlKey || event.altKey || event.metaKey) { return; }
    event.preventDefault(); // the page must not scroll
    var step = event.shiftKey ? 1 : 5;
    turn(step * way[0], step * way[1]);
  });
  grip.addEventListener("pointerdown", function (event) {
    if (event.button !== 0 || held) { return; }
    held = { pointer: event.pointerId, x: event.clientX, y: event.clientY };
    grip.setPointerCapture(event.pointerId);
  });
  grip.addEventListener("pointermove", function (event) {
    if (!held || event.pointerId !== held.pointer) { return; }
    turn(DRAGGED * (event.clientX - held.x), DRAGGED * (event.clientY - held.y));
    held.x = event.clientX;
    held.y = event.clientY;
  });
  ["pointerup", "pointercancel", "lostpointercapture"].forEach(function (type) {
    grip.addEventListener(type, function (event) {
      if (held && event.pointerId === held.pointer) { held = null; }
    });
  });
  one(".lw-reset").addEventListener("click", function () {
    view = data.view.slice();
    turn(0, 0);
  });
  said();

  return function (html) {
    var angles = view.map(function (angle) { return angle * Math.PI / 180; });
    var turn_ = [Math.sin(angles[0]), Math.cos(angles[0])];
    var tilt = [Math.sin(angles[1]), Math.cos(angles[1])];
    return html.replace(/(-?\d+)\|(-?\d+)\|(-?\d+)/g, function (_, x, y, z) {
      var across = x * turn_[1] + y * turn_[0];
      var upward = z * tilt[1] + (y * turn_[1] - x * turn_[0]) * tilt[0];
      return (data.middle[0] + data.scale * across).toFixed(1) + " " + (data.middle[1] - data.scale * upward).toFixed(1);
    });
  };
}
