// Runs before the first paint, on the playground and on its REST page: the theme chosen by hand, else the system's.
(() => {
  const KEY = "chatapi-theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");

  function apply() {
    const chosen = localStorage.getItem(KEY);
    const theme = chosen ?? (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    document.documentElement.classList.toggle("dark-mode", theme === "dark"); // the name that Swagger UI looks for
  }

  apply();
  dark.addEventListener("change", apply);
  addEventListener("storage", apply); // the page around a frame, or another tab
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("[data-toggle-theme]")) return;
    localStorage.setItem(KEY, document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    apply();
  });
})();
