// Keys for judging, and what to do after htmx has put another page in place; every page works without scripts.
"use strict";
(() => {
  const choices = () => [...document.querySelectorAll("form[data-judge] [data-choice]")];
  let now = 0;
  const begin = () => { now = Math.max(0, choices().findIndex((c) => !c.querySelector("input:checked"))); };
  const mark = (at) => choices().forEach((c, i) => c.classList.toggle("now", i === at));
  const go = (to) => {
    const all = choices();
    now = Math.min(Math.max(to, 0), all.length - 1);
    mark(now);
    const choice = all[now];
    if (!choice) return;
    choice.scrollIntoView({ block: "center" });
    (choice.querySelector("input:checked") || choice.querySelector("input")).focus({ preventScroll: true });
  };
  document.addEventListener("focusin", (event) => {
    const at = choices().findIndex((c) => c.contains(event.target));
    if (at < 0) return;
    now = at;
    mark(at);
  });
  document.addEventListener("keydown", (event) => {
    const form = document.querySelector("form[data-judge]");
    if (!form) return;
    if (event.key === "Enter" && event.ctrlKey) {
      event.preventDefault();
      form.requestSubmit();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("textarea, input:not([type=radio])")) return;
    if (event.key === "j") go(now + 1);
    else if (event.key === "k") go(now - 1);
    else {
      const choice = choices()[now];
      const box = choice && choice.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
      if (!box) return;
      box.checked = true;
      go(now + 1);
    }
    event.preventDefault();
  });
  begin();

  const tell = (text, bad = false) => {
    const told = document.getElementById("told");
    told.className = bad ? "said" : "hidden";
    told.textContent = text;
  };
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr, target, serverResponse } = event.detail;
    if (xhr.status < 400) return;
    if ((target.id === "main" || target === document.body) && serverResponse.includes('id="main"')) {
      event.detail.shouldSwap = true; // our own page that says what did not work
      event.detail.isError = false;
    } else tell(`That did not work (${xhr.status}), and nothing was kept.`, true);
  });
  document.addEventListener("htmx:sendError", () => tell("The server cannot be reached. Your words are still here: send them again.", true));
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target.id !== "main") return tell("");
    begin();
    const said = document.querySelector("#main [data-told]");
    tell(said ? said.textContent : "");
    const head = document.querySelector("#main h1");
    head.tabIndex = -1;
    head.focus({ preventScroll: true });
  });
})();
