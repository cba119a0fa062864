// A text that was proved by its hash need not be pasted twice: it goes from "Why" to "Was this right?".
"use strict";
document.addEventListener("htmx:afterSwap", (event) => {
  if (!event.detail.target.querySelector?.("[data-proved]")) return;
  const typed = document.getElementById("text");
  const said = document.querySelector(".said textarea");
  if (typed && said && !said.value.trim()) said.value = typed.value;
});
