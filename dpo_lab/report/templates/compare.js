// Sorts and filters the table, and marks in the charts what is pointed at; the page is complete without it.
const table = document.querySelector("table.runs"), body = table.tBodies[0];
const drawn = [...document.querySelectorAll("svg [data-c]")];
const said = document.querySelector("#said"), filter = document.querySelector("#filter");
const heads = [...table.tHead.rows[0].cells];
const sortable = (cell) => cell.dataset.v ?? cell.textContent.trim();
const isNumber = (text) => text !== "" && Number.isFinite(Number(text));

const compare = (one, other) => isNumber(one) && isNumber(other) ? one - other : one.localeCompare(other, undefined, { numeric: true });
heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
  const down = head.getAttribute("aria-sort") === "ascending";
  heads.forEach((each) => each.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (row) => sortable(row.cells[column]);
  const rows = [...body.rows].sort((one, other) => {
    if ((key(one) === "") !== (key(other) === "")) return key(one) === "" ? 1 : -1; // what has no value stays last
    return down ? compare(key(other), key(one)) : compare(key(one), key(other));
  });
  body.append(...rows);
  said.textContent = `sorted by ${head.textContent.trim()}, ${down ? "descending" : "ascending"}`;
}));

const mark = (wanted) => drawn.forEach((each) => each.classList.toggle("dim", wanted !== null && !wanted.has(each.dataset.c)));
const left = () => new Set([...body.rows].filter((row) => !row.hidden).map((row) => row.dataset.c));
const unmark = () => mark([...body.rows].some((row) => row.hidden) ? left() : null);
for (const row of body.rows) {
  const enter = () => { row.classList.add("marked"); mark(new Set([row.dataset.c])); };
  const leave = () => { row.classList.remove("marked"); unmark(); };
  row.addEventListener("pointerenter", enter);
  row.addEventListener("pointerleave", leave);
  row.addEventListener("focusin", enter);
  row.addEventListener("focusout", leave);
}
for (const each of drawn) {
  const rows = [...body.rows].filter((row) => row.dataset.c === each.dataset.c);
  each.addEventListener("pointerenter", () => { mark(new Set([each.dataset.c])); rows.forEach((row) => row.classList.add("marked")); });
  each.addEventListener("pointerleave", () => { unmark(); rows.forEach((row) => row.classList.remove("marked")); });
}

const holds = (row, word) => {
  const asked = word.match(/^([^<>=]+)(<=|>=|<|>|=)(.+)$/);
  const column = asked ? heads.findIndex((head) => [head.dataset.key, head.textContent.trim()].includes(asked[1])) : -1;
  if (column < 0) return row.textContent.toLowerCase().includes(word.toLowerCase());
  const value = sortable(row.cells[column]), [, , sign, limit] = asked;
  if (value === "") return false;
  const difference = compare(value, limit);
  return { "<": difference < 0, ">": difference > 0, "<=": difference <= 0, ">=": difference >= 0, "=": difference === 0 }[sign];
};
filter?.addEventListener("input", () => {
  const words = filter.value.split(/\s+/).filter(Boolean);
  for (const row of body.rows) row.hidden = !words.every((word) => holds(row, word));
  unmark();
  said.textContent = `${[...body.rows].filter((row) => !row.hidden).length} of ${body.rows.length} runs`;
});
