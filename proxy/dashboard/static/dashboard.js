"use strict";
// The toggle between light and dark, and times that stay fresh. Pages work without it.
(() => {
  const root = document.documentElement;

  // A colour of the style sheet, as it is now; for what is drawn on a canvas.
  window.colour = (name) => {
    const probe = document.createElement("i");
    probe.style.color = `var(--${name}, var(--main))`;
    root.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };

  const dark = () =>
    root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;

  const button = document.getElementById("theme");
  const show = () => {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Use ${dark() ? "light" : "dark"} colours`);
  };
  if (button) {
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      const safe = location.protocol === "https:" ? "; Secure" : "";
      document.cookie = `doorman_theme=${root.dataset.theme}; Path=/dashboard; Max-Age=31536000; SameSite=Strict${safe}`;
      show();
      document.dispatchEvent(new Event("theme"));
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      show();
      document.dispatchEvent(new Event("theme"));
    });
    show();
  }

  // Where the pages stand in a row, the one that is open is in sight.
  const row = document.querySelector(".top nav");
  const open = row?.querySelector("[aria-current]");
  if (open) row.scrollLeft = open.offsetLeft - row.offsetLeft - (row.clientWidth - open.offsetWidth) / 2;

  const since = (at) => {
    const distance = Date.now() / 1000 - at;
    const size = Math.abs(distance);
    if (size < 1) return "now";
    const told =
      size < 60 ? `${Math.round(size)} s`
      : size < 3600 ? `${Math.round(size / 60)} min`
      : size < 86400 ? `${Math.round(size / 3600)} h`
      : `${Math.round(size / 86400)} d`;
    return distance > 0 ? `${told} ago` : `in ${told}`;
  };
  setInterval(() => {
    if (document.hidden) return;
    for (const time of document.querySelectorAll("time[data-at]")) {
      const told = since(Number(time.dataset.at));
      if (time.textContent !== told) time.textContent = told;
    }
  }, 5000);

  for (const copy of document.querySelectorAll("button[data-copies]")) {
    if (!navigator.clipboard) break; // it is there over HTTPS and on this machine alone
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(copy.dataset.copies).value);
      copy.textContent = "Copied";
    });
  }

  // What went wrong last is no news once something else was asked for and came.
  document.addEventListener("htmx:afterRequest", (event) => {
    const fault = document.getElementById("fault");
    if (fault && event.detail.successful) fault.replaceChildren();
  });
  document.addEventListener("htmx:sendError", () => {
    const fault = document.getElementById("fault");
    if (!fault) return;
    const told = document.createElement("p");
    told.className = "note bad";
    told.textContent = "The gateway does not answer; trying again.";
    fault.replaceChildren(told);
  });
})();
