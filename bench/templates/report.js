// Shows the points nearest to the pointer; the page is complete without this script.
for (const svg of document.querySelectorAll("svg.chart")) {
  const box = svg.closest(".scroll"), marks = [...svg.querySelectorAll("[data-tip]")];
  const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
  box.append(tip);
  const hide = () => { tip.hidden = true; marks.forEach((mark) => mark.classList.remove("lit")); };
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("pointermove", (event) => {
    hide();
    const spot = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const circles = marks.filter((mark) => mark.tagName === "circle");
    let chosen = marks.filter((mark) => mark === event.target);
    if (circles.length) {
      const away = (mark) => Math.abs(mark.cx.baseVal.value - spot.x);
      const best = Math.min(...circles.map(away));
      chosen = best > 30 ? [] : circles.filter((mark) => away(mark) <= best + 0.5).slice(0, 8);
    }
    if (!chosen.length) return;
    chosen.forEach((mark) => mark.tagName === "circle" && mark.classList.add("lit"));
    tip.textContent = chosen.map((mark) => mark.dataset.tip).join("\n");
    const frame = box.getBoundingClientRect();
    tip.style.left = `${event.clientX - frame.left + box.scrollLeft}px`;
    tip.style.top = `${event.clientY - frame.top - 6}px`;
    tip.hidden = false;
  });
}
