"use strict";
{
  const SECOND = 1000, LABEL = 12, COARSE = 2;
  const byId = (id) => document.getElementById(id);
  const blocks = [...document.querySelectorAll("script.video")];
  const keys = blocks.map((block) => block.dataset.key);
  const figures = [...document.querySelectorAll(".rows figure")];
  const slider = byId("frame");
  let video = null, place = -1, timer = null, images = [];

  /* Masks: COCO's run-length code, columns first, the first run outside. */
  function runsOf(code) {
    const runs = [];
    for (let at = 0; at < code.length;) {
      let value = 0, shift = 0, more = true;
      while (more) {
        const bits = code.charCodeAt(at++) - 48;
        value |= (bits & 31) << shift;
        shift += 5;
        more = (bits & 32) !== 0;
        if (!more && bits & 16) value |= -1 << shift;
      }
      runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
    }
    return runs;
  }

  function planeOf(code, height, width) {
    const plane = new Uint8Array(height * width);
    let at = 0, inside = false;
    for (const run of runsOf(code)) {
      if (inside) {
        for (let end = at + run, pixel = at; pixel < end; pixel++) plane[(pixel % height) * width + Math.floor(pixel / height)] = 1;
      }
      at += run;
      inside = !inside;
    }
    return plane;
  }

  const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

  /* Colours a track on the pixels; returns its upper left corner, null where nothing of it is there. */
  function paint(pixels, plane, track, height, width) {
    const [red, green, blue] = rgb(track.colour);
    let top = height, left = width;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const at = y * width + x;
        if (!plane[at]) continue;
        top = Math.min(top, y);
        left = Math.min(left, x);
        const edge = !(x && plane[at - 1]) || !(x + 1 < width && plane[at + 1]) || !(y && plane[at - width]) || !(y + 1 < height && plane[at + width]);
        const gap = track.hatched && Math.floor((x + y) / 4) % 2 === 1;
        if (gap && !edge) continue;
        pixels.set(gap ? [255, 255, 255, 255] : [red, green, blue, edge ? 255 : 128], 4 * at);
      }
    }
    return top < height ? [left, top] : null;
  }

  function isDark([red, green, blue]) { return 0.299 * red + 0.587 * green + 0.114 * blue < 128; }

  /* A long name of a category would lie over everything beside its track; the list below the picture has all of it. */
  function cut(context, words, most) {
    if (context.measureText(words).width <= most) return words;
    const letters = [...words];
    while (letters.length > 1 && context.measureText(`${letters.join("")}…`).width > most) letters.pop();
    return `${letters.join("")}…`;
  }

  function write(context, scale, corners) {
    const taken = [];
    const letters = Math.round(LABEL * (window.devicePixelRatio || 1));
    context.font = `${letters}px system-ui, "DejaVu Sans", sans-serif`;
    context.textBaseline = "middle";
    for (const { words, colour, corner } of corners) {
      const text = cut(context, words, context.canvas.width / 2), wide = context.measureText(text).width + 8, tall = letters + 6;
      const left = Math.max(0, Math.min(corner[0] * scale, context.canvas.width - wide));
      let top = Math.max(0, Math.min(corner[1] * scale - tall, context.canvas.height - tall));
      const meets = (box) => left < box[2] && box[0] < left + wide && top < box[3] && box[1] < top + tall;
      while (taken.some(meets) && top + 2 * tall <= context.canvas.height) top += tall / 2;
      taken.push([left, top, left + wide, top + tall]);
      context.fillStyle = colour;
      context.fillRect(left, top, wide, tall);
      context.fillStyle = isDark(rgb(colour)) ? "#fff" : "#000";
      context.fillText(text, left + 4, top + tall / 2);
    }
  }

  function swatch(track) {
    const item = document.createElement("li"), sign = document.createElement("canvas");
    sign.width = sign.height = 12;
    sign.setAttribute("aria-hidden", "true");
    const context = sign.getContext("2d");
    context.fillStyle = track.colour;
    context.fillRect(0, 0, 12, 12);
    if (track.hatched) {
      context.strokeStyle = "#fff";
      context.lineWidth = 2;
      for (let at = -12; at < 24; at += 6) { context.beginPath(); context.moveTo(at, 12); context.lineTo(at + 12, 0); context.stroke(); }
    }
    item.append(sign, track.words);
    return item;
  }

  function drawRow(figure, row, index, image) {
    /* As many pixels as the screen shows: labels are sharp, and of one size in all windows. */
    const [height, width] = video.size, canvas = figure.querySelector("canvas"), context = canvas.getContext("2d");
    const wide = Math.max(1, Math.round(figure.clientWidth * (window.devicePixelRatio || 1))), scale = wide / width;
    if (canvas.width !== wide || canvas.height !== Math.round(height * scale)) {
      canvas.width = wide;
      canvas.height = Math.round(height * scale);
    }
    context.imageSmoothingEnabled = scale < COARSE;
    /* As in the strips: behind tracks a frame's own colours are pale. */
    context.filter = byId("masks").checked ? "saturate(0.3)" : "none";
    if (image && image.complete && image.naturalWidth) context.drawImage(image, 0, 0, canvas.width, canvas.height);
    else context.clearRect(0, 0, canvas.width, canvas.height);
    context.filter = "none";
    const seen = row.tracks.filter((track) => track.codes[index] !== null);
    if (byId("masks").checked) {
      const layer = new OffscreenCanvas(width, height), planes = layer.getContext("2d");
      const pixels = planes.createImageData(width, height), corners = [];
      for (const track of [...seen].reverse()) {
        const corner = paint(pixels.data, planeOf(track.codes[index], height, width), track, height, width);
        if (corner) corners.unshift({ words: track.words, colour: track.colour, corner });
      }
      planes.putImageData(pixels, 0, 0);
      context.drawImage(layer, 0, 0, canvas.width, canvas.height);
      if (byId("labels").checked) write(context, scale, corners);
    }
    const words = seen.map((track) => track.words).join(", ") || "nothing";
    canvas.setAttribute("aria-label", `${row.name}, frame ${index}: ${words}`);
    figure.querySelector("ul").replaceChildren(...seen.map(swatch));
  }

  function draw() {
    const index = Number(slider.value), image = images[index];
    if (image && !image.complete) image.onload = () => { if (Number(slider.value) === index) draw(); };
    figures.forEach((figure, number) => { if (!figure.hidden && video.rows[number]) drawRow(figure, video.rows[number], index, image); });
    const last = video.frames.length - 1, told = video.frames.length ? `frame ${index} of 0 to ${last}` : "no frame";
    byId("where").textContent = told;
    slider.setAttribute("aria-valuetext", told);
    const line = byId("course").querySelector("line"), x = (100 * (index + 0.5)) / Math.max(1, last + 1);
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
  }

  function drawCourse() {
    const values = video.disagreement, step = 100 / Math.max(1, values.length);
    const bars = values.map((value, at) => `M${at * step} 10v${-10 * value}h${step}V10z`);
    byId("course").querySelector("path").setAttribute("d", bars.join(""));
  }

  function remember() {
    const address = `#${encodeURIComponent(keys[place])}/${slider.value}`;
    if (location.hash !== address) history.replaceState(null, "", address);
  }

  function link(text, address) {
    const found = document.createElement("a");
    found.textContent = text;
    found.href = address;
    return found;
  }

  function open(number, index) {
    const block = blocks[number];
    if (number !== place) {
      place = number;
      video = JSON.parse(block.textContent);
      images = video.frames.map((address) => { const image = new Image(); image.src = address; return image; });
      byId("video-title").textContent = video.title;
      const links = [["Strip (PDF)", block.dataset.strip], ["Video (mp4)", block.dataset.video]];
      byId("links").replaceChildren(...links.filter(([, address]) => address).map(([text, address]) => link(text, address)));
      document.querySelectorAll(".videos a").forEach((each, at) => {
        if (at === number) each.setAttribute("aria-current", "true");
        else each.removeAttribute("aria-current");
      });
      slider.max = Math.max(0, video.frames.length - 1);
      drawCourse();
    }
    slider.value = index;
    draw();
    remember();
  }

  function go(index) {
    slider.value = index;
    draw();
    remember();
  }

  function play(on) {
    if (timer !== null) clearInterval(timer);
    timer = on ? setInterval(() => go((Number(slider.value) + 1) % (Number(slider.max) + 1)), SECOND / byId("play").dataset.rate) : null;
    byId("play").textContent = on ? "Pause" : "Play";
    byId("play").setAttribute("aria-pressed", String(on));
  }

  function fromAddress() {
    const [key, index] = location.hash.slice(1).split("/");
    let number = 0;
    try { number = Math.max(0, keys.indexOf(decodeURIComponent(key))); } catch { number = 0; }
    if (blocks.length) open(number, /^\d+$/.test(index || "") ? Number(index) : 0);
  }

  slider.addEventListener("input", () => go(slider.value));
  byId("play").addEventListener("click", () => play(timer === null));
  document.querySelectorAll(".switches input").forEach((box) => {
    box.addEventListener("change", () => {
      if (box.dataset.row !== undefined) figures[Number(box.dataset.row)].hidden = !box.checked;
      if (video) draw();
    });
  });
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !video) return;
    const on = event.target.closest("input, button, a, summary"), isSlider = event.target === slider;
    const moves = { ArrowLeft: -1, ArrowRight: 1 };
    if (event.key in moves && !isSlider) go(Math.max(0, Number(slider.value) + moves[event.key]));
    else if ((event.key === "Home" || event.key === "End") && !isSlider) go(event.key === "Home" ? 0 : slider.max);
    else if (event.key === " " && (!on || isSlider)) play(timer === null);
    else if (event.key === "n" || event.key === "p") open((place + (event.key === "n" ? 1 : blocks.length - 1)) % blocks.length, 0);
    else return;
    event.preventDefault();
  });
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("main details:not([open])")];
    for (const each of closed) each.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const each of closed) each.open = false;
  });
  window.addEventListener("hashchange", fromAddress);
  window.addEventListener("resize", () => { if (video) draw(); });
  fromAddress();
}
