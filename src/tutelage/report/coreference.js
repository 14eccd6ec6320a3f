"use strict";
let lit = [];
function light(event) {
  const at = event.target.closest("[data-entity]");
  for (const one of lit) one.classList.remove("on");
  lit = at ? [...at.closest("section").querySelectorAll(`[data-entity="${at.dataset.entity}"]`)] : [];
  for (const one of lit) one.classList.add("on");
}
document.body.addEventListener("mouseover", light);
document.body.addEventListener("focusin", light);
