// The table: a click on a heading sorts, again reverses the order; rows without a value stay last. Only the first rows
// are in the page, so that thousands are sorted and filtered at once.
const STEP = 200;
const byId = id => document.getElementById(id);
const { columns, links, rows } = JSON.parse(byId("runs-data").textContent);
const folder = columns.indexOf("folder"), state = columns.indexOf("state"), heads = byId("runs").tHead.rows[0].cells;
const text = cell => Array.isArray(cell) ? cell[0] : cell, key = cell => Array.isArray(cell) ? cell[1] : cell;
const every = rows.map((cells, place) => (
  { cells, link: links[place], words: cells.map(text).join(" ").toLowerCase() }));
const words = new Intl.Collator(undefined, { numeric: true });
const view = { filter: "", sort: "", down: false, most: STEP };

function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === "");
  return (view.down ? -1 : 1) * (typeof a === typeof b && typeof a === "number" ? a - b : words.compare(a, b));
}

function drawn(row) {
  const line = document.createElement("tr");
  line.classList.toggle("dim", row.cells[state] !== "finished");
  row.cells.forEach((cell, place) => {
    const parent = line.insertCell();
    const inner = place === folder ? parent.appendChild(document.createElement("a")) : parent;
    inner.textContent = text(cell);
    if (place === folder) inner.href = row.link;
  });
  return line;
}

function show() {
  const wanted = view.filter.toLowerCase().split(/\s+/), place = columns.indexOf(view.sort);
  const left = every.filter(row => wanted.every(word => row.words.includes(word)));
  if (place >= 0) left.sort((a, b) => compare(key(a.cells[place]), key(b.cells[place])));
  byId("runs").tBodies[0].replaceChildren(...left.slice(0, view.most).map(drawn));
  byId("more").hidden = left.length <= view.most;
  const shown = Math.min(view.most, left.length);
  byId("count").textContent = `${shown} of ${left.length} runs` + (left.length < every.length ? `, ${every.length} in all` : "");
  for (const [at, head] of [...heads].entries())
    if (at === place) head.setAttribute("aria-sort", view.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
}

byId("runs").tHead.addEventListener("click", event => {
  const head = event.target.closest("th");
  if (!head) return;
  const name = columns[head.cellIndex];
  Object.assign(view, { down: name === view.sort && !view.down, sort: name, most: STEP });
  show();
});
byId("filter").addEventListener("input", event => {
  Object.assign(view, { filter: event.target.value, most: STEP });
  show();
});
byId("more").addEventListener("click", () => {
  view.most += STEP;
  show();
});

for (const button of document.querySelectorAll(".copy"))
  button.addEventListener("click", async () => {
    const command = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    } catch { getSelection().selectAllChildren(command); }  // a browser that lets no file copy
  });

// A page of runs that go on reloads itself, ever more rarely while nothing is new, and stays where its reader was.
const KEPT = `report ${location.pathname}`, created = byId("created").textContent;
const FIRST_WAIT = 5, LONGEST_WAIT = 60;  // seconds
let kept = {};
try {
  kept = JSON.parse(sessionStorage.getItem(KEPT)) || {};
  sessionStorage.removeItem(KEPT);
} catch { /* a browser that keeps nothing for files */ }
Object.assign(view, kept.view);
byId("filter").value = view.filter;
show();
if (kept.view) {
  history.scrollRestoration = "manual";
  byId("runs-box").scrollTo(...kept.box);
  scrollTo(0, kept.top);
  byId(kept.focus)?.focus({ preventScroll: true });
}

const wait = kept.created === created ? Math.min(2 * kept.wait, LONGEST_WAIT) : FIRST_WAIT;
function reload() {
  if (document.hidden || !getSelection().isCollapsed) return setTimeout(reload, 1000);  // nobody looks, or copies
  const box = byId("runs-box");
  const now = { view, created, wait, top: scrollY, box: [box.scrollLeft, box.scrollTop], focus: document.activeElement.id };
  try { sessionStorage.setItem(KEPT, JSON.stringify(now)); } catch { /* as above */ }
  location.reload();
}
if ("live" in document.documentElement.dataset) setTimeout(reload, 1000 * wait);
