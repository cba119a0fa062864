// Keys of the review queue: j and k go from decision to decision, others press its buttons. What follows
// the decision that was judged is the one to go on with, once the page is there again.
"use strict";
(() => {
  const PLACE = "doorman_review";
  const items = () => [...document.querySelectorAll(".item")];
  const focused = () => document.activeElement.closest(".item");
  const place = {
    keep(value) {
      try {
        sessionStorage.setItem(PLACE, JSON.stringify(value));
      } catch {} // a browser that keeps nothing
    },
    take() {
      try {
        const kept = JSON.parse(sessionStorage.getItem(PLACE));
        sessionStorage.removeItem(PLACE);
        return kept;
      } catch {
        return null;
      }
    },
  };

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select")) return;
    const all = items();
    const item = focused() || all[0];
    if (!item) return;
    if (event.key === "j" || event.key === "k") {
      const step = !focused() ? 0 : event.key === "j" ? 1 : -1;
      all[all.indexOf(item) + step]?.focus();
      return;
    }
    const button = item.querySelector(`button[data-key="${CSS.escape(event.key)}"]`);
    if (button) {
      event.preventDefault();
      button.click();
    }
  });

  // Not when the browser has found that the text is missing: then nothing is sent.
  addEventListener("submit", (event) => {
    const item = event.target.closest(".item");
    if (!item) return;
    const all = items();
    const at = all.indexOf(item);
    place.keep({ at, next: all[at + 1]?.dataset.id ?? "" });
  });

  const kept = place.take();
  const fault = document.querySelector(".item [role=alert]");
  if (fault) {
    (fault.closest(".item").querySelector("textarea") ?? fault.closest(".item")).focus();
  } else if (kept) {
    const all = items();
    const next = all.find((item) => item.dataset.id === kept.next) ?? all[Math.min(kept.at, all.length - 1)];
    next?.focus();
  }
})();
