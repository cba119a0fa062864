"use strict";
// A chosen file goes into the text field; it is not sent by itself.
(() => {
  const file = document.getElementById("file");
  const text = document.getElementById("text");
  file?.addEventListener("change", async () => {
    if (file.files.length) text.value = await file.files[0].text();
  });
})();
