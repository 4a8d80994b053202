// One switch for the code behind figures and tables: the input of cells tagged hide-code.
document.addEventListener("DOMContentLoaded", () => {
  const header = document.querySelector(".article-header-buttons");
  if (!header || !document.querySelector(".cell.tag_hide-code")) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "loupe-code-switch";
  const set = (shown) => {
    document.documentElement.classList.toggle("loupe-code", shown);
    button.textContent = shown ? "Hide code" : "Show all code";
    button.setAttribute("aria-pressed", shown);
    try { localStorage.setItem("loupe-code", shown ? "shown" : ""); } catch { /* a page opened as a file */ }
  };
  button.addEventListener("click", () => set(!document.documentElement.classList.contains("loupe-code")));
  header.prepend(button);
  let before = "";
  try { before = localStorage.getItem("loupe-code"); } catch { /* as above */ }
  set(before === "shown");
});
