// The page to answer in. It knows clips by their ids; everything else it asks the server for.

const $ = id => document.getElementById(id);
const desk = { mode: "ask", state: null, cards: [], card: null, box: null, chosen: {}, from: "one", shown: [] };

// Answers that the server has not acknowledged yet are kept over a reload, each under a name of its own: windows share the
// storage, and none may write over what another has just put there. Names sort in the order of answering.
const WAITING = "audiorep-waiting-";
const ORPHANED_MS = 10000;   // what another window has not got rid of for so long is sent by this one

// ------------------------------------------------------------ talking to the server

async function call(path, sent) {
  const asked = sent === undefined ? {} :
    { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(sent) };
  const answer = await fetch(path, asked).catch(() => { throw new Error("The server does not answer."); });
  const told = await answer.json().catch(() => ({ error: `${answer.status} ${answer.statusText}` }));
  if (!answer.ok) throw Object.assign(new Error(told.error), { status: answer.status });
  return told;
}

function say(text) {
  const kept = waiting().filter(mine).length, line = kept ? `${text} Kept here until the server takes them: ${kept} answer(s).` : text;
  if ($("status").textContent !== line) $("status").textContent = line;   // the same again is not read out again
}

// What a button does; where it fails, the reason stands below.
const trying = act => async (...given) => { try { return await act(...given); } catch (error) { say(error.message); } };

function fresh() {  // a key of its own for every answer: sent twice, it counts once
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, b => b.toString(16).padStart(2, "0")).join("");
}

const here = sessionStorage.getItem("audiorep-window") || fresh();   // this window, over a reload
sessionStorage.setItem("audiorep-window", here);
const waiting = () => Object.keys(localStorage).filter(name => name.startsWith(WAITING)).sort();
const mine = name => name.endsWith(here) || Date.now() - Number(name.slice(WAITING.length).split("-")[0]) > ORPHANED_MS;

let sent = 0;
const awaited = new Map();   // what became of what somebody waits for, by name
async function send(path, what) {  // {told}, {refused}: why, or {kept}: until the server takes it
  const name = `${WAITING}${Date.now()}-${String(sent++).padStart(6, "0")}-${here}`;
  awaited.set(name, { kept: true });
  localStorage.setItem(name, JSON.stringify({ path, sent: what }));
  await flush();
  const outcome = awaited.get(name);
  awaited.delete(name);
  return outcome;
}

let flushing = Promise.resolve();
function flush() { return (flushing = flushing.then(sendWaiting)); }

async function sendWaiting() {
  const late = [];
  for (const name of waiting().filter(mine)) {
    const text = localStorage.getItem(name);
    if (text === null) continue;   // another window was faster
    const { path, sent } = JSON.parse(text);
    let outcome;
    try {
      outcome = { told: await call(path, sent) };
    } catch (error) {
      if (error.status !== 400) break;   // no server, or one that cannot keep it now: this and what comes after it wait
      outcome = { refused: error.message };
    }
    if (awaited.has(name)) awaited.set(name, outcome); else late.push(outcome);
    localStorage.removeItem(name);
  }
  const refused = late.find(one => one.refused);
  if (refused) say(`An earlier answer was not taken: ${refused.refused}`);
  else if (late.length) say(`The server has taken ${late.length} answer(s) that were kept here.`);
}
setInterval(() => { if (waiting().some(mine)) flush(); }, 3000);

function clipsWaiting() {  // answered, though the server does not know
  const kept = waiting().map(name => JSON.parse(localStorage.getItem(name) ?? "{}").sent);
  return new Set(kept.flatMap(one => one?.answers || [one]).map(one => one?.clip));
}

const who = () => $("annotator").value.trim();

// ------------------------------------------------------------ what is asked

async function refresh() {
  desk.state = await call("/api/state");
  drawAnswers();
  drawProgress();
}

async function next() {
  if (!who()) { say("Say who you are first."); $("annotator").focus(); return; }
  if (!desk.cards.length) {
    const mode = desk.mode === "discover" ? "ask" : desk.mode, name = who();
    if (waiting().some(mine)) await flush();
    const told = await call(`/api/next?mode=${mode}&count=3&annotator=${encodeURIComponent(name)}`);
    if (desk.card || who() !== name || mode !== (desk.mode === "discover" ? "ask" : desk.mode)) return;   // somebody or something else by now
    const kept = clipsWaiting();
    desk.cards = told.cards.filter(card => !kept.has(card.clip));
    for (const card of desk.cards) new Image().src = picture(card);
  }
  show(desk.cards.shift() || null);
}

function address(card, file, more) {
  return `/api/clip/${card.clip}/${file}?` + new URLSearchParams(more);
}

function picture(card, width = 800, height = 256) {
  return address(card, "spectrogram.png", { context: $("context").value, low: $("low").value || 0, high: $("high").value || 0,
    range: $("range").value, width, height });
}

function extent(card) {  // what the picture shows, in seconds and hertz; the server cuts in the same way
  const context = Number($("context").value);
  const t0 = Math.max(0, card.start_s - context);
  const nyquist = card.rate_hz / 2;
  const f1 = Math.min(nyquist, Number($("high").value) || nyquist);
  return { t0, t1: Math.min(card.end_s + context, t0 + 30, card.length_s), f0: Math.min(Number($("low").value) || 0, 0.95 * f1), f1 };
}

function show(card) {
  desk.card = card;
  desk.chosen = {};
  desk.box = null;
  $("one").hidden = desk.mode === "discover" && !card;
  if (!card) {
    $("clip-title").textContent = { ask: "Nothing to ask at the moment", review: "Nothing to review",
      adjudicate: "No disagreement" }[desk.mode] || "";
    $("picture").removeAttribute("src");
    $("claim").textContent = $("why").textContent = "";
    $("problem").hidden = true;
    $("guess").replaceChildren(); $("near").replaceChildren();
    say("Nothing to answer here now.");
    drawAnswers();
    return;
  }
  desk.box = { start: card.start_s, end: card.end_s, low: 0, high: card.rate_hz / 2, moved: false };
  $("clip-title").textContent = `${card.name}, ${card.start_s.toFixed(2)}–${card.end_s.toFixed(2)} s`;
  $("problem").hidden = !card.problem;
  $("problem").textContent = card.problem;
  $("claim").textContent = card.why.claim ? `${card.why.what}: ${card.why.claim}` : "";
  for (const id of ["low", "high"]) $(id).max = card.rate_hz / 2;
  drawPicture(); drawAnswers(); drawWhy();
  say(`${card.name}: ${card.why.claim ? `${card.why.claim}? Enter accepts` : "which call is it?"}`);
}

// ------------------------------------------------------------ the picture

function drawPicture() {
  const card = desk.card;
  if (!card) return;
  const { t0, t1, f0, f1 } = extent(card);
  if (card.problem) $("picture").removeAttribute("src"); else $("picture").src = picture(card);
  $("picture").alt = `Spectrogram of ${card.name}, ${t0.toFixed(2)} to ${t1.toFixed(2)} seconds, ${Math.round(f0)} to ${Math.round(f1)} hertz`;
  const ticks = (low, high, most) => {
    const raw = (high - low) / most, unit = 10 ** Math.floor(Math.log10(raw));
    const step = unit * [1, 2, 5, 10].find(k => k * unit >= raw);
    const found = [];
    for (let v = Math.ceil(low / step) * step; v <= high + 1e-9; v += step) found.push(v);
    return { found, digits: Math.max(0, -Math.floor(Math.log10(step))) };
  };
  const mark = (text, style) => { const span = document.createElement("span"); span.textContent = text; Object.assign(span.style, style); return span; };
  const time = ticks(t0, t1, 8), hz = ticks(f0 / 1000, f1 / 1000, 6);
  $("seconds").replaceChildren(...time.found.map(t => mark(`${t.toFixed(time.digits)} s`, { left: `${100 * (t - t0) / (t1 - t0)}%` })));
  $("hz").replaceChildren(...hz.found.map(f => mark(`${f.toFixed(hz.digits)} kHz`, { bottom: `${100 * (1000 * f - f0) / (f1 - f0)}%` })));
  drawBox();
}

function drawBox() {
  const { t0, t1, f0, f1 } = extent(desk.card), b = desk.box;
  const across = t => 100 * Math.min(1, Math.max(0, (t - t0) / (t1 - t0))), up = f => 100 * Math.min(1, Math.max(0, (f - f0) / (f1 - f0)));
  Object.assign($("box").style, { left: `${across(b.start)}%`, right: `${100 - across(b.end)}%`, bottom: `${up(b.low)}%`, top: `${100 - up(b.high)}%` });
  for (const name of ["start", "end", "low", "high"]) {
    const grip = $(`grip-${name}`);
    grip.setAttribute("aria-valuenow", b[name].toFixed(3));
    grip.setAttribute("aria-valuetext", name === "start" || name === "end" ? `${b[name].toFixed(3)} s` : `${Math.round(b[name])} Hz`);
    grip.setAttribute("aria-valuemin", name === "start" || name === "end" ? t0.toFixed(3) : f0);
    grip.setAttribute("aria-valuemax", name === "start" || name === "end" ? t1.toFixed(3) : f1);
  }
}

$("picture").addEventListener("error", trying(async () => {   // the server says why in a line
  const card = desk.card, address = $("picture").getAttribute("src");
  if (!card || !address) return;
  try { await call(address); } catch (error) {
    if (desk.card !== card) return;
    card.problem = error.message;
    $("problem").textContent = `${card.problem}. Skip it: it is not asked again.`;
    $("problem").hidden = false;
  }
}));

function move(name, value) {
  const { t0, t1, f0, f1 } = extent(desk.card), b = desk.box, least = { t: (t1 - t0) / 200, f: (f1 - f0) / 100 };
  b[name] = {   // never out of the picture, even where the box is smaller than the least step
    start: () => Math.max(t0, Math.min(b.end - least.t, value)), end: () => Math.min(t1, Math.max(b.start + least.t, value)),
    low: () => Math.max(f0, Math.min(b.high - least.f, value)), high: () => Math.min(f1, Math.max(b.low + least.f, value)),
  }[name]();
  b.moved = true;
  drawBox();
}

for (const name of ["start", "end", "low", "high"]) {
  const grip = $(`grip-${name}`);
  grip.addEventListener("pointerdown", event => { grip.setPointerCapture(event.pointerId); event.preventDefault(); grip.focus(); });
  grip.addEventListener("pointermove", event => {
    if (!grip.hasPointerCapture(event.pointerId)) return;
    const frame = $("stage").getBoundingClientRect(), { t0, t1, f0, f1 } = extent(desk.card);
    move(name, name === "start" || name === "end" ? t0 + (event.clientX - frame.left) / frame.width * (t1 - t0)
      : f1 - (event.clientY - frame.top) / frame.height * (f1 - f0));
  });
  grip.addEventListener("keydown", event => {
    const way = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!way || !desk.card) return;
    const { t0, t1, f0, f1 } = extent(desk.card);
    move(name, desk.box[name] + way * (name === "start" || name === "end" ? (t1 - t0) / 200 : (f1 - f0) / 100));
    event.preventDefault(); event.stopPropagation();
  });
}

// ------------------------------------------------------------ sound

const audio = $("audio");

function play(slower) {
  if (!desk.card) return;
  audio.src = address(desk.card, "sound.wav", { context: $("context").value, slower });
  audio.play().catch(error => { if (error.name !== "AbortError") say("This browser would not play the clip."); });   // begun anew
}
audio.addEventListener("timeupdate", () => {
  $("playhead").hidden = audio.paused || !audio.duration;
  if (audio.duration) $("playhead").style.left = `${100 * audio.currentTime / audio.duration}%`;
});
audio.addEventListener("ended", () => { $("playhead").hidden = true; });
audio.addEventListener("error", () => { if (audio.src) say("This clip cannot be played."); });

// ------------------------------------------------------------ answers

function button(text, key, action, kind = "") {
  const made = document.createElement("button");
  made.type = "button";
  made.className = kind;
  made.textContent = text;
  if (key) {
    const hint = document.createElement("kbd");
    hint.textContent = key;
    made.append(hint);
    made.setAttribute("aria-keyshortcuts", key);
  }
  made.addEventListener("click", action);
  return made;
}

let drawn = "", named = "";
function drawAnswers() {
  if (!desk.state) return;
  $("differing").textContent = desk.state.disagreements ? `(${desk.state.disagreements})` : "";
  const several = desk.state.several, claim = desk.mode === "review" && desk.card?.why.claim || "";
  const now = JSON.stringify([desk.state.classes, several, claim, desk.chosen]);
  if (now === drawn) return;   // what has the focus keeps it
  drawn = now;
  const made = desk.state.classes.map(({ name, key }) => {
    const one = button(name, key, event => pick(name, event.shiftKey));
    if (several) {
      one.setAttribute("aria-pressed", String(desk.chosen[name] === true));
      one.classList.toggle("absent", desk.chosen[name] === false);
      if (desk.chosen[name] === false) one.setAttribute("aria-label", `${name}: not there`);
    }
    return one;
  });
  if (claim) made.unshift(button(`It is ${claim}`, "Enter", accept));
  if (several) made.push(button("Send", "Enter", accept));
  made.push(button("Unknown", "u", () => answer("unknown"), "other"), button("Noise", "n", () => answer("noise"), "other"),
    button("Skip", "s", () => answer("skip"), "other"), button("Undo", "z", undo, "other"), button("Look-alikes", "g", trying(alike), "other"));
  const held = [...$("answers").children].find(one => one === document.activeElement)?.textContent;
  $("answers").replaceChildren(...made);
  made.find(one => one.textContent === held)?.focus({ preventScroll: true });
  if (JSON.stringify(desk.state.classes) === named) return;
  named = JSON.stringify(desk.state.classes);
  const names = desk.state.classes.map(({ name }) => new Option(name, name));
  const before = $("name-for").value;
  $("name-for").replaceChildren(...names, new Option("noise", "\u0000noise"), new Option("unknown", "\u0000unknown"));
  if (before) $("name-for").value = before;
}

function pick(name, absent) {
  if (!desk.state.several) return answer("label", { [name]: true });
  const now = desk.chosen[name], wanted = !absent;
  if (now === wanted) delete desk.chosen[name]; else desk.chosen[name] = wanted;
  drawAnswers();
  say(`${name}: ${desk.chosen[name] === undefined ? "not said" : desk.chosen[name] ? "there" : "not there"}`);
}

function accept() {
  if (Object.keys(desk.chosen).length) return answer("label", desk.chosen);
  if (desk.mode === "review" && desk.card?.why.claim) return answer("label", { [desk.card.why.claim]: true });
  say("Choose a class first.");
}

function said(card, kind, labels = {}, box = null) {
  const sent = { key: fresh(), clip: card.clip, annotator: who(), kind, labels, query: card.query, model: card.model };
  if (box?.moved) Object.assign(sent, { start_s: box.start, end_s: box.end });
  if (box?.moved && (box.low > 0 || box.high < card.rate_hz / 2)) Object.assign(sent, { low_hz: box.low, high_hz: box.high });
  return sent;
}

let answering = Promise.resolve();
function after(act) { return (answering = answering.then(trying(act))); }   // one after the other

const TWICE_MS = 250;   // a key that bounces, a click that is doubled: it would answer the next clip, which nobody has seen yet
let last = { same: "", at: -Infinity };

function answer(kind, labels = {}) {
  const card = desk.card, same = JSON.stringify([kind, labels]), at = performance.now(), twice = same === last.same && at - last.at < TWICE_MS;
  last = { same, at };
  if (twice) return;
  if (!card) return say("There is nothing to answer.");
  return after(async () => {
    if (desk.card !== card) return;
    if (!who()) { say("Say who you are first."); $("annotator").focus(); return; }
    const outcome = await send(desk.mode === "adjudicate" ? "/api/settle" : "/api/answer", said(card, kind, labels, desk.box));
    if (outcome.refused) return say(outcome.refused);
    if (desk.card === card) await advance();
    await refresh();
  });
}

async function advance() {   // to the next card; without a server to none
  desk.card = null;
  try { await next(); } catch (error) { show(null); throw error; }
}

function undo() {
  return after(async () => {
    const { told, refused } = await send("/api/undo", { key: fresh(), annotator: who() });
    if (!told) return say(refused || "It will be taken back.");
    if (desk.card) desk.cards.unshift(desk.card);
    if (told.card) show(told.card); else await next();
    await refresh();
    say("Taken back.");
  });
}

// ------------------------------------------------------------ many at once

async function alike() {
  if (!desk.card) return;
  const told = await call(`/api/next?mode=alike&count=24&clip=${desk.card.clip}&annotator=${encodeURIComponent(who() || "?")}`);
  const guess = choiceOf(desk.card.guess[0]?.name);
  many(`Sounds like ${desk.card.name} at ${desk.card.start_s.toFixed(2)} s`, told.cards, guess, "one");
}

function choiceOf(name) {   // noise is a class to the model where a clip has but one
  return name === "noise" && !desk.state.classes.some(one => one.name === name) ? "\u0000noise" : name;
}

function many(title, cards, name, from) {
  desk.from = from;
  desk.shown = cards;
  $("one").hidden = $("groups").hidden = true;
  $("many").hidden = false;
  $("many-title").textContent = title;
  $("tiles").replaceChildren(...cards.map(card => tile(card, true)));
  if (name) $("name-for").value = name;
  ticked();
  $("many-title").tabIndex = -1;
  $("many-title").focus();
}

function tile(card, pressed) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "tile";
  made.dataset.clip = card.clip;
  made.setAttribute("aria-pressed", String(pressed));
  const image = document.createElement("img");
  image.loading = "lazy";
  image.src = address(card, "spectrogram.png", { context: 0.05, width: 220, height: 96, range: $("range").value });
  image.alt = `Spectrogram of ${card.name} at ${card.start_s.toFixed(2)} s`;
  const guess = card.guess[0] ? `${card.guess[0].name} ${Math.round(100 * card.guess[0].p)} %` : "";
  made.append(image, `${guess} ${card.start_s.toFixed(2)} s`);
  made.addEventListener("click", () => { made.setAttribute("aria-pressed", String(made.getAttribute("aria-pressed") !== "true")); ticked(); });
  made.addEventListener("keydown", event => { if (event.key === "p") { audio.src = address(card, "sound.wav", { context: 0.05, slower: 1 }); audio.play().catch(() => {}); event.stopPropagation(); } });
  return made;
}

function chosenTiles() { return [...$("tiles").querySelectorAll("[aria-pressed=true]")].map(one => desk.shown.find(card => card.clip === one.dataset.clip)); }
function ticked() { $("ticked").textContent = `${chosenTiles().length} of ${desk.shown.length} ticked`; }

$("name-all").addEventListener("click", () => after(async () => {
  if (!who()) { say("Say who you are first."); $("annotator").focus(); return; }
  const name = $("name-for").value, cards = chosenTiles();
  if (!cards.length) return say("Nothing is ticked.");
  const kind = name.startsWith("\u0000") ? name.slice(1) : "label";
  const outcome = await send("/api/answer", { answers: cards.map(card => said(card, kind, kind === "label" ? { [name]: true } : {})) });
  if (outcome.refused) return say(outcome.refused);
  desk.cards = desk.cards.filter(card => !cards.some(one => one.clip === card.clip));
  const gone = desk.card && cards.some(one => one.clip === desk.card.clip);
  await leaveMany();
  if (desk.from === "one" && gone) await advance();
  await refresh();
  say(`${cards.length} clips answered: ${kind === "label" ? name : kind}`);
}));

function leaveMany() {
  $("many").hidden = true;
  $("work").focus({ preventScroll: true });
  if (desk.from === "groups") return discover();
  $("one").hidden = false;
}
$("back").addEventListener("click", trying(leaveMany));

async function discover() {
  $("one").hidden = $("many").hidden = true;
  $("groups").hidden = false;
  say("Grouping …");
  const told = await call("/api/clusters?count=8");
  if (desk.mode !== "discover" || !$("many").hidden) return;
  $("group-list").replaceChildren(...told.clusters.map(group => {
    const made = document.createElement("div");
    made.className = "group";
    const line = document.createElement("div"), tiles = document.createElement("div");
    line.className = "line";
    tiles.className = "tiles";
    line.append(`${group.size} clips, novelty ${group.novelty.toFixed(2)}`,
      button("Open and name", "", () => many(`Group of ${group.size} clips: the ${group.cards.length} in its middle`, group.cards, null, "groups")));
    tiles.append(...group.cards.map(card => tile(card, false)));
    made.append(line, tiles);
    return made;
  }));
  say(told.clusters.length ? `${told.clusters.length} groups` : "Everything is answered.");
}

// ------------------------------------------------------------ beside the question

function drawWhy() {
  const card = desk.card, why = card.why;
  $("why").textContent = why.undone ? "You took this answer back." : why.said
    ? why.said.map(one => `${one.annotator}: ${one.kind === "label" ? Object.keys(one.labels).filter(n => one.labels[n]).join(", ") : one.kind}`).join("; ")
    : why.claim ? `${why.what} as ${why.claim}, ${why.what === "detected" ? "score" : "probability by the model"} ${why.score ?? "?"}`
    : why.rank === 0 ? "It was begun before: by you, or by somebody whose answer wants a second opinion."
    : why.rank ? `Number ${why.rank} of ${why.of} that ${why.selector.replaceAll("_", " ")} wants to know${why.score === null ? "" : `, score ${why.score}`}.` : "";
  if (card.ambiguous) $("why").textContent += " Ambiguous: every version of the model wavers here, so it may be unclear to anybody.";
  $("guess").replaceChildren(...card.guess.map(({ name, p }) => {
    const bar = document.createElement("div"), track = document.createElement("span"), fill = document.createElement("i");
    bar.className = "bar";
    fill.style.cssText = `display:block;width:${100 * p}%`;
    track.append(fill);
    bar.append(Object.assign(document.createElement("span"), { textContent: name }), track,
      Object.assign(document.createElement("span"), { textContent: `${Math.round(100 * p)} %` }));
    return bar;
  }));
  $("near").replaceChildren(...card.near.map(one => {
    const figure = document.createElement("figure"), image = new Image(), caption = document.createElement("figcaption");
    image.src = address(one, "spectrogram.png", { context: 0.05, width: 160, height: 80 });
    image.alt = `Nearest answered clip, ${one.label}`;
    caption.textContent = one.label || "nothing";
    figure.append(image, caption);
    return figure;
  }));
}

function drawProgress() {
  const { history, answered, clips, unusable, annotators, hint, failed } = desk.state;
  const people = Object.entries(annotators).map(([name, n]) => `${name} ${n}`).join(", ");
  const last = history[history.length - 1];
  const figures = last ? [["held-out score", last.held_out], ["recent guesses right", last.guessed], ["agreement with the last model", last.kappa]]
    .filter(([, value]) => value !== null).map(([what, value]) => `${what} ${value.toFixed(2)}`) : [];
  $("progress").textContent = `${answered} of ${clips} clips answered${people ? ` (${people})` : ""}.`
    + (figures.length ? ` By now: ${figures.join(", ")}.` : "") + (unusable ? ` ${unusable} cannot be decoded and are not asked.` : "");
  $("hint").textContent = failed ? `Learning failed: ${failed}` : hint;
  const key = history.some(one => one.held_out !== null) ? "held_out" : "guessed";
  const points = history.filter(one => one[key] !== null);
  $("curve").replaceChildren(points.length > 1 ? curve(points.map(one => [one.labels, one[key]]), key === "held_out" ? "held-out score" : "guesses right") : "");
}

function curve(points, what) {
  const ns = "http://www.w3.org/2000/svg", make = (name, given, text) => {
    const made = document.createElementNS(ns, name);
    for (const [key, value] of Object.entries(given)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const [low, high] = [points[0][0], points[points.length - 1][0]];
  const x = n => 28 + 250 * (high > low ? (n - low) / (high - low) : 1), y = v => 88 - 76 * v;
  const svg = make("svg", { viewBox: "0 0 290 106", role: "img", "aria-label": `${what} against answers learned from: ${points.map(([n, v]) => `${n}: ${v.toFixed(2)}`).join(", ")}` });
  for (const v of [0, 0.5, 1]) svg.append(make("line", { x1: 28, x2: 278, y1: y(v), y2: y(v), stroke: "#d5dade" }), make("text", { x: 24, y: y(v) + 3, "font-size": 9, "text-anchor": "end" }, v));
  svg.append(make("polyline", { points: points.map(([n, v]) => `${x(n)},${y(v)}`).join(" "), fill: "none", stroke: "#b3470b", "stroke-width": 2 }),
    make("text", { x: 28, y: 102, "font-size": 9 }, low), make("text", { x: 278, y: 102, "font-size": 9, "text-anchor": "end" }, `${high} answers`),
    make("text", { x: 150, y: 102, "font-size": 9, "text-anchor": "middle" }, what));
  return svg;
}

$("agreement").addEventListener("click", trying(async () => {
  const told = await call("/api/agreement");
  const pairs = Object.entries(told.cohen).map(([who, [kappa, clips]]) => `${who}: Cohen's kappa ${kappa ?? "-"} over ${clips} clips`);
  $("told").textContent = pairs.length ? `${pairs.join("; ")}. Fleiss ${told.fleiss ?? "-"} (${told.fleiss_clips} clips), Krippendorff's alpha ${told.alpha ?? "-"} (${told.alpha_clips}).` : "One annotator so far.";
}));
for (const one of document.querySelectorAll("[data-export]")) one.addEventListener("click", async () => {
  try {
    const told = await call("/api/export", { format: one.dataset.export });
    $("told").textContent = `${told.written.slice(0, 4).join(", ")}${told.written.length > 4 ? " …" : ""}: ${told.rows} rows, ${told.answered} of them answered`;
  } catch (error) { $("told").textContent = error.message; }
});

// ------------------------------------------------------------ modes, keys, begin

function enter(mode) {
  desk.mode = mode;
  desk.cards = [];
  desk.card = null;
  for (const tab of document.querySelectorAll("[role=tab]")) tab.setAttribute("aria-selected", String(tab.dataset.mode === mode));
  $("many").hidden = $("groups").hidden = true;
  $("one").hidden = mode === "discover";
  $("why").textContent = "";
  $("guess").replaceChildren(); $("near").replaceChildren();
  $("work").focus({ preventScroll: true });
  drawAnswers();
  return trying(mode === "discover" ? discover : next)();
}
for (const tab of document.querySelectorAll("[role=tab]")) tab.addEventListener("click", () => enter(tab.dataset.mode));

const ACTIONS = { p: () => play(1), l: () => play($("slower").value), u: () => answer("unknown"), n: () => answer("noise"), s: () => answer("skip"),
  z: undo, g: trying(alike), Enter: accept, Escape: trying(leaveMany) };

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  if (event.key === "Enter" && event.target.matches("button")) return;
  if (event.key === "Escape" && $("many").hidden) return;
  if ($("one").hidden && event.key !== "Escape") return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const digit = event.code.startsWith("Digit") ? event.code.slice(5) : key;   // Shift and a digit is another character
  const named = desk.state?.classes.find(one => one.key && one.key === digit);
  if (event.repeat) return;
  if (named) { event.preventDefault(); pick(named.name, event.shiftKey); } else if (ACTIONS[key]) { event.preventDefault(); ACTIONS[key](); }
});

for (const id of ["context", "range", "low", "high"]) $(id).addEventListener("change", drawPicture);
$("play").addEventListener("click", () => play(1));
$("slow").addEventListener("click", () => play($("slower").value));
$("whole").addEventListener("click", () => { if (desk.card) { desk.box = { start: desk.card.start_s, end: desk.card.end_s, low: 0, high: desk.card.rate_hz / 2, moved: false }; drawBox(); } });
$("new-class").addEventListener("submit", async event => {
  event.preventDefault();
  try {
    await call("/api/class", { name: $("class-name").value });
    $("class-name").value = "";
    await refresh();
    $("work").focus({ preventScroll: true });
  } catch (error) { say(error.message); }
});
const NAME = "audiorep-annotator";   // of this window; a new one begins with the last name that was given
$("annotator").value = sessionStorage.getItem(NAME) ?? localStorage.getItem(NAME) ?? "";
$("annotator").addEventListener("change", () => {
  for (const kept of [sessionStorage, localStorage]) kept.setItem(NAME, who());
  enter(desk.mode);
});
setInterval(() => refresh().catch(() => {}), 5000);
setInterval(() => {   // there may be something to ask by now
  if (desk.state && !desk.card && !$("one").hidden && who() && document.activeElement !== $("annotator"))
    answering = answering.then(() => desk.card ? null : next()).catch(() => {});
}, 1500);

flush().then(refresh).then(() => (who() ? next() : ($("annotator").focus(), say("Say who you are, then answer with the keys beside the classes.")))).catch(error => say(error.message));
