// The compare viewer in the browser. Streamlit calls the default export after every run whose data
// changed, so a view is made once per mount point and then only updated.

const WIDE_PX = 680;
const MAX_ZOOM = 8;
const STEP = 1.5;
const HOME = { zoom: 1, x: 0, y: 0 };
const views = new WeakMap();

export default function ({ data, parentElement, setStateValue }) {
  const section = parentElement.querySelector(".viewer");
  let view = views.get(section);
  if (!view) views.set(section, (view = createView(section)));
  view.update(data, setStateValue);
  return () => {
    // Streamlit also cleans up calls overtaken by a newer one; the view then lives on.
    if (section.isConnected) return;
    view.destroy();
    views.delete(section);
  };
}

function createView(section) {
  const $ = (selector) => section.querySelector(selector);
  const all = (selector) => [...section.querySelectorAll(selector)];
  const panes = all(".pane");
  const slider = $("input");
  const listeners = new AbortController();
  const listen = (target, type, handler, options) =>
    target.addEventListener(type, handler, { signal: listeners.signal, ...options });

  const shown = {}; // what the DOM shows, so that an unchanged image is never set again
  let sendState = () => {};
  let touched = false;
  let view = HOME; // x, y: the photo's centre from the pane's, in widths and heights of the frame
  let frameRequest = 0;
  let commitTimer = 0;

  // ---- data ----

  function update(data, setStateValue) {
    sendState = setStateValue;
    if (data.photo_url !== shown.photo_url) show(HOME);
    if (!touched) setOpacity(data.opacity);
    section.style.setProperty("--aspect", data.aspect);
    section.classList.toggle("no-heat", !data.heat_url);
    slider.disabled = !data.heat_url;

    $(".title").textContent = data.title;
    $(".title").title = data.title;
    const [original, overlay] = all(".photo");
    for (const image of [original, overlay]) setSource(image, "photo_url", data.photo_url);
    setSource($(".heat"), "heat_url", data.heat_url);
    shown.photo_url = data.photo_url;
    shown.heat_url = data.heat_url;
    original.alt = `${data.title}, the photo as taken`;
    overlay.alt = data.heat_url
      ? `${data.title}, with the heat map of damage laid over the photo`
      : `${data.title}, no heat to draw`;
    panes[0].ariaLabel = `Original, ${data.title}`;
    panes[1].ariaLabel = `Overlay, ${data.title}`;

    for (const layer of all(".boxes")) layer.replaceChildren(...data.boxes.map(boxElement));
    const colours = data.colour_bar.filter((colour) => CSS.supports("color", colour));
    $(".scale-bar i").style.backgroundImage = `linear-gradient(to right, ${colours.join(", ")})`;
    $(".scale-bar small").textContent = data.scale_note;
    $(".scale-bar").ariaLabel = `Colours of the heat from low to high, ${data.scale_note}`;
    section.hidden = false;
    show(view);
  }

  function setSource(image, name, url) {
    if (url === shown[name]) return;
    if (url) image.src = url;
    else image.removeAttribute("src");
  }

  function boxElement({ x, y, width, height, label }) {
    const box = document.createElement("div");
    box.className = "box";
    box.dataset.y = y;
    Object.assign(box.style, {
      left: `${x * 100}%`, top: `${y * 100}%`, width: `${width * 100}%`, height: `${height * 100}%`,
    });
    const tag = document.createElement("span");
    tag.textContent = label;
    box.append(tag);
    return box;
  }

  // ---- view ----

  function frameSize() {
    const { clientWidth: width, clientHeight: height } = $(".frame");
    return { width, height };
  }

  /** Keeps the pane filled wherever the photo is larger than it, and the photo centred elsewhere. */
  function clamp({ zoom, x, y }) {
    const frame = frameSize();
    zoom = Math.min(Math.max(zoom, 1), MAX_ZOOM);
    if (!frame.width) return { zoom, x, y }; // in a hidden tab there is nothing to measure
    const limitX = Math.max(0, (zoom - panes[0].clientWidth / frame.width) / 2);
    const limitY = Math.max(0, (zoom - panes[0].clientHeight / frame.height) / 2);
    return {
      zoom,
      x: Math.min(Math.max(x, -limitX), limitX),
      y: Math.min(Math.max(y, -limitY), limitY),
    };
  }

  function show(next) {
    view = clamp(next);
    for (const [name, value] of Object.entries(view)) section.style.setProperty(`--${name}`, value);
    section.classList.toggle("zoomed", view.zoom > 1);
    $(".scale").textContent = `${Math.round(view.zoom * 100)} %`;
    $(".out").ariaDisabled = $(".reset").ariaDisabled = String(view.zoom <= 1);
    $(".in").ariaDisabled = String(view.zoom >= MAX_ZOOM);
    // A tag above a box that touches the pane's upper edge would be cut off.
    const { height } = frameSize();
    const room = (panes[0].clientHeight - height) / 2;
    for (const box of all(".box")) {
      const top = room + (0.5 + view.y + (box.dataset.y - 0.5) * view.zoom) * height;
      box.classList.toggle("at-top", top < 22);
    }
  }

  /** The view zoomed so that the photo stays put under `point`, in frame units from the centre. */
  function zoomed(zoom, point = { x: 0, y: 0 }, from = view) {
    const target = Math.min(Math.max(zoom, 1), MAX_ZOOM);
    const ratio = target / from.zoom;
    return {
      zoom: target,
      x: point.x - (point.x - from.x) * ratio,
      y: point.y - (point.y - from.y) * ratio,
    };
  }

  function pointOf(event, pane) {
    const box = pane.getBoundingClientRect();
    const frame = frameSize();
    return {
      x: (event.clientX - box.left - box.width / 2) / frame.width,
      y: (event.clientY - box.top - box.height / 2) / frame.height,
    };
  }

  function glide(next) {
    cancelAnimationFrame(frameRequest);
    const from = view;
    const to = clamp(next);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return show(to);
    const start = performance.now();
    const step = (now) => {
      const t = Math.min(Math.max((now - start) / 160, 0), 1);
      const eased = 1 - (1 - t) ** 3;
      const between = (name) => from[name] + (to[name] - from[name]) * eased;
      show({ zoom: between("zoom"), x: between("x"), y: between("y") });
      if (t < 1) frameRequest = requestAnimationFrame(step);
    };
    frameRequest = requestAnimationFrame(step);
  }

  const jump = (next) => {
    cancelAnimationFrame(frameRequest);
    show(next);
  };

  // ---- pointers: one drags, two pinch ----

  for (const pane of panes) {
    const pointers = new Map();
    let gesture = null;

    const middle = () => {
      const [a, b = a] = pointers.values();
      return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
    };
    const spread = () => {
      const [a, b] = pointers.values();
      const frame = frameSize();
      return b ? Math.hypot((a.x - b.x) * frame.width, (a.y - b.y) * frame.height) || 1 : 1;
    };
    const begin = () => {
      gesture = pointers.size ? { view, middle: middle(), spread: spread() } : null;
    };

    listen(pane, "pointerdown", (event) => {
      if (event.button !== 0 || pointers.size === 2) return;
      pane.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, pointOf(event, pane));
      begin();
    });
    listen(pane, "pointermove", (event) => {
      if (!pointers.has(event.pointerId)) return;
      pointers.set(event.pointerId, pointOf(event, pane));
      const now = middle();
      const next = zoomed(
        (gesture.view.zoom * spread()) / gesture.spread, gesture.middle, gesture.view);
      jump({
        zoom: next.zoom,
        x: next.x + now.x - gesture.middle.x,
        y: next.y + now.y - gesture.middle.y,
      });
    });
    for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) {
      listen(pane, type, (event) => {
        if (pointers.delete(event.pointerId)) begin();
      });
    }
    // A second finger must not start scrolling the page, or the browser takes the pinch away.
    listen(pane, "touchstart", (event) => {
      if (event.touches.length > 1 && event.cancelable) event.preventDefault();
    }, { passive: false });

    listen(pane, "dblclick", (event) => {
      glide(view.zoom > 1 ? HOME : zoomed(2.5, pointOf(event, pane)));
    });

    // The wheel belongs to the page until the photo is clicked (or Ctrl held, which is also how
    // trackpads report a pinch), and goes back to the page once the photo is whole again.
    let lastZoom = 0;
    listen(pane, "wheel", (event) => {
      const focused = section.getRootNode().activeElement === pane;
      if (!event.ctrlKey && !event.metaKey) {
        const whole = view.zoom <= 1 && event.deltaY > 0 && event.timeStamp - lastZoom > 400;
        if (!focused || whole) return;
      }
      event.preventDefault();
      const pixels = event.deltaY * (event.deltaMode ? 16 : 1);
      const factor = Math.exp(-Math.max(-120, Math.min(120, pixels)) / (event.ctrlKey ? 120 : 400));
      const next = zoomed(view.zoom * factor, pointOf(event, pane));
      if (next.zoom !== view.zoom) lastZoom = event.timeStamp;
      jump(next);
    }, { passive: false });

    listen(pane, "keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const { key } = event;
      const arrow = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[key];
      if (key === "+" || key === "=") glide(zoomed(view.zoom * STEP));
      else if (key === "-" || key === "_") glide(zoomed(view.zoom / STEP));
      else if (key === "0") glide(HOME);
      else if (key === "Escape") pane.blur();
      else if (arrow && view.zoom > 1) {
        jump({ zoom: view.zoom, x: view.x + arrow[0] * 0.1, y: view.y + arrow[1] * 0.1 });
      } else return;
      event.preventDefault();
      event.stopPropagation(); // Streamlit has page-wide shortcuts of its own
    });
  }

  listen($(".in"), "click", () => glide(zoomed(view.zoom * STEP)));
  listen($(".out"), "click", () => glide(zoomed(view.zoom / STEP)));
  listen($(".reset"), "click", () => glide(HOME));

  // ---- opacity ----

  function setOpacity(percent) {
    slider.value = percent;
    slider.ariaValueText = `${percent} %`;
    $(".opacity output").textContent = `${percent} %`;
    section.style.setProperty("--opacity", percent / 100);
  }

  listen(slider, "input", () => {
    touched = true;
    setOpacity(slider.valueAsNumber);
  });
  // Every arrow key is a `change` of its own: one server run for the lot.
  listen(slider, "change", () => {
    clearTimeout(commitTimer);
    commitTimer = setTimeout(() => sendState("opacity", slider.valueAsNumber), 150);
  });

  const observer = new ResizeObserver(() => {
    const width = section.clientWidth;
    if (!width) return;
    section.classList.toggle("wide", width >= WIDE_PX);
    show(view);
  });
  observer.observe(section);
  observer.observe(panes[0]);

  function destroy() {
    listeners.abort();
    observer.disconnect();
    cancelAnimationFrame(frameRequest);
    clearTimeout(commitTimer);
  }

  return { update, destroy };
}
