// Tells the values at the step that is pointed at; the drawings are there without it.
for (const figure of document.querySelectorAll("figure[data-points]")) {
  const points = JSON.parse(figure.dataset.points);
  const svg = figure.querySelector("svg"), outputs = figure.querySelectorAll("output"), step = figure.querySelector(".step");
  const last = [...outputs].map((each) => each.textContent);
  const [left, right, first, end] = points.box;
  const line = svg.appendChild(document.createElementNS(svg.namespaceURI, "path"));
  line.setAttribute("style", "stroke: var(--soft); stroke-width: 0.8");
  const leave = () => {
    line.removeAttribute("d");
    step.textContent = "";
    outputs.forEach((each, index) => { each.textContent = last[index]; });
  };
  const point = (event) => {
    const box = svg.getBoundingClientRect(), { width, height } = svg.viewBox.baseVal;
    const wanted = first + (((event.clientX - box.left) / box.width) * width - left) / (right - left) * (end - first);
    let nearest = 0;
    points.steps.forEach((each, index) => {
      if (Math.abs(each - wanted) < Math.abs(points.steps[nearest] - wanted)) nearest = index;
    });
    const x = left + (points.steps[nearest] - first) / (end - first) * (right - left);
    line.setAttribute("d", `M${x} 18V${height - 38}`);
    step.textContent = `at step ${points.steps[nearest]}`;
    outputs.forEach((each, index) => { each.textContent = points.values[index][nearest] ?? "-"; });
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", leave);
}
