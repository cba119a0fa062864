// Keys of the review queue: j and k go from decision to decision, others press its buttons.
"use strict";
(() => {
  const items = () => [...document.querySelectorAll(".item")];
  const current = () => document.activeElement.closest(".item") || items()[0];
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select")) return;
    const item = current();
    if (!item) return;
    if (event.key === "j" || event.key === "k") {
      const all = items();
      const focused = document.activeElement.closest(".item");
      const step = !focused ? 0 : event.key === "j" ? 1 : -1;
      const next = all[all.indexOf(item) + step];
      if (next) next.focus();
      return;
    }
    const button = item.querySelector(`button[data-key="${CSS.escape(event.key)}"]`);
    if (button) {
      event.preventDefault();
      button.click();
    }
  });
})();
