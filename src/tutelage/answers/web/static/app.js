// Keys for judging; every page works without them.
"use strict";
(() => {
  const form = document.querySelector("form[data-judge]");
  if (!form) return;
  const choices = [...form.querySelectorAll("[data-choice]")];
  let now = Math.max(0, choices.findIndex((c) => !c.querySelector("input:checked")));
  const go = (to) => {
    choices.forEach((c) => c.classList.remove("now"));
    now = Math.min(Math.max(to, 0), choices.length - 1);
    const choice = choices[now];
    if (!choice) return;
    choice.classList.add("now");
    choice.scrollIntoView({ block: "center" });
    (choice.querySelector("input:checked") || choice.querySelector("input")).focus({ preventScroll: true });
  };
  form.addEventListener("focusin", (event) => {
    const at = choices.findIndex((c) => c.contains(event.target));
    if (at >= 0) {
      choices.forEach((c, i) => c.classList.toggle("now", i === at));
      now = at;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.ctrlKey) {
      event.preventDefault();
      form.requestSubmit();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("textarea, input:not([type=radio])")) return;
    if (event.key === "j") go(now + 1);
    else if (event.key === "k") go(now - 1);
    else {
      const box = choices[now] && choices[now].querySelector(`[data-key="${CSS.escape(event.key)}"]`);
      if (!box) return;
      box.checked = true;
      go(now + 1);
    }
    event.preventDefault();
  });
})();
