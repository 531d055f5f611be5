"use strict";
// Three things that pages cannot do without a script; without it every view still works.

// 1. While a study runs, <main> is exchanged for its newest self: no reload, scroll, focus and opened parts stay.
const path = (element) => {
  const steps = [];
  for (let at = element; at && at.id !== "main"; at = at.parentElement) {
    if (at.id) { steps.unshift("#" + CSS.escape(at.id)); break; }
    steps.unshift(`${at.tagName}:nth-child(${[...at.parentElement.children].indexOf(at) + 1})`);
  }
  return steps.join(">");
};
const find = (where, way) => { try { return way ? where.querySelector(way) : null; } catch { return null; } };

const PATIENCE = 30;  // seconds for one answer (assumption: the slowest view takes one)
let tag = null;
async function refresh() {  // false while nobody is to be disturbed
  const main = document.getElementById("main");
  if (document.hidden || document.querySelector("dialog[open]")) return false;
  const answer = await fetch(location.href, {
    headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store", signal: AbortSignal.timeout(1000 * PATIENCE),
  });
  if (answer.status === 304) return true;
  if (!answer.ok) throw Object.assign(new Error(), { refused: true });
  tag = answer.headers.get("ETag");
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const next = fresh.getElementById("main");
  if (next.innerHTML !== main.innerHTML) {
    const focused = main.contains(document.activeElement) ? path(document.activeElement) : "";
    const details = [...main.querySelectorAll("details")].map((one) => [path(one), one.open]);
    const scrolled = [...main.querySelectorAll(".scroll")].map((one) => [path(one), one.scrollLeft]);
    const chosen = [...main.querySelectorAll("select")].map((one) => [path(one), one.value]);
    main.replaceChildren(...next.childNodes);
    for (const [way, open] of details) { const one = find(main, way); if (one) one.open = open; }
    for (const [way, left] of scrolled) { const one = find(main, way); if (one) one.scrollLeft = left; }
    for (const [way, value] of chosen) { const one = find(main, way); if (one) one.value = value; }
    find(main, focused)?.focus({ preventScroll: true });
    enliven(main);
  }
  const top = document.querySelector(".standing"), said = fresh.querySelector(".standing");
  if (top && said && top.textContent !== said.textContent) top.replaceChildren(...said.childNodes);
  document.title = fresh.title;
  main.dataset.refresh = next.dataset.refresh || "";
  return true;
}
async function look() {
  const seconds = Number(document.getElementById("main").dataset.refresh);
  if (!seconds) return;
  await pause(seconds);
  try { if (await refresh()) warn(""); }
  catch (error) { warn(error.refused ? "The dashboard cannot draw this page (reload it to see why)" : "The dashboard does not answer"); }
  look();
}
function pause(seconds) {  // or until somebody looks at the page again
  return new Promise((done) => {
    const end = () => { clearTimeout(timer); document.removeEventListener("visibilitychange", end); done(); };
    const timer = setTimeout(end, 1000 * seconds);
    document.addEventListener("visibilitychange", end);
  });
}
let since = new Date();  // the last answer
function warn(trouble) {  // an old page must not pass for a new one
  let note = document.getElementById("old");
  if (!trouble) { since = new Date(); note?.remove(); return; }
  if (!note) {
    note = Object.assign(document.createElement("p"), { id: "old", className: "notice bad" });
    note.setAttribute("role", "status");
    document.getElementById("main").before(note);
  }
  const text = `${trouble} since ${since.toLocaleString()}: what stands here is from then. It is asked again.`;
  if (note.textContent !== text) note.textContent = text;
}

// 2. Buttons that copy the code beside them.
function copyOld(code, button) {  // browsers give the clipboard to https and this machine only; a page behind a proxy may be neither
  const field = button.after(document.createElement("textarea")) ?? button.nextElementSibling;
  field.value = code;
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  button.focus();
  return done;
}
function enliven(where) {
  for (const button of where.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.onclick = async () => {
      const code = button.dataset.code ?? button.parentElement.querySelector("code").textContent;
      try { await navigator.clipboard.writeText(code); button.textContent = "Copied"; }
      catch { button.textContent = copyOld(code, button) ? "Copied" : "Not copied"; }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    };
  }
  for (const strip of where.querySelectorAll("img[data-rows]")) {
    strip.tabIndex = 0;
    strip.setAttribute("role", "button");
    strip.onclick = (event) => zoom(strip, event.offsetY / strip.clientHeight);
    strip.onkeydown = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();  // else the same key presses the dialog's button, which closes it
      zoom(strip, 0);
    };
  }
}

// 3. A picture beside its original and their difference, enlarged. Arrow keys go to the next picture and model.
function zoom(strip, share) {
  const all = [...strip.closest(".columns").querySelectorAll("img[data-rows]")], rows = Number(strip.dataset.rows);
  let row = Math.min(Math.floor(share * rows), rows - 1), at = Math.max(all.indexOf(strip), all.length > 1 ? 1 : 0);
  const dialog = document.body.appendChild(document.createElement("dialog"));
  dialog.className = "zoom";
  const draw = () => {
    const psnr = (all[at].dataset.psnr || "").split(" ")[row], says = psnr ? `, this one ${psnr} dB` : "";
    const size = all[0].naturalWidth, pitch = (all[0].naturalHeight - size) / Math.max(rows - 1, 1);
    const shown = [["Original", all[0]], [all[at].alt + says, all[at]], ["Difference, four times as strong", null]].map(([title, image]) => {
      const figure = document.createElement("figure"), canvas = document.createElement("canvas");
      canvas.width = canvas.height = size;
      const pen = canvas.getContext("2d");
      pen.drawImage(image || all[0], 0, -row * pitch);
      if (!image) {
        pen.globalCompositeOperation = "difference";
        pen.drawImage(all[at], 0, -row * pitch);
        canvas.style.filter = "brightness(4)";
      }
      figure.append(canvas, Object.assign(document.createElement("figcaption"), { textContent: title }));
      return figure;
    });
    const close = Object.assign(document.createElement("button"), { textContent: "Close", onclick: () => dialog.close() });
    dialog.replaceChildren(...shown, close);
  };
  dialog.onkeydown = (event) => {
    const step = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key];
    if (!step) return;
    event.preventDefault();
    row = (row + step[0] + rows) % rows;
    at = Math.min(Math.max(at + step[1], 1), all.length - 1);
    draw();
  };
  dialog.onclose = () => { dialog.remove(); strip.focus(); };
  draw();
  dialog.showModal();
}

enliven(document);
if (location.protocol.startsWith("http")) look();
